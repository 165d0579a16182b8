"""Evidence to scores, frame by frame."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring.samples import (
    CALIBRATIONS,
    FRAMES,
    calibration,
    update,
    video,
)

from comemory.scoring import (
    Scorer,
    find_peak,
    fuse_parts,
    normalise,
    thesis_parts,
    thesis_peak,
)


class TestScorer:
    @settings(deadline=None, max_examples=20)
    @given(
        k=st.integers(0, 12), smoothing=st.sampled_from([0.0, 0.5, 0.9]), score=st.sampled_from(["comemory", "thesis"])
    )
    def test_the_first_k_frames_give_the_first_k_values(self, k: int, smoothing: float, score: str) -> None:
        fitted = CALIBRATIONS[smoothing, score]
        frames = FRAMES
        whole, part = Scorer(fitted), Scorer(fitted)
        assert [update(part, maps) for maps in frames[:k]] == [update(whole, maps) for maps in frames][:k]

    def test_reset_forgets_the_average(self) -> None:
        scorer = Scorer(CALIBRATIONS[0.9, "comemory"])
        first = [update(scorer, maps) for maps in FRAMES[:3]]
        scorer.reset()
        assert [update(scorer, maps) for maps in FRAMES[:3]] == first

    def test_smoothing_is_the_moving_average_of_the_raw_scores(self) -> None:
        plain, smooth = Scorer(CALIBRATIONS[0.0, "comemory"]), Scorer(CALIBRATIONS[0.5, "comemory"])
        past = math.exp(-1 / (0.5 * smooth.calibration.rate_hz))
        average = None
        for maps in FRAMES:
            parts, smoothed = update(plain, maps), update(smooth, maps)
            raw = fuse_parts(parts.motion, parts.appearance, plain.calibration.settings)
            average = raw if average is None else past * average + (1 - past) * raw
            assert smoothed.value == pytest.approx(float(smooth.calibration.calibrated(average)))
            assert (smoothed.motion, smoothed.appearance) == (parts.motion, parts.appearance)

    def test_the_box_belongs_to_the_higher_part(self) -> None:
        scorer = Scorer(CALIBRATIONS[0.0, "comemory"])
        for maps in FRAMES:
            parts = update(scorer, maps)
            spec, scales = scorer.calibration.settings, scorer.calibration.scales
            worse = spec.motion if parts.motion >= parts.appearance else spec.appearance
            whole = normalise(maps, scorer.calibration.spatial_baselines).maps
            highest = max(worse, key=lambda c: float(scales[c](find_peak(whole, c).value)) - spec.penalty(c))
            assert parts.box == find_peak(whole, highest).box

    def test_a_part_is_the_maximum_of_its_penalised_channels(self) -> None:
        channels = ("flow_speed:8", "flow_residual:16", "motion_distance:16")
        fitted = calibration(motion=channels, appearance=(), motion_penalty=0.3)
        scorer = Scorer(fitted)
        winners = set()
        for maps in FRAMES:
            levels = {c: float(fitted.scales[c](find_peak(maps, c).value)) for c in channels}
            held_back = {c: level - (0 if c == "flow_speed:8" else 0.3) for c, level in levels.items()}
            parts = update(scorer, maps)
            winner = max(held_back, key=held_back.__getitem__)
            winners.add(winner)
            assert parts.motion == pytest.approx(held_back[winner])
            assert parts.box == find_peak(maps, winner).box
        assert len(winners) > 1

    def test_the_score_is_the_higher_part(self) -> None:
        fitted = calibration(appearance_penalty=0.5)
        scorer = Scorer(fitted)
        for maps in FRAMES:
            parts = update(scorer, maps)
            whole = fitted.calibrated(max(parts.motion, parts.appearance))
            assert parts.value == pytest.approx(float(whole))

    @pytest.mark.parametrize("empty", ["motion", "appearance"])
    def test_a_part_without_channels_does_not_count(self, empty: str) -> None:
        fitted = calibration(**{empty: (), "appearance" if empty == "motion" else "motion": ("frame_error:8",)})
        scorer = Scorer(fitted)
        calm = {name: np.full_like(maps, 1e-6) for name, maps in FRAMES[0].items()}
        values = []
        for factor in (1.0, 2.0, 3.0):
            parts = update(scorer, {name: maps * np.float32(factor) for name, maps in calm.items()})
            assert getattr(parts, empty) == 0
            assert parts.box == (0, 0, 8, 8)
            values.append(parts.value)
        assert values == sorted(set(values)), "quieter than all normal frames, still in order"


class TestThesisScore:
    def test_the_thesis_score_is_eq_16_calibrated(self) -> None:
        scorer = Scorer(calibration(score="thesis"))
        fitted = scorer.calibration
        for maps in video(6, 5, scale=3.0):
            evidence = normalise(maps, fitted.spatial_baselines)
            parts, raw = scorer.update(evidence), thesis_peak(evidence, fitted)
            assert parts.uncalibrated == raw.value
            assert parts.value == pytest.approx(float(fitted.scales["score"](raw.value)))
            assert parts.box == raw.box == thesis_parts(maps)[0].box
