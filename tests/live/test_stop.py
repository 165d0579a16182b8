"""The end: no camera is told to be at fault for it, it comes in time, and the open event is closed and stored."""

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
from comemory.live.recording.event_writer import TaskQueue
from comemory.live.recording.packet_buffer import ClipWriter
from comemory.live.scoring.shared_network import SharedNetwork

Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]
MANY = "10/min"
SLACK_S = 1.0
"""A machine that is busy may be late by so much."""


@pytest.fixture
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def looping(clip: Path, **more: Any) -> dict[str, Any]:
    return {"url": str(clip), "loop": True, "false_alarms": MANY, **more}


def states(out: Path) -> list[str]:
    """Those told of all cameras, as `events.jsonl` has them."""
    read = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [line["state"] for line in read if line["change"] == "state"]


def test_a_camera_that_is_stopped_has_no_fault(clips: list[Path], live: Live, engines: Engines) -> None:
    """Asked one by one, with the watchdog looking on, for that is what may happen in the midst of an end."""
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


def test_a_worker_that_does_not_come_back_is_left_behind(clips: list[Path], live: Live, engines: Engines) -> None:
    settings = live({"gate": looping(clips[0], realtime=False)})
    engine = engines(settings)
    watch = engine._cameras["gate"].scorer
    stuck, released = threading.Event(), threading.Event()

    def hold() -> None:
        while not stuck.is_set():
            with watch.lock:
                if watch.open_event is not None:
                    stuck.set()
                    released.wait(20)

    holder = threading.Thread(target=hold, daemon=True)
    holder.start()
    try:
        assert stuck.wait(30)
        start = time.monotonic()
        engine.stop(2.0)
        assert time.monotonic() - start < 2.0 + SLACK_S
        assert [one["id"] for one in lines(settings.out, "new")] == [one["id"] for one in lines(settings.out, "end")]
    finally:
        released.set()
        holder.join(5)
    n_lines = len((settings.out / "events.jsonl").read_text().splitlines())
    time.sleep(0.5)
    assert len((settings.out / "events.jsonl").read_text().splitlines()) == n_lines


def test_clips_that_cannot_be_written_in_time_end_where_they_are(
    clips: list[Path], live: Live, engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = ClipWriter.write

    def slowly(film: ClipWriter, sent: Any) -> None:
        time.sleep(0.2)
        write(film, sent)

    monkeypatch.setattr(ClipWriter, "write", slowly)
    settings = live({"gate": looping(clips[0], realtime=False)})
    engine = engines(settings)
    until(lambda: engine._films.n_waiting > 50, 30)
    start = time.monotonic()
    engine.stop(3.0)
    assert time.monotonic() - start < 3.0 + SLACK_S
    assert not list((settings.out / "media" / ".scratch").glob(".*.part"))


def test_the_whole_ends_in_time_with_everything_stored(clips: list[Path], live: Live, silent: int) -> None:
    """A camera that sends nothing, an alert that nobody answers, and an event that is on."""
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.live.service import Service

    settings = live(
        {"gate": looping(clips[0]), "mute": {"url": f"http://127.0.0.1:{silent}/stream"}},
        alerts={"desk": {"kind": "webhook", "url": f"http://127.0.0.1:{silent}/"}},
    )
    with Service(settings) as service:
        until(lambda: service.engine.status()[0].open_event is not None, 30)
        event_id = service.engine.status()[0].open_event
        assert event_id is not None
        threading.Timer(0.2, service.end).start()
        service.run()
        start = time.monotonic()
        service.stop_engine()
        assert service.store is not None
        stored = service.store.get(event_id)
        assert stored is not None
        assert stored.end is not None
    assert time.monotonic() - start < 4.5 + SLACK_S


def test_a_file_that_is_played_again_stays_live(
    live: Live, engines: Engines, tmp_path: Path, clips: list[Path]
) -> None:
    from comemory.video.source import open_source

    short = save_video(tmp_path / "short.mp4", [frame.image for frame in open_source(clips[0])][:15])
    settings = live({"gate": {"url": str(short), "loop": True}})
    engine = engines(settings)
    until(lambda: engine.status()[0].state is CameraState.LIVE)
    reader, links = engine._cameras["gate"].reader, set()

    def has_turned() -> bool:
        end = time.monotonic() + 0.1
        while time.monotonic() < end:
            links.add(reader.link)
            time.sleep(0.0005)
        return reader.attempts > 3

    until(has_turned, 30)
    assert links == {CameraState.LIVE}
    engine.stop()
    assert states(settings.out) == ["live"]


def test_an_event_does_not_go_on_in_the_next_turn(clips: list[Path], live: Live, engines: Engines) -> None:
    settings = live({"gate": {"url": str(clips[0]), "loop": True, "realtime": False, "false_alarms": "100/min"}})
    engine = engines(settings)
    until(lambda: engine.status()[0].attempts > 4, 60)
    engine.stop()
    found = lines(settings.out, "end")
    assert len(found) >= 3
    assert all(0 <= seconds(event["end"]) - seconds(event["start"]) <= N_FRAMES / 10 for event in found)


def test_a_still_scene_needs_no_network(
    quick_bundle: Path, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What moves before and after is scored as it always is."""
    rng = np.random.default_rng(0)
    scene = np.repeat(np.repeat(rng.integers(40, 200, (12, 18, 3)), 8, axis=0), 8, axis=1)
    pictures = []
    for k in range(100):
        picture = scene + rng.integers(-1, 2, scene.shape)
        if k < 10 or k >= 70:
            picture[40:60, 8 * (k % 10) : 8 * (k % 10) + 12] = 250
        pictures.append(picture.astype(np.uint8))
    clip = save_video(tmp_path / "still.mp4", pictures)
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
        assert engine.wait(60)
        engine.stop()
        seen = all_of(messages, "score")
    assert [message["score"] for message in seen] == [score.value for score in scores]
    assert n_runs[0] < len(scores) - 20


def test_an_errand_that_fails_of_a_fault_is_the_only_one_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda told: faults.append(str(told.exc_value)))
    done: list[int] = []
    errands = TaskQueue("journal")
    errands.start()
    errands.submit(lambda: [][0])
    errands.submit(lambda: done.append(1))
    until(lambda: bool(faults))
    time.sleep(0.1)
    errands.restart()
    until(lambda: done == [1])
    errands.submit(lambda: done.append(2))
    assert errands.finish(5)
    assert done == [1, 2]
