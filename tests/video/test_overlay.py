"""The annotated frame: what it shows, where, and that it never fails on odd input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from moving_disc import disc_images

from comemory.errors import SourceError
from comemory.types import Score
from comemory.video.overlay import ALARM, MIN_WIDTH, N_SHOWN, NORMAL, draw_score, format_time

GREY = np.full((240, 360, 3), 100, np.uint8)


def score(value: float = 1.0, **more) -> Score:
    return Score(index=7, time_s=0.28, value=value, appearance=value, motion=value, **more)


def has_colour(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(image.astype(int) - np.array(colour)).max(axis=2) <= 8


@pytest.mark.parametrize(
    ("size", "image"),
    [((240, 360), (480, 720)), ((360, 640), (405, 720)), ((1080, 1920), (1080, 1920)), ((481, 721), (481, 721))],
)
def test_small_frames_are_enlarged_and_large_ones_are_not(size, image):
    annotated = draw_score(np.zeros((*size, 3), np.uint8), None)
    assert annotated.shape[1] == image[1]
    assert 0.1 < (annotated.shape[0] - image[0]) / image[1] < 0.16
    assert annotated.dtype == np.uint8


def test_the_input_is_not_changed():
    large = np.full((720, 1280, 3), 100, np.uint8)
    draw_score(large, score(heat_map=np.ones((4, 4), np.float32), box=(2, 2, 90, 90)), event=True)
    assert (large == 100).all()


def test_without_a_score_the_frame_is_not_changed():
    annotated = draw_score(np.full((720, 1280, 3), 100, np.uint8), None)
    assert (annotated[:720] == 100).all()


def test_the_box_is_drawn_in_its_place_during_an_event_only():
    box = (100, 60, 160, 120)
    calm = draw_score(GREY, score(box=box))[:480]
    alarm = draw_score(GREY, score(box=box), event=True)[:480]
    assert not has_colour(calm, ALARM).any()
    rows, columns = np.nonzero(has_colour(alarm, ALARM))
    assert (columns.min(), rows.min()) == pytest.approx((200, 120), abs=2)
    assert (columns.max(), rows.max()) == pytest.approx((319, 239), abs=2)


def test_high_heat_is_opaque_and_low_heat_is_transparent():
    heat = np.full((24, 36), 0.2, np.float32)
    heat[12:18, 18:27] = 1.0
    annotated = draw_score(GREY, score(heat_map=heat))[:480]
    inside, outside = annotated[300, 450], annotated[420, 90]
    assert (outside == 100).all()
    assert inside[0] > 140
    assert int(inside[0]) - int(inside[2]) > 60


def test_the_curve_is_red_during_an_event():
    calm = draw_score(GREY, score(), threshold=2.0, history=[(1.0, False)] * 50)[480:]
    alarm = draw_score(GREY, score(3.0), threshold=2.0, history=[(1.0, False)] * 50 + [(3.0, True)] * 50)[480:]
    assert has_colour(calm, NORMAL).any()
    assert not has_colour(calm, ALARM).any()
    assert has_colour(alarm[:, :590], ALARM).any()


def test_a_higher_score_is_drawn_higher():
    def height(value: float) -> float:
        strip = draw_score(GREY, score(), threshold=4.0, history=[(value, False)] * N_SHOWN)[480:, :590]
        return float(np.nonzero(has_colour(strip, NORMAL))[0].mean())

    heights = [height(value) for value in (0.0, 1.0, 2.0, 3.0)]
    assert heights == sorted(heights, reverse=True)


def test_only_the_newest_scores_are_shown():
    old = [(9.0, True)] * 500
    new = [(1.0, False)] * N_SHOWN
    assert np.array_equal(draw_score(GREY, None, history=old + new), draw_score(GREY, None, history=new))


def test_warming_up_and_time_are_printed():
    bare = draw_score(GREY, None)
    timed = draw_score(GREY, None, time_s=1.0)
    assert not np.array_equal(bare[:60, :120], timed[:60, :120])
    assert not np.array_equal(bare[480:, 590:], draw_score(GREY, score())[480:, 590:])


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    box=st.none() | st.tuples(*[st.integers(-50, 400)] * 4),
    values=st.lists(
        st.tuples(st.floats(-1e6, 1e6) | st.sampled_from([np.nan, np.inf, -np.inf]), st.booleans()), max_size=20
    ),
    threshold=st.none() | st.floats(-1e3, 1e3),
    heat=st.none() | st.tuples(st.integers(1, 9), st.integers(1, 9)),
    event=st.booleans(),
)
def test_any_input_gives_an_image(size, box, values, threshold, heat, event):
    image = disc_images(1, *size)[0]
    heat_map = None if heat is None else np.full(heat, np.nan if event else 0.7, np.float32)
    value = values[-1][0] if values else 0.0
    annotated = draw_score(
        image, score(value, heat_map=heat_map, box=box), threshold=threshold, history=values, event=event
    )
    assert annotated.ndim == 3
    assert annotated.shape[1] >= MIN_WIDTH // 2
    assert annotated.dtype == np.uint8


def test_an_invalid_image_is_refused():
    with pytest.raises(SourceError, match="expected uint8"):
        draw_score(np.zeros((4, 4), np.uint8), None)


def test_format_time():
    assert [format_time(t) for t in (0.0, 59.999, 60.0, 3600.0, 86_399.99, -1.0)] == [
        "0:00.00",
        "1:00.00",
        "1:00.00",
        "1:00:00.00",
        "23:59:59.99",
        "0:00.00",
    ]
