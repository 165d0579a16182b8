"""Sources from real containers: order, time, orientation, damage, and what is refused."""

from __future__ import annotations

import functools
import http.server
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moving_disc import disc_images

from comemory.errors import SourceError
from comemory.types import Frame, Source
from comemory.video import container
from comemory.video.container import _Clock
from comemory.video.resize import luma
from comemory.video.source import OpenedSource, open_source, source_name

FORMATS = [
    ("a.mp4", "libx264", "yuv420p", {}, 12),
    ("a.mov", "mpeg4", "yuv420p", {}, 12),
    ("a.mkv", "libvpx-vp9", "yuv420p", {"deadline": "realtime"}, None),
    ("b.mkv", "ffv1", "yuv444p", {}, None),
    ("a.avi", "mpeg4", "yuv420p", {}, 12),
    ("b.avi", "mjpeg", "yuvj420p", {}, 12),
    ("c.avi", "ffv1", "gray", {}, 12),
    ("a.webm", "libvpx", "yuv420p", {"deadline": "realtime"}, None),
    ("a.ts", "libx264", "yuv420p", {}, None),
    ("a.flv", "libx264", "yuv420p", {}, None),
    ("b.mov", "prores_ks", "yuv422p10le", {}, 12),
    ("c.mkv", "libx264", "yuv420p10le", {}, None),
    ("d.mkv", "libx264", "yuv444p", {}, None),
    ("a.mpg", "mpeg2video", "yuv420p", {}, None),
]


class Memory:
    """A source made in memory."""

    name = "memory"
    rate_hz = None

    def __iter__(self) -> Iterator[Frame]:
        for i, image in enumerate(disc_images(4)):
            yield Frame(image, i * 0.5, i)


def turn(path: Path, matrix: tuple[int, ...]) -> None:
    """Write a display matrix into the track header of an mp4, as phones do."""
    data = bytearray(path.read_bytes())
    at = data.find(b"tkhd") + 8 + 20 + 16
    assert struct.unpack_from(">i", data, at)[0] == 1 << 16
    data[at : at + 36] = struct.pack(">9i", *(value << 16 for value in matrix[:8]), 1 << 30)
    path.write_bytes(data)


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: be somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def n_open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(("name", "codec", "pix_fmt", "options", "n_frames"), FORMATS)
def test_every_container(make_video, name, codec, pix_fmt, options, n_frames):
    source = open_source(make_video(name, codec=codec, pix_fmt=pix_fmt, options=options))
    frames = list(source)
    assert (source.name, source.rate_hz, source.n_frames, source.size) == (name[0], 25, n_frames, (48, 64))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 25 for i in range(12)], abs=0.002)
    assert source.problems == []
    for frame, image in zip(frames, disc_images(12), strict=True):
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        assert frame.image.flags.owndata
        expected = luma(image)[..., None] if pix_fmt == "gray" else image
        assert np.abs(frame.image.astype(float) - expected).mean() < 12
    again = list(source)
    assert all(np.array_equal(one.image, other.image) for one, other in zip(frames, again, strict=True))


def test_lossless_video_comes_back_exactly(make_video):
    path = make_video("a.mkv", codec="ffv1", pix_fmt="bgr0")
    for frame, image in zip(open_source(path), disc_images(12), strict=True):
        assert np.array_equal(frame.image, image)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_variable_rate_is_preserved(make_video, name):
    times_ms = [0, 40, 80, 400, 440, 1000, 1033, 1066, 1100, 2000, 2040, 2080]
    frames = list(open_source(make_video(name, times_ms=times_ms)))
    assert [frame.time_s for frame in frames] == pytest.approx([t / 1000 for t in times_ms], abs=0.001)


def test_time_starts_at_the_first_frame(make_video):
    times_ms = [5000 + 40 * i for i in range(12)]
    frames = list(open_source(make_video("a.mkv", codec="ffv1", times_ms=times_ms)))
    assert [frame.time_s for frame in frames] == pytest.approx([0.04 * i for i in range(12)], abs=0.001)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.none() | st.integers(-(10**6), 10**6), max_size=30), st.sampled_from([5.0, 25.0, 30.0]))
