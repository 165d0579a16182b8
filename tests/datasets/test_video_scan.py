"""Frames and times are those that a recording shows, whatever its container states."""

from __future__ import annotations

import shutil
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from datasets import made

from comemory.datasets.folder import Folder
from comemory.datasets.video_scan import scan_recording
from comemory.errors import DatasetError
from comemory.types import LabelledSource
from comemory.video.formats import FILE_FORMATS, VIDEO_SUFFIXES
from comemory.video.image_folder import IMAGE_SUFFIXES
from comemory.video.source import open_source

SHOWN = 40
FILES = Path(__file__).parent.parent / "data"


def images(count: int = SHOWN) -> dict[int, np.ndarray]:
    """Smooth images that change a little from frame to frame, so that an encoder uses B-frames."""
    rows = np.linspace(0, 200, made.SIZE[0], dtype=np.uint8)[:, None, None]
    return {index: np.broadcast_to(rows + index, (*made.SIZE, 3)).copy() for index in range(count)}


def encode(path: Path, codec: str, frames: dict[int, np.ndarray], **options: str) -> Path:
    """Encode images, by the number of their frame, at 10 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width = made.SIZE
        stream.pix_fmt = "yuv420p"
        for number, image in frames.items():
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def rotate(path: Path) -> None:
    """Turn the display matrix of an mp4 by a quarter."""
    data = path.read_bytes()
    at = data.find(b"tkhd") + 44
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + matrix + data[at + len(matrix) :])


@pytest.fixture
def testing(tmp_path: Path) -> Path:
    """The folder of test videos of a data set of the kind `folder`, with labels in seconds for `clip`."""
    folder = tmp_path / "testing"
    (folder / "labels").mkdir(parents=True)
    (folder / "labels" / "clip.csv").write_text("start_s,end_s\n1.0,1.95\n")
    return folder


def labelled_frames(folder: Path) -> list[int]:
    (video,) = Folder(str(folder.parent)).testing()
    assert isinstance(video, LabelledSource)
    assert video.labels is not None
    return [int(frame) for frame in np.flatnonzero(video.labels)]


def test_a_fixed_rate_gives_even_times(tmp_path: Path) -> None:
    scan = scan_recording(made.video(tmp_path / "a.avi", 7))
    assert (scan.n_frames, scan.size, list(scan.problems)) == (7, made.SIZE[::-1], [])
    assert scan.times_s == pytest.approx(np.arange(7) / 25.0)


def test_a_changed_file_is_decoded_again(tmp_path: Path) -> None:
    assert scan_recording(made.video(tmp_path / "a.avi", 7)).n_frames == 7
    assert scan_recording(made.video(tmp_path / "a.avi", 9)).n_frames == 9


@pytest.mark.parametrize("name", ["hidden-frames.webm", "no-times.avi"])
def test_labels_in_seconds_hit_the_frames_shown(testing: Path, name: str) -> None:
    """Rendered scenes of 30 frames at 10 frames per second, in containers that do not say so.

    `hidden-frames.webm` is VP8 in 33 packets, of which 3 hold a reference frame that is never shown. `no-times.avi` is
    H.264 with B-frames in an AVI, which stores no times, and its header states twice as many frames at twice the rate.
    """
    shutil.copyfile(FILES / name, testing / f"clip{Path(name).suffix}")
    (testing / "labels" / "clip.csv").write_text("start_s,end_s\n1.7,2.55\n")
    (recording,) = [path for path in testing.iterdir() if path.is_file()]
    scan = scan_recording(recording)
    assert scan.n_frames == 30
    assert scan.times_s == pytest.approx(np.arange(30) / 10, abs=0.06)
    assert labelled_frames(testing) == list(range(17, 26))
    assert Folder(str(testing.parent)).check().problems == ()


def edit(path: Path, first: int, last: int) -> None:
    """Let the edit list of an mp4 of 10 frames a second show the frames `first` to `last` only."""
    data = path.read_bytes()
    (timescale,) = struct.unpack(">I", data[data.find(b"mdhd") + 16 :][:4])
    (movie,) = struct.unpack(">I", data[data.find(b"mvhd") + 16 :][:4])
    at = data.find(b"elst") + 12
    entry = struct.pack(">Ii", (last + 1 - first) * movie // 10, first * timescale // 10)
    path.write_bytes(data[:at] + entry + data[at + len(entry) :])


@pytest.mark.parametrize("first", [0, 10, 12, 17])
def test_labels_are_those_of_the_frames_that_an_edit_list_shows(testing: Path, first: int) -> None:
    """Frames that it cuts off are decoded for those that follow, and have no index, no time and no label."""
    path = encode(testing / "clip.mp4", "libx264", images(), bf="0", g="12", crf="1")
    edit(path, first, 36)
    shown = list(open_source(str(path)))
    assert [round(float(frame.image[0].mean())) for frame in shown] == pytest.approx(list(range(first, 37)), abs=2)
    scan = scan_recording(path)
    assert scan.n_frames == 37 - first
    assert scan.times_s == pytest.approx(np.arange(37 - first) / 10)
    assert labelled_frames(testing) == list(range(10, 20))
    (testing / "labels" / "clip.csv").write_text("start_frame,end_frame\n3,6\n")
    assert labelled_frames(testing) == [3, 4, 5, 6]
    assert Folder(str(testing.parent)).check().problems == ()


def test_empty_packets_have_no_label(testing: Path) -> None:
    """An AVI marks a dropped frame by an empty packet: the frame before it is shown for longer."""
    path = encode(
        testing / "clip.avi", "mpeg4", {number: image for number, image in images().items() if number not in (5, 6, 7)}
    )
    scan = scan_recording(path)
    assert scan.n_frames == SHOWN - 3
    assert scan.times_s is not None
    assert scan.times_s[-1] == pytest.approx((SHOWN - 1) / 10)
    assert labelled_frames(testing) == list(range(7, 17))
    assert Folder(str(testing.parent)).check().problems == ()


def test_masks_of_a_rotated_video_are_compared_upright(testing: Path) -> None:
    (testing / "labels" / "clip.csv").unlink()
    rotate(encode(testing / "clip.mp4", "libx264", images(6), bf="0"))
    height, width = made.SIZE
    assert scan_recording(testing / "clip.mp4").size == (height, width)
    for index in range(6):
        made.mask(testing / "masks" / "clip" / f"{index:03d}.png", abnormal=index == 3, size=(width, height))
    assert Folder(str(testing.parent)).check().problems == ()
    assert labelled_frames(testing) == [3]


def test_masks_of_another_size_are_refused(testing: Path) -> None:
    (testing / "labels" / "clip.csv").unlink()
    made.video(testing / "clip.avi", 3)
    made.masks(testing / "masks" / "clip", [0, 1, 0])
    made.mask(testing / "masks" / "clip" / "000.png", abnormal=False, size=made.SIZE[::-1])
    with pytest.raises(DatasetError, match=r"masks/clip: the masks are 32x48, but the frames 48x32"):
        Folder(str(testing.parent)).testing()


def test_a_whole_jpeg_with_bytes_after_its_end_is_read_and_a_cut_one_is_not(tmp_path: Path) -> None:
    folder = made.image_files(tmp_path / "yard", 3)
    trailer = (folder / "002.jpg").read_bytes()  # a preview image has markers of its own
    whole, cut = folder / "000.jpg", folder / "001.jpg"
    whole.write_bytes(whole.read_bytes() + b"\xff\xda camera data \xff\x00" + bytes(2000))
    cut.write_bytes(cut.read_bytes()[:-200] + trailer)
    assert cv2.imread(str(whole)) is not None
    check = Folder(str(tmp_path)).check()
    (problem,) = check.problems
    assert "001.jpg" in problem
    assert [frame.index for frame in open_source(str(folder))] == [0, 2]


def test_all_formats_are_read_and_other_files_are_named(tmp_path: Path) -> None:
    footage = tmp_path / "training"
    for name in ("mon.mp4", "tue.m2ts", "thu.3gp", "fri.nut"):
        made.video(footage / name, 5)
    for ending in ("qt", "divx", "lrv", "trp", "m1v", "mod", "insv", "MOD", "tp", "ismv"):  # cameras name MP4 so
        shutil.copy(footage / "mon.mp4", footage / f"a {ending}.{ending}")
    (footage / "wed.txt").write_text("rain")
    (footage / "sat.txt").write_text("sun")
    check = Folder(str(tmp_path)).check()
    assert check.found["training videos"] == 14
    assert check.found["training frames"] == 14 * 5
    assert check.problems == ()
    assert check.notes == (f"{footage}/sat.txt: is not used, because .txt is not the ending of a video (and 1 more)",)


def test_files_beside_footage_are_never_videos() -> None:
    beside = "txt csv npy npz mat json xml srt vtt pdf zip py m md wav mp3 m4a mka heic avif thm ism m3u8 mpd sdp"
    others = {"", *IMAGE_SUFFIXES, *(f".{ending}" for ending in beside.split(" "))}
    assert VIDEO_SUFFIXES.isdisjoint(others)
    assert not [suffix for suffix in VIDEO_SUFFIXES if suffix != suffix.lower() or suffix[0] != "."]


def test_every_container_that_is_read_has_an_ending() -> None:
    for name in FILE_FORMATS.split(","):
        endings = {f".{ending}" for ending in av.ContainerFormat(name, "r").extensions}
        assert not endings or endings & VIDEO_SUFFIXES, name


def test_a_check_gives_the_duration(tmp_path: Path) -> None:
    made.video(tmp_path / "a.avi", 50)
    assert Folder(str(tmp_path)).check().seconds["training footage"] == pytest.approx(2.0)
