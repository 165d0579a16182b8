"""Where in the picture: maps meet the masks of their frames, and the figures are those of a naive count."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
from footage import bright_pictures, save_frames, save_labels
from numpy.typing import NDArray

from comemory import metrics
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.errors import EvaluationError
from comemory.evaluation.evaluate import Evaluation, evaluate, report
from comemory.evaluation.localisation import LEVELS, find_places, place_figures, place_reasons
from comemory.scoring import combine, join, peak
from comemory.types import LabelledSource
from comemory.video.writer import save_picture

SCENE = "synthetic:seed=5,frames=36,training=1,testing=2,size=96x144"
N_FRAMES = 24
N_PAST = 4
PLACES = ("pixel_auc", "rbdc", "tbdc")


class Pointing(Detector):
    """A real detector whose score maps are told: the mask of the frame that many frames before."""

    masks: NDArray[np.bool_]
    late = 0

    def reset(self) -> None:
        super().reset()
        self._next = N_PAST

    def score_map(self, maps: Mapping[str, NDArray[np.float32]] | None = None) -> NDArray[np.float32]:
        mask = self.masks[self._next - self.late].astype(np.float32)
        self._next += 1
        return np.asarray(3 * (cv2.resize(mask, (12, 8), interpolation=cv2.INTER_AREA) > 0), np.float32)


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
        save_frames(folder / "testing" / name, bright_pictures(labels))
        save_labels(folder / "testing" / "labels" / f"{name}.csv", labels)
    save_masks(folder, masks, names[0])
    return f"folder:{folder}"


def save_masks(folder: Path, masks: NDArray[np.bool_], name: str) -> None:
    place = folder / "testing" / "masks" / name
    place.mkdir(parents=True, exist_ok=True)
    for frame, mask in enumerate(masks):
        save_picture(np.repeat(np.uint8(255) * mask[..., None], 3, axis=2).astype(np.uint8), place / f"{frame:03d}.png")


def pointing(bundle: Path, masks: NDArray[np.bool_], late: int = 0) -> Pointing:
    detector = Pointing.open(bundle, threads=1)
    assert isinstance(detector, Pointing)
    detector.masks, detector.late = masks, late
    return detector


@pytest.fixture(scope="module")
def detector(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1)


@pytest.fixture(scope="module")
def done(detector: Detector) -> Evaluation:
    return evaluate(detector, SCENE)


def test_a_map_that_is_right_is_worth_one(nano_bundle: Path, tmp_path: Path) -> None:
    masks = drawn_masks()
    causal = evaluate(pointing(nano_bundle, masks), data_set(tmp_path, masks)).figures["causal"]
    assert [causal[name] for name in PLACES] == [1.0, 1.0, 1.0]


def test_a_map_of_the_frame_before_is_worth_nothing(nano_bundle: Path, tmp_path: Path) -> None:
    masks = drawn_masks()
    causal = evaluate(pointing(nano_bundle, masks, late=1), data_set(tmp_path, masks)).figures["causal"]
    assert causal["rbdc"] == causal["tbdc"] == 0.0
    assert causal["pixel_auc"] == 0.5, "every normal and every abnormal frame ties at nothing found"


def test_figures_are_those_of_the_maps_of_each_frame(detector: Detector, done: Evaluation) -> None:
    pixels: list[float] = []
    labels: list[bool] = []
    sweeps = []
    for video in open_dataset(SCENE).testing():
        assert video.mask is not None
        maps: dict[int, NDArray[np.float16]] = {}
        for seen in detector.watch(detector.open_source(video.source)):
            if seen.score is not None:
                maps[seen.frame.index] = detector.score_map(seen.maps).astype(np.float16)
        for frame, score_map in maps.items():
            mask = video.mask(frame)
            large = cv2.resize(score_map.astype(np.float32), mask.shape[::-1], interpolation=cv2.INTER_LINEAR)
            pixels.append(metrics.pixel_score(large, mask))
            labels.append(bool(mask.any()))
        tracks = metrics.link_tracks([video.mask(frame) for frame in range(36)], 20)
        sweeps.append(metrics.sweep(maps.items(), tracks, LEVELS, (96, 144)))
    causal = done.figures["causal"]
    assert causal["pixel_auc"] == metrics.auc(pixels, labels)
    assert causal["rbdc"] == metrics.swept_rbdc(sweeps)
    assert causal["tbdc"] == metrics.swept_tbdc(sweeps)
    assert done.figures["n_masked"] == 2
    assert [done.figures["paper"][name] for name in PLACES] == [None] * 3


def test_data_without_masks_has_no_places_and_says_why(
    detector: Detector, walkway: Path, tmp_path: Path, done: Evaluation
) -> None:
    plain = evaluate(detector, f"folder:{walkway}")
    assert [plain.figures["causal"][name] for name in PLACES] == [None] * 3
    assert plain.figures["n_masked"] == 0
    assert plain.figures["causal"]["auc_micro"] is not None
    report(plain, detector.bundle, "openvino", tmp_path / "plain.html")
    assert "The data set has no pixel masks." in (tmp_path / "plain.html").read_text(encoding="utf-8")
    report(done, detector.bundle, "openvino", tmp_path / "masked.html")
    assert "no pixel masks" not in (tmp_path / "masked.html").read_text(encoding="utf-8")


def test_videos_without_masks_have_no_part_in_the_figures_of_places(nano_bundle: Path, tmp_path: Path) -> None:
    masks = drawn_masks()
    done = evaluate(pointing(nano_bundle, masks), data_set(tmp_path, masks, ("01", "02")))
    assert (done.figures["n_masked"], done.figures["n_labelled"]) == (1, 2)
    assert done.figures["causal"]["rbdc"] == 1.0
    assert any(note.startswith("1 of 2 videos have pixel masks") for note in done.notes)


def test_a_mask_that_cannot_be_read_costs_the_places_alone(nano_bundle: Path, tmp_path: Path) -> None:
    masks = drawn_masks()
    data = data_set(tmp_path, masks, ("01", "02"))
    save_masks(tmp_path, masks, "02")
    (tmp_path / "testing" / "masks" / "02" / "009.png").write_bytes(b"no picture")
    done = evaluate(pointing(nano_bundle, masks), data)
    assert (done.figures["n_masked"], done.figures["n_labelled"]) == (1, 2)
    (problem,) = done.problems
    assert problem.startswith("02: no part in the figures of places: ")
    assert "009.png" in problem


def test_masks_that_change_their_size_are_refused() -> None:
    video = LabelledSource("01", "nowhere", 2, mask=lambda frame: np.zeros((4 + frame, 4), bool))
    with pytest.raises(EvaluationError, match="mask of frame 1"):
        find_places(video, 2, {0: np.zeros((2, 2), np.float16)})


def test_masks_without_an_anomaly_give_no_region_to_find() -> None:
    video = LabelledSource("01", "nowhere", 2, mask=lambda frame: np.zeros((4, 4), bool))
    places = find_places(video, 2, {0: np.zeros((2, 2), np.float16), 1: np.ones((2, 2), np.float16)})
    assert place_figures([places]) == dict.fromkeys(PLACES)
    assert place_figures([]) == dict.fromkeys(PLACES)
    assert {f"{column}.{name}" for column in ("causal", "paper") for name in PLACES} == set(place_reasons(1))


def test_a_map_is_on_the_scale_of_the_score(detector: Detector) -> None:
    """No place is above what the frame would score were its worst patches all at one place."""
    video = open_dataset(SCENE).testing()[0]
    fitted, decision = detector.bundle.calibration, detector.bundle.calibration.settings

    def highest(channels: tuple[str, ...], maps: Mapping[str, NDArray[np.float32]]) -> float:
        levels = [max(0.0, float(fitted.scales[c](peak(maps, c).value))) for c in channels]
        return max(0.0, float(join(levels, channels, decision)))

    for seen in detector.watch(detector.open_source(video.source)):
        if seen.score is None:
            continue
        score_map = detector.score_map(seen.maps)
        assert (score_map.shape, score_map.dtype) == ((8, 12), np.float32)
        parts = [highest(channels, seen.maps) for channels in (decision.motion, decision.appearance)]
        limit = fitted.scaled(combine(*parts, decision))
        assert score_map.max() <= float(limit) + 1e-5
        assert np.array_equal(score_map, detector.score_map())


def test_with_one_channel_the_worst_place_is_the_score(nano_bundle: Path) -> None:
    detector = Detector.open(nano_bundle, threads=1)
    fitted = detector.bundle.calibration
    channel = fitted.settings.motion[0]
    lone = fitted.settings.model_copy(update={"motion": (channel,), "appearance": ()})
    calibration = fitted.model_copy(update={"settings": lone})
    object.__setattr__(detector.bundle, "calibration", calibration)
    alone = Detector(detector.bundle, threads=1)
    video = open_dataset(SCENE).testing()[0]
    for seen in alone.watch(alone.open_source(video.source)):
        if seen.score is not None and seen.score.motion >= 0:
            assert alone.score_map(seen.maps).max() == pytest.approx(seen.score.value, abs=1e-5)
            left, top, right, bottom = peak(seen.maps, channel).box
            heat = alone.heat(seen.maps)
            assert heat[top:bottom, left:right].max() == heat.max(), "warmest where the channel is highest"


def test_the_map_of_the_thesis_is_its_score_at_the_worst_patch_of_flow(nano_bundle: Path) -> None:
    detector = Detector.open(nano_bundle, threads=1)
    fitted = detector.bundle.calibration
    settings = fitted.settings.model_copy(update={"score": "thesis"})
    object.__setattr__(detector.bundle, "calibration", fitted.model_copy(update={"settings": settings}))
    thesis = Detector(detector.bundle, threads=1)
    video = open_dataset(SCENE).testing()[0]
    for seen in thesis.watch(thesis.open_source(video.source)):
        if seen.score is not None:
            score_map = thesis.score_map(seen.maps)
            assert score_map.max() >= seen.score.value - 1e-5
            assert np.isclose(score_map, seen.score.value, atol=1e-5).any()