def test_time_never_decreases(stamps, rate_hz):
    clock = _Clock(Fraction(1, 1000), rate_hz)
    times = [clock.time_s(stamp) for stamp in stamps]
    assert times == sorted(times)
    assert times[:1] in ([], [0.0])


def test_missing_times_follow_the_rate_and_a_restart_continues():
    clock = _Clock(Fraction(1, 1000), 10.0)
    stamps = [None, None, 500, 600, None, 800, 100_000, 0, 100]
    found = [(clock.time_s(stamp), clock.has_restarted) for stamp in stamps]
    times, restarts = zip(*found, strict=True)
    assert list(times) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 99.7, 99.8, 99.9])
    assert [k for k, has_restarted in enumerate(restarts) if has_restarted] == [7]


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, 0, -1, 0, 0, 0, 0), -1), ((-1, 0, 0, 0, -1, 0, 0, 0), 2), ((0, -1, 0, 1, 0, 0, 0, 0), 1)],
)
def test_phone_video_is_turned_upright(make_video, matrix, turns):
    path = make_video("a.mp4")
    lying = [frame.image for frame in open_source(path)]
    turn(path, matrix)
    source = open_source(path)
    assert source.size == ((64, 48) if turns % 2 else (48, 64))
    for frame, image in zip(source, lying, strict=True):
        assert np.array_equal(frame.image, np.rot90(image, turns))
    small = open_source(path, size=(32, 24))
    assert [frame.image.shape for frame in small] == [(32, 24, 3)] * 12
    assert small.size == source.size


@pytest.mark.parametrize(("height", "width"), [(47, 63), (1, 1), (2, 200), (33, 16)])
def test_odd_sizes(make_video, height, width):
    images = disc_images(3, height, width)
    source = open_source(make_video("a.mkv", codec="ffv1", pix_fmt="bgr0", images=images))
    assert source.size == (height, width)
    assert all(np.array_equal(frame.image, image) for frame, image in zip(source, images, strict=True))


def test_a_single_frame(make_video):
    source = open_source(make_video("a.mp4", images=disc_images(1)))
    assert [(frame.index, frame.time_s) for frame in source] == [(0, 0.0)]
    assert source.n_frames == 1
    assert source.problems == []


def test_frames_have_the_target_size(make_video):
    source = open_source(make_video("a.mp4"), size=(24, 40))
    assert {frame.image.shape for frame in source} == {(24, 40, 3)}
    assert source.size == (48, 64)


def two_sizes(make_video) -> Path:
    first = make_video("a.ts", images=disc_images(6))
    second = make_video("b.ts", images=disc_images(6, 96, 128))
    joined = first.with_name("joined.ts")
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    return joined


def test_a_change_of_size_is_an_error_without_a_target_size(make_video):
    path = two_sizes(make_video)
    seen = []
    with pytest.raises(SourceError, match=r"changes from 48x64 to 96x128 at frame 6 \("):
        seen.extend(frame.index for frame in open_source(path))
    assert seen == list(range(6))
    frames = list(open_source(path, size=(24, 32)))
    assert [frame.image.shape for frame in frames] == [(24, 32, 3)] * 12
    assert [frame.index for frame in frames if frame.is_restart] == [6], "another size is another recording"
    times = [frame.time_s for frame in frames]
    assert times == sorted(times)


@pytest.mark.parametrize(
    "muxing", ["frag_keyframe+empty_moov", "faststart", "frag_keyframe+default_base_moof+global_sidx"]
)
def test_kinds_of_mp4(make_video, muxing):
    source = open_source(make_video("a.mp4", options={"g": "4"}, muxing={"movflags": muxing}))
    assert len(list(source)) == 12
    assert source.problems == []


