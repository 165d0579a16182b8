"""Region and track criteria on examples worked by hand, and against the naive sweep."""

from __future__ import annotations

import math

import numpy as np
import pytest

from comemory.errors import EvaluationError
from comemory.metrics import Region, Track, rbdc, tbdc
from comemory.types import Box

A: Box = (0, 0, 10, 10)
B: Box = (50, 50, 60, 60)
ELSEWHERE: Box = (90, 90, 95, 95)


def naive_iou(a: Box, b: Box) -> float:
    pixels = [np.zeros((100, 100), bool) for _ in range(2)]
    for grid, (left, top, right, bottom) in zip(pixels, (a, b), strict=True):
        grid[top:bottom, left:right] = True
    return float((pixels[0] & pixels[1]).sum() / (pixels[0] | pixels[1]).sum())


def naive(
    detections: list[list[Region]],
    tracks: list[list[Track]],
    n_frames: list[int],
    alpha: float | None,
    beta: float = 0.1,
) -> float:
    """The published text, threshold by threshold; alpha None asks for the region criterion."""
    x, y = [0.0], [0.0]
    for threshold in sorted({r.score for video in detections for r in video}, reverse=True):
        false, parts = 0, []
        for video, labelled in zip(detections, tracks, strict=True):
            kept = [r for r in video if r.score >= threshold]
            for track in labelled:
                parts.append(
                    [
                        any(r.frame == frame and naive_iou(r.box, box) >= beta for r in kept)
                        for frame, box in track.items()
                    ]
                )
            truth = [item for track in labelled for item in track.items()]
            false += sum(not any(f == r.frame and naive_iou(r.box, b) >= beta for f, b in truth) for r in kept)
        hits = [h for part in parts for h in part] if alpha is None else [np.mean(part) >= alpha for part in parts]
        x.append(false / sum(n_frames))
        y.append(float(np.mean(hits)))
    x.append(max(1.0, x[-1]))
    y.append(y[-1])
    area = 0.0
    for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:], strict=False):
        if x0 < 1 and x1 > x0:
            end = min(x1, 1.0)
            area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area


def test_perfect_detections_give_one_and_none_give_zero() -> None:
    tracks: list[list[Track]] = [[{0: A, 1: A}, {1: B}]]
    found = [[Region(0, A, 3.0), Region(1, A, 2.0), Region(1, B, 1.0)]]
    for criterion in (rbdc, tbdc):
        assert criterion(found, tracks, [2]) == 1.0
        assert criterion([[]], tracks, [2]) == 0.0
        assert criterion([[Region(0, ELSEWHERE, 1.0)]], tracks, [2]) == 0.0


def test_by_hand_with_false_regions() -> None:
    # One video of 4 frames, one track of 4 regions. From the top: a hit, a false region, a hit, then 3 false regions.
    tracks: list[list[Track]] = [[{0: A, 1: A, 2: A, 3: A}]]
    detections = [
        [
            Region(0, A, 9.0),
            Region(0, ELSEWHERE, 8.0),
            Region(1, A, 7.0),
            Region(1, ELSEWHERE, 6.0),
            Region(2, ELSEWHERE, 5.0),
            Region(3, ELSEWHERE, 4.0),
        ]
    ]
    # Rate 1/4 up to 1/4 false a frame, then 2/4 up to 1.
    assert rbdc(detections, tracks, [4]) == pytest.approx(0.25 * 0.25 + 0.75 * 0.5)
    assert tbdc(detections, tracks, [4]) == 1.0
    # Half of the track is needed: found only at the second hit, after 1/4 false a frame.
    assert tbdc(detections, tracks, [4], track_fraction=0.5) == pytest.approx(0.75)
    assert tbdc(detections, tracks, [4], track_fraction=0.51) == 0.0


def test_last_segment_is_cut_at_one_false_region_a_frame() -> None:
    # One frame, one region. At the only threshold a hit and two false regions come at once: the line from (0, 0) to
    # (2, 1) is at 1/2 where it is cut, so the area is a triangle of 1/4.
    tracks: list[list[Track]] = [[{0: A}]]
    detections = [[Region(0, A, 1.0), Region(0, B, 1.0), Region(0, ELSEWHERE, 1.0)]]
    assert rbdc(detections, tracks, [1]) == pytest.approx(0.25)
    assert tbdc(detections, tracks, [1]) == pytest.approx(0.25)


