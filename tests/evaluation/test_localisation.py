"""Score maps are compared with the masks of their own frames, and the metrics equal those of a naive count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from pathlib import Path

import cv2
import numpy as np
import pytest
from footage import bright_images, save_frames, save_labels
from numpy.typing import NDArray

from comemory import metrics
from comemory.datasets import open_dataset
from comemory.detector import Detector, ScoredFrame
from comemory.errors import EvaluationError
from comemory.evaluation import video_scores
from comemory.evaluation.evaluate import Evaluation, evaluate, write_evaluation_report
from comemory.evaluation.localisation import (
    NAMES,
    NO_SCORE_MAP,
    THRESHOLDS,
    localisation_metrics,
    localise,
    missing_reasons,
)
from comemory.scoring import find_peak, fuse_channels, fuse_parts, score_map
from comemory.types import LabelledSource
from comemory.video.writer import save_image

SCENE = "synthetic:seed=5,frames=36,training=1,testing=2,size=96x144"
N_FRAMES = 24
N_PAST = 4


Detect = Callable[..., Detector]


@pytest.fixture
def detector_of(nano_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Detect:
    """A detector whose score maps are the masks that it is given, `late` frames late."""

    def make(masks: NDArray[np.bool_], late: int = 0) -> Detector:
        frames = cycle(range(N_PAST, N_FRAMES))

        def mask_as_map(*_: object) -> NDArray[np.float32]:
            mask = masks[next(frames) - late].astype(np.float32)
            return np.asarray(3 * (cv2.resize(mask, (12, 8), interpolation=cv2.INTER_AREA) > 0), np.float32)

        monkeypatch.setattr(video_scores, "score_map", mask_as_map)
        return Detector.open(nano_bundle, threads=1)

    return make


def scored_frames(detector: Detector, video: LabelledSource) -> Iterator[ScoredFrame]:
    detector.reset()
    for frame in detector.open_source(video.source):
        if (scored := detector.step(frame)) is not None:
            yield scored


def map_of(detector: Detector, scored: ScoredFrame) -> NDArray[np.float32]:
    clips = detector.bundle.clips
    return score_map(scored.evidence, detector.bundle.calibration, clips.height, clips.width)


def drawn_masks() -> NDArray[np.bool_]:
    """A block of 8 x 12 cells' pixels that moves by its own width each frame, in the second half of the video."""
    masks = np.zeros((N_FRAMES, 48, 72), bool)
    for frame in range(12, N_FRAMES):
        left = 12 * ((frame - 12) % 6)
        masks[frame, 12:24, left : left + 12] = True
    return masks


def data_set(folder: Path, masks: NDArray[np.bool_], names: tuple[str, ...] = ("01",)) -> str:
    labels = masks.any(axis=(1, 2)).tolist()
    for name in names:
        save_frames(folder / "testing" / name, bright_images(labels))
        save_labels(folder / "testing" / "labels" / f"{name}.csv", labels)
    save_masks(folder, masks, names[0])
    return f"folder:{folder}"


def save_masks(folder: Path, masks: NDArray[np.bool_], name: str) -> None:
    place = folder / "testing" / "masks" / name
    place.mkdir(parents=True, exist_ok=True)
    for frame, mask in enumerate(masks):
        save_image(np.repeat(np.uint8(255) * mask[..., None], 3, axis=2).astype(np.uint8), place / f"{frame:03d}.png")


@pytest.fixture(scope="module")
def detector(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1)


@pytest.fixture(scope="module")
def done(detector: Detector) -> Evaluation:
    return evaluate(detector, open_dataset(SCENE))


def test_maps_equal_to_the_masks_give_one(detector_of: Detect, tmp_path: Path) -> None:
    masks = drawn_masks()
    causal = evaluate(detector_of(masks), open_dataset(data_set(tmp_path, masks))).results["causal"]
    assert [causal[name] for name in NAMES] == [1.0, 1.0, 1.0]


