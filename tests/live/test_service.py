"""A whole system: engine, store, alerts, reload."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from live.conftest import until
from live.test_live import BUDGET

from comemory.errors import ConfigError
from comemory.live.config import LiveSettings
from comemory.live.service import Service

pytest.importorskip("sqlalchemy", reason="needs comemory[live]")


def test_events_reach_the_store_and_take_verdicts(clips: list[Path], live: Callable[..., LiveSettings]) -> None:
    camera = {"url": str(clips[0]), "realtime": False, "false_alarms": BUDGET}
    alerts = {"desk": {"kind": "command", "argv": ["/bin/true"]}}
    lines: list[str] = []
    settings = live({"gate": camera}, alerts=alerts)
    with Service(
        settings, lambda: live({"gate": {**camera, "hours": ["00:00-23:00"]}}, alerts=alerts), lines.append
    ) as service:
        service.run(300)
        assert service.engine.finished
        service.reload()
        engine, store = service.engine, service.store
        assert store is not None
        service.engine.stop(60)
        found = store.page(camera="gate")
        assert found
        for event in found:
            assert event.end is not None
            assert set(event.files) == {"thumbnail", "crop", "heat", "clip"}
            engine.set_verdict(event.id, "normal", "tester")
            assert store.get(event.id).verdict == "normal"  # type: ignore[union-attr]
        with pytest.raises(ConfigError, match="there is no event"):
            engine.set_verdict("nothing", None, "tester")
        assert [change.state for change in store.states("gate")][-1] == "live"
    assert lines == ["gate: hours"]
    with Service(settings) as again:
        again.run(300)
        assert again.engine.finished
        again.engine.stop(60)
        assert again.store is not None
        assert len(again.store.page(camera="gate")) == len(found)


def test_reload_of_the_only_camera_does_not_end_the_service(
    clips: list[Path], live: Callable[..., LiveSettings]
) -> None:
    versions = [{"gate": {"url": str(clips[0]), "loop": True}}, {"gate": {"url": str(clips[1]), "loop": True}}, {}]
    lines: list[str] = []
    is_asked = threading.Event()

    def ask(service: Service) -> None:
        try:
            until(lambda: service.engine.status()[0].scored > 3)
            for n_lines in (1, 2):
                os.kill(os.getpid(), signal.SIGHUP)
                until(lambda: len(lines) == n_lines)  # noqa: B023
            time.sleep(0.5)
        finally:
            is_asked.set()
            service.end()

    with Service(live(versions[0]), lambda: live(versions[1 + len(lines)]), lines.append) as service:
        asker = threading.Thread(target=ask, args=(service,))
        asker.start()
        service.run(300)
        assert is_asked.is_set(), "it ended before it was asked to"
        asker.join(60)
        assert not service.engine.finished
    assert lines == ["gate: restarted", "gate: stopped"]


def test_a_reload_with_a_variable_that_is_not_set_changes_nothing(
    clips: list[Path], live: Callable[..., LiveSettings]
) -> None:
    gate, lines = {"url": str(clips[0]), "loop": True}, list[str]()
    unknown = {"gate": {**gate, "loop": False}, "yard": {"url": "env:NO_SUCH_URL"}}
    with Service(live({"gate": gate}), lambda: live(unknown), lines.append) as service:
        before = service.engine._cameras["gate"]
        assert not service.reload()
        assert service.engine._cameras == {"gate": before}
        until(lambda: service.engine.status()[0].scored > 3)
        unknown["yard"]["enabled"] = False
        assert service.reload()
    refused, *applied = lines
    assert refused.startswith("the settings have not changed: the url of camera 'yard' is 'env:NO_SUCH_URL'")
    assert applied == ["gate: restarted", "yard: stopped"]
