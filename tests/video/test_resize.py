"""The one resize: RGB out of any pixel format, close to an area average, the same by every way."""

from __future__ import annotations

import threading
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.errors import SourceError
from comemory.video.resize import MAX_PIXELS, luma, resize
from comemory.video.source import open_source


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (5, 5), 1.2)


@settings(max_examples=60, deadline=None)
@given(
    source=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    colour=st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)),
)
def test_an_image_of_one_colour_keeps_its_colour_at_every_size(source, target, colour):
    image = np.empty((*source, 3), np.uint8)
    image[:] = colour
    made = resize(image, target)
    assert made.shape == (*target, 3)
    assert np.abs(made.astype(int) - np.array(colour)).max() <= 1


@pytest.mark.parametrize("target", [(128, 192), (120, 180), (97, 131), (240, 191)])
def test_shrinking_is_an_area_average(target):
    image = scene(240, 360)
    expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(resize(image, target).astype(float) - expected).mean() < 1.5


def test_the_same_size_is_the_same_array():
    image = scene(20, 30)
    assert resize(image, None) is image
    assert resize(image, (20, 30)) is image


def test_a_view_becomes_contiguous_and_keeps_its_pixels():
    image = scene(20, 30)
    for view in (image[:, ::-1], image[::2], image[:, 3:17]):
        made = resize(view, None)
        assert made.flags.c_contiguous
        assert np.array_equal(made, view)


def test_a_new_image_owns_its_memory():
    frame = av.VideoFrame.from_ndarray(scene(33, 45), format="rgb24")
    for made in (resize(scene(40, 50), (20, 21)), resize(frame, None), resize(frame, (10, 11))):
        assert made.flags.c_contiguous
        assert made.flags.owndata
        assert made.dtype == np.uint8


def test_a_decoded_frame_and_its_array_give_the_same_image():
    image = scene(60, 80)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    assert np.array_equal(resize(frame, None), image)
    assert np.array_equal(resize(frame, (31, 44)), resize(image, (31, 44)))


@pytest.mark.parametrize(
    "pix_fmt",
    ["gray", "gray10le", "gray16le", "rgba", "bgr24", "gbrp", "yuv420p", "yuvj420p", "yuv422p", "yuv444p",
     "yuv420p10le", "yuv444p12le", "yuva420p", "nv12", "yuyv422", "rgb48le", "monow"],
)  # fmt: skip
def test_every_pixel_format_becomes_rgb(pix_fmt):
    image = np.full((31, 47, 3), 255, np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
    for size in (None, (15, 22), (31, 47), (62, 80)):
        made = resize(frame, size)
        assert made.shape == (*(size or (31, 47)), 3)
        assert made.min() >= 252


def grey_luma(level: int, color_range: int) -> np.ndarray:
    planes = np.full((48, 32), 128, np.uint8)
    planes[:32] = level
    frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    frame.color_range = color_range
    return resize(frame, (16, 16))


def test_limited_and_full_range_are_distinguished():
    unsaid, limited, full = 0, 1, 2
    assert grey_luma(235, limited).min() == 255
    assert grey_luma(16, limited).max() == 0
    assert grey_luma(235, unsaid).min() == 255
    assert grey_luma(235, full).max() == 235
    assert grey_luma(16, full).min() == 16


def test_a_file_and_its_arrays_differ_by_two_levels_at_most(make_video):
    path = make_video("a.mkv", codec="ffv1", pix_fmt="yuv444p", images=[scene(120, 160, seed) for seed in range(3)])
    straight = list(open_source(path, size=(64, 96)))
    pushed = [resize(frame.image, (64, 96)) for frame in open_source(path)]
    for one, other in zip(straight, pushed, strict=True):
        assert np.abs(one.image.astype(int) - other).max() <= 2


def test_real_video_and_its_arrays_differ_by_two_levels_at_most(data: Path):
    path = data / "avenue" / "testing_videos" / "08.avi"
    straight = list(open_source(path, size=(128, 192)))
    pushed = [resize(frame.image, (128, 192)) for frame in open_source(path)]
    pairs = list(zip(straight, pushed, strict=True))
    grey = np.stack([np.abs(luma(one.image).astype(int) - luma(other)) for one, other in pairs])
    assert np.mean([np.abs(one.image.astype(int) - other).mean() for one, other in pairs]) < 0.3
    assert np.mean(grey <= 2) > 0.999


def test_one_reformatter_serves_changing_sizes():
    reformatter = VideoReformatter()
    for height, width, target in ((60, 80, (30, 40)), (61, 33, (30, 40)), (60, 80, (31, 7)), (60, 80, (30, 40))):
        image = scene(height, width)
        assert np.array_equal(resize(image, target, reformatter=reformatter), resize(image, target))


def test_many_sizes_in_turn_agree_with_a_fresh_reformatter():
    image = scene(60, 80)
    for height in [*range(20, 40), *range(20, 40)]:
        assert np.array_equal(resize(image, (height, 50)), resize(image, (height, 50), reformatter=VideoReformatter()))


def test_threads_do_not_disturb_each_other():
    images = [scene(90, 120, seed) for seed in range(4)]
    expected = [resize(image, (40, 50)) for image in images]
    wrong = []

    def work(i: int) -> None:
        for _ in range(30):
            if not np.array_equal(resize(images[i], (40, 50)), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "bad",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32),
     np.zeros((0, 4, 3), np.uint8)],
)  # fmt: skip
def test_an_invalid_image_is_refused(bad):
    with pytest.raises(SourceError, match="expected uint8"):
        resize(bad, (2, 2))
    with pytest.raises(SourceError, match="expected uint8"):
        luma(bad)


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (MAX_PIXELS, 2)])
def test_a_size_out_of_range_is_refused(size):
    with pytest.raises(SourceError, match="positive height and width"):
        resize(scene(4, 4), size)


def test_grey_is_opencv_grey():
    image = scene(20, 30)
    assert np.array_equal(luma(image), cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    assert luma(np.full((2, 2, 3), 77, np.uint8)).tolist() == [[77, 77], [77, 77]]
