"""Clips cut from what a camera sent, whatever its codec."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest
from moving_disc import pictures

from comemory.live.recording.packet_buffer import Packet, PacketBuffer, StreamParams

RATE_HZ = 10
N_FRAMES = 60


def encoded(folder: Path, codec: str) -> Path:
    """60 pictures at 10 a second; a keyframe every second."""
    path = folder / f"{codec}.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = RATE_HZ
        for picture in pictures(N_FRAMES):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt))
            )
        container.mux(stream.encode(None))
    return path


def submit(errand: Callable[[], None]) -> bool:
    errand()
    return True


class Camera:
    """Packets of a file, fed one by one into a footage."""

    def __init__(self, path: Path, footage: PacketBuffer) -> None:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            footage.start_connection(StreamParams(stream))
            packets = [packet for packet in container.demux(stream) if packet.size]
            self.sent = [
                Packet(bytes(p), p.pts, p.dts, p.duration or 0, p.is_keyframe, k / RATE_HZ)
                for k, p in enumerate(packets)
            ]


@pytest.mark.parametrize("codec", ["libx264", "mjpeg", "mpeg4"])
def test_a_clip_has_the_seconds_before_and_after(tmp_path: Path, codec: str) -> None:
    made: dict[str, Path] = {}
    footage = PacketBuffer(1.0, 0.5, 2**20, submit, lambda event_id, path: made.update({event_id: path}), pytest.fail)
    camera = Camera(encoded(tmp_path, codec), footage)
    for sent in camera.sent[:41]:
        footage.append(sent)
    footage.begin_clip("one", tmp_path / "one.mp4", start=4.0)
    footage.end_clip("one", end=4.5)
    for sent in camera.sent[41:]:
        footage.append(sent)
    with av.open(str(made["one"])) as clip:
        assert clip.streams.video[0].codec_context.name == "h264"
        n_frames = sum(1 for _ in clip.decode(video=0))
    first_key = max(k for k, sent in enumerate(camera.sent) if sent.keyframe and sent.time <= 3.0)
    n_wanted = 51 - first_key
    assert n_wanted - 1 <= n_frames <= n_wanted + 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("leap_s", [3600, -3600])
def test_a_clock_of_the_camera_that_leaps_leaves_no_hole(tmp_path: Path, leap_s: int) -> None:
    made: dict[str, Path] = {}
    footage = PacketBuffer(1.0, 1.5, 2**20, submit, lambda event_id, path: made.update({event_id: path}), pytest.fail)
    camera = Camera(encoded(tmp_path, "libx264"), footage)
    ticks = leap_s * 1000
    for k, sent in enumerate(camera.sent):
        late = replace(sent, pts=(sent.pts or 0) + ticks, dts=None if sent.dts is None else sent.dts + ticks)
        footage.append(sent if k < 35 else late)
        if k == 30:
            footage.begin_clip("one", tmp_path / "one.mp4", start=3.0)
            footage.end_clip("one", end=3.5)
    with av.open(str(made["one"])) as clip:
        times = [frame.time for frame in clip.decode(video=0)]
    assert times == sorted(set(times))
    assert 3.0 < times[-1] - times[0] < 4.5
    assert max(after - before for before, after in itertools.pairwise(times)) < 0.5


def test_a_pause_of_the_camera_stays_one(tmp_path: Path) -> None:
    made: dict[str, Path] = {}
    footage = PacketBuffer(1.0, 1.5, 2**20, submit, lambda event_id, path: made.update({event_id: path}), pytest.fail)
    camera = Camera(encoded(tmp_path, "libx264"), footage)
    for k, sent in enumerate(camera.sent):
        late = replace(sent, pts=(sent.pts or 0) + 20_000, dts=(sent.dts or 0) + 20_000, time=sent.time + 20)
        footage.append(sent if k < 35 else late)
        if k == 30:
            footage.begin_clip("one", tmp_path / "one.mp4", start=3.0)
        if k == 40:
            footage.end_clip("one", end=24.0)
    footage.finish_clips()
    with av.open(str(made["one"])) as clip:
        times = [frame.time for frame in clip.decode(video=0)]
    assert 19.5 < max(after - before for before, after in itertools.pairwise(times)) < 20.5


def test_memory_is_bounded(tmp_path: Path) -> None:
    footage = PacketBuffer(60.0, 0.0, 4000, submit, lambda *_: None, pytest.fail)
    for sent in Camera(encoded(tmp_path, "libx264"), footage).sent:
        footage.append(sent)
        assert footage.n_bytes <= 4000


def test_a_disk_that_refuses_is_told_once_and_nothing_stays(tmp_path: Path) -> None:
    troubles: list[str] = []
    footage = PacketBuffer(1.0, 0.5, 2**20, submit, lambda *_: pytest.fail("there is no clip"), troubles.append)
    camera = Camera(encoded(tmp_path, "libx264"), footage)
    for sent in camera.sent[:20]:
        footage.append(sent)
    (tmp_path / "file").write_text("in the way")
    footage._submit = lambda errand: True
    footage.begin_clip("one", tmp_path / "file" / "one.mp4", start=1.5)
    footage._submit = submit
    for sent in camera.sent[20:]:
        footage.append(sent)
    assert len(troubles) == 1
    assert "cannot write the clip" in troubles[0]


def test_a_connection_that_ends_ends_the_clip(tmp_path: Path) -> None:
    made: list[str] = []
    footage = PacketBuffer(1.0, 5.0, 2**20, submit, lambda event_id, _: made.append(event_id), pytest.fail)
    camera = Camera(encoded(tmp_path, "libx264"), footage)
    for sent in camera.sent[:30]:
        footage.append(sent)
    footage.begin_clip("one", tmp_path / "one.mp4", start=2.5)
    footage.start_connection(None)
    assert made == ["one"]
    footage.begin_clip("two", tmp_path / "two.mp4", start=2.5)
    footage.finish_clips()
    assert made == ["one"]
