"""Clips cut from the packets of a camera, with any codec."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import pytest
from moving_disc import disc_images

from comemory.live.recording.packet_buffer import Packet, PacketBuffer, StreamParams

RATE_HZ = 10
N_FRAMES = 60


def encoded(folder: Path, codec: str) -> Path:
    """60 frames at 10 a second, with a key frame every second."""
    path = folder / f"{codec}.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE_HZ)
        stream.height, stream.width = 48, 64
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = RATE_HZ
        for picture in disc_images(N_FRAMES):
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt))
            )
        container.mux(stream.encode(None))
    return path


def submit(task: Callable[[], None]) -> bool:
    task()
    return True


class Camera:
    """The packets of a file, with their times."""

    def __init__(self, path: Path, buffer: PacketBuffer) -> None:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            buffer.start_connection(StreamParams(stream))
            read = [packet for packet in container.demux(stream) if packet.size]
            self.packets = [
                Packet(bytes(p), p.pts, p.dts, p.duration or 0, p.is_keyframe, k / RATE_HZ) for k, p in enumerate(read)
            ]


@pytest.mark.parametrize("codec", ["libx264", "mjpeg", "mpeg4"])
def test_clip_has_pre_and_post_capture(tmp_path: Path, codec: str) -> None:
    made: dict[str, Path] = {}
    buffer = PacketBuffer(1.0, 0.5, 2**20, submit, lambda event_id, path: made.update({event_id: path}), pytest.fail)
    camera = Camera(encoded(tmp_path, codec), buffer)
    for packet in camera.packets[:41]:
        buffer.append(packet)
    buffer.begin_clip("one", tmp_path / "one.mp4", start=4.0)
    buffer.end_clip("one", end=4.5)
    for packet in camera.packets[41:]:
        buffer.append(packet)
    with av.open(str(made["one"])) as clip:
        assert clip.streams.video[0].codec_context.name == "h264"
        n_frames = sum(1 for _ in clip.decode(video=0))
    first_key = max(k for k, packet in enumerate(camera.packets) if packet.keyframe and packet.time <= 3.0)
    n_wanted = 51 - first_key
    assert n_wanted - 1 <= n_frames <= n_wanted + 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("jump_s", [3600, -3600])
def test_jump_of_the_camera_clock_leaves_no_gap(tmp_path: Path, jump_s: int) -> None:
    made: dict[str, Path] = {}
    buffer = PacketBuffer(1.0, 1.5, 2**20, submit, lambda event_id, path: made.update({event_id: path}), pytest.fail)
    camera = Camera(encoded(tmp_path, "libx264"), buffer)
    ticks = jump_s * 1000
    for k, packet in enumerate(camera.packets):
        late = replace(packet, pts=(packet.pts or 0) + ticks, dts=None if packet.dts is None else packet.dts + ticks)
        buffer.append(packet if k < 35 else late)
        if k == 30:
            buffer.begin_clip("one", tmp_path / "one.mp4", start=3.0)
            buffer.end_clip("one", end=3.5)
    with av.open(str(made["one"])) as clip:
        times = [frame.time for frame in clip.decode(video=0)]
    assert times == sorted(set(times))
    assert 3.0 < times[-1] - times[0] < 4.5
    assert max(after - before for before, after in itertools.pairwise(times)) < 0.5


def test_pause_of_the_camera_stays_in_the_clip(tmp_path: Path) -> None:
    made: dict[str, Path] = {}
    buffer = PacketBuffer(1.0, 1.5, 2**20, submit, lambda event_id, path: made.update({event_id: path}), pytest.fail)
    camera = Camera(encoded(tmp_path, "libx264"), buffer)
    for k, packet in enumerate(camera.packets):
        late = replace(packet, pts=(packet.pts or 0) + 20_000, dts=(packet.dts or 0) + 20_000, time=packet.time + 20)
        buffer.append(packet if k < 35 else late)
        if k == 30:
            buffer.begin_clip("one", tmp_path / "one.mp4", start=3.0)
        if k == 40:
            buffer.end_clip("one", end=24.0)
    buffer.finish_clips()
    with av.open(str(made["one"])) as clip:
        times = [frame.time for frame in clip.decode(video=0)]
    assert 19.5 < max(after - before for before, after in itertools.pairwise(times)) < 20.5


def test_an_event_of_frames_that_were_scored_after_a_reconnect_has_a_clip(tmp_path: Path) -> None:
    """Under load, the frames of a connection that was lost are scored when the next one has begun."""
    made: dict[str, Path] = {}
    buffer = PacketBuffer(1.0, 0.5, 2**20, submit, lambda event_id, path: made.update({event_id: path}), pytest.fail)
    before = Camera(encoded(tmp_path, "libx264"), buffer).packets
    for packet in before:
        buffer.append(packet)
    after = [replace(packet, time=packet.time + 8) for packet in Camera(encoded(tmp_path, "mpeg4"), buffer).packets]
    for packet in after[:30]:
        buffer.append(packet)
    buffer.begin_clip("late", tmp_path / "late.mp4", start=5.5)
    buffer.end_clip("late", end=5.9)
    buffer.begin_clip("new", tmp_path / "new.mp4", start=10.5)
    buffer.end_clip("new", end=11.0)
    for packet in after[30:]:
        buffer.append(packet)
    counts = {}
    for name, path in made.items():
        with av.open(str(path)) as clip:
            counts[name] = sum(1 for _ in clip.decode(video=0))
    assert set(counts) == {"late", "new"}
    assert 10 <= counts["late"] <= 20
    assert 18 <= counts["new"] <= 32
    far = [replace(packet, time=packet.time + 60) for packet in after]
    for packet in far:
        buffer.append(packet)
    buffer.begin_clip("too-late", tmp_path / "too-late.mp4", start=5.5)
    assert buffer._ended is None


def test_memory_is_bounded(tmp_path: Path) -> None:
    buffer = PacketBuffer(60.0, 0.0, 4000, submit, lambda *_: None, pytest.fail)
    for packet in Camera(encoded(tmp_path, "libx264"), buffer).packets:
        buffer.append(packet)
        assert buffer.n_bytes <= 4000


def test_write_error_is_reported_once(tmp_path: Path) -> None:
    errors: list[str] = []
    buffer = PacketBuffer(1.0, 0.5, 2**20, submit, lambda *_: pytest.fail("there is no clip"), errors.append)
    camera = Camera(encoded(tmp_path, "libx264"), buffer)
    for packet in camera.packets[:20]:
        buffer.append(packet)
    (tmp_path / "file").write_text("in the way")
    buffer._submit = lambda task: True
    buffer.begin_clip("one", tmp_path / "file" / "one.mp4", start=1.5)
    buffer._submit = submit
    for packet in camera.packets[20:]:
        buffer.append(packet)
    assert len(errors) == 1
    assert "cannot write the clip" in errors[0]


def test_end_of_the_connection_ends_the_clip(tmp_path: Path) -> None:
    made: list[str] = []
    buffer = PacketBuffer(1.0, 5.0, 2**20, submit, lambda event_id, _: made.append(event_id), pytest.fail)
    camera = Camera(encoded(tmp_path, "libx264"), buffer)
    for packet in camera.packets[:30]:
        buffer.append(packet)
    buffer.begin_clip("one", tmp_path / "one.mp4", start=2.5)
    buffer.start_connection(None)
    assert made == ["one"]
    buffer.begin_clip("two", tmp_path / "two.mp4", start=2.5)
    assert made == ["one", "two"]
    buffer.begin_clip("three", tmp_path / "three.mp4", start=3.5)
    buffer.finish_clips()
    assert made == ["one", "two"]


CRASH = """
import os, sys
from pathlib import Path
import av
from comemory.live.recording.packet_buffer import Packet, PacketBuffer, StreamParams
buffer = PacketBuffer(1.0, 1.0, 2**20, lambda task: task() or True, lambda *_: None, print)
with av.open(sys.argv[1]) as container:
    stream = container.streams.video[0]
    buffer.start_connection(StreamParams(stream))
    for k, p in enumerate(p for p in container.demux(stream) if p.size):
        buffer.append(Packet(bytes(p), p.pts, p.dts, p.duration or 0, p.is_keyframe, k / 10))
        if k == 10:
            buffer.begin_clip("one", Path(sys.argv[2]), start=1.0)
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("codec", ["libx264", "mjpeg"])
def test_clip_survives_a_crash_in_the_middle_of_its_event(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "one.mp4"
    done = subprocess.run([sys.executable, "-c", CRASH, str(encoded(tmp_path, codec)), str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    with av.open(str(path)) as clip:
        n_frames = sum(1 for _ in clip.decode(video=0))
    assert n_frames >= N_FRAMES - 2 * RATE_HZ, "no more than the last seconds are lost"


def test_finished_clip_has_its_index_at_the_beginning(tmp_path: Path) -> None:
    buffer = PacketBuffer(1.0, 0.5, 2**20, submit, lambda *_: None, pytest.fail)
    camera = Camera(encoded(tmp_path, "libx264"), buffer)
    for packet in camera.packets[:20]:
        buffer.append(packet)
    buffer.begin_clip("one", tmp_path / "one.mp4", start=1.5)
    buffer.finish_clips()
    content = (tmp_path / "one.mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    assert b"moof" not in content


def test_clip_without_room_for_its_index_is_left_in_fragments(tmp_path: Path) -> None:
    made: dict[str, Path] = {}
    buffer = PacketBuffer(1.0, 0.5, 2**20, submit, lambda event_id, path: made.update({event_id: path}), pytest.fail)
    camera = Camera(encoded(tmp_path, "libx264"), buffer)
    (tmp_path / ".one.mp4.part").mkdir()  # in the way of the file with the index
    for packet in camera.packets:
        buffer.append(packet)
    buffer.begin_clip("one", tmp_path / "one.mp4", start=4.0)
    buffer.finish_clips()
    with av.open(str(made["one"])) as clip:
        assert sum(1 for _ in clip.decode(video=0)) > 10
