"""Regions from maps and tracks from masks: drawn by hand, and read from Ped2."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory.errors import EvaluationError
from comemory.metrics import Region, link_tracks, rbdc, regions_from_map, tbdc


def drawn(*rows: str) -> NDArray[np.bool_]:
    return np.array([[pixel == "#" for pixel in row] for row in rows])


def test_regions_by_hand() -> None:
    score_map = np.array([[0, 5, 0, 0], [7, 0, 0, 2], [0, 0, 0, 3]], dtype=np.float32)
    assert regions_from_map(score_map, 2.0, frame=4) == [
        Region(4, (0, 0, 2, 2), 7.0),
        Region(4, (3, 1, 4, 3), 3.0),
    ]
    assert regions_from_map(score_map, 3.0) == [Region(0, (0, 0, 2, 2), 7.0), Region(0, (3, 2, 4, 3), 3.0)]
    assert regions_from_map(score_map, 8.0) == []
    assert regions_from_map(score_map, -1.0) == [Region(0, (0, 0, 4, 3), 7.0)]


def test_boxes_are_scaled_outwards_to_the_source() -> None:
    score_map = np.zeros((3, 4))
    score_map[1, 2] = 1.0
    assert regions_from_map(score_map, 0.5, size=(30, 40))[0].box == (20, 10, 30, 20)
    assert regions_from_map(score_map, 0.5, size=(10, 10))[0].box == (5, 3, 8, 7)


def test_small_regions_are_left_out() -> None:
    score_map = np.array([[9.0, 0.0, 1.0, 1.0]])
    assert regions_from_map(score_map, 0.5, min_area=2) == [Region(0, (2, 0, 4, 1), 1.0)]


@pytest.mark.parametrize("score_map", [np.zeros(3), np.zeros((0, 3)), np.array([[np.nan]]), np.array([[np.inf]])])
def test_invalid_maps_are_refused(score_map: NDArray[np.float64]) -> None:
    with pytest.raises(EvaluationError, match="score map of shape"):
        regions_from_map(score_map, 0.5)


def test_two_tracks_that_pass_each_other_apart() -> None:
    masks = [drawn("##...", ".....", "...##"), drawn(".##..", ".....", "..##."), drawn("..##.", ".....", ".##..")]
    assert link_tracks(masks) == [
        {0: (0, 0, 2, 1), 1: (1, 0, 3, 1), 2: (2, 0, 4, 1)},
        {0: (3, 2, 5, 3), 1: (2, 2, 4, 3), 2: (1, 2, 3, 3)},
    ]


def test_a_merge_ends_the_track_with_less_overlap() -> None:
    assert link_tracks([drawn("###.#"), drawn("#####")]) == [{0: (0, 0, 3, 1), 1: (0, 0, 5, 1)}, {0: (4, 0, 5, 1)}]


def test_a_split_starts_a_track_with_the_smaller_part() -> None:
    assert link_tracks([drawn("#####"), drawn("#.###")]) == [{0: (0, 0, 5, 1), 1: (2, 0, 5, 1)}, {1: (0, 0, 1, 1)}]


def test_two_that_cross_are_two_tracks_and_one_has_a_gap() -> None:
    masks = [drawn("###..##.."), drawn(".######.."), drawn(".######.."), drawn("..###.##."), drawn("..##...##")]
    assert link_tracks(masks) == [
        {0: (0, 0, 3, 1), 1: (1, 0, 7, 1), 2: (1, 0, 7, 1), 3: (2, 0, 5, 1), 4: (2, 0, 4, 1)},
        {0: (5, 0, 7, 1), 3: (6, 0, 8, 1), 4: (7, 0, 9, 1)},
    ]


def test_nested_hidden_tracks_return_last_hidden_first() -> None:
    masks = [drawn("#####.##.###"), drawn("########.###"), drawn("############"), drawn("######.##.##")]
    assert [sorted(track) for track in link_tracks(masks)] == [[0, 1, 2, 3], [0, 3], [0, 1, 3]]


def test_a_second_split_begins_a_track_once_nothing_is_hidden() -> None:
    masks = [drawn("###.#"), drawn("#####"), drawn("###.#"), drawn("#.#.#")]
    assert [sorted(track) for track in link_tracks(masks)] == [[0, 1, 2, 3], [0, 2, 3], [3]]


def test_a_gap_ends_a_track() -> None:
    assert link_tracks([drawn("##"), drawn(".."), drawn("##")]) == [{0: (0, 0, 2, 1)}, {2: (0, 0, 2, 1)}]


def test_small_regions_are_not_linked() -> None:
    masks = [drawn("##.##"), drawn("#..##")]
    assert link_tracks(masks, min_area=2) == [{0: (0, 0, 2, 1)}, {0: (3, 0, 5, 1), 1: (3, 0, 5, 1)}]


def test_without_masks_there_are_no_tracks() -> None:
    assert link_tracks([]) == []
    assert link_tracks(iter([drawn(".."), drawn("..")])) == []


def test_masks_of_other_sizes_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"mask of frame 1 has shape \(1, 3\): expected \(1, 2\)"):
        link_tracks([drawn(".."), drawn("...")])
    with pytest.raises(EvaluationError, match="mask of frame 0"):
        link_tracks([np.zeros(3, bool)])


@given(st.integers(0, 2**30), st.integers(1, 4))
@settings(deadline=None, max_examples=60)
def test_every_region_is_in_one_track_and_perfect_boxes_score_one(seed: int, min_area: int) -> None:
    generator = np.random.default_rng(seed)
    masks = list(generator.random((5, 6, 7)) < 0.3)
    tracks = link_tracks(masks, min_area)
    for frame, mask in enumerate(masks):
        boxes = sorted(track[frame] for track in tracks if frame in track)
        assert boxes == sorted(r.box for r in regions_from_map(mask.astype(float), 0.5, min_area=min_area))
    assert all(list(track) == sorted(track) for track in tracks)
    found = [[Region(frame, box, 1.0) for track in tracks for frame, box in track.items()]]
    for criterion in (rbdc, tbdc):
        assert criterion(found, [tracks], [5]) == (1.0 if tracks else None)


def test_ped2_anomalies_become_long_tracks(data: Path) -> None:
    folder = data / "ped2" / "testing" / "masks" / "01"
    masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0 for path in sorted(folder.glob("*.png"))]
    tracks = link_tracks(masks, min_area=20)
    frames = set().union(*tracks)
    assert frames == {i for i, mask in enumerate(masks) if mask.any()}
    assert len(tracks) <= 3
    assert max(len(track) for track in tracks) > 60


def test_the_anomalies_of_ped2_are_twenty(data: Path) -> None:
    counts = []
    for clip in sorted((data / "ped2" / "testing" / "masks").iterdir()):
        masks = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0 for path in sorted(clip.glob("*.png"))]
        counts.append(len(link_tracks(masks, min_area=20)))
    assert counts == [1, 1, 2, 2, 1, 2, 2, 2, 2, 1, 3, 1], "as counted by eye; in 08 a skater crosses a bicycle"
