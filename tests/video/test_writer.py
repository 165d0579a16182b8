"""Written videos and images: correct pixels and times, complete files or none."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from moving_disc import disc_images

from comemory.errors import ConfigError, SourceError
from comemory.types import Frame
from comemory.video.source import open_source
from comemory.video.writer import VideoWriter, draw_score, save_image, write_video

INTO_A_FULL_DISK = """
import resource, signal, sys
import numpy as np
from comemory.errors import SourceError
from comemory.video.writer import VideoWriter, save_image
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
noise = np.random.default_rng(0).integers(0, 256, (int(sys.argv[3]), 120, 160, 3), dtype=np.uint8)
try:
    if sys.argv[1].endswith(".png"):
        save_image(noise[0], sys.argv[1])
    else:
        with VideoWriter(sys.argv[1], (120, 160), 25) as writer:
            for image in noise:
                writer.write(image)
except SourceError as error:
    print(error)
"""


def frames(n: int = 12, height: int = 48, width: int = 64, interval_s: float = 0.04) -> list[Frame]:
    return [Frame(image, i * interval_s, i) for i, image in enumerate(disc_images(n, height, width))]


def break_off(path: Path) -> None:
    """Start a video and fail in the middle of it."""
    with suppress(ZeroDivisionError), VideoWriter(path, (48, 64)) as writer:
        writer.write(disc_images(1)[0])
        raise ZeroDivisionError


@pytest.mark.parametrize(("height", "width"), [(48, 64), (47, 63), (240, 361), (1, 1), (2, 3)])
def test_a_written_video_is_read_back(tmp_path, height, width):
    path = tmp_path / "a.mp4"
    assert write_video(frames(12, height, width), path, 25) == 12
    source = open_source(path)
    back = list(source)
    assert source.size == (height + height % 2, width + width % 2)
    assert (source.rate_hz, source.n_frames, source.problems) == (25, 12, [])
    assert [frame.time_s for frame in back] == pytest.approx([i / 25 for i in range(12)], abs=1e-4)
    for frame, image in zip(back, disc_images(12, height, width), strict=True):
        assert min(height, width) < 16 or np.abs(frame.image[:height, :width].astype(int) - image).mean() < 12
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200)])
def test_colours_are_preserved_and_tagged(tmp_path, colour):
    path = tmp_path / "a.mp4"
    image = np.empty((720, 1280, 3), np.uint8)
    image[:] = colour
    write_video([Frame(image, 0.0, 0)], path)
    (frame,) = open_source(path)
    assert np.abs(frame.image.astype(int) - colour).max() <= 4
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        assert (context.colorspace, context.color_range) == (1, 1)


def test_a_variable_rate_is_preserved(tmp_path):
    times = [10.0, 10.04, 10.5, 10.51, 12.0, 12.033]
    made = [Frame(image, time_s, i) for i, (image, time_s) in enumerate(zip(disc_images(6), times, strict=True))]
    write_video(made, tmp_path / "a.mp4")
    assert [frame.time_s for frame in open_source(tmp_path / "a.mp4")] == pytest.approx(
        [time_s - 10.0 for time_s in times], abs=1e-3
    )


def test_times_that_do_not_increase_are_corrected(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", (48, 64), 10) as writer:
        for image, time_s in zip(disc_images(6), (0.0, 0.5, 0.5, 0.2, None, 2.0), strict=True):
            writer.write(image, time_s)
    times = [frame.time_s for frame in open_source(tmp_path / "a.mp4")]
    assert times == sorted(set(times))
    assert times[-1] == pytest.approx(2.0)


def test_images_without_a_time_follow_the_rate(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", (48, 64), 12.5) as writer:
        for image in disc_images(5):
            writer.write(image)
    source = open_source(tmp_path / "a.mp4")
    assert source.rate_hz == 12.5
    assert [frame.time_s for frame in source] == pytest.approx([i / 12.5 for i in range(5)], abs=1e-4)


def test_the_index_is_at_the_start(tmp_path):
    write_video(frames(), tmp_path / "a.mp4")
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


def test_images_of_another_size_are_resized(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", (48, 64)) as writer:
        for image in (disc_images(1)[0], disc_images(1, 96, 128)[0], disc_images(1, 33, 21)[0]):
            writer.write(image)
    assert [frame.image.shape for frame in open_source(tmp_path / "a.mp4")] == [(48, 64, 3)] * 3


def test_annotated_frames_make_a_video(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", draw_score(disc_images(1)[0], None).shape[:2]) as writer:
        for frame in frames(4):
            writer.write(draw_score(frame.image, None, time_s=frame.time_s), frame.time_s)
    assert len(list(open_source(tmp_path / "a.mp4"))) == 4


def test_after_an_exception_the_old_file_is_left(tmp_path):
    path = tmp_path / "a.mp4"
    break_off(path)
    assert list(tmp_path.iterdir()) == []
    write_video(frames(), path)
    before = path.read_bytes()
    with pytest.raises(SourceError, match="expected uint8"), VideoWriter(path, (48, 64)) as writer:
        writer.write(np.zeros((4, 4), np.uint8))
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


def test_without_frames_no_file_is_written(tmp_path):
    with pytest.raises(SourceError, match="no frames were given"), VideoWriter(tmp_path / "a.mp4", (48, 64)):
        pass
    with pytest.raises(SourceError, match="no frames were given"):
        write_video([], tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_closing_twice_is_allowed_and_writing_afterwards_is_not(tmp_path):
    writer = VideoWriter(tmp_path / "a.mp4", (48, 64))
    writer.write(disc_images(1)[0])
    writer.close()
    writer.close()
    with pytest.raises(SourceError, match="is finished"):
        writer.write(disc_images(1)[0])
    assert len(list(open_source(tmp_path / "a.mp4"))) == 1


def test_a_file_is_replaced_but_never_an_input(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(frames(12), path)
    write_video(frames(3), path)
    assert open_source(path).n_frames == 3
    (tmp_path / "link.mp4").symlink_to(path)
    os.link(path, tmp_path / "hard.mp4")
    folder = tmp_path / "frames"
    folder.mkdir()
    save_image(disc_images(1)[0], folder / "1.png")
    before = path.read_bytes()
    for target, source in (
        (path, path),
        (path, os.path.relpath(path)),
        (tmp_path / "link.mp4", path),
        (tmp_path / "hard.mp4", path),
        (folder / "1.png", folder),
        (tmp_path / "new.mp4", tmp_path / "frames" / ".." / "new.mp4"),
    ):
        with pytest.raises(ConfigError, match="choose another output"):
            VideoWriter(target, (48, 64), inputs=[tmp_path / "other.mp4", source])
        with pytest.raises(ConfigError, match=r"choose another output|ends in \.png"):
            save_image(disc_images(1)[0], target, inputs=[source])
    assert path.read_bytes() == before
    save_image(disc_images(1)[0], folder / "2.png", inputs=[folder])
    write_video(frames(3), folder / "out.mp4", inputs=[folder])
    write_video(frames(3), folder / "out.mp4", inputs=[folder])


def test_urls_may_be_inputs(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", (48, 64), inputs=["rtsp://camera/1"]) as writer:
        writer.write(disc_images(1)[0])


@pytest.mark.parametrize("name", ["a.mp4", "a.png"])
def test_targets_that_cannot_be_written(tmp_path, name):
    def write(path: Path) -> None:
        save_image(disc_images(1)[0], path) if name == "a.png" else write_video(frames(1), path)

    (tmp_path / "folder" / name).mkdir(parents=True)
    (tmp_path / "file").touch()
    for path, said in (
        (tmp_path / "gone" / name, "there is no folder"),
        (tmp_path / "folder" / name, "not a file"),
        (tmp_path / "file" / name, "there is no folder"),
        (Path("/proc") / name, "cannot write /proc"),
    ):
        with pytest.raises(SourceError, match=said) as caught:
            write(path)
        assert "\n" not in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.rglob("*")) == sorted(["folder", name, "file"])


@pytest.mark.parametrize(
    ("name", "limit", "n"),
    [
        ("a.mp4", 20_000, 40),
        ("a.mp4", 100, 40),
        ("a.mp4", 0, 2),
        ("a.mp4", 5_000, 2),
        ("a.mp4", 300_000, 40),
        ("a.png", 100, 1),
    ],
)
def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path, name, limit, n):
    done = subprocess.run(
        [sys.executable, "-c", INTO_A_FULL_DISK, str(tmp_path / name), str(limit), str(n)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(f"cannot write {tmp_path / name}: ")
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_file_stays_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        write_video(frames(), tmp_path / "a.mp4")
        break_off(tmp_path / "b.mp4")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("size", [(0, 10), (10, -2), (100_000, 100_000)])
def test_sizes_out_of_range(tmp_path, size):
    with pytest.raises(SourceError), VideoWriter(tmp_path / "a.mp4", size) as writer:
        writer.write(disc_images(1)[0])
    assert list(tmp_path.iterdir()) == []


def test_an_image_is_read_back(tmp_path):
    image = disc_images(1)[0]
    save_image(image, tmp_path / "a.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], image)
    save_image(image[..., 0], tmp_path / "grey.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "grey.png"), cv2.IMREAD_GRAYSCALE), image[..., 0])
    save_image(image, tmp_path / "a.jpg")
    assert np.abs(cv2.imread(str(tmp_path / "a.jpg"))[..., ::-1].astype(int) - image).mean() < 3
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        save_image(image, tmp_path / "a.gif")
    with pytest.raises(SourceError, match="no image"):
        save_image(image.astype(np.float32), tmp_path / "b.png")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.jpg", "a.png", "grey.png"]