@pytest.mark.parametrize(
    ("name", "codec", "muxing"),
    [("a.mp4", "libx264", "faststart"), ("b.mp4", "libx264", "frag_keyframe+empty_moov"), ("a.mkv", "ffv1", ""),
     ("a.avi", "mjpeg", ""), ("b.avi", "mpeg4", ""), ("a.ts", "libx264", ""), ("a.webm", "libvpx", ""),
     ("a.mov", "mpeg4", ""), ("a.flv", "libx264", "")],
)  # fmt: skip
def test_a_truncated_file_gives_its_frames_and_a_problem_or_is_refused(make_video, name, codec, muxing):
    options = {"deadline": "realtime"} if codec == "libvpx" else {}
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    muxing = {"movflags": muxing} if muxing else {}
    path = make_video(name, codec=codec, pix_fmt=pix_fmt, options=options, muxing=muxing)
    whole = [frame.image for frame in open_source(path)]
    data = path.read_bytes()
    counts = set()
    for n in [*range(0, len(data), len(data) // 40), len(data) - 1]:
        path.write_bytes(data[:n])
        try:
            source = open_source(path)
            frames = list(source)
        except SourceError as error:
            said = str(error)
            assert str(path) in said
            continue
        counts.add(len(frames))
        assert [frame.index for frame in frames] == list(range(len(frames)))
        assert all(np.array_equal(frame.image, image) for frame, image in zip(frames, whole, strict=False))
        if len(frames) < 11 and name != "a.ts":
            assert source.problems
            assert all(problem.startswith(str(path)) for problem in source.problems)
    assert counts or name == "a.mov"


def damaged_video(make_video, start: int, length: int) -> tuple[Path, list[np.ndarray]]:
    """Twelve images; zeros from `start` bytes after the beginning of the sixth."""
    images = disc_images(12, 96, 128)
    path = make_video("a.avi", codec="png", pix_fmt="rgb24", images=images)
    data = bytearray(path.read_bytes())
    sixth = [match.start() for match in re.finditer(rb"\x89PNG", data)][5]
    data[sixth + start : sixth + start + length] = bytes(length)
    path.write_bytes(data)
    return path, images


def test_a_damaged_frame_is_reported_and_keeps_its_index(make_video):
    path, images = damaged_video(make_video, 100, 40)
    source = open_source(path)
    for _ in range(2):
        frames = list(source)
        assert [frame.index for frame in frames] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
        assert all(np.array_equal(frame.image, images[frame.index]) for frame in frames)
        assert [frame.time_s for frame in frames] == pytest.approx([frame.index / 25 for frame in frames])
        assert source.problems == [f"{path}: 1 damaged frame skipped, from frame 5"]


@pytest.mark.parametrize(("start", "length"), [(-8, 40), (0, 1200), (-5 * 540, 40)])
def test_a_damaged_container_is_reported(make_video, start, length):
    path, _ = damaged_video(make_video, start, length)
    source = open_source(path)
    n = len(list(source))
    assert n < 12
    assert source.problems[-1] == f"{path}: the file is truncated or damaged; frames read: {n} of 12"


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["a.mp4", "a.mkv", "a.avi", "a.ts"]),
    at=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=60),
    size=st.sampled_from([None, (16, 16)]),
)
def test_damage_gives_frames_or_a_source_error(make_video, tmp_path, name, at, junk, size):
    path = tmp_path / name
    codec = "mpeg4" if name == "a.avi" else "libx264"
    if not path.with_suffix(".whole").exists():
        make_video(name, codec=codec, images=disc_images(6)).rename(path.with_suffix(".whole"))
    data = bytearray(path.with_suffix(".whole").read_bytes())
    place = round(at * len(data))
    data[place : place + len(junk)] = junk
    path.write_bytes(data)
    with suppress(SourceError):
        indices = [frame.index for frame in open_source(path, size=size)]
        assert indices == sorted(set(indices))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=2000),
    st.sampled_from([b"", b"RIFF", b"\x1aE\xdf\xa3", b"\0\0\0\x20ftypisom", b"\x47", b"FLV\1"]),
)
def test_random_bytes_are_refused(tmp_path, body, head):
    path = tmp_path / "a.mp4"
    path.write_bytes(head + body)
    with pytest.raises(SourceError):
        list(open_source(path))


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.mp4", b"this is a text, not a video\n" * 500),
     ("a.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile:///dev/zero\n#EXT-X-ENDLIST\n"),
     ("b.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n"),
     ("c.mp4", b"ffconcat version 1.0\nfile '/dev/zero'\n"),
     ("a.sdp", b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n")],
)  # fmt: skip
def test_a_file_that_is_no_video_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=f"cannot open .*{name} as a video: .*expected an undamaged video file"):
        open_source(tmp_path / name)