def test_maps_of_the_frame_before_give_nothing(detector_of: Detect, tmp_path: Path) -> None:
    masks = drawn_masks()
    causal = evaluate(detector_of(masks, late=1), open_dataset(data_set(tmp_path, masks))).results["causal"]
    assert causal["rbdc"] == causal["tbdc"] == 0.0
    assert causal["pixel_auc"] == 0.5, "every normal and every abnormal frame ties at nothing found"


def test_metrics_equal_a_naive_count(detector: Detector, done: Evaluation) -> None:
    pixels: list[float] = []
    labels: list[bool] = []
    sweeps = []
    for video in open_dataset(SCENE).testing():
        assert video.mask is not None
        maps: dict[int, NDArray[np.float16]] = {}
        for scored in scored_frames(detector, video):
            maps[scored.frame.index] = map_of(detector, scored).astype(np.float16)
        for frame, found in maps.items():
            mask = video.mask(frame)
            large = cv2.resize(found.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
            pixels.append(metrics.pixel_score(large, mask))
            labels.append(bool(mask.any()))
        tracks = metrics.link_tracks([video.mask(frame) for frame in range(36)], 20)
        sweeps.append(metrics.sweep(maps.items(), tracks, THRESHOLDS, (96, 144)))
    causal = done.results["causal"]
    assert causal["pixel_auc"] == metrics.auc(pixels, labels)
    assert causal["rbdc"] == metrics.swept_rbdc(sweeps)
    assert causal["tbdc"] == metrics.swept_tbdc(sweeps)
    assert done.results["n_masked"] == 2
    assert [done.results["paper"][name] for name in NAMES] == [None] * 3


def test_data_without_masks_has_no_localisation_metrics_and_gives_the_reason(
    detector: Detector, walkway: Path, tmp_path: Path, done: Evaluation
) -> None:
    plain = evaluate(detector, open_dataset(f"folder:{walkway}"))
    assert [plain.results["causal"][name] for name in NAMES] == [None] * 3
    assert plain.results["n_masked"] == 0
    assert plain.results["causal"]["auc_micro"] is not None
    write_evaluation_report(plain, detector.bundle, "openvino", tmp_path / "plain.html")
    assert "The data set has no pixel masks." in (tmp_path / "plain.html").read_text(encoding="utf-8")
    write_evaluation_report(done, detector.bundle, "openvino", tmp_path / "masked.html")
    assert "no pixel masks" not in (tmp_path / "masked.html").read_text(encoding="utf-8")


def test_videos_without_masks_are_left_out_of_the_localisation_metrics(detector_of: Detect, tmp_path: Path) -> None:
    masks = drawn_masks()
    done = evaluate(detector_of(masks), open_dataset(data_set(tmp_path, masks, ("01", "02"))))
    assert (done.results["n_masked"], done.results["n_labelled"]) == (1, 2)
    assert done.results["causal"]["rbdc"] == 1.0
    assert any(note.startswith("1 of 2 videos have pixel masks") for note in done.notes)


def test_an_unreadable_mask_leaves_the_other_metrics_intact(detector_of: Detect, tmp_path: Path) -> None:
    masks = drawn_masks()
    data = data_set(tmp_path, masks, ("01", "02"))
    save_masks(tmp_path, masks, "02")
    (tmp_path / "testing" / "masks" / "02" / "009.png").write_bytes(b"no picture")
    done = evaluate(detector_of(masks), open_dataset(data))
    assert (done.results["n_masked"], done.results["n_labelled"]) == (1, 2)
    (problem,) = done.problems
    assert problem.startswith("02: left out of the localisation metrics: ")
    assert "009.png" in problem


def test_masks_of_different_sizes_are_refused() -> None:
    video = LabelledSource("01", "nowhere", 2, mask=lambda frame: np.zeros((4 + frame, 4), bool))
    with pytest.raises(EvaluationError, match="mask of frame 1"):
        localise(video, 2, {0: np.zeros((2, 2), np.float16)})


def test_masks_without_an_anomaly_give_no_metric() -> None:
    video = LabelledSource("01", "nowhere", 2, mask=lambda frame: np.zeros((4, 4), bool))
    places = localise(video, 2, {0: np.zeros((2, 2), np.float16), 1: np.ones((2, 2), np.float16)})
    assert localisation_metrics([places]) == dict.fromkeys(NAMES)
    assert localisation_metrics([]) == dict.fromkeys(NAMES)
    assert {f"{column}.{name}" for column in ("causal", "paper") for name in NAMES} == set(missing_reasons(1))


def test_one_number_a_frame_has_no_place_and_no_localisation_metrics(autoencoder_bundle: Path, tmp_path: Path) -> None:
    detector = Detector.open(autoencoder_bundle, threads=1)
    done = evaluate(detector, open_dataset(SCENE))
    assert [done.results["causal"][name] for name in NAMES] == [None] * 3
    assert done.results["causal"]["auc_micro"] is not None
    assert NO_SCORE_MAP in done.notes
    assert all(event.box is None for video in done.videos for event in video.alarms["1/min"].events)
    write_evaluation_report(done, detector.bundle, "openvino", tmp_path / "numbers.html")
    assert NO_SCORE_MAP in (tmp_path / "numbers.html").read_text(encoding="utf-8")
    scored = next(scored_frames(detector, open_dataset(SCENE).testing()[0]))
    assert scored.score.box is None
    assert not detector.heat_map(scored).any()


def test_score_maps_are_on_the_scale_of_the_score(detector: Detector) -> None:
    """No place exceeds the score that the frame would have if its highest patches were all at one place."""
    video = open_dataset(SCENE).testing()[0]
    fitted, settings = detector.bundle.calibration, detector.bundle.calibration.settings

    def highest(channels: tuple[str, ...], maps: Mapping[str, NDArray[np.float32]]) -> float:
        levels = [max(0.0, float(fitted.scales[c](find_peak(maps, c).value))) for c in channels]
        return max(0.0, float(fuse_channels(levels, channels, settings)))

    for scored in scored_frames(detector, video):
        found = map_of(detector, scored)
        assert (found.shape, found.dtype) == ((8, 12), np.float32)
        parts = [highest(channels, scored.evidence.maps) for channels in (settings.motion, settings.appearance)]
        limit = fitted.calibrated(fuse_parts(*parts, settings))
        assert found.max() <= float(limit) + 1e-5


def test_with_one_channel_the_highest_place_equals_the_score(nano_bundle: Path) -> None:
    detector = Detector.open(nano_bundle, threads=1)
    fitted = detector.bundle.calibration
    channel = fitted.settings.motion[0]
    lone = fitted.settings.model_copy(update={"motion": (channel,), "appearance": ()})
    calibration = fitted.model_copy(update={"settings": lone})
    object.__setattr__(detector.bundle, "calibration", calibration)
    alone = Detector(detector.bundle, threads=1)
    video = open_dataset(SCENE).testing()[0]
    for scored in scored_frames(alone, video):
        if scored.score.motion >= 0:
            assert map_of(alone, scored).max() == pytest.approx(scored.score.value, abs=1e-5)
            left, top, right, bottom = find_peak(scored.evidence.maps, channel).box
            heat = alone.heat_map(scored)
            assert heat[top:bottom, left:right].max() == heat.max(), "hottest where the channel is highest"


def test_the_score_map_of_the_thesis_holds_its_score(nano_bundle: Path) -> None:
    detector = Detector.open(nano_bundle, threads=1)
    fitted = detector.bundle.calibration
    settings = fitted.settings.model_copy(update={"score": "thesis"})
    object.__setattr__(detector.bundle, "calibration", fitted.model_copy(update={"settings": settings}))
    thesis = Detector(detector.bundle, threads=1)
    video = open_dataset(SCENE).testing()[0]
    for scored in scored_frames(thesis, video):
        found = map_of(thesis, scored)
        assert found.max() >= scored.score.value - 1e-5
        assert np.isclose(found, scored.score.value, atol=1e-5).any()
