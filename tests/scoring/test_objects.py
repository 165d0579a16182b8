"""Objects: what moves in front of the background is found, followed and measured."""

from __future__ import annotations

import numpy as np
import pytest

from comemory.errors import ConfigError
from comemory.scoring.objects import ABSORB_S, EmptyScene, MovingObject, ObjectTracker, fit_background, fit_heights
from comemory.types import CELL

HEIGHT, WIDTH, RATE_HZ = 64, 96, 10.0


def texture() -> np.ndarray:
    return np.random.default_rng(0).integers(90, 110, (HEIGHT, WIDTH)).astype(np.uint8)


def scene(height: float = 20.0) -> EmptyScene:
    background = texture().astype(np.float32)
    return EmptyScene(background, np.ones_like(background), height, 0.0)


def frame(
    boxes: list[tuple[int, int, int, int]], velocity: tuple[float, float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Image, flow, and patches of 8 and 12 pixels: directional speed 3 and agitation 2 in the boxes."""
    image, flow = texture(), np.zeros((2, HEIGHT, WIDTH), np.float32)
    patches = {"directional_speed": np.zeros((15, 23)), "agitation": np.zeros((14, 22))}
    for left, top, right, bottom in boxes:
        image[top:bottom, left:right] = 200
        flow[:, top:bottom, left:right] = np.array(velocity, np.float32)[:, None, None]
        for name, value in (("directional_speed", 3.0), ("agitation", 2.0)):
            patches[name][top // CELL : bottom // CELL, left // CELL : right // CELL] = value
    return image, flow, patches


def test_an_object_is_found_where_it_is() -> None:
    tracker = ObjectTracker(scene(), RATE_HZ)
    (found,) = tracker.update(*frame([(20, 16, 32, 40)]))
    assert abs(np.array(found.box) - (20, 16, 32, 40)).max() <= 2
    assert found.area > 200
    assert found.height_ratio == pytest.approx(24 / 20, abs=0.2)
    assert (found.directional_speed, found.agitation) == (3.0, 2.0)


def test_the_background_alone_has_no_object_and_neither_has_a_speck() -> None:
    tracker = ObjectTracker(scene(), RATE_HZ)
    assert tracker.update(*frame([])) == []
    assert tracker.update(*frame([(50, 30, 52, 32)])) == []


def test_a_change_of_light_is_no_object() -> None:
    tracker = ObjectTracker(scene(), RATE_HZ)
    image, flow, patches = frame([])
    assert tracker.update((image * 1.5).astype(np.uint8), flow, patches) == []


def test_a_moving_object_keeps_its_track_and_two_have_two() -> None:
    tracker = ObjectTracker(scene(), RATE_HZ)
    seen = [tracker.update(*frame([(10 + 2 * t, 16, 22 + 2 * t, 40), (70, 20, 80, 44)], (2.0, 0.0))) for t in range(8)]
    tracks = {tuple(one.track for one in sorted(objects, key=lambda one: one.box)) for objects in seen}
    assert len(tracks) == 1
    assert [max(one.age for one in objects) for objects in seen] == list(range(8))


def test_who_falls_descends_and_who_walks_does_not() -> None:
    walking, falling = ObjectTracker(scene(), RATE_HZ), ObjectTracker(scene(), RATE_HZ)
    (walks,) = walking.update(*frame([(20, 16, 32, 40)], (2.0, 0.0)))
    (falls,) = falling.update(*frame([(20, 16, 32, 40)], (0.0, 2.0)))
    assert walks.descent == 0
    assert falls.descent == pytest.approx(2.0 * RATE_HZ / 20, rel=0.2)  # expected heights a second


def test_the_motion_of_a_fragment_counts_in_proportion_to_its_area() -> None:
    (whole,) = ObjectTracker(scene(20), RATE_HZ).update(*frame([(20, 16, 32, 40)], (0.0, 2.0)))
    (fragment,) = ObjectTracker(scene(60), RATE_HZ).update(*frame([(20, 16, 32, 40)], (0.0, 2.0)))
    assert fragment.descent < whole.descent / 3


def test_what_stands_still_becomes_background_and_what_moves_does_not() -> None:
    still, moving = ObjectTracker(scene(), RATE_HZ), ObjectTracker(scene(), RATE_HZ)
    for _ in range(round(3 * ABSORB_S * RATE_HZ)):
        left = still.update(*frame([(20, 16, 32, 40)]))
        kept = moving.update(*frame([(20, 16, 32, 40)], (1.0, 0.0)))
    assert left == []
    assert len(kept) == 1


def test_after_a_reset_the_first_frames_give_the_first_objects() -> None:
    tracker = ObjectTracker(scene(), RATE_HZ)
    frames = [frame([(10 + 2 * t, 16, 22 + 2 * t, 40)], (2.0, 0.5)) for t in range(5)]
    first = [tracker.update(*one) for one in frames]
    tracker.reset()
    assert [tracker.update(*one) for one in frames] == first


def test_paint_marks_the_cells_of_the_silhouette() -> None:
    tracker = ObjectTracker(scene(), RATE_HZ)
    objects = tracker.update(*frame([(20, 16, 32, 40)]))
    painted = tracker.paint(objects, [3.0])
    assert painted.shape == (1, 1, HEIGHT // CELL, WIDTH // CELL)
    assert painted.dtype == np.float32
    assert painted[0, 0, 5, 6] == 3
    assert set(np.unique(painted)) == {0.0, 3.0}
    assert tracker.paint([], []).sum() == 0


def test_fit_background_sees_through_passers_by_and_light() -> None:
    images = []
    for t in range(30):
        image, _, _ = frame([(3 * t % 80, 16, 3 * t % 80 + 12, 40)])
        images.append((image * (1 + 0.01 * (t % 5))).astype(np.uint8))
    background, noise = fit_background(np.stack(images))
    assert np.abs(background / background.mean() - texture() / texture().mean()).mean() < 0.02
    assert np.median(noise) < 2


def walker(bottom: int, height: float, speed: float = 1.0) -> MovingObject:
    return MovingObject(1, 0, 5, (40, round(bottom - height), 50, bottom), round(4 * height), 10.0, 0.0, speed, 0.0)


def test_fit_heights_finds_the_line_despite_fragments() -> None:
    people = [walker(bottom, 0.5 * bottom) for bottom in range(20, 60) for _ in range(3)]
    fragments = [walker(bottom, 3) for bottom in range(20, 60)]
    offset, slope = fit_heights([*people, *fragments], (HEIGHT, WIDTH))
    assert offset + slope * 40 == pytest.approx(20, abs=1)


def test_fit_heights_without_walkers_expects_a_fifth_of_the_image() -> None:
    still = [walker(40, 20, speed=0.01)] * 50
    assert fit_heights(still, (HEIGHT, WIDTH)) == (0.2 * HEIGHT, 0.0)


def test_a_scene_survives_its_arrays_and_damage_is_refused() -> None:
    known = scene()
    arrays = known.to_arrays()
    again = EmptyScene.from_arrays(arrays)
    np.testing.assert_array_equal(again.background, known.background)
    assert again.expected_height(30) == known.expected_height(30)
    with pytest.raises(ConfigError, match="lacks 'noise'"):
        EmptyScene.from_arrays({key: value for key, value in arrays.items() if key != "noise"})
    with pytest.raises(ConfigError, match="not finite"):
        EmptyScene.from_arrays({**arrays, "noise": arrays["noise"] * np.float32(np.nan)})
    with pytest.raises(ConfigError, match="arrays of shapes"):
        EmptyScene.from_arrays({**arrays, "noise": arrays["noise"][1:]})
