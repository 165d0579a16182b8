"""Real streams: what the engine finds in them is what `comemory score` finds in the same frames."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from footage import comemory, save_frames
from live.conftest import N_FRAMES, RtspServer, until

from comemory.detector import Detector
from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.live.engine import Engine
from comemory.scoring import EventFinder
from comemory.types import Event, Score
from comemory.video.source import open_source

BUDGET = "15/min"
"""High enough for an event in either clip."""
Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]


def expected(bundle: Path, clip: Path, budget: str = BUDGET) -> tuple[list[Score], list[Event]]:
    """What `comemory score` makes of a clip."""
    detector = Detector.open(bundle, threads=1)
    scores = list(detector.run(clip))
    calibration = detector.bundle.calibration
    finder = EventFinder("", calibration.threshold(budget), calibration.settings)
    return scores, list(finder.run(scores))


def lines(out: Path, change: str) -> list[dict[str, Any]]:
    """The events of `events.jsonl`."""
    read = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    return [line["event"] for line in read if line["change"] == change]


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def all_of(messages: queue.Queue[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    found = []
    while not messages.empty():
        found.append(messages.get())
    return [message for message in found if message["kind"] == kind]


class TestFiles:
    def test_scores_and_events_are_those_of_score(self, quick_bundle: Path, clips: list[Path], live: Live) -> None:
        settings = live({"gate": {"url": str(clips[0]), "realtime": False, "false_alarms": BUDGET}})
        scores, events = expected(quick_bundle, clips[0])
        assert events
        engine = Engine(settings)
        with engine.subscribe() as messages:
            engine.start()
            assert engine.wait(60)
            engine.stop()
            seen = all_of(messages, "score")
        assert [message["score"] for message in seen] == [score.value for score in scores]
        assert [tuple(message["box"]) for message in seen] == [score.box for score in scores]
        first = seconds(seen[0]["time"]) - scores[0].time_s
        found = lines(settings.out, "end")
        assert len(found) == len(events)
        for event, one in zip(events, found, strict=True):
            assert seconds(one["start"]) - first == pytest.approx(event.start_s, abs=0.002)
            assert seconds(one["end"]) - first == pytest.approx(event.end_s, abs=0.002)
            assert seconds(one["peak"]) - first == pytest.approx(event.peak_s, abs=0.002)
            assert one["peak_score"] == event.peak_score
            assert tuple(one["box"]) == event.box
        status = engine.status()[0]
        assert (status.frames, status.scored, status.dropped) == (N_FRAMES, len(scores), 0)
        assert (status.state, status.message) == (CameraState.ENDED, "the file is over")

    def test_files_of_an_event_are_there(self, clips: list[Path], live: Live) -> None:
        settings = live({"gate": {"url": str(clips[0]), "realtime": False, "false_alarms": BUDGET}})
        engine = Engine(settings)
        engine.start()
        assert engine.wait(60)
        engine.stop()
        for event in lines(settings.out, "end"):
            folder = settings.out / "media" / event["id"]
            assert {path.name for path in folder.iterdir()} == {"clip.mp4", "heat.jpg", "thumbnail.jpg"}
            with av.open(str(folder / "clip.mp4")) as clip:
                assert clip.streams.video[0].codec_context.name == "h264"
                long_s = sum(1 for _ in clip.decode(video=0)) / 10
            assert long_s >= seconds(event["end"]) - seconds(event["start"])
        assert not list((settings.out / "media" / ".scratch").iterdir())

    def test_a_file_as_if_live_keeps_its_pace(self, quick_bundle: Path, clips: list[Path], live: Live) -> None:
        settings = live({"gate": {"url": str(clips[1]), "false_alarms": BUDGET}})
        _, events = expected(quick_bundle, clips[1])
        engine, start = Engine(settings), time.monotonic()
        engine.start()
        assert engine.wait(40)
        assert time.monotonic() - start >= (N_FRAMES - 1) / 10
        engine.stop()
        status = engine.status()[0]
        assert status.frames == N_FRAMES
        if status.dropped == 0:
            assert [one["peak_score"] for one in lines(settings.out, "end")] == [event.peak_score for event in events]

    def test_a_file_that_is_to_be_played_again_is_tried_until_it_is_there(
        self, clips: list[Path], live: Live, engines: Engines, tmp_path: Path
    ) -> None:
        path = tmp_path / "late.mp4"
        engine = engines(live({"gate": {"url": str(path), "loop": True, "realtime": False}}))
        until(lambda: engine.status()[0].attempts > 1)
        assert engine.status()[0].state is CameraState.DOWN
        assert not engine.finished
        path.symlink_to(clips[0])
        until(lambda: engine.status()[0].scored > 3)
        assert engine.failed == []


class TestRtsp:
    def test_four_streams_give_the_events_of_score(
        self, quick_bundle: Path, clips: list[Path], live: Live, engines: Engines, rtsp: Any
    ) -> None:
        """Frames may be lost between server and client: ends within two frames, and the peak where none was lost."""
        server: RtspServer = rtsp({f"cam{k}": clips[k % 2] for k in range(4)})
        settings = live({f"cam{k}": {"url": server.url(f"cam{k}"), "false_alarms": BUDGET} for k in range(4)})
        engine = engines(settings)
        until(lambda: all(status.frames >= N_FRAMES for status in engine.status()), 40)
        until(lambda: all(status.scored + status.dropped >= N_FRAMES - 4 for status in engine.status()), 40)
        status = {status.name: status for status in engine.status()}
        engine.stop()
        for k in range(4):
            _, events = expected(quick_bundle, clips[k % 2])
            found = [event for event in lines(settings.out, "end") if event["camera"] == f"cam{k}"]
            whole = status[f"cam{k}"].dropped == 0
            first_round = found[: len(events)] if whole else []
            for event, one in zip(events, first_round, strict=False):
                long_s = seconds(one["end"]) - seconds(one["start"])
                assert long_s == pytest.approx(event.end_s - event.start_s, abs=0.25)
                assert one["peak_score"] == pytest.approx(event.peak_score, abs=1e-6)
            assert found

    def test_a_server_that_dies_five_times(self, clips: list[Path], live: Live, engines: Engines, rtsp: Any) -> None:
        server: RtspServer = rtsp({"gate": clips[0]})
        engine = engines(live({"gate": {"url": server.url("gate")}}))
        until(lambda: engine.status()[0].state is CameraState.LIVE)
        took = []
        for _ in range(5):
            server.kill()
            until(lambda: engine.status()[0].state is CameraState.DOWN)
            before = engine.status()[0]
            time.sleep(0.3)
            server.start()
            took.append(until(lambda: engine.status()[0].state is CameraState.LIVE))
            until(lambda frames=before.frames: engine.status()[0].frames > frames)  # type: ignore[misc]
        status = engine.status()[0]
        assert max(took) < 10
        assert status.reconnects == 5
        assert status.attempts >= 6
        assert status.message == ""

    def test_wrong_password_and_nobody_there(self, clips: list[Path], live: Live, engines: Engines) -> None:
        cameras = {
            "dead": {"url": "rtsp://user:topsecret@127.0.0.1:9/live?key=alsosecret"},
            "gate": {"url": str(clips[0]), "loop": True},
        }
        engine = engines(live(cameras))
        until(lambda: engine.status()[0].state is CameraState.DOWN)
        until(lambda: engine.status()[1].scored > 3)
        said = repr(engine.status())
        assert "topsecret" not in said
        assert "alsosecret" not in said


class TestCommand:
    def test_watch_stops_at_sigterm_with_the_event_closed(
        self, quick_bundle: Path, clips: list[Path], tmp_path: Path
    ) -> None:
        out = tmp_path / "live"
        command = [
            sys.executable,
            "-m",
            "comemory",
            "watch",
            "--camera",
            f"gate={clips[0]}",
            "--model",
            str(quick_bundle),
        ]
        options = ["--false-alarms", "10/min", "--store", "none", "--out", str(out), "--json"]
        process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
        try:
            until(lambda: (out / "events.jsonl").exists() and bool(lines(out, "new")), 30)
            start = time.monotonic()
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=10)
            took_s = time.monotonic() - start
        finally:
            process.kill()
        assert process.returncode == 0
        assert took_s < 5
        assert all(json.loads(line)["time"] for line in said.splitlines())
        begun, over = lines(out, "new"), lines(out, "end")
        assert [event["id"] for event in begun] == [event["id"] for event in over]
        assert all(datetime.fromisoformat(event["end"]) <= datetime.now(UTC) for event in over)

    def test_files_that_cannot_be_read_are_told_and_end_it_with_1(
        self, quick_bundle: Path, clips: list[Path], tmp_path: Path
    ) -> None:
        (tmp_path / "junk.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
        (tmp_path / "empty").mkdir()
        pictures = [frame.image for frame in open_source(clips[0])][:40]
        save_frames(tmp_path / "mixed", [*pictures[:20], *(picture[:48, :72] for picture in pictures[20:])])
        names = ["missing.mp4", "junk.mp4", "empty", "mixed"]
        out, options = tmp_path / "live", ["--model", quick_bundle, "--store", "none", "--set", "precision=fp32"]
        for cameras, code in (([*names, clips[0].name], 1), ([clips[0].name], 0)):
            paths = {
                Path(name).stem: (clips[0].parent if name == clips[0].name else tmp_path) / name for name in cameras
            }
            given = [part for name, path in paths.items() for part in ("--camera", f"{name}={path}")]
            fast = [part for name in paths for part in ("--set", f"cameras.{name}.realtime=false")]
            done = comemory("watch", *given, *fast, *options, "--out", out, "--json")
            assert done.returncode == code, done.stderr
            told = [json.loads(line) for line in done.stderr.splitlines()]
            ended = {line["camera"]: line["text"] for line in told if line.get("state") == "ended"}
            down = {line["camera"]: line["text"] for line in told if line.get("state") == "down"}
            assert ended == {clips[0].stem: f"{clips[0].stem}: ended: the file is over"}
            assert set(down) == set(paths) - set(ended)
            assert all(str(paths[name]) in text for name, text in down.items())
            assert told[-1]["text"] == (
                "could not be read and scored to the end: missing, junk, empty, mixed" if code else "stopped"
            )
