"""Calibrations fitted on normal video: what they promise, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError
from scoring.samples import (
    CALIBRATION,
    NOVELTY,
    SPEC,
    calibration,
    one_channel,
    scores,
    update,
    video,
)

from comemory.errors import ConfigError
from comemory.scoring import (
    Calibration,
    EventFinder,
    Scorer,
    ScoringSettings,
    fit_calibration,
    fit_tail_scale,
    thesis_parts,
)
from comemory.scoring.tail import expand


def bursts(rng: np.random.Generator, n_hours: float, rate_hz: float = 10.0) -> NDArray[np.float64]:
    """Calm frames, and every ten seconds or so somebody who passes for two seconds, each at a pace of his own."""
    n_frames = int(n_hours * 3600 * rate_hz)
    values = rng.exponential(0.02, n_frames)
    for start in np.flatnonzero(rng.random(n_frames) < 0.01):
        values[start : start + 20] += rng.exponential(1.0)
    return values


class TestNormalVideo:
    SPEED = ScoringSettings(motion=("flow_speed:8",), appearance=())

    def test_a_budget_holds_on_average_over_short_calibrations(self) -> None:
        """Each time on two and a half minutes, score_series for half an hour."""
        rng, alarms, hours = np.random.default_rng(5), 0, 0.0
        for _ in range(12):
            fitted = fit_calibration([one_channel(bursts(rng, 0.02)) for _ in range(2)], self.SPEED, 10.0)
            fresh = fitted.calibrated(fitted.scales["flow_speed:8"](math.sqrt(2) * bursts(rng, 0.5)))
            alarms += len(list(EventFinder("", fitted.threshold("60/h"), self.SPEED).run(scores(fresh, 10.0))))
            hours += 0.5
        assert 20 < alarms / hours < 120

    def test_a_quiet_held_out_part_does_not_set_the_scale(self) -> None:
        rng = np.random.default_rng(1)
        calm, busy = one_channel(rng.exponential(0.02, 300)), one_channel(rng.exponential(0.2, 1200))
        alone = fit_calibration([calm], self.SPEED, 10.0)
        both = fit_calibration([calm], self.SPEED, 10.0, training_videos=iter([iter(busy)]))
        assert (alone.n_frames, alone.n_training_frames, both.n_frames, both.n_training_frames) == (300, 0, 300, 1200)
        for fitted, least, most in ((alone, 0.7, 1.0), (both, 0.0, 0.2)):
            scorer = Scorer(fitted)
            assert least <= np.mean([update(scorer, maps).value > 1 for maps in busy]) <= most

    def test_training_video_never_lowers_thresholds(self) -> None:
        rng = np.random.default_rng(2)
        held, trained = one_channel(rng.exponential(0.2, 300)), one_channel(rng.exponential(0.05, 1200))
        alone = fit_calibration([held], self.SPEED, 10.0)
        both = fit_calibration([held], self.SPEED, 10.0, training_videos=[trained])
        assert both.scales == alone.scales

    @pytest.mark.parametrize("name", ["default", "thesis", "smoothed", "novelty", "speed"])
    def test_the_scale_is_fitted_on_the_scores_that_the_scorer_gives(self, name: str) -> None:
        settings_ = {
            "default": ScoringSettings(),
            "thesis": ScoringSettings(score="thesis"),
            "smoothed": ScoringSettings(smoothing_s=0.08),
            "novelty": NOVELTY,
            "speed": self.SPEED,
        }[name]
        frames = video(3, 60)
        fitted = fit_calibration([frames], settings_, 10.0)
        scorer = Scorer(fitted)
        raw = [update(scorer, maps).uncalibrated for maps in frames]
        assert fitted.scales["score"] == fit_tail_scale(raw if name == "thesis" else expand(np.array(raw)))


class TestFitCalibration:
    def test_only_the_descent_has_a_resolution(self) -> None:
        frames = [
            {name: np.full((1, 1, 4, 4), value, np.float32) for name in ("agitation", "descent")}
            for value in np.random.default_rng(0).exponential(0.01, 200)
        ]
        scoring = {"fusion": "sum", "motion": ("agitation:4", "descent:4"), "appearance": ()}
        plain, coarse = (
            fit_calibration([frames], ScoringSettings.model_validate({**scoring, "descent_resolution": r}), 10.0)
            for r in (0.0, 0.5)
        )
        assert plain.scales["descent:4"] == plain.scales["agitation:4"] == coarse.scales["agitation:4"]
        assert coarse.scales["descent:4"].excess == 0.5
        assert coarse.weights["descent:4"] != plain.weights["descent:4"], "judged by the same scale"

    def test_fewer_than_twenty_frames_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least 20 normal frames"):
            fit_calibration([video(0, 10), video(1, 9)], ScoringSettings(), 25.0)
        with pytest.raises(ConfigError, match="at least 20 normal frames"):
            fit_calibration([], ScoringSettings(), 25.0)

    def test_evidence_that_is_not_finite_is_refused(self) -> None:
        frames = video(0, 30)
        frames[3]["flow_error"][:] = np.nan
        with pytest.raises(ConfigError, match="mean error of normal frames is nan"):
            fit_calibration([frames], ScoringSettings(), 25.0)

    def test_every_channel_and_the_score_have_a_scale(self) -> None:
        fitted = calibration(motion=("flow_speed:8",), appearance=("frame_error:8", "motion_distance:16"))
        assert set(fitted.scales) == {"flow_speed:8", "frame_error:8", "motion_distance:16", "score"}
        assert fitted.n_frames == 100

    def test_the_order_of_videos_does_not_matter_to_the_scales(self) -> None:
        one, other = video(1, 30), video(2, 40)
        spec = ScoringSettings()
        assert fit_calibration([one, other], spec, 25.0).scales == fit_calibration([other, one], spec, 25.0).scales


class TestPromises:
    def test_the_budget_holds_on_new_normal_video(self) -> None:
        rng = np.random.default_rng(3)
        settings_ = ScoringSettings(min_frames=1, join_s=0)
        scale = fit_tail_scale(rng.exponential(1.0, 20_000))
        fitted = CALIBRATION.model_copy(
            update={
                "scales": {**CALIBRATION.scales, "score": scale},
                "frames_per_alarm": 1.0,
                "settings": settings_,
                "n_alarms": None,
            }
        )
        n_hours = 4
        values = scale(rng.exponential(1.0, n_hours * 25 * 3600))
        finder = EventFinder("", fitted.threshold("60/h"), settings_)
        events = list(finder.run(scores(values)))
        assert len(events) / n_hours == pytest.approx(60, rel=0.35)

    def test_thesis_weights_are_one_over_the_mean_of_normal_frames(self) -> None:
        frames = video(5, 30)
        fitted = fit_calibration([frames], ScoringSettings(), 25.0)
        parts = [thesis_parts(maps) for maps in frames]
        assert fitted.w_flow == pytest.approx(1 / np.mean([flow.value for flow, _ in parts]))
        assert fitted.w_frame == pytest.approx(1 / np.mean([frame for _, frame in parts]))

    def test_baselines_are_fitted_on_training_frames_or_given(self) -> None:
        trained = video(5, 30, scale=3.0)
        fitted = fit_calibration([video(1, 60)], NOVELTY, 25.0, baseline_frames=trained)
        other = fit_calibration([video(1, 60)], NOVELTY, 25.0)
        assert fitted.spatial_baselines != other.spatial_baselines
        again = fit_calibration([video(2, 60)], NOVELTY, 25.0, spatial_baselines=fitted.spatial_baselines)
        assert again.spatial_baselines == fitted.spatial_baselines
        with pytest.raises(ValidationError, match="no spatial baseline was fitted for appearance_distance"):
            Calibration.model_validate({**fitted.model_dump(), "spatial_baselines": {}})

    def test_normal_video_gets_the_scores_that_its_calibration_promises(self) -> None:
        fitted = fit_calibration([video(seed, 500) for seed in range(4)], SPEC, 25.0)
        scorer = Scorer(fitted)
        values = np.array([update(scorer, maps).value for maps in video(99, 1000)])
        assert (values > 1).mean() == pytest.approx(0.1, abs=0.035)
        assert (values > 0.301).mean() == pytest.approx(0.5, abs=0.06)
