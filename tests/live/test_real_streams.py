"""Four real test clips over RTSP: the events of `comemory score`, and a server that dies."""

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
CLIPS = ("04", "12")
BUDGET = "10/min"
"""Low enough for more than one event in each clip."""
N_PAST = 4
Engines = Callable[..., Engine]


@pytest.fixture(scope="module")
def ped2(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Whole test clips as H.264 at their own 10 frames per second: stream and file have the same packets."""
    folder = tmp_path_factory.mktemp("ped2")
    frames = data / "ped2" / "testing" / "frames"
    return {
        f"clip{name}": save_video(folder / f"clip{name}.mp4", [frame.image for frame in open_source(frames / name)])
        for name in CLIPS
    }


def settings_of(server: RtspServer, out: Path) -> LiveSettings:
    """Cameras of all streams, without dropped frames: the comparison must not depend on how busy the machine is."""
    cameras = {
        name: {"url": server.url(name), "false_alarms": BUDGET, "realtime": False, "model": str(BUNDLE)}
        for name in server.mounts
    }
    return read_live(None, {"out": str(out), "workers": 2, "cameras": cameras})


def frame_counts(engine: Engine, name: str) -> tuple[int, int, int]:
    """Frames, scored frames, and frames that filled the first clip of each connection."""
    status = next(one for one in engine.status() if one.name == name)
    return status.frames, status.scored, N_PAST * (status.reconnects + 1)


def test_events_equal_those_of_score(ped2: dict[str, Path], engines: Engines, rtsp: Any, tmp_path: Path) -> None:
    """All scores and boxes bit by bit; start, peak and end of each event by their frames."""
    scores = {name: expected(BUNDLE, path, BUDGET)[0] for name, path in ped2.items()}
    done = comemory("score", BUNDLE, *ped2.values(), "--out", tmp_path / "scores", "--false-alarms", BUDGET)
    assert done.returncode == 0, done.stderr
    expected_events = json.loads((tmp_path / "scores" / "events.json").read_text())["events"]
    assert len(expected_events) > len(CLIPS)

    settings = settings_of(rtsp(ped2), tmp_path / "live")
    engine = Engine(settings)
    seen: dict[str, list[dict[str, Any]]] = {name: [] for name in ped2}
    with engine.subscribe() as messages:
        engine.start()
        end = time.monotonic() + 500
        while any(len(seen[name]) < len(scores[name]) for name in ped2):
            assert time.monotonic() < end
            try:
                message = messages.get(timeout=0.5)
            except queue.Empty:
                continue
            if message["kind"] == "score":
                seen[message["camera"]].append(message)
        until(lambda: all(status.reconnects or status.state is CameraState.DOWN for status in engine.status()))
        dropped = {status.name: status.dropped for status in engine.status()}
        engine.stop()
    assert dropped == dict.fromkeys(ped2, 0)
    for name in ped2:
        came, wanted = seen[name][: len(scores[name])], scores[name]
        assert [message["score"] for message in came] == [score.value for score in wanted]
        assert [tuple(message["box"]) for message in came] == [score.box for score in wanted]
        frames = {message["time"]: score.index for message, score in zip(came, wanted, strict=True)}
        found = [one for one in lines(settings.out, "end") if one["camera"] == name and one["start"] in frames]
        events = [event for event in expected_events if event["source"] == name]
        assert len(found) == len(events)
        for one, event in zip(found, events, strict=True):
            for which in ("start", "peak", "end"):
                assert frames[one[which]] == event[f"{which}_frame"]
            assert one["peak_score"] == event["peak_score"]
            assert list(one["box"]) == event["box"]


@pytest.mark.slow
def test_all_cameras_reconnect_when_the_server_dies_five_times(
    ped2: dict[str, Path], engines: Engines, rtsp: Any, tmp_path: Path
) -> None:
    server: RtspServer = rtsp(ped2)
    engine = engines(settings_of(server, tmp_path / "live"))

    def are_all(state: CameraState) -> Callable[[], bool]:
        return lambda: all(status.state is state for status in engine.status())

    until(are_all(CameraState.LIVE))
    for _ in range(5):
        time.sleep(1.5)
        server.kill()
        until(are_all(CameraState.DOWN))
        server.start()
        until(are_all(CameraState.LIVE))
    server.kill()
    until(are_all(CameraState.DOWN))
    until(lambda: all(camera.waiting_since is None and not camera.busy for camera in engine._cameras.values()))
    for status in engine.status():
        frames, scored, filling = frame_counts(engine, status.name)
        assert status.reconnects == 5
        assert status.attempts >= 6
        assert status.dropped == 0
        assert frames == scored + filling
        assert engine.metrics().reconnects[status.name] == 5
    engine.stop()
    begun, over = ({one["id"] for one in lines(tmp_path / "live", change)} for change in ("new", "end"))
    assert begun == over
