"""Pseudo-anomalies: objects are cut out of normal video, perturbed, pasted, and labelled where they are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory.errors import ConfigError, DatasetError
from comemory.evaluation.evaluate import DerivedDataset
from comemory.research.pseudo_anomalies.dataset import open_any_dataset
from comemory.research.pseudo_anomalies.footage import PseudoSource
from comemory.research.pseudo_anomalies.objects import Cutout, background, cut_out_objects, link_tracklets, paste
from comemory.research.pseudo_anomalies.perturbations import NORMAL, PERTURBATIONS, normal
from comemory.research.pseudo_anomalies.segments import MIN_FRAMES, TARGET_FRAMES, VideoSegment, split_segments
from comemory.training.split import MIN_CALIBRATION_CLIPS, split_frames
from comemory.types import Dataset, Frame, LabelledSource

SCENE = "synthetic:seed=3,frames=120,training=3,testing=1,size=120x180,crowd=5"


@cache
def walkway() -> tuple[NDArray[np.uint8], ...]:
    video = open_any_dataset(SCENE).training()[0]
    return tuple(frame.image for frame in VideoSegment(video, 0, 100))


@cache
def made(kind: str, seed: int = 0) -> PseudoSource:
    frames = [Frame(image, i / 10, i) for i, image in enumerate(walkway())]
    return PseudoSource(kind, frames, 10.0, kinds=[kind], seed=(seed,), density=0.5)


def disc(x: int, y: int, size: tuple[int, int] = (60, 90)) -> NDArray[np.uint8]:
    rows, columns = np.indices(size)
    image = np.full((*size, 3), 100, np.uint8)
    image[(rows - y) ** 2 + (columns - x) ** 2 <= 25] = 220
    return image


class TestObjects:
    def test_a_disc_is_cut_out_where_it_is(self) -> None:
        scene = disc(-50, -50)
        (found,) = cut_out_objects(disc(40, 30), scene)
        assert found.centre == pytest.approx((40.5, 30.5), abs=1.5)
        assert 60 <= found.alpha.sum() <= 160
        assert cut_out_objects(scene, scene) == []

    def test_what_touches_the_border_is_left_out(self) -> None:
        assert cut_out_objects(disc(3, 30), disc(-50, -50)) == []

    def test_the_background_is_what_most_frames_show(self) -> None:
        frames = np.stack([disc(10 + 3 * i, 30) for i in range(24)])
        assert np.array_equal(background(frames), disc(-50, -50))

    def test_a_moving_disc_is_followed_and_two_are_kept_apart(self) -> None:
        scene = disc(-50, -50)
        images = [np.maximum(disc(20 + i, 15), disc(70 - i, 45)) for i in range(20)]
        found = link_tracklets([cut_out_objects(image, scene) for image in images], 20)
        assert len(found) == 2
        for tracklet in found:
            steps = {round(b.centre[0] - a.centre[0]) for a, b in pairwise(tracklet)}
            assert steps in ({1}, {-1})

    def test_pasting_covers_what_it_says_and_nothing_else(self) -> None:
        scene = disc(-50, -50)
        (cut,) = cut_out_objects(disc(40, 30), scene)
        image = scene.copy()
        covered = paste(image, cut, 60, 20)
        changed = (image != scene).any(axis=2)
        assert covered.any()
        assert (changed & ~covered).sum() < covered.sum()
        rows, columns = np.nonzero(covered)
        assert (columns.mean(), rows.mean()) == pytest.approx((60, 20), abs=1)

    def test_a_cut_out_pasted_where_it_was_changes_nothing(self) -> None:
        rng = np.random.default_rng(0)
        image = rng.integers(0, 255, (60, 90, 3)).astype(np.uint8)
        cut = Cutout(40, 20, image[20:33, 40:50].copy(), np.ones((13, 10), np.float32))
        again = image.copy()
        covered = paste(again, cut, *cut.centre)
        assert np.array_equal(again, image)
        assert covered[20:33, 40:50].all()
        assert covered.sum() == 13 * 10

    def test_pasting_outside_of_the_image_changes_nothing(self) -> None:
        scene = disc(-50, -50)
        (cut,) = cut_out_objects(disc(40, 30), scene)
        image = scene.copy()
        assert not paste(image, cut, 500, 500).any()
        assert np.array_equal(image, scene)


TRACKLET = [Cutout(10 + 2 * i, 20, np.zeros((9, 5, 3), np.uint8), np.ones((9, 5), np.float32)) for i in range(48)]


class TestPerturbations:
    @pytest.mark.parametrize("kind", PERTURBATIONS)
    @given(seed=st.integers(0, 50))
    @settings(deadline=None, max_examples=10)
    def test_every_perturbation_has_steps_of_the_object(self, kind: str, seed: int) -> None:
        steps = PERTURBATIONS[kind](TRACKLET, 48, (120, 180), np.random.default_rng(seed))
        assert 1 <= len(steps) <= 48
        assert all(any(step.cut is cut for cut in TRACKLET) for step in steps)
        assert all(np.isfinite((step.x, step.y, step.scale)).all() and step.scale > 0 for step in steps)

    def test_each_perturbation_changes_what_it_says(self) -> None:
        rng = np.random.default_rng(0)
        paths = {kind: perturb(TRACKLET, 48, (120, 180), rng) for kind, perturb in PERTURBATIONS.items()}

        def speeds(kind: str) -> tuple[float, float]:
            steps = paths[kind]
            return (
                float(np.mean([b.x - a.x for a, b in pairwise(steps)])),
                float(np.mean([b.y - a.y for a, b in pairwise(steps)])),
            )

        assert normal(TRACKLET, 48, (120, 180), rng)[5][1:3] == TRACKLET[5].centre
        assert speeds("fast")[0] >= 4
        assert speeds("reversed") == pytest.approx((-2, 0))
        assert abs(speeds("sideways")[1]) == pytest.approx(2)
        assert speeds("frozen") == (0, 0)
        assert len({id(step.cut) for step in paths["glide"]}) == 1
        assert paths["resized"][0].scale >= 1.6
        assert speeds("displaced") == pytest.approx((2, 0))


class TestFootage:
    @pytest.mark.parametrize("kind", PERTURBATIONS)
    def test_labels_are_those_of_the_masks(self, kind: str) -> None:
        source = made(kind)
        labels = source.labels
        assert labels.shape == (100,)
        assert labels.any()
        assert [bool(source.mask(i).any()) for i in range(100)] == labels.tolist()

    def test_the_seed_determines_the_video(self) -> None:
        frames = [Frame(image, i / 10, i) for i, image in enumerate(walkway())]
        again = PseudoSource("fast", frames, 10.0, kinds=["fast"], seed=(0,), density=0.5)
        assert all(np.array_equal(a.image, b.image) for a, b in zip(made("fast"), again, strict=True))
        assert not np.array_equal(made("fast").labels, made("fast", 1).labels)

    def test_without_perturbation_nothing_is_abnormal_and_the_same_objects_appear_at_the_same_times(self) -> None:
        unchanged, backwards = made(NORMAL), made("reversed")
        assert not unchanged.labels.any()
        alike = [np.array_equal(one.image, other.image) for one, other in zip(unchanged, backwards, strict=True)]
        assert alike == [not abnormal for abnormal in backwards.labels]

    def test_masked_pixels_differ_from_the_normal_video(self) -> None:
        source = made("displaced")
        differing = [
            float((np.abs(frame.image.astype(int) - plain).max(axis=2)[source.mask(frame.index)] > 3).mean())
            for frame, plain in zip(source, walkway(), strict=True)
            if source.mask(frame.index).sum() > 30
        ]
        assert np.mean(differing) > 0.5

    def test_a_scene_without_motion_has_no_anomalies(self) -> None:
        frames = [Frame(walkway()[0], i / 10, i) for i in range(60)]
        assert not PseudoSource("scene", frames, 10.0, kinds=["fast"], seed=(0,)).labels.any()


class TestHoldOut:
    @given(
        n_frames=st.lists(st.integers(1, 400), min_size=1, max_size=20),
        share=st.floats(0.05, 0.8),
        n_past=st.integers(2, 6),
    )
    @settings(deadline=None)
    def test_no_frame_is_in_both_parts_and_every_frame_in_one(
        self, n_frames: list[int], share: float, n_past: int
    ) -> None:
        trained, held_out = split_frames(n_frames, share, n_past)
        counted = [np.zeros(n, int) for n in n_frames]
        for number, part in (*trained, *held_out):
            counted[number][part] += 1
        assert all((count == 1).all() for count in counted)
        assert held_out

    def test_whole_videos_spread_evenly_where_there_are_enough(self) -> None:
        trained, held_out = split_frames([100] * 16, 0.2, 4)
        assert [number for number, _ in held_out] == [4, 10, 15]
        assert len(trained) == 13
        assert MIN_CALIBRATION_CLIPS <= 96 * 3


@pytest.fixture(scope="module")
def derived() -> tuple[Dataset, Sequence[LabelledSource]]:
    """A data set, and the videos that it has made."""
    dataset = open_any_dataset("pseudo:synthetic:seed=3,frames=80,training=10,testing=1,size=80x120,crowd=3")
    return dataset, dataset.testing()


class TestDataset:
    def test_anomalies_are_in_held_out_video_only(self) -> None:
        base = open_any_dataset(SCENE)
        trained, held_out = split_segments(base.training(), 0.2)
        assert all(segment.stop <= 96 for segment in trained)
        assert held_out == []
        with pytest.raises(DatasetError, match="long enough"):
            open_any_dataset(f"pseudo:{SCENE}").testing()

    def test_there_is_one_video_for_each_perturbation(self, derived: tuple[Dataset, Sequence[LabelledSource]]) -> None:
        dataset, videos = derived
        assert isinstance(dataset, Dataset)
        assert dataset.name == "pseudo"
        assert len({video.name for video in videos}) == len(videos) == 2 * (len(PERTURBATIONS) + 1)
        assert videos[0].name.startswith("normal-")
        assert videos[0].labels is not None
        assert not videos[0].labels.any()
        first = videos[1]
        assert first.name.startswith("fast-")
        assert first.labels is not None
        assert first.mask is not None
        assert len(first.labels) == first.n_frames == 80
        assert first.mask(0).shape == (240, 360)

    def test_long_video_is_cut_into_segments(self) -> None:
        videos = open_any_dataset("synthetic:frames=500,training=1,size=48x64").training()
        trained, held_out = split_segments(videos, 0.2)
        assert [(segment.start, segment.stop) for segment in trained] == [(0, 200), (200, 400)]
        assert [(segment.start, segment.stop) for segment in held_out] == [(400, 500)]
        assert MIN_FRAMES <= 100 <= TARGET_FRAMES

    def test_videos_that_training_skips_do_not_shift_what_is_held_out(self) -> None:
        videos = [LabelledSource(f"{i:02d}", f"nowhere/{i}", 3 if i == 3 else 100) for i in range(15)]
        held_out = {segment.video.name for segment in split_segments(videos, 0.2)[1]}
        rest = [video for video in videos if video.name != "03"]
        assert held_out == {rest[number].name for number, _ in split_frames([100] * 14, 0.2, 4)[1]}

    def test_a_missing_base_data_set_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="pseudo:KIND:PATH"):
            open_any_dataset("pseudo:somewhere")

    def test_it_is_a_derived_data_set_that_names_its_source_videos(
        self, derived: tuple[Dataset, Sequence[LabelledSource]]
    ) -> None:
        dataset, _ = derived
        assert isinstance(dataset, DerivedDataset)
        assert dataset.base == "synthetic"
        assert open_any_dataset("pseudo:synthetic:seed=3").source_videos == ()
        assert len(dataset.source_videos) == 2

    def test_other_kinds_are_opened_as_usual(self) -> None:
        assert open_any_dataset(SCENE).name == "synthetic"
        assert not isinstance(open_any_dataset(SCENE), DerivedDataset)
