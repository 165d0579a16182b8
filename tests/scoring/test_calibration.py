"""Budgets, thresholds, and what a calibration must hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scoring.samples import (
    CALIBRATION,
    calibration,
)

from comemory.errors import ConfigError
from comemory.scoring import (
    Calibration,
    parse_budget,
)
from comemory.scoring.calibration import small_sample_correction
from comemory.scoring.tail import compress


class TestBudget:
    @pytest.mark.parametrize(
        ("text", "hourly"),
        [
            *(("1/h", 1), ("2/day", 2 / 24), ("0.5/hour", 0.5), ("3/d", 3 / 24), ("7/week", 7 / 168), ("1/min", 60)),
            *((" 4 / h ", 4), ("1e-3/h", 1e-3)),
        ],
    )
    def test_what_it_accepts(self, text: str, hourly: float) -> None:
        assert parse_budget(text) == pytest.approx(hourly)

    @pytest.mark.parametrize(
        "text",
        [
            *("", "1", "/h", "1/", "0/h", "-1/h", "nan/h", "inf/h", "1/hours", "1/h/h", "one/h", "h/1", "1//h"),
            *("1/month", "1e-323/week", "1e308/min", "1e400/h", "1e-30/h"),
        ],
    )
    def test_what_it_refuses(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"false-alarm budget .* such as 1/h or 2/day"):
            parse_budget(text)

    @given(st.text(max_size=12) | st.from_regex(r"-?[0-9.e_-]{1,12}/(min|h|hour|day|d|week)", fullmatch=True))
    def test_any_text_is_a_positive_number_or_a_config_error(self, text: str) -> None:
        try:
            hourly = parse_budget(text)
        except ConfigError:
            return
        assert math.isfinite(hourly)
        assert hourly > 0

    @settings(deadline=None, max_examples=50)
    @given(one=st.floats(1e-8, 1e8), other=st.floats(1e-8, 1e8))
    def test_a_larger_budget_never_has_a_higher_threshold(self, one: float, other: float) -> None:
        fitted = CALIBRATION
        low, high = sorted((one, other))
        assert fitted.threshold(f"{high}/h") <= fitted.threshold(f"{low}/h")
        assert fitted.threshold(f"{low}/h") >= 0

    @pytest.mark.parametrize("n_alarms", [None, 10**9])
    def test_with_many_alarms_ten_times_the_budget_is_one_log10_unit(self, n_alarms: int | None) -> None:
        fitted = CALIBRATION.model_copy(update={"n_alarms": n_alarms})
        assert fitted.threshold("1/h") - fitted.threshold("10/h") == pytest.approx(1.0)
        assert fitted.threshold("1/h") == pytest.approx(math.log10(25 * 3600 / fitted.frames_per_alarm))

    @given(level=st.floats(0, 12), n_alarms=st.integers(1, 10**6))
    def test_fewer_alarms_give_a_higher_threshold(self, level: float, n_alarms: int) -> None:
        few, more = small_sample_correction(level, n_alarms), small_sample_correction(level, n_alarms + 1)
        assert few >= more - 1e-9 * abs(more)
        assert more >= level - 1e-9
        assert math.isfinite(few)

    @pytest.mark.parametrize("n_alarms", [1, 3, 10, 40])
    def test_the_corrected_level_is_passed_as_often_as_promised(self, n_alarms: int) -> None:
        """Over many calibrations on so many exponential values each, and as many new values for each of them."""
        rng = np.random.default_rng(n_alarms)
        mean = rng.exponential(1.0, (40_000, n_alarms)).mean(axis=1)
        for exponent in (1, 2):
            passed = small_sample_correction(1.0 + exponent, n_alarms) - 1.0
            chance = np.exp(-passed * math.log(10) * mean).mean()
            assert chance == pytest.approx(10.0**-exponent, rel=0.1)

    @pytest.mark.parametrize(
        ("n_alarms", "said"),
        [(None, None), (30, None), (29, "gave only 29 alarms"), (1, "gave only 1 alarm to")],
    )
    def test_few_alarms_give_a_caution(self, n_alarms: int | None, said: str | None) -> None:
        caution = CALIBRATION.model_copy(update={"n_alarms": n_alarms}).small_sample_note
        assert (caution is None) if said is None else (caution is not None and said in caution)

    def test_thresholds_beyond_the_linear_limit_are_compressed(self) -> None:
        fitted = CALIBRATION.model_copy(update={"n_alarms": None, "frames_per_alarm": 1.0})
        for budget, level in (("9e4/h", 0.0), ("0.9/h", 5.0), ("0.09/h", 6.0), ("9e-9/h", 13.0)):
            assert fitted.threshold(budget) == pytest.approx(compress(level))
        scale = fitted.scales["score"]
        assert float(scale(scale.value_at(13.0))) == pytest.approx(compress(13.0))
        assert float(scale(scale.value_at(3.0))) == pytest.approx(3.0)


class TestCalibration:
    def test_json_and_back_is_the_same_scale_bit_for_bit(self) -> None:
        fitted = calibration()
        again = Calibration.model_validate_json(fitted.model_dump_json())
        assert again == fitted
        probes = np.random.default_rng(0).gamma(2.0, 1.0, 1000)
        assert np.array_equal(again.scales["frame_error:32"](probes), fitted.scales["frame_error:32"](probes))

    def test_a_missing_scale_is_refused(self) -> None:
        values = CALIBRATION.model_dump()
        del values["scales"]["score"]
        with pytest.raises(ValidationError, match="no scale was fitted for score"):
            Calibration.model_validate(values)
