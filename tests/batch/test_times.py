"""Recordings whose frames do not follow each other in time: clips start again, speeds keep their meaning, and it is said."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from footage import clip, save_frames, save_video

from comemory.batch import BatchResult, score_sources
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.evaluation.motion_baseline import motion_baseline_scores
from comemory.evaluation.video_scores import VideoScores, score_video
from comemory.parallel import score_frames
from comemory.training.train import frame_rate
from comemory.types import LabelledSource

N = 24
"""Frames on each side of a gap."""
AFTER_GAP_MS = [*range(0, N * 100, 100), *range(60_000, 60_000 + N * 100, 100)]


@pytest.fixture(scope="module")
def detector(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1)


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    return clip(0)[0]


@pytest.fixture
def with_gap(tmp_path: Path, images: Sequence[np.ndarray]) -> Path:
    """Two pieces of a scene that have nothing to do with each other, the second 57.7 s after the first."""
    return save_video(tmp_path / "gate.mp4", [*images[:N], *reversed(images[-N:])], times_ms=AFTER_GAP_MS)


def scores_by_frame(detector: Detector, location: Path, workers: int = 1) -> dict[int, float]:
    results = score_frames(detector, detector.open_source(location), workers)
    return {frame.index: scored.score.value for frame, scored in results if scored is not None}


def score(detector: Detector, location: Path, out: Path) -> BatchResult:
    return score_sources(detector, [str(location)], out)


def test_after_a_gap_clips_start_again(detector: Detector, with_gap: Path, tmp_path: Path) -> None:
    whole = scores_by_frame(detector, with_gap)
    n_past = detector.bundle.clips.n_past
    assert [k for k in range(2 * N) if k not in whole] == [*range(n_past), *range(N, N + n_past)]
    assert [score.index for score in detector.run(with_gap)] == list(whole)
    result = score(detector, with_gap, tmp_path / "out")
    assert result.notes == ["gate.mp4: a gap of 57.6 s after frame 23: clips start again"]
    assert result.problems == []


def test_footage_after_a_gap_scores_as_it_does_alone(
    detector: Detector, images: Sequence[np.ndarray], tmp_path: Path
) -> None:
    """The frames are images, so that coding cannot make them differ."""
    both = save_frames(tmp_path / "both", [*images[:N], *reversed(images[-N:])])
    for k in reversed(range(N, 2 * N)):
        (both / f"{k:03d}.png").rename(both / f"{k + 500:03d}.png")
    alone = save_frames(tmp_path / "alone", list(reversed(images[-N:])))
    after = {index - N: value for index, value in scores_by_frame(detector, both).items() if index >= N}
    assert after == scores_by_frame(detector, alone)
    result = score(detector, both, tmp_path / "out")
    assert result.notes == ["both: a gap of 50.0 s after frame 23: clips start again"]


def test_several_workers_give_the_same_scores(detector: Detector, with_gap: Path, nano_bundle: Path) -> None:
    several = Detector.open(nano_bundle, threads=1)
    assert scores_by_frame(several, with_gap, workers=3) == scores_by_frame(detector, with_gap)


def test_slow_file_is_scored_with_its_flow_scaled(
    detector: Detector, images: Sequence[np.ndarray], tmp_path: Path
) -> None:
    slow = save_video(tmp_path / "slow.mp4", images, rate=5)
    detector.reset()
    frames = list(detector.open_source(slow))
    expected = [detector.step(frame, flow_scale=0.5) for frame in frames]
    found = scores_by_frame(detector, slow)
    assert found == pytest.approx({s.frame.index: s.score.value for s in expected if s is not None}, abs=1e-5)
    assert score(detector, slow, tmp_path / "out").notes == [
        "slow.mp4: has 5 frames per second, the model was trained at 10: "
        "every frame is scored, and its motion is scaled to that rate"
    ]


def test_fast_file_is_thinned_to_the_trained_rate(
    detector: Detector, images: Sequence[np.ndarray], tmp_path: Path, nano_bundle: Path
) -> None:
    fast = save_video(tmp_path / "fast.mp4", [image for image in images for _ in range(3)], rate=30)
    found = scores_by_frame(detector, fast)
    assert len(found) == pytest.approx(len(images), abs=detector.bundle.clips.n_past + 2)
    assert scores_by_frame(Detector.open(nano_bundle, threads=1), fast, workers=2) == found
    score_sources(detector, [str(fast)], tmp_path / "out", video=True)
    assert len(list(detector.open_source(tmp_path / "out" / "fast.mp4"))) == 3 * len(images)


def test_joined_recordings_are_not_one(detector: Detector, images: Sequence[np.ndarray], tmp_path: Path) -> None:
    """Transport streams can be joined byte by byte; the clock of the second one starts again."""
    parts = [save_video(tmp_path / f"{k}.ts", part) for k, part in enumerate((images[:N], images[-N:]))]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    found = scores_by_frame(detector, joined)
    n_past, seam = detector.bundle.clips.n_past, N
    assert not set(range(seam, seam + n_past)) & set(found)
    assert any("clips start again" in note for note in score(detector, joined, tmp_path / "out").notes)


def evaluated(detector: Detector, location: Path, n_frames: int) -> VideoScores:
    labels = np.zeros(n_frames, np.bool_)
    video = LabelledSource("gate", str(location), n_frames, labels)
    return score_video(detector, video, {"1/h": 4.0}, 10.0, images=False)


def test_evaluation_leaves_out_the_frames_after_a_gap(detector: Detector, with_gap: Path) -> None:
    found = evaluated(detector, with_gap, 2 * N)
    n_past = detector.bundle.clips.n_past
    assert found.frames.tolist() == [*range(n_past, N), *range(N + n_past, 2 * N)]
    assert found.notes == ["gate: a gap of 57.6 s after frame 23: clips start again"]
    assert found.rate_hz == pytest.approx(10.0, rel=0.03), "alarms an hour are counted over footage, not over gaps"


def test_evaluation_scores_every_frame_of_a_fast_file(
    detector: Detector, images: Sequence[np.ndarray], tmp_path: Path
) -> None:
    fast = save_video(tmp_path / "fast.mp4", [image for image in images for _ in range(3)], rate=30)
    found = evaluated(detector, fast, 3 * len(images))
    assert found.frames.tolist() == list(range(found.frames[0], 3 * len(images)))
    assert len(set(found.score.tolist())) <= len(images)


def test_motion_baseline_starts_again_after_a_gap(with_gap: Path) -> None:
    scores = dict(motion_baseline_scores(str(with_gap), trained_hz=10.0))
    assert [k for k in range(2 * N) if k not in scores] == [0, N]


def test_motion_baseline_of_a_slow_file_measures_the_same_speed(tmp_path: Path, images: Sequence[np.ndarray]) -> None:
    slow = save_video(tmp_path / "slow.mp4", images, rate=5)
    fast = save_video(tmp_path / "fast.mp4", images, rate=10)
    at_slow = dict(motion_baseline_scores(str(slow), trained_hz=10.0))
    at_fast = dict(motion_baseline_scores(str(fast), trained_hz=10.0))
    assert list(at_slow.values()) == pytest.approx([value / 2 for value in at_fast.values()], rel=0.1, abs=0.05)


def test_training_rate_is_that_of_most_frames(tmp_path: Path, images: Sequence[np.ndarray], with_gap: Path) -> None:
    """The average rate that the file with the gap states is 0.8 a second."""
    (tmp_path / "set" / "training").mkdir(parents=True)
    with_gap.rename(tmp_path / "set" / "training" / "a.mp4")
    save_video(tmp_path / "set" / "training" / "b.mp4", images[:20], rate=25)
    dataset = open_dataset(f"folder:{tmp_path / 'set'}")
    assert frame_rate(dataset, dataset.training()) == pytest.approx(10.0)


@pytest.mark.parametrize(("stated", "expected"), [(5.0, 10.0), (10.5, 10.5)])
def test_the_rate_of_a_data_set_is_for_what_states_none(
    tmp_path: Path, images: Sequence[np.ndarray], stated: float, expected: float
) -> None:
    """A container that states about the same rate leaves the training at that of the data set."""
    save_video(tmp_path / "set" / "training" / "a.mp4", images[:20])
    dataset = open_dataset(f"folder:{tmp_path / 'set'}")
    dataset.rate_hz = stated
    assert frame_rate(dataset, dataset.training()) == pytest.approx(expected)
    save_frames(tmp_path / "frames" / "training" / "a", images[:20])
    dataset = open_dataset(f"folder:{tmp_path / 'frames'}")
    dataset.rate_hz = stated
    assert frame_rate(dataset, dataset.training()) == stated
