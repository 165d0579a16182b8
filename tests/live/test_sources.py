"""Cameras that are no RTSP over TCP: datagrams, play lists, pushed pictures, recordings at a URL, devices."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from footage import save_video
from live.conftest import N_FRAMES, RtspServer, until
from live.sources import HlsCamera, MjpegCamera, Silent
from live.test_live import all_of, lines, seconds
from moving_disc import pictures

from comemory.live.capture import connection
from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.live.doctor import run_checks
from comemory.live.engine import Engine
from comemory.live.service import camera_flags
from comemory.video.source import open_source

Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]


def is_state(engine: Engine, *wanted: CameraState) -> Callable[[], bool]:
    return lambda: engine.status()[0].state in wanted


class TestDatagrams:
    def test_no_frame_is_lost_and_the_server_may_die(
        self, clips: list[Path], live: Live, engines: Engines, rtsp: Any
    ) -> None:
        """But the very last: on a busy machine FFmpeg drops it, or gives it no time, where the farewell is there first."""
        server: RtspServer = rtsp({"gate": clips[0]})
        settings = live({"gate": {"url": server.url("gate"), "transport": "udp", "realtime": False}})
        engine = engines(settings)
        until(is_state(engine, CameraState.LIVE))
        server.kill()
        until(is_state(engine, CameraState.DOWN))
        before = engine.status()[0].frames
        with engine.subscribe() as messages:
            server.start()
            assert until(is_state(engine, CameraState.LIVE)) < 10
            until(is_state(engine, CameraState.DOWN), 30)
            times = [seconds(message["time"]) for message in all_of(messages, "score")]
        status = engine.status()[0]
        assert status.frames - before in (N_FRAMES - 1, N_FRAMES)
        assert (status.reconnects, status.dropped) == (1, 0)
        assert len(times) >= N_FRAMES - 10
        between = np.diff(times)[:-1]
        assert np.median(between) == pytest.approx(0.1, abs=0.02)
        assert between.max() < 0.15, (
            "a lost frame leaves two intervals; one that came late at first only shortens the next"
        )

    @pytest.mark.parametrize("transport", ["tcp", "udp"])
    def test_a_server_that_falls_silent_is_a_stall_and_then_a_loss(
        self, clips: list[Path], live: Live, engines: Engines, rtsp: Any, transport: str
    ) -> None:
        server: RtspServer = rtsp({"gate": clips[0]})
        camera = {"url": server.url("gate"), "transport": transport}
        engine = engines(live({"gate": camera}, health={"stalled_s": 1.0}))
        until(is_state(engine, CameraState.LIVE))
        assert server.process is not None
        os.kill(server.process.pid, signal.SIGSTOP)
        until(is_state(engine, CameraState.STALLED, CameraState.DOWN))
        assert "no frame for" in engine.status()[0].message or engine.status()[0].state is CameraState.DOWN
        until(lambda: engine.status()[0].attempts > 1, 10)
        os.kill(server.process.pid, signal.SIGCONT)
        until(is_state(engine, CameraState.LIVE), 15)


@pytest.fixture
def hls(tmp_path: Path) -> Iterator[HlsCamera]:
    camera = HlsCamera(tmp_path / "hls", pictures(300, 96, 144), rate=10)
    yield camera
    camera.close()


class TestPlayList:
    def test_pieces_are_played_at_their_own_pace_until_the_list_ends_and_again_when_it_goes_on(
        self, live: Live, engines: Engines, hls: HlsCamera
    ) -> None:
        engine = engines(live({"gate": {"url": hls.url}}))
        until(is_state(engine, CameraState.DOWN))
        assert "404" in engine.status()[0].message
        hls.start()
        until(is_state(engine, CameraState.LIVE), 30)
        until(lambda: engine.status()[0].scored > 40, 20)
        status = engine.status()[0]
        assert status.dropped < status.frames / 10, "a piece that came at once would lose half its frames"
        assert 8 < status.fps_in < 12
        hls.end()
        until(is_state(engine, CameraState.DOWN), 20)
        seen = engine.status()[0].frames
        until(lambda: "the stream has ended" in engine.status()[0].message)
        assert engine.status()[0].frames == seen
        hls.start()
        until(is_state(engine, CameraState.LIVE), 30)
        assert engine.status()[0].reconnects == 1

    def test_a_list_that_no_longer_grows_is_not_seen_twice(
        self, live: Live, engines: Engines, hls: HlsCamera, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "PIECE_TIMEOUT_S", 3.0)
        engine = engines(live({"gate": {"url": hls.url}}, health={"stalled_s": 2.0}))
        hls.start()
        until(lambda: engine.status()[0].scored > 20, 30)
        hls.freeze()
        first = engine.status()[0].attempts
        until(lambda: engine.status()[0].attempts > first, 20)
        seen = engine.status()[0].frames
        until(lambda: engine.status()[0].attempts > first + 1, 20)
        assert engine.status()[0].frames == seen
        hls.thaw()
        until(is_state(engine, CameraState.LIVE), 20)
        assert engine.status()[0].frames > seen


def test_a_recording_at_a_url_is_seen_once(clips: list[Path], live: Live, engines: Engines, tmp_path: Path) -> None:
    recording = save_video(tmp_path / "web" / "gate.mkv", [frame.image for frame in open_source(clips[0])])
    handler = functools.partial(Silent, directory=str(recording.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{recording.name}"
        settings = live({"gate": {"url": url, "realtime": False, "false_alarms": "1/min"}})
        engine = engines(settings)
        until(lambda: "the stream has ended" in engine.status()[0].message, 30)
        assert engine.status()[0].frames == N_FRAMES
        until(lambda: engine.status()[0].attempts > 2)
        assert engine.status()[0].frames == N_FRAMES
        engine.stop()
        server.shutdown()
    assert lines(settings.out, "end")


def test_pushed_pictures(live: Live, engines: Engines) -> None:
    """Of the cheapest cameras: no clock, and gone without a word."""
    camera = MjpegCamera(pictures(200, 96, 144), rate=10)
    engine = engines(live({"gate": {"url": camera.url}}))
    until(lambda: engine.status()[0].scored > 10, 20)
    status = engine.status()[0]
    assert status.state is CameraState.LIVE
    assert 6 < status.fps_in < 14
    camera.lost.set()
    until(is_state(engine, CameraState.DOWN))
    camera.lost.clear()
    until(is_state(engine, CameraState.LIVE), 15)
    assert engine.status()[0].reconnects == 1
    camera.close()


@pytest.mark.parametrize("kind", ["pushed", "rtsp", "file"])
@pytest.mark.parametrize("set_s", [-3600.0, 3600.0])
def test_a_clock_that_is_set_ends_the_event_and_its_clip_and_time_goes_on(
    clips: list[Path], live: Live, engines: Engines, monkeypatch: pytest.MonkeyPatch, rtsp: Any, kind: str, set_s: float
) -> None:
    camera = MjpegCamera([frame.image for frame in open_source(clips[0])], rate=10)
    url = {"pushed": camera.url, "file": str(clips[0])}.get(kind) or rtsp({"gate": clips[0]}).url("gate")
    settings = live({"gate": {"url": url, "false_alarms": "1e7/min", "loop": True}}, events={"after_s": 1.0})
    engine = engines(settings)
    until(lambda: engine.status()[0].open_event is not None, 30)
    event_id, frames, true = engine.status()[0].open_event, engine.status()[0].frames, time.time
    before = true()
    monkeypatch.setattr(time, "time", lambda: true() + set_s)
    until(lambda: (settings.out / "media" / str(event_id) / "clip.mp4").exists())
    until(lambda: engine.status()[0].frames > frames + 30)
    event = next(event for event in lines(settings.out, "end") if event["id"] == event_id)
    assert before - 60 < seconds(event["start"]) <= seconds(event["end"]) < before + 5
    late = [at.timestamp() for at, _ in engine.scores("gate", 600)][-10:]
    assert late == sorted(set(late))
    assert abs(late[-1] - time.time()) < 5
    camera.close()


class TestDevices:
    """Without one: what is said where it is missing, or is no camera."""

    def test_it_is_a_camera_and_no_file(self, live: Live) -> None:
        assert camera_flags(["usb=/dev/video0"]) == {"usb": {"url": "/dev/video0"}}
        assert live({"usb": {"url": "/dev/video0"}}).cameras["usb"].resolved_url == "/dev/video0"

    @pytest.mark.parametrize(
        ("device", "said"), [("/dev/video97", "is the camera plugged in"), ("/dev/null", "another kind of device")]
    )
    def test_what_is_wrong_is_said_and_it_is_tried_again(
        self, live: Live, engines: Engines, device: str, said: str
    ) -> None:
        settings = live({"usb": {"url": device}})
        engine = engines(settings)
        until(is_state(engine, CameraState.DOWN))
        until(lambda: engine.status()[0].attempts > 1)
        assert said in engine.status()[0].message
        assert not engine.finished
        found = {check.name: check for check in run_checks(settings)}["camera usb"]
        assert found.ok is False
        assert said in found.found
