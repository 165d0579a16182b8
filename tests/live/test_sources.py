"""Cameras other than RTSP over TCP: UDP, HLS, MJPEG, recordings at a URL, devices."""

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

import av
import cv2
import numpy as np
import pytest
from footage import save_video
from live.conftest import N_FRAMES, RtspServer, until
from live.sources import HlsCamera, HttpStream, MjpegCamera, Silent
from live.test_live import all_of, lines, seconds
from moving_disc import disc_images

from comemory.live.capture import connection
from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.live.doctor import run_checks
from comemory.live.engine import Engine
from comemory.live.service import camera_flags
from comemory.video.source import open_source

Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]


def is_state(engine: Engine, *states: CameraState) -> Callable[[], bool]:
    return lambda: engine.status()[0].state in states


class TestUdp:
    def test_no_frame_is_lost_after_the_server_died(
        self, clips: list[Path], live: Live, engines: Engines, rtsp: Any
    ) -> None:
        """Except the last one: FFmpeg drops it if the server's BYE arrives first, as on a busy machine."""
        server: RtspServer = rtsp({"gate": clips[0]})
        settings = live({"gate": {"url": server.url("gate"), "transport": "udp", "realtime": False}})
        engine = engines(settings)
        until(is_state(engine, CameraState.LIVE))
        server.kill()
        until(is_state(engine, CameraState.DOWN))
        before = engine.status()[0].frames
        with engine.subscribe() as messages:
            server.start()
            until(is_state(engine, CameraState.LIVE))
            until(is_state(engine, CameraState.DOWN))
            times = [seconds(message["time"]) for message in all_of(messages, "score")]
        status = engine.status()[0]
        assert status.frames - before in (N_FRAMES - 1, N_FRAMES)
        assert (status.reconnects, status.dropped) == (1, 0)
        assert len(times) >= N_FRAMES - 10
        intervals_s = np.diff(times)[:-1]
        assert np.median(intervals_s) == pytest.approx(0.1, abs=0.02)
        assert intervals_s.max() < 0.15, (
            "a lost frame leaves an interval of 0.2 s; one that arrived late only shortens the next"
        )

    @pytest.mark.parametrize("transport", ["tcp", "udp"])
    def test_server_that_hangs_is_stalled_and_then_reconnected(
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
        until(lambda: engine.status()[0].attempts > 1)
        os.kill(server.process.pid, signal.SIGCONT)
        until(is_state(engine, CameraState.LIVE))


@pytest.fixture
def hls(tmp_path: Path) -> Iterator[HlsCamera]:
    camera = HlsCamera(tmp_path / "hls", disc_images(300, 96, 144), rate=10)
    yield camera
    camera.close()


class TestHls:
    def test_segments_are_played_in_real_time_and_again_when_the_playlist_comes_back(
        self, live: Live, engines: Engines, hls: HlsCamera
    ) -> None:
        engine = engines(live({"gate": {"url": hls.url}}))
        until(is_state(engine, CameraState.DOWN))
        assert "404" in engine.status()[0].message
        hls.start()
        until(is_state(engine, CameraState.LIVE))
        until(lambda: engine.status()[0].scored > 40)
        status = engine.status()[0]
        times = [at.timestamp() for at, _ in engine.scores("gate", 600)]
        assert np.median(np.diff(times)) == pytest.approx(0.1, abs=0.02)
        assert status.dropped < status.frames / 2, (
            "segments that are not spread in time would lose most of their frames"
        )
        hls.end()
        until(is_state(engine, CameraState.DOWN))
        seen = engine.status()[0].frames
        until(lambda: "the recording has ended" in engine.status()[0].message)
        assert engine.status()[0].frames == seen
        hls.start()
        until(is_state(engine, CameraState.LIVE))
        assert engine.status()[0].reconnects == 1

    def test_playlist_that_stops_growing_is_not_scored_twice(
        self, live: Live, engines: Engines, hls: HlsCamera, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connection, "SEGMENT_TIMEOUT_S", 3.0)
        engine = engines(live({"gate": {"url": hls.url}}, health={"stalled_s": 2.0}))
        hls.start()
        until(lambda: engine.status()[0].scored > 20)
        hls.freeze()
        first = engine.status()[0].attempts
        until(lambda: engine.status()[0].attempts > first)
        seen = engine.status()[0].frames
        until(lambda: engine.status()[0].attempts > first + 1)
        assert engine.status()[0].frames == seen
        hls.thaw()
        until(is_state(engine, CameraState.LIVE))
        assert engine.status()[0].frames > seen


def test_recording_at_a_url_is_played_once(clips: list[Path], live: Live, engines: Engines, tmp_path: Path) -> None:
    recording = save_video(tmp_path / "web" / "gate.mkv", [frame.image for frame in open_source(clips[0])])
    handler = functools.partial(Silent, directory=str(recording.parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/{recording.name}"
        settings = live({"gate": {"url": url, "realtime": False, "false_alarms": "1/min"}})
        engine = engines(settings)
        until(lambda: "the recording has ended" in engine.status()[0].message)
        assert engine.status()[0].frames == N_FRAMES
        until(lambda: engine.status()[0].attempts > 2)
        assert engine.status()[0].frames == N_FRAMES
        engine.stop()
        server.shutdown()
    assert lines(settings.out, "end")


def test_mjpeg_camera_reconnects(live: Live, engines: Engines) -> None:
    """Such cameras have no clock, and disappear without closing the connection properly."""
    camera = MjpegCamera(disc_images(200, 96, 144), rate=10)
    engine = engines(live({"gate": {"url": camera.url}}))
    until(lambda: engine.status()[0].scored > 10)
    status = engine.status()[0]
    assert status.state is CameraState.LIVE
    assert status.fps_in > 0
    camera.lost.set()
    until(is_state(engine, CameraState.DOWN))
    camera.lost.clear()
    until(is_state(engine, CameraState.LIVE))
    assert engine.status()[0].reconnects == 1
    camera.close()


@pytest.mark.parametrize("kind", ["mjpeg", "rtsp", "file"])
@pytest.mark.parametrize("set_s", [-3600.0, 3600.0])
def test_setting_the_clock_ends_the_event_and_its_clip(
    clips: list[Path], live: Live, engines: Engines, monkeypatch: pytest.MonkeyPatch, rtsp: Any, kind: str, set_s: float
) -> None:
    camera = MjpegCamera([frame.image for frame in open_source(clips[0])], rate=10)
    url = {"mjpeg": camera.url, "file": str(clips[0])}.get(kind) or rtsp({"gate": clips[0]}).url("gate")
    settings = live({"gate": {"url": url, "false_alarms": "1e7/min", "loop": True}}, events={"post_capture_s": 1.0})
    engine = engines(settings)
    until(lambda: engine.status()[0].open_event is not None)
    event_id, frames, true = engine.status()[0].open_event, engine.status()[0].frames, time.time
    before = true()
    monkeypatch.setattr(time, "time", lambda: true() + set_s)
    until(lambda: (settings.out / "media" / str(event_id) / "clip.mp4").exists())
    until(lambda: engine.status()[0].frames > frames + 30)
    event = next(event for event in lines(settings.out, "end") if event["id"] == event_id)
    assert before - 60 < seconds(event["start"]) <= seconds(event["end"]) < before + 60
    newest = [at.timestamp() for at, _ in engine.scores("gate", 600)][-10:]
    assert newest == sorted(set(newest))
    assert abs(newest[-1] - time.time()) < 60
    camera.close()


class TestDevices:
    """What is reported for a device that is missing or is not a camera."""

    def test_device_is_a_camera_not_a_file(self, live: Live) -> None:
        assert camera_flags(["usb=/dev/video0"]) == {"usb": {"url": "/dev/video0"}}
        assert live({"usb": {"url": "/dev/video0"}}).cameras["usb"].resolved_url == "/dev/video0"

    @pytest.mark.parametrize(
        ("device", "message"), [("/dev/video97", "is the camera plugged in"), ("/dev/null", "not a camera")]
    )
    def test_error_of_a_device_is_reported_and_it_is_tried_again(
        self, live: Live, engines: Engines, device: str, message: str
    ) -> None:
        settings = live({"usb": {"url": device}})
        engine = engines(settings)
        until(is_state(engine, CameraState.DOWN))
        until(lambda: engine.status()[0].attempts > 1)
        assert message in engine.status()[0].message
        assert not engine.finished
        found = {check.name: check for check in run_checks(settings)}["camera usb"]
        assert found.ok is False
        assert message in found.found


def test_live_stream_that_states_a_duration_is_live_again_after_a_break(
    clips: list[Path], live: Live, engines: Engines, tmp_path: Path
) -> None:
    """FLV from a media server: its header has a duration, and the connection breaks after four seconds."""
    path = tmp_path / "live.flv"
    with av.open(str(clips[0])) as source, av.open(str(path), "w", format="flv") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    with HttpStream(path.read_bytes(), "video/x-flv", seconds=10.0, break_after_s=4.0) as server:
        engine = engines(live({"gate": {"url": server.url}}))
        for n_reconnects in (0, 1, 2):
            until(
                lambda n=n_reconnects: (
                    engine.status()[0].reconnects >= n and engine.status()[0].state is CameraState.LIVE
                )
            )  # type: ignore[misc]
        engine.stop()


def test_single_image_is_reported_as_one(live: Live, engines: Engines, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "snapshot.jpg"), disc_images(1, 96, 144)[0])
    with HttpStream((tmp_path / "snapshot.jpg").read_bytes(), "image/jpeg", seconds=0.0, break_after_s=None) as server:
        engine = engines(live({"gate": {"url": server.url}}))
        until(lambda: "a single image, not a stream" in engine.status()[0].message)
        assert engine.status()[0].state is CameraState.DOWN


def test_hanging_camera_is_not_shown_live_by_the_last_frames_of_its_decoder(
    tmp_path: Path, live: Live, engines: Engines, rtsp: Any
) -> None:
    """With B-frames, the decoder holds frames back and returns them when the stream ends."""
    path = tmp_path / "delayed.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "3"})
        stream.height, stream.width, stream.pix_fmt = 96, 144, "yuv420p"
        for image in disc_images(600, 96, 144):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    server: RtspServer = rtsp({"gate": path})
    engine = engines(live({"gate": {"url": server.url("gate")}}, health={"stalled_s": 1.0}))
    until(is_state(engine, CameraState.LIVE))
    assert server.process is not None
    with engine.subscribe() as messages:
        os.kill(server.process.pid, signal.SIGSTOP)
        until(lambda: engine.status()[0].attempts > 1)
        states = [message["state"] for message in all_of(messages, "state")]
        os.kill(server.process.pid, signal.SIGCONT)
    assert states[0] == "stalled"
    assert "live" not in states
