"""More cameras than this machine can score: the camera says so, and its figures show it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live.conftest import until

from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.live.engine import Engine
from comemory.live.scoring.shared_network import SharedNetwork


def test_camera_whose_frames_are_dropped_is_degraded(
    clips: list[Path],
    live: Callable[..., LiveSettings],
    engines: Callable[..., Engine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A network that takes a second for each frame, on one worker."""
    run = SharedNetwork.run

    def run_slowly(network: SharedNetwork, inputs: Any) -> Any:
        time.sleep(1.0)
        return run(network, inputs)

    monkeypatch.setattr(SharedNetwork, "run", run_slowly)
    engine = engines(live({"gate": {"url": str(clips[0]), "loop": True}}, workers=1))
    until(lambda: engine.status()[0].state is CameraState.DEGRADED)
    status = engine.status()[0]
    assert "dropped unscored" in status.message
    assert status.dropped > 0
    assert status.fps_scored < status.fps_due == pytest.approx(10, abs=0.5)
    lines = (engine.settings.out / "events.jsonl").read_text().splitlines()
    assert any('"degraded"' in line for line in lines)
