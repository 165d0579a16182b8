"""Stopping: no camera reports a fault, nothing is waited for in vain, and the open event is closed and stored."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from footage import save_video
from live.conftest import N_FRAMES, until
from live.test_live import BUDGET, all_of, expected, lines, seconds

from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.live.engine import Engine
from comemory.live.recording.packet_buffer import ClipWriter
from comemory.live.recording.task_queue import TaskQueue
from comemory.live.scoring.shared_network import SharedNetwork

Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]
MANY = "10/min"
HANG_S = 300.0
"""How long a part that hangs would hang: a stop that waits for it does not return."""


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def looping(clip: Path, **more: Any) -> dict[str, Any]:
    return {"url": str(clip), "loop": True, "false_alarms": MANY, **more}


def states(out: Path) -> list[str]:
    """The camera states in `events.jsonl`."""
    read = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [line["state"] for line in read if line["change"] == "state"]


def test_stopping_a_camera_is_no_fault(clips: list[Path], live: Live, engines: Engines) -> None:
    """Cameras are stopped one by one while the watchdog runs, as in a real stop."""
    settings = live({"gate": looping(clips[0]), "yard": looping(clips[1], realtime=False)})
    engine = engines(settings)
    until(lambda: all(status.scored > 3 for status in engine.status()))
    until(lambda: all(status.state is CameraState.LIVE for status in engine.status()))
    with engine.subscribe() as messages:
        for camera in engine._cameras.values():
            camera.stop()
        until(lambda: not any(camera.reader.is_alive() for camera in engine._cameras.values()))
        time.sleep(0.6)
        engine.stop()
        assert all_of(messages, "state") == []
    assert {status.state for status in engine.status()} == {CameraState.LIVE}
    assert set(states(settings.out)) == {"live"}


def test_stop_does_not_wait_for_a_worker_that_hangs(clips: list[Path], live: Live, engines: Engines) -> None:
    settings = live({"gate": looping(clips[0], realtime=False)})
    engine = engines(settings)
    scorer = engine._cameras["gate"].scorer
    stuck, released = threading.Event(), threading.Event()

    def hold() -> None:
        while not stuck.is_set():
            with scorer.lock:
                if scorer.open_event is not None:
                    stuck.set()
                    released.wait(HANG_S)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    try:
        assert stuck.wait(90)
        engine.stop(2.0)
        assert holder.is_alive()
        assert [one["id"] for one in lines(settings.out, "new")] == [one["id"] for one in lines(settings.out, "end")]
    finally:
        released.set()
        holder.join(60)
    n_lines = len((settings.out / "events.jsonl").read_text().splitlines())
    time.sleep(0.5)
    assert len((settings.out / "events.jsonl").read_text().splitlines()) == n_lines


def test_stop_ends_clips_that_the_disk_is_too_slow_for(
    clips: list[Path], live: Live, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ClipWriter.write

    written: list[Any] = []

    def write_slowly(writer: ClipWriter, packet: Any) -> None:
        time.sleep(0.2)
        written.append(packet)
        write(writer, packet)

    monkeypatch.setattr(ClipWriter, "write", write_slowly)
    settings = live({"gate": looping(clips[0], realtime=False)})
    engine = engines(settings)
    until(lambda: engine._clip_tasks.n_waiting > 50)
    n_queued = len(written) + engine._clip_tasks.n_waiting
    engine.stop(3.0)
    assert len(written) < n_queued, "queued packets are skipped"
    assert not list((settings.out / "media" / ".scratch").glob(".*.part"))


def test_stopping_the_service_stores_the_open_event(clips: list[Path], live: Live, silent: int) -> None:
    """With a camera that sends nothing, a webhook that never answers, and an event that is under way."""
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.live.service import Service

    settings = live(
        {"gate": looping(clips[0]), "mute": {"url": f"http://127.0.0.1:{silent}/stream"}},
        alerts={"desk": {"kind": "webhook", "url": f"http://127.0.0.1:{silent}/"}},
    )
    with Service(settings) as service:
        until(lambda: service.engine.status()[0].open_event is not None)
        event_id = service.engine.status()[0].open_event
        assert event_id is not None
        threading.Timer(0.2, service.end).start()
        service.run()
        service.stop_engine()
        assert service.store is not None
        stored = service.store.get(event_id)
        assert stored is not None
        assert stored.end is not None


def test_looped_file_stays_live(live: Live, engines: Engines, tmp_path: Path, clips: list[Path]) -> None:
    from comemory.video.source import open_source

    short = save_video(tmp_path / "short.mp4", [frame.image for frame in open_source(clips[0])][:15])
    settings = live({"gate": {"url": str(short), "loop": True}})
    engine = engines(settings)
    until(lambda: engine.status()[0].state is CameraState.LIVE)
    reader, links = engine._cameras["gate"].reader, set()

    def has_looped() -> bool:
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            links.add(reader.link)
            time.sleep(0.0005)
        return reader.attempts > 3

    until(has_looped)
    assert links == {CameraState.LIVE}
    engine.stop()
    assert states(settings.out) == ["live"]


def test_event_ends_with_its_round_of_a_looped_file(clips: list[Path], live: Live, engines: Engines) -> None:
    settings = live({"gate": {"url": str(clips[0]), "loop": True, "realtime": False, "false_alarms": "100/min"}})
    engine = engines(settings)
    until(lambda: engine.status()[0].attempts > 4)
    engine.stop()
    found = lines(settings.out, "end")
    assert len(found) >= 3
    assert all(0 <= seconds(event["end"]) - seconds(event["start"]) <= N_FRAMES / 10 for event in found)


def test_static_scene_skips_the_network(
    quick_bundle: Path, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames with motion before and after it are scored as usual."""
    rng = np.random.default_rng(0)
    scene = np.repeat(np.repeat(rng.integers(40, 200, (12, 18, 3)), 8, axis=0), 8, axis=1)
    images = []
    for k in range(100):
        image = scene + rng.integers(-1, 2, scene.shape)
        if k < 10 or k >= 70:
            image[40:60, 8 * (k % 10) : 8 * (k % 10) + 12] = 250
        images.append(image.astype(np.uint8))
    clip = save_video(tmp_path / "still.mp4", images)
    scores, _ = expected(quick_bundle, clip)
    n_runs, run = [0], SharedNetwork.run

    def counted(network: SharedNetwork, inputs: Any) -> Any:
        n_runs[0] += 1
        return run(network, inputs)

    monkeypatch.setattr(SharedNetwork, "run", counted)
    engine = Engine(live({"gate": {"url": str(clip), "realtime": False, "false_alarms": BUDGET}}))
    n_runs[0] = 0
    messages: queue.Queue[dict[str, Any]]
    with engine.subscribe() as messages:
        engine.start()
        assert engine.wait(180)
        engine.stop()
        seen = all_of(messages, "score")
    assert [message["score"] for message in seen] == [score.value for score in scores]
    assert n_runs[0] < len(scores) - 20


def test_task_with_an_error_is_the_only_one_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    errors: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(str(args.exc_value)))
    done: list[int] = []
    tasks = TaskQueue("tasks")
    tasks.start()
    tasks.submit(lambda: [][0])
    tasks.submit(lambda: done.append(1))
    until(lambda: bool(errors))
    time.sleep(0.1)
    tasks.restart()
    until(lambda: done == [1])
    tasks.submit(lambda: done.append(2))
    assert tasks.finish(60)
    assert done == [1, 2]
