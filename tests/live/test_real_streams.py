"""Four streams of real test clips from a real RTSP server: the events of `comemory score`, and a server that dies."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from footage import comemory, save_video
from live.conftest import REPOSITORY, RtspServer, until
from live.test_live import expected, lines

from comemory.live.config import LiveSettings, read_live
from comemory.live.contract import CameraState
from comemory.live.engine import Engine
from comemory.video.source import open_source

BUNDLE = REPOSITORY / "models" / "ped2-small"
CLIPS = ("04", "06", "10", "12")
BUDGET = "10/min"
"""Low enough for more than one event in each clip."""
N_PAST = 4
Engines = Callable[..., Engine]


@pytest.fixture(scope="module")
def ped2(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Whole test clips as H.264 at the 10 frames a second that they were taken at: stream and file hold the same packets."""
    folder = tmp_path_factory.mktemp("ped2")
    frames = data / "ped2" / "testing" / "frames"
    return {
        f"clip{name}": save_video(folder / f"clip{name}.mp4", [frame.image for frame in open_source(frames / name)])
        for name in CLIPS
    }


def watched(server: RtspServer, out: Path) -> LiveSettings:
    """Cameras of all streams. No frame gives way, so that what is compared does not hang on how busy the machine is."""
    cameras = {
        name: {"url": server.url(name), "false_alarms": BUDGET, "realtime": False, "model": str(BUNDLE)}
        for name in server.mounts
    }
    return read_live(None, {"out": str(out), "workers": 2, "cameras": cameras})


def counted(engine: Engine, name: str) -> tuple[int, int, int]:
    """Frames, those scored, and those that filled a clip at the beginning of each connection."""
    status = next(one for one in engine.status() if one.name == name)
    return status.frames, status.scored, N_PAST * (status.reconnects + 1)


def test_events_are_those_of_score(ped2: dict[str, Path], engines: Engines, rtsp: Any, tmp_path: Path) -> None:
    """Every score and box bit by bit; every event's start, peak and end by their frames, its peak score and its box."""
    scores = {name: expected(BUNDLE, path, BUDGET)[0] for name, path in ped2.items()}
    done = comemory("score", BUNDLE, *ped2.values(), "--out", tmp_path / "scores", "--false-alarms", BUDGET)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "scores" / "events.json").read_text())["events"]
    assert len(told) > len(CLIPS)

    settings = watched(rtsp(ped2), tmp_path / "live")
    engine = Engine(settings)
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in ped2}
    with engine.subscribe() as messages:
        engine.start()
        end = time.monotonic() + 240
        while any(len(seen[name]) < len(scores[name]) for name in ped2):
            assert time.monotonic() < end
            try:
                message = messages.get(timeout=0.5)
            except queue.Empty:
                continue
            if message["kind"] == "score":
                seen[message["camera"]].append(message)
        until(lambda: all(status.reconnects or status.state is CameraState.DOWN for status in engine.status()), 60)
        dropped = {status.name: status.dropped for status in engine.status()}
        engine.stop()
    assert dropped == dict.fromkeys(ped2, 0)
    for name in ped2:
        came, wanted = seen[name][: len(scores[name])], scores[name]
        assert [message["score"] for message in came] == [score.value for score in wanted]
        assert [tuple(message["box"]) for message in came] == [score.box for score in wanted]
        frames = {message["time"]: score.index for message, score in zip(came, wanted, strict=True)}
        found = [one for one in lines(settings.out, "end") if one["camera"] == name and one["start"] in frames]
        events = [event for event in told if event["source"] == name]
        assert len(found) == len(events)
        for one, event in zip(found, events, strict=True):
            for which in ("start", "peak", "end"):
                assert frames[one[which]] == event[f"{which}_frame"]
            assert one["peak_score"] == event["peak_score"]
            assert list(one["box"]) == event["box"]


def test_the_server_dies_five_times(ped2: dict[str, Path], engines: Engines, rtsp: Any, tmp_path: Path) -> None:
    server: RtspServer = rtsp(ped2)
    engine = engines(watched(server, tmp_path / "live"))

    def are_all(state: CameraState) -> Callable[[], bool]:
        return lambda: all(status.state is state for status in engine.status())

    until(are_all(CameraState.LIVE), 60)
    took = []
    for _ in range(5):
        time.sleep(1.5)
        server.kill()
        until(are_all(CameraState.DOWN), 60)
        server.start()
        took.append(until(are_all(CameraState.LIVE), 60))
    server.kill()
    until(are_all(CameraState.DOWN), 60)
    assert max(took) < 10
    until(lambda: all(camera.waiting_since is None and not camera.busy for camera in engine._cameras.values()), 60)
    for status in engine.status():
        frames, scored, filling = counted(engine, status.name)
        assert status.reconnects == 5
        assert status.attempts >= 6
        assert status.dropped == 0
        assert frames == scored + filling
        assert engine.metrics().reconnects[status.name] == 5
    engine.stop()
    begun, over = ({one["id"] for one in lines(tmp_path / "live", change)} for change in ("new", "end"))
    assert begun == over
