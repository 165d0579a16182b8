"""The motion baseline: against naive loops, and its AUC on Ped2."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from footage import clip, save_frames
from numpy.typing import NDArray

from comemory import metrics
from comemory.datasets import open_dataset
from comemory.evaluation.motion_baseline import max_patch_speed, motion_baseline_scores
from comemory.video.source import open_source


def naive_speed(flow: NDArray[np.float64]) -> float:
    """The largest 16x16 mean of the magnitude, on places 4 pixels apart."""
    magnitude = np.sqrt(flow[..., 0] ** 2 + flow[..., 1] ** 2)
    height, width = magnitude.shape
    return max(
        float(magnitude[y : y + 16, x : x + 16].mean())
        for y in range(0, height - 15, 4)
        for x in range(0, width - 15, 4)
    )


def naive_baseline(folder: Path) -> dict[int, float]:
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    greys = [cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY) for frame in open_source(folder, size=(240, 360))]
    flows: list[NDArray[np.float64]] = []
    scores = {}
    for i in range(1, len(greys)):
        flow = cv2.resize(estimator.calc(greys[i - 1], greys[i], None), (192, 128), interpolation=cv2.INTER_AREA)
        flows.append(flow.astype(np.float64) * (192 / 360, 128 / 240))
        scores[i] = naive_speed(np.mean(flows[-4:], axis=0))
    return scores


def test_the_baseline_equals_naive_loops(tmp_path: Path) -> None:
    folder = save_frames(tmp_path / "clip", clip(0)[0][20:30])
    expected, given = naive_baseline(folder), dict(motion_baseline_scores(str(folder)))
    assert given.keys() == expected.keys() == set(range(1, 10))
    np.testing.assert_allclose(list(given.values()), list(expected.values()), rtol=1e-4)


def test_the_speed_of_a_moving_block_is_measured() -> None:
    flow = np.zeros((128, 192, 2), np.float32)
    flow[40:56, 80:96] = (3, 4)
    assert max_patch_speed(flow) == pytest.approx(5.0)
    flow[40:48] = 0
    assert max_patch_speed(flow) == pytest.approx(2.5)


def test_after_a_gap_the_baseline_starts_again(tmp_path: Path) -> None:
    pictures = clip(0)[0]
    folder = save_frames(tmp_path / "clip", pictures[20:32])
    (folder / "005.png").write_bytes(b"")
    after = save_frames(tmp_path / "after", pictures[26:32])
    given = dict(motion_baseline_scores(str(folder)))
    assert sorted(given) == [1, 2, 3, 4, *range(7, 12)]
    assert [given[i] for i in range(7, 12)] == list(dict(motion_baseline_scores(str(after))).values())


def ped2_auc(data: Path, clips: slice) -> float | None:
    videos = open_dataset(f"ped2:{data / 'ped2'}").testing()[clips]
    scores = [dict(motion_baseline_scores(video.source, 10.0)) for video in videos]
    return metrics.micro_auc(
        [[values[i] for i in range(4, video.n_frames or 0)] for values, video in zip(scores, videos, strict=True)],
        [video.labels[4:] for video in videos if video.labels is not None],
    )


def test_one_clip_of_ped2(data: Path) -> None:
    assert ped2_auc(data, slice(6, 7)) == pytest.approx(0.99, abs=0.01)


@pytest.mark.slow
def test_all_of_ped2(data: Path) -> None:
    assert ped2_auc(data, slice(None)) == pytest.approx(0.978, abs=0.001)