def test_paths_that_cannot_be_opened(tmp_path):
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "a.png").write_bytes(b"x")
    for location, said in (
        (tmp_path / "gone.mp4", "No such file"),
        (tmp_path / "empty.mp4", "the file is empty"),
        (tmp_path / "pipe.mp4", "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (tmp_path / "a.png", "a single image"),
        (tmp_path / "a.png" / "b.mp4", "Not a directory"),
        (tmp_path / ("n" * 300), "File name too long"),
        ("", "expected a video file"),
        ("a\0b", "expected a video file"),
        ("concat:a.mp4|b.mp4", "No such file"),
        ("foo://host/a", "unknown kind of stream"),
        ("rtsq://user:secret@host/a", "did you mean 'rtsp'"),
        (f"file://{tmp_path}/gone.mp4", "No such file"),
    ):
        with pytest.raises(SourceError, match=said) as caught:
            open_source(location)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(SourceError, match="expected a path, a URL, or a Source"):
        open_source(3)


def test_a_file_without_permission_is_refused(make_video):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "a.mp4"
        path.write_bytes(make_video("a.mp4").read_bytes())
        path.chmod(0)
        with as_nobody(), pytest.raises(SourceError, match="Permission denied"):
            open_source(path)


def test_a_file_with_sound_only_is_refused(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as made:
        stream = made.add_stream("aac", rate=8000)
        for _ in range(4):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate = 8000
            made.mux(stream.encode(sound))
        made.mux(stream.encode(None))
    with pytest.raises(SourceError, match="contains no video, only audio"):
        open_source(path)


def test_frames_over_the_pixel_limit_are_refused(make_video, monkeypatch):
    path = make_video("a.mp4")
    monkeypatch.setattr(container, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(SourceError, match="48x64"):
        open_source(path)


@pytest.mark.parametrize("bad", [{"size": (0, 4)}, {"size": (4,)}, {"rate_hz": 0}, {"rate_hz": float("nan")}])
def test_arguments_out_of_range(bad):
    with pytest.raises(SourceError, match="expected"):
        open_source("a.mp4", **bad)


def test_no_file_stays_open(make_video, tmp_path):
    path = make_video("a.mp4")
    source = open_source(path)
    before = n_open_files()
    for _ in range(5):
        list(source)
        running = iter(source)
        next(running)
        assert n_open_files() == before + 1
        running.close()
        for _frame in source:
            break
    assert n_open_files() == before
    path.write_bytes(path.read_bytes()[:300])
    for _ in range(3):
        with pytest.raises(SourceError):
            open_source(path)
    assert n_open_files() == before


def test_two_iterations_at_once(make_video):
    source = open_source(make_video("a.mp4"))
    for one, other in zip(source, source, strict=True):
        assert np.array_equal(one.image, other.image)


def test_a_source_in_memory_is_returned_as_opened():
    wrapped = open_source(Memory(), size=(24, 32))
    assert isinstance(wrapped, OpenedSource)
    assert (wrapped.name, wrapped.rate_hz, wrapped.n_frames, wrapped.problems) == ("memory", None, None, [])
    assert [(frame.image.shape, frame.time_s, frame.index) for frame in wrapped] == [
        ((24, 32, 3), 0.5 * i, i) for i in range(4)
    ]
    assert [frame.image.shape for frame in open_source(Memory())] == [(48, 64, 3)] * 4


class Images:
    """A source that yields images in place of frames."""

    name = "images"
    rate_hz = 25.0

    def __iter__(self):
        return iter(disc_images(2))


def test_an_array_in_place_of_a_source_or_a_frame_is_refused_in_one_short_line():
    image = disc_images(1)[0]
    with pytest.raises(SourceError, match=r"^cannot open uint8 \(48, 64, 3\): expected a path.*$") as caught:
        open_source(image)
    assert len(str(caught.value)) < 150
    with pytest.raises(SourceError, match=r"^a frame is uint8 \(48, 64, 3\): expected comemory.Frame.*$"):
        next(iter(open_source(Images())))


def test_an_opened_source_is_returned_as_it_is(make_video):
    source = open_source(make_video("a.mp4"))
    assert isinstance(source, Source)
    assert open_source(source) is source
    assert [frame.image.shape for frame in open_source(source, size=(24, 32))] == [(24, 32, 3)] * 12


def test_names(tmp_path):
    (tmp_path / "a folder").mkdir()
    assert source_name(str(tmp_path / "a folder")) == "a_folder"
    assert source_name("/v/..mp4") not in ("", ".", "..")
    assert source_name("http://u:p@host:80/") == "host"
    assert source_name("rtsp://10.0.0.3/cam/../../etc?password=x") == "10.0.0.3_cam_.._.._etc"
    assert len(source_name("/v/" + "n" * 250)) == 100


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_video_at_a_url(make_video, tmp_path):
    make_video("a.ts")
    with serve(tmp_path) as url:
        source = open_source(f"{url}/a.ts?token=secret", size=(24, 32))
        assert source.size is None
        assert [frame.index for frame in source] == list(range(12))
        assert (source.name, source.size, source.rate_hz) == ("127.0.0.1_a.ts", (48, 64), 25)
        with pytest.raises(SourceError, match="cannot open the stream") as caught:
            list(open_source(f"{url}/gone.ts?token=secret"))
    assert "secret" not in str(caught.value)


def test_a_playlist_at_a_url_cannot_reach_local_files(make_video, tmp_path):
    path = make_video("a.ts")
    with serve(tmp_path) as url:
        (tmp_path / "a.m3u8").write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{path}\n#EXT-X-ENDLIST\n"
        )
        with pytest.raises(SourceError):
            list(open_source(f"{url}/a.m3u8"))


@pytest.mark.parametrize("scheme", ["http", "rtsp"])
def test_a_silent_server_times_out(monkeypatch, scheme):
    monkeypatch.setattr(container, "OPEN_TIMEOUT_S", 0.4)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = open_source(f"{scheme}://user:secret@127.0.0.1:{silent.getsockname()[1]}/a")
        with pytest.raises(SourceError, match="cannot open the stream") as caught:
            list(source)
    assert "secret" not in str(caught.value)


def test_damage_prints_nothing(make_video):
    path = make_video("a.mkv", images=disc_images(12))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :] = data[len(data) // 2 :][::-1]
    path.write_bytes(data)
    code = (
        "import sys, contextlib\nfrom comemory.video.source import open_source\n"
        "with contextlib.suppress(OSError):\n    list(open_source(sys.argv[1]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("number", "n_frames"), [("08", 36), ("17", 426), ("19", 248), ("21", 76)])
def test_avenue(data: Path, number, n_frames):
    source = open_source(data / "avenue" / "testing_videos" / f"{number}.avi", size=(90, 160))
    frames = list(source)
    assert (source.name, source.rate_hz, source.n_frames, source.size) == (number, 25, n_frames, (360, 640))
    assert len(frames) == n_frames
    assert source.problems == []
    assert frames[-1].time_s == pytest.approx((n_frames - 1) / 25)


def test_stamps_in_decoding_order_are_put_in_display_order(tmp_path: Path) -> None:
    """AVI has no presentation times: with B-frames each frame carries the stamp of a neighbour."""
    path = tmp_path / "b-frames.avi"
    with av.open(path, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "3", "b-adapt": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(40):
            image = np.full((48, 64, 3), number * 5, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    times = [frame.time_s for frame in open_source(path)]
    assert len(times) == 40
    assert np.diff(times) == pytest.approx(1 / 25)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": 240}, "cannot resize to 240: expected a positive"),
        ({"size": "ab"}, "cannot resize to 'ab': expected a positive"),
        ({"size": (24.5, 36.0)}, r"cannot resize to \(24.5, 36.0\): expected a positive"),
        ({"size": (0, 5)}, r"cannot resize to \(0, 5\): expected a positive"),
        ({"size": (24, 36, 3)}, "expected a positive"),
        ({"size": (100_000, 100_000)}, "expected at most 100 megapixels"),
        ({"rate_hz": "10"}, "a rate of '10' frames per second: expected a number above 0"),
        ({"rate_hz": 0}, "a rate of 0 frames per second: expected a number above 0"),
        ({"rate_hz": True}, "a rate of True frames per second: expected a number above 0"),
    ],
)
def test_a_size_and_a_rate_that_are_none_are_refused(options, text):
    with pytest.raises(SourceError, match=text):
        open_source(Memory(), **options)