def test_overlap_at_the_limit_counts() -> None:
    truth: list[list[Track]] = [[{0: (0, 0, 10, 10)}]]
    at_limit = [[Region(0, (0, 0, 10, 1), 1.0)]]
    under = [[Region(0, (0, 0, 9, 1), 1.0)]]
    assert rbdc(at_limit, truth, [1]) == 1.0
    assert rbdc(under, truth, [1]) == 0.0
    assert rbdc(under, truth, [1], iou=0.09) == 1.0


def test_one_detection_may_find_two_regions_and_is_then_not_false() -> None:
    tracks: list[list[Track]] = [[{0: (0, 0, 10, 10)}, {0: (10, 0, 20, 10)}]]
    assert rbdc([[Region(0, (0, 0, 20, 10), 1.0)]], tracks, [1]) == 1.0


def test_a_detection_in_another_video_finds_nothing() -> None:
    assert rbdc([[], [Region(0, A, 1.0)]], [[{0: A}], []], [1, 1]) == 0.0


@pytest.mark.parametrize("seed", range(12))
def test_equals_the_naive_sweep(seed: int) -> None:
    generator = np.random.default_rng(seed)

    def box() -> Box:
        left, top = generator.integers(0, 60, 2)
        width, height = generator.integers(5, 40, 2)
        return int(left), int(top), int(left + width), int(top + height)

    n_frames = [6, 9]
    tracks: list[list[Track]] = [
        [{int(f): box() for f in generator.choice(n, int(generator.integers(1, n)), replace=False)} for _ in range(2)]
        for n in n_frames
    ]
    detections = [
        [Region(int(generator.integers(n)), box(), float(generator.integers(6))) for _ in range(5 * n)]
        for n in n_frames
    ]
    assert rbdc(detections, tracks, n_frames) == pytest.approx(naive(detections, tracks, n_frames, None), abs=1e-9)
    for alpha in (0.1, 0.5, 1.0):
        expected = naive(detections, tracks, n_frames, alpha)
        assert tbdc(detections, tracks, n_frames, track_fraction=alpha) == pytest.approx(expected, abs=1e-9)


def test_only_the_order_of_scores_matters() -> None:
    tracks: list[list[Track]] = [[{0: A, 1: A, 2: B}]]
    regions = [Region(0, A, 1.0), Region(1, ELSEWHERE, 2.0), Region(2, B, 3.0), Region(2, A, 4.0)]
    stretched = [Region(r.frame, r.box, math.exp(r.score)) for r in reversed(regions)]
    assert rbdc([regions], tracks, [3]) == rbdc([stretched], tracks, [3])


def test_nothing_labelled_is_none() -> None:
    for criterion in (rbdc, tbdc):
        assert criterion([[Region(0, A, 1.0)]], [[]], [1]) is None
        assert criterion([[]], [[{}]], [1]) is None
        assert criterion([], [], []) is None


@pytest.mark.parametrize("criterion", [rbdc, tbdc])
@pytest.mark.parametrize(
    ("regions", "tracks", "text"),
    [
        ([Region(2, A, 1.0)], [{0: A}], "frame 2 of video 'gate'"),
        ([Region(-1, A, 1.0)], [{0: A}], "frame -1 of video 'gate'"),
        ([], [{5: A}], "frame 5 of video 'gate'"),
        ([Region(0, (5, 5, 5, 9), 1.0)], [{0: A}], "empty"),
        ([], [{0: (5, 5, 9, 4)}], "empty"),
        ([Region(0, A, math.nan)], [{0: A}], "score nan"),
        ([Region(0, A, math.inf)], [{0: A}], "score inf"),
    ],
)
def test_invalid_input_is_refused_by_name(
    criterion: object, regions: list[Region], tracks: list[Track], text: str
) -> None:
    assert callable(criterion)
    with pytest.raises(EvaluationError, match=text) as caught:
        criterion([regions], [tracks], [2], ["gate"])
    assert "gate" in str(caught.value)


def test_invalid_settings_are_refused() -> None:
    for wrong in (0.0, 1.2, math.nan):
        with pytest.raises(EvaluationError, match="intersection over union"):
            rbdc([[]], [[{0: A}]], [1], iou=wrong)
        with pytest.raises(EvaluationError, match="track fraction"):
            tbdc([[]], [[{0: A}]], [1], track_fraction=wrong)
    with pytest.raises(EvaluationError, match="expected one of each"):
        rbdc([[]], [[{0: A}]], [1, 2])
