"""Real streams: the engine gives the scores and events that `comemory score` gives for the same frames."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
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
"""High enough for an event in both clips."""
Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]


def expected(bundle: Path, clip: Path, budget: str = BUDGET) -> tuple[list[Score], list[Event]]:
    """The scores and events of `comemory score` for a clip."""
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
    def test_scores_and_events_equal_those_of_score(self, quick_bundle: Path, clips: list[Path], live: Live) -> None:
        settings = live({"gate": {"url": str(clips[0]), "realtime": False, "false_alarms": BUDGET}})
        scores, events = expected(quick_bundle, clips[0])
        assert events
        engine = Engine(settings)
        with engine.subscribe() as messages:
            engine.start()
            assert engine.wait(180)
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
        assert (status.state, status.message) == (CameraState.ENDED, "the file has ended")

    def test_event_has_a_thumbnail_a_heat_map_and_a_clip(self, clips: list[Path], live: Live) -> None:
        settings = live({"gate": {"url": str(clips[0]), "realtime": False, "false_alarms": BUDGET}})
        engine = Engine(settings)
        engine.start()
        assert engine.wait(180)
        engine.stop()
        for event in lines(settings.out, "end"):
            folder = settings.out / "media" / event["id"]
            assert {path.name for path in folder.iterdir()} == {"clip.mp4", "crop.jpg", "heat.jpg", "thumbnail.jpg"}
            with av.open(str(folder / "clip.mp4")) as clip:
                assert clip.streams.video[0].codec_context.name == "h264"
                long_s = sum(1 for _ in clip.decode(video=0)) / 10
            assert long_s >= seconds(event["end"]) - seconds(event["start"])
        assert not list((settings.out / "media" / ".scratch").iterdir())

    def test_file_in_real_time_is_never_ahead_of_its_clock(
        self, quick_bundle: Path, clips: list[Path], live: Live
    ) -> None:
        settings = live({"gate": {"url": str(clips[1]), "false_alarms": BUDGET}})
        _, events = expected(quick_bundle, clips[1])
        engine, ahead_s = Engine(settings), []
        with engine.subscribe() as messages:
            engine.start()
            while not engine.finished:
                with suppress(queue.Empty):
                    message = messages.get(timeout=0.1)
                    if message["kind"] == "score":
                        ahead_s.append(seconds(message["time"]) - time.time())
        engine.stop()
        assert ahead_s
        assert max(ahead_s) < 0.01, "a frame was scored before it was due"
        status = engine.status()[0]
        assert status.frames == N_FRAMES
        if status.dropped == 0:
            assert [one["peak_score"] for one in lines(settings.out, "end")] == [event.peak_score for event in events]

    def test_looped_file_is_retried_until_it_exists(
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
        """Durations agree within two frames, peaks exactly; a busy machine may drop frames, which are not compared then."""
        server: RtspServer = rtsp({f"cam{k}": clips[k % 2] for k in range(4)})
        settings = live({f"cam{k}": {"url": server.url(f"cam{k}"), "false_alarms": BUDGET} for k in range(4)})
        engine = engines(settings)
        until(lambda: all(status.frames >= N_FRAMES for status in engine.status()))
        until(lambda: all(status.scored + status.dropped >= N_FRAMES - 4 for status in engine.status()))
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

    def test_camera_reconnects_when_the_server_dies_five_times(
        self, clips: list[Path], live: Live, engines: Engines, rtsp: Any
    ) -> None:
        server: RtspServer = rtsp({"gate": clips[0]})
        engine = engines(live({"gate": {"url": server.url("gate")}}))
        until(lambda: engine.status()[0].state is CameraState.LIVE)
        for _ in range(5):
            server.kill()
            until(lambda: engine.status()[0].state is CameraState.DOWN)
            before = engine.status()[0]
            time.sleep(0.3)
            server.start()
            until(lambda: engine.status()[0].state is CameraState.LIVE)
            until(lambda frames=before.frames: engine.status()[0].frames > frames)  # type: ignore[misc]
        status = engine.status()[0]
        assert status.reconnects == 5
        assert status.attempts >= 6
        assert status.message == ""

    def test_password_of_an_unreachable_camera_is_masked(self, clips: list[Path], live: Live, engines: Engines) -> None:
        cameras = {
            "dead": {"url": "rtsp://user:topsecret@127.0.0.1:9/live?key=alsosecret"},
            "gate": {"url": str(clips[0]), "loop": True},
        }
        engine = engines(live(cameras))
        until(lambda: engine.status()[0].state is CameraState.DOWN)
        until(lambda: engine.status()[1].scored > 3)
        shown = repr(engine.status())
        assert "topsecret" not in shown
        assert "alsosecret" not in shown


class TestCommand:
    def test_sigterm_closes_the_open_event(self, quick_bundle: Path, clips: list[Path], tmp_path: Path) -> None:
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
            until(lambda: (out / "events.jsonl").exists() and bool(lines(out, "new")))
            process.send_signal(signal.SIGTERM)
            _, output = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 0
        assert all(json.loads(line)["time"] for line in output.splitlines())
        begun, over = lines(out, "new"), lines(out, "end")
        assert [event["id"] for event in begun] == [event["id"] for event in over]
        assert all(datetime.fromisoformat(event["end"]) <= datetime.now(UTC) for event in over)

    def test_unreadable_files_are_reported_and_exit_with_1(
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
            reported = [json.loads(line) for line in done.stderr.splitlines()]
            ended = {line["camera"]: line["text"] for line in reported if line.get("state") == "ended"}
            down = {line["camera"]: line["text"] for line in reported if line.get("state") == "down"}
            assert ended == {clips[0].stem: f"{clips[0].stem}: ended: the file has ended"}
            assert set(down) == set(paths) - set(ended)
            assert all(str(paths[name]) in text for name, text in down.items())
            assert reported[-1]["text"] == (
                "not read and scored to the end: missing, junk, empty, mixed" if code else "stopped"
            )
