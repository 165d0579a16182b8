"""The sum of weighted channels."""

from __future__ import annotations

import numpy as np
import pytest
from scoring.samples import FRAMES, video

from comemory.scoring import Calibration, Scorer, ScoringSettings, fit_calibration, normalise, score_map
from comemory.scoring.channels import find_peak
from comemory.scoring.tail import expand
from comemory.types import CELL

SETTINGS = ScoringSettings(fusion="sum", motion=("flow_speed:12", "agitation:12"), appearance=("frame_error:16",))


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    return fit_calibration([video(1, 60), video(2, 40)], SETTINGS, 25.0, training_videos=[video(3, 50)])


def evidence(calibration: Calibration, frame: int) -> dict[str, np.ndarray]:
    return dict(normalise(FRAMES[frame], calibration.spatial_baselines).maps)


def test_the_raw_score_is_the_weighted_sum_of_the_levels(fitted: Calibration) -> None:
    scorer = Scorer(fitted)
    for number in range(5):
        maps = evidence(fitted, number)
        parts = scorer.update(fitted.normalise(FRAMES[number]))
        levels = [
            fitted.weights[channel]
            * max(0.0, float(expand(float(fitted.scales[channel](find_peak(maps, channel).value)))))
            for channel in (*SETTINGS.motion, *SETTINGS.appearance)
        ]
        assert parts.uncalibrated == pytest.approx(sum(levels))
        assert parts.uncalibrated == pytest.approx(parts.motion + parts.appearance)


def test_every_channel_has_a_weight_between_0_and_1(fitted: Calibration) -> None:
    assert set(fitted.weights) == {*SETTINGS.motion, *SETTINGS.appearance}
    assert all(0 <= weight <= 1 for weight in fitted.weights.values())


def test_a_sum_without_weights_is_refused(fitted: Calibration) -> None:
    values = fitted.model_dump()
    with pytest.raises(ValueError, match="no weight was fitted for agitation:12"):
        Calibration.model_validate(
            {**values, "weights": {k: v for k, v in values["weights"].items() if k != "agitation:12"}}
        )
    with pytest.raises(ValueError, match="between 0 and 1"):
        Calibration.model_validate({**values, "weights": {**values["weights"], "agitation:12": 2.0}})


def test_measured_channels_are_fitted_on_the_training_video_too_and_learned_ones_are_not() -> None:
    videos = [video(1, 60), video(2, 40)]
    without = fit_calibration(videos, SETTINGS, 25.0)
    with_training = fit_calibration(videos, SETTINGS, 25.0, training_videos=[video(3, 50)])
    assert without.scales["frame_error:16"] == with_training.scales["frame_error:16"]
    assert without.scales["flow_speed:12"] != with_training.scales["flow_speed:12"]


def test_the_score_map_is_on_the_scale_of_the_score(fitted: Calibration) -> None:
    whole = fitted.normalise(FRAMES[0])
    finest = max(maps.shape[-1] for maps in whole.maps.values() if maps.ndim == 4)
    height = next(maps.shape[-2] for maps in whole.maps.values() if maps.ndim == 4 and maps.shape[-1] == finest)
    found = score_map(whole, fitted, height * CELL, finest * CELL)
    assert found.max() <= Scorer(fitted).update(whole).value + 1e-5
    assert np.isfinite(found).all()
