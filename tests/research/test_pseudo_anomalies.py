"""Pseudo-anomalies: cut out of ordinary video, put where they do not belong, labelled where they are."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory.datasets import open_dataset
from comemory.errors import ConfigError, DatasetError
from comemory.research.pseudo_anomalies.footage import PseudoSource
from comemory.research.pseudo_anomalies.objects import Cutout, background, cutouts, paste, tubes
from comemory.research.pseudo_anomalies.perturbations import ACTS, USUAL, usual
from comemory.research.pseudo_anomalies.segments import FRAMES, SHORTEST, Stretch, stretches
from comemory.training.split import LEAST, hold_out
from comemory.types import Dataset, Frame, LabelledSource

SCENE = "synthetic:seed=3,frames=120,training=3,testing=1,size=120x180,crowd=5"


@cache
def walkway() -> tuple[NDArray[np.uint8], ...]:
    video = open_dataset(SCENE).training()[0]
    return tuple(frame.image for frame in Stretch(video, 0, 100))


@cache
def made(kind: str, seed: int = 0) -> PseudoSource:
    frames = [Frame(image, i / 10, i) for i, image in enumerate(walkway())]
    return PseudoSource(kind, frames, 10.0, kinds=[kind], seed=(seed,), density=0.5)


def disc(x: int, y: int, size: tuple[int, int] = (60, 90)) -> NDArray[np.uint8]:
    rows, columns = np.indices(size)
    picture = np.full((*size, 3), 100, np.uint8)
    picture[(rows - y) ** 2 + (columns - x) ** 2 <= 25] = 220
    return picture


class TestObjects:
    def test_a_disc_is_cut_out_where_it_is(self) -> None:
        still = disc(-50, -50)
        (found,) = cutouts(disc(40, 30), still)
        assert found.centre == pytest.approx((40.5, 30.5), abs=1.5)
        assert 60 <= found.alpha.sum() <= 160
        assert cutouts(still, still) == []

    def test_what_touches_the_border_is_left_out(self) -> None:
        assert cutouts(disc(3, 30), disc(-50, -50)) == []

    def test_the_background_is_what_most_frames_show(self) -> None:
        frames = np.stack([disc(10 + 3 * i, 30) for i in range(24)])
        assert np.array_equal(background(frames), disc(-50, -50))

    def test_a_moving_disc_is_followed_and_two_are_kept_apart(self) -> None:
        still = disc(-50, -50)
        pictures = [np.maximum(disc(20 + i, 15), disc(70 - i, 45)) for i in range(20)]
        found = tubes([cutouts(picture, still) for picture in pictures], 20)
        assert len(found) == 2
        for tube in found:
            steps = {round(b.centre[0] - a.centre[0]) for a, b in pairwise(tube)}
            assert steps in ({1}, {-1})

    def test_pasting_covers_what_it_says_and_nothing_else(self) -> None:
        still = disc(-50, -50)
        (cut,) = cutouts(disc(40, 30), still)
        picture = still.copy()
        covered = paste(picture, cut, 60, 20)
        changed = (picture != still).any(axis=2)
        assert covered.any()
        assert (changed & ~covered).sum() < covered.sum()
        rows, columns = np.nonzero(covered)
        assert (columns.mean(), rows.mean()) == pytest.approx((60, 20), abs=1)

    def test_a_cut_out_pasted_where_it_was_changes_nothing(self) -> None:
        rng = np.random.default_rng(0)
        picture = rng.integers(0, 255, (60, 90, 3)).astype(np.uint8)
        cut = Cutout(40, 20, picture[20:33, 40:50].copy(), np.ones((13, 10), np.float32))
        again = picture.copy()
        covered = paste(again, cut, *cut.centre)
        assert np.array_equal(again, picture)
        assert covered[20:33, 40:50].all()
        assert covered.sum() == 13 * 10

    def test_pasting_outside_of_the_picture_changes_nothing(self) -> None:
        still = disc(-50, -50)
        (cut,) = cutouts(disc(40, 30), still)
        picture = still.copy()
        assert not paste(picture, cut, 500, 500).any()
        assert np.array_equal(picture, still)


TUBE = [Cutout(10 + 2 * i, 20, np.zeros((9, 5, 3), np.uint8), np.ones((9, 5), np.float32)) for i in range(48)]


class TestActs:
    @pytest.mark.parametrize("kind", ACTS)
    @given(seed=st.integers(0, 50))
    @settings(deadline=None, max_examples=10)
    def test_every_act_has_steps_of_the_object(self, kind: str, seed: int) -> None:
        steps = ACTS[kind](TUBE, 48, (120, 180), np.random.default_rng(seed))
        assert 1 <= len(steps) <= 48
        assert all(any(step.cut is cut for cut in TUBE) for step in steps)
        assert all(np.isfinite((step.x, step.y, step.scale)).all() and step.scale > 0 for step in steps)

    def test_each_breaks_what_it_says(self) -> None:
        rng = np.random.default_rng(0)
        acts = {kind: act(TUBE, 48, (120, 180), rng) for kind, act in ACTS.items()}

        def paces(kind: str) -> tuple[float, float]:
            steps = acts[kind]
            return (
                float(np.mean([b.x - a.x for a, b in pairwise(steps)])),
                float(np.mean([b.y - a.y for a, b in pairwise(steps)])),
            )

        assert usual(TUBE, 48, (120, 180), rng)[5][1:3] == TUBE[5].centre
        assert paces("fast")[0] >= 4
        assert paces("reversed") == pytest.approx((-2, 0))
        assert abs(paces("sideways")[1]) == pytest.approx(2)
        assert paces("frozen") == (0, 0)
        assert len({id(step.cut) for step in acts["glide"]}) == 1
        assert acts["resized"][0].scale >= 1.6
        assert paces("displaced") == pytest.approx((2, 0))


class TestFootage:
    @pytest.mark.parametrize("kind", ACTS)
    def test_labels_are_those_of_the_masks(self, kind: str) -> None:
        source = made(kind)
        labels = source.labels
        assert labels.shape == (100,)
        assert labels.any()
        assert [bool(source.mask(i).any()) for i in range(100)] == labels.tolist()

    def test_the_same_seed_is_the_same_video_and_another_another(self) -> None:
        frames = [Frame(image, i / 10, i) for i, image in enumerate(walkway())]
        again = PseudoSource("fast", frames, 10.0, kinds=["fast"], seed=(0,), density=0.5)
        assert all(np.array_equal(a.image, b.image) for a, b in zip(made("fast"), again, strict=True))
        assert not np.array_equal(made("fast").labels, made("fast", 1).labels)

    def test_as_usual_nothing_is_odd_and_the_same_objects_are_there_at_the_same_times(self) -> None:
        ordinary, backwards = made(USUAL), made("reversed")
        assert not ordinary.labels.any()
        alike = [np.array_equal(one.image, other.image) for one, other in zip(ordinary, backwards, strict=True)]
        assert alike == [not odd for odd in backwards.labels]

    def test_what_is_marked_differs_from_the_ordinary_video(self) -> None:
        source = made("displaced")
        differing = [
            float((np.abs(frame.image.astype(int) - plain).max(axis=2)[source.mask(frame.index)] > 3).mean())
            for frame, plain in zip(source, walkway(), strict=True)
            if source.mask(frame.index).sum() > 30
        ]
        assert np.mean(differing) > 0.5

    def test_a_scene_in_which_nothing_moves_has_no_acts(self) -> None:
        frames = [Frame(walkway()[0], i / 10, i) for i in range(60)]
        assert not PseudoSource("still", frames, 10.0, kinds=["fast"], seed=(0,)).labels.any()


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
        trained, held = hold_out(n_frames, share, n_past)
        counted = [np.zeros(n, int) for n in n_frames]
        for number, part in (*trained, *held):
            counted[number][part] += 1
        assert all((count == 1).all() for count in counted)
        assert held

    def test_whole_videos_spread_evenly_where_there_are_enough(self) -> None:
        trained, held = hold_out([100] * 16, 0.2, 4)
        assert [number for number, _ in held] == [4, 10, 15]
        assert len(trained) == 13
        assert LEAST <= 96 * 3


class TestDataset:
    def test_the_acts_are_in_held_out_video_alone(self) -> None:
        below = open_dataset(SCENE)
        trained, held = stretches(below.training(), 0.2)
        assert all(stretch.stop <= 96 for stretch in trained)
        assert held == []
        with pytest.raises(DatasetError, match="long enough"):
            open_dataset(f"pseudo:{SCENE}").testing()

    def test_one_video_for_each_kind(self) -> None:
        dataset = open_dataset("pseudo:synthetic:seed=3,frames=80,training=10,testing=1,size=120x180")
        assert isinstance(dataset, Dataset)
        assert dataset.name == "pseudo"
        videos = dataset.testing()
        assert len({video.name for video in videos}) == len(videos) == 2 * (len(ACTS) + 1)
        assert videos[0].name.startswith("usual-")
        assert videos[0].labels is not None
        assert not videos[0].labels.any()
        first = videos[1]
        assert first.name.startswith("fast-")
        assert first.labels is not None
        assert first.mask is not None
        assert len(first.labels) == first.n_frames == 80
        assert first.mask(0).shape == (240, 360)

    def test_long_video_is_cut_into_stretches(self) -> None:
        videos = open_dataset("synthetic:frames=500,training=1,size=48x64").training()
        trained, held = stretches(videos, 0.2)
        assert [(stretch.start, stretch.stop) for stretch in trained] == [(0, 200), (200, 400)]
        assert [(stretch.start, stretch.stop) for stretch in held] == [(400, 500)]
        assert SHORTEST <= 100 <= FRAMES

    def test_what_training_leaves_out_does_not_shift_what_is_held_out(self) -> None:
        videos = [LabelledSource(f"{i:02d}", f"nowhere/{i}", 3 if i == 3 else 100) for i in range(15)]
        held = {stretch.video.name for stretch in stretches(videos, 0.2)[1]}
        rest = [video for video in videos if video.name != "03"]
        assert held == {rest[number].name for number, _ in hold_out([100] * 14, 0.2, 4)[1]}

    def test_no_data_set_below_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="pseudo:KIND:PATH"):
            open_dataset("pseudo:somewhere")
