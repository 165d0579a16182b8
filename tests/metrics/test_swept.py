"""Maps cut at every threshold: worked by hand, against a naive sweep, and against boxes with a score each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import label as connected

from comemory.errors import EvaluationError
from comemory.metrics import Region, RegionSweep, Track, rbdc, sweep, swept_rbdc, swept_tbdc, tbdc
from comemory.types import Box

Map = NDArray[np.float64]


def row(*values: float) -> Map:
    return np.array([values], np.float64)


def test_by_hand() -> None:
    """One track of two frames; a false place outbids the second frame, and at level 1 joins with the anomaly."""
    maps = [(0, row(5, 5, 0, 0, 0, 0)), (1, row(2, 2, 1, 3, 0, 0))]
    track = {0: (0, 0, 2, 1), 1: (0, 0, 2, 1)}
    done = sweep(maps, [track], [1, 2, 3, 4], (1, 6))
    assert done.n_frames == 2
    assert done.n_labelled.tolist() == [2]
    assert done.n_false.tolist() == [0, 1, 1, 0]
    assert done.n_found.tolist() == [[2, 2, 1, 1]], "the joined region at level 1 still has an IoU of 2 in 4"
    assert swept_rbdc([done]) == 1.0, "at level 1 both are found with no false region"
    assert swept_tbdc([done]) == 1.0
    strict = sweep(maps, [track], [1, 2, 3, 4], (1, 6), iou=0.6)
    assert strict.n_false.tolist() == [1, 1, 1, 0]
    assert strict.n_found.tolist() == [[1, 2, 1, 1]]
    assert swept_rbdc([strict]) == 0.5 * 0.5 + 0.5 * 1.0


def test_area_by_hand() -> None:
    """Detection rate 0.5 without a false region, 1 with one in each of two frames."""
    maps = [(0, row(4, 0, 0)), (1, row(1, 0, 2)), (2, row(0, 0, 2))]
    done = sweep(maps, [{0: (0, 0, 1, 1), 1: (0, 0, 1, 1)}], [1, 2, 4], (1, 3))
    assert done.n_false.tolist() == [2, 2, 0]
    assert done.n_found.tolist() == [[2, 1, 1]]
    assert swept_rbdc([done]) == pytest.approx(2 / 3 * 0.5 + 1 / 3 * 1.0)


def test_boxes_are_scaled_outwards_to_the_source() -> None:
    done = sweep([(0, row(0, 9, 0))], [{0: (4, 0, 8, 3)}], [5], (3, 12), iou=1.0)
    assert done.n_found.tolist() == [[1]]


def test_frames_that_are_not_swept_do_not_count() -> None:
    track = {0: (0, 0, 1, 1), 7: (0, 0, 1, 1), 8: (0, 0, 1, 1)}
    done = sweep([(7, row(3, 0))], [track, {0: (1, 0, 2, 1)}], [1], (1, 2))
    assert done.n_labelled.tolist() == [1, 0]
    assert swept_rbdc([done]) == 1.0
    assert swept_tbdc([done]) == 1.0, "a track without a frame that was swept is no track"


def naive(
    videos: Sequence[Sequence[Map]], tracks: Sequence[Sequence[Track]], levels: Sequence[float], alpha: float | None
) -> float:
    """The published text, level by level; alpha None asks for the region criterion."""
    n_frames = sum(map(len, videos))
    points = []
    for level in levels:
        false, parts = 0, []
        for maps, labelled in zip(videos, tracks, strict=True):
            hits = [0] * len(labelled)
            for frame, score_map in enumerate(maps):
                places, count = connected(score_map >= level, np.ones((3, 3)))
                pixels = [boxed(places == number) for number in range(1, count + 1)]
                truth = {k: filled(track[frame], score_map.shape) for k, track in enumerate(labelled) if frame in track}
                for k, place in truth.items():
                    hits[k] += any(iou(one, place) >= 0.1 for one in pixels)
                false += sum(all(iou(one, place) < 0.1 for place in truth.values()) for one in pixels)
            parts += [(hit, len(track)) for hit, track in zip(hits, labelled, strict=True)]
        if alpha is None:
            rate = sum(hit for hit, _ in parts) / sum(length for _, length in parts)
        else:
            rate = float(np.mean([hit / length >= alpha for hit, length in parts]))
        points.append((false / n_frames, rate))
    x, y = [0.0], [0.0]
    for at, rate in sorted(points):
        x.append(at)
        y.append(max(y[-1], rate))
    fine = np.linspace(0, 1, 200_001)
    return float(np.trapezoid(np.interp(fine, x, y), fine))


def boxed(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    y, x = np.nonzero(pixels)
    return filled((int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1), pixels.shape)


def filled(box: Box, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    grid = np.zeros(shape, bool)
    grid[box[1] : box[3], box[0] : box[2]] = True
    return grid


def iou(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    return float((a & b).sum() / (a | b).sum())


@given(st.integers(0, 2**30))
@settings(deadline=None, max_examples=25)
def test_equals_the_naive_sweep(seed: int) -> None:
    generator = np.random.default_rng(seed)
    videos = [list(generator.integers(0, 6, (n, 7, 9)).astype(float)) for n in (3, 4)]

    def box() -> Box:
        left, top = int(generator.integers(0, 6)), int(generator.integers(0, 4))
        return left, top, left + int(generator.integers(1, 4)), top + int(generator.integers(1, 4))

    tracks: list[list[Track]] = [[{0: box(), 1: box()}, {2: box()}], [{1: box(), 2: box(), 3: box()}]]
    levels = [1.0, 2.0, 3.0, 4.0, 5.0]
    done = [sweep(enumerate(maps), t, levels, (7, 9)) for maps, t in zip(videos, tracks, strict=True)]
    assert swept_rbdc(done) == pytest.approx(naive(videos, tracks, levels, None), abs=1e-4)
    for alpha in (0.1, 0.6):
        expected = naive(videos, tracks, levels, alpha)
        assert swept_tbdc(done, track_fraction=alpha) == pytest.approx(expected, abs=1e-4)


@given(st.integers(0, 2**30))
@settings(deadline=None, max_examples=25)
def test_constant_regions_equal_boxes_with_a_score(seed: int) -> None:
    """Places that never join or shrink are what `rbdc` and `tbdc` take, and come to the same figures."""
    generator = np.random.default_rng(seed)
    maps, regions = [], []
    for frame in range(6):
        score_map = np.zeros((8, 12))
        for x in (0, 4, 8):
            score = float(generator.integers(0, 9))
            score_map[1:4, x : x + 3] = score
            if score:
                regions.append(Region(frame, (x, 1, x + 3, 4), score))
        maps.append(score_map)
    tracks: list[Track] = [dict.fromkeys(range(4), (0, 1, 3, 4)), dict.fromkeys(range(2, 6), (5, 0, 7, 4))]
    done = [sweep(enumerate(maps), tracks, np.arange(1, 9), (8, 12))]
    assert swept_rbdc(done) == pytest.approx(rbdc([regions], [tracks], [6]))
    assert swept_tbdc(done, track_fraction=0.5) == pytest.approx(tbdc([regions], [tracks], [6], track_fraction=0.5))


def test_only_the_order_of_values_matters() -> None:
    maps = list(np.random.default_rng(1).random((4, 6, 8)))
    tracks: list[Track] = [{0: (0, 0, 3, 3), 1: (1, 0, 4, 3), 3: (2, 2, 5, 5)}]
    levels = np.linspace(0.1, 0.9, 9)
    one = sweep(enumerate(maps), tracks, levels, (6, 8))
    other = sweep(enumerate(np.exp(values) for values in maps), tracks, np.exp(levels), (6, 8))
    assert swept_rbdc([one]) == swept_rbdc([other])


def test_nothing_labelled_is_none() -> None:
    done = sweep([(0, row(1, 2))], [], [1.5], (1, 2))
    assert done.n_false.tolist() == [1]
    for criterion in (swept_rbdc, swept_tbdc):
        assert criterion([done]) is None
        assert criterion([]) is None


def test_invalid_input_is_refused() -> None:
    def swept(score_map: Map | None = None, levels: ArrayLike = (1.0,), iou: float = 0.1) -> RegionSweep:
        return sweep([(3, row(1) if score_map is None else score_map)], [], levels, (1, 1), iou=iou)

    for levels in ([], [2.0, 1.0], [1.0, 1.0], [np.nan], [[1.0]]):
        with pytest.raises(EvaluationError, match="expected finite numbers that rise"):
            swept(levels=levels)
    for bad in (np.zeros(3), np.zeros((0, 2)), np.array([[np.nan]])):
        with pytest.raises(EvaluationError, match="score map of frame 3"):
            swept(bad)
    for wrong in (0.0, 1.2, float("nan")):
        with pytest.raises(EvaluationError, match="intersection over union"):
            swept(iou=wrong)
        with pytest.raises(EvaluationError, match="track fraction"):
            swept_tbdc([swept()], track_fraction=wrong)
