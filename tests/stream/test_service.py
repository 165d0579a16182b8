"""A whole system: engine, store, alerts, reload."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from stream.test_live import BUDGET

from comemory.errors import ConfigError
from comemory.stream.service import Service
from comemory.stream.settings import LiveSettings

pytest.importorskip("sqlalchemy", reason="needs comemory[live]")


def test_events_reach_the_store_and_verdicts_come_back(clips: list[Path], live: Callable[..., LiveSettings]) -> None:
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
            assert set(event.files) == {"thumbnail", "heat", "clip"}
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
