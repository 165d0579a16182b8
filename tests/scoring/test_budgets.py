"""Which false-alarm budgets footage holds, and how much a smaller one needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comemory.scoring import Calibration, ScoringSettings, parse_budget
from comemory.scoring.budgets import BUDGETS, coverage, coverage_of_footage, default_budget, is_supported
from comemory.scoring.tail import TailScale

SCALE = TailScale(knots=(0.0, 1.0), levels=(0.0, 1.0), excess=1.0)


def calibration(n_alarms: int | None, minutes: float, rate_hz: float = 10.0) -> Calibration:
    settings = ScoringSettings(motion=["flow_speed:4"], appearance=[], fusion="maximum")
    return Calibration(
        settings=settings,
        scales={"flow_speed:4": SCALE, "score": SCALE},
        rate_hz=rate_hz,
        frames_per_alarm=7.0,
        n_alarms=n_alarms,
        n_frames=max(1, round(minutes * 60 * rate_hz)),
    )


def test_minutes_hold_alarms_an_hour_and_an_hour_holds_one_a_day() -> None:
    minutes, hour = coverage(calibration(6, 1.55)), coverage(calibration(300, 60))
    assert minutes.footage_s == pytest.approx(93)
    assert 2 <= parse_budget(minutes.smallest_budget) <= 20
    assert list(minutes.needed_s) == ["1/h", "1/day"]
    assert minutes.needed_s["1/day"] == pytest.approx(3600, rel=0.1)
    assert (hour.smallest_budget, hour.needed_s) == ("1/day", {})


def test_default_budget_follows_the_footage_but_is_never_below_one_an_hour() -> None:
    assert default_budget(calibration(300, 60)) == "1/h"
    short = calibration(4, 1)
    assert default_budget(short) == coverage(short).smallest_budget
    assert parse_budget(default_budget(short)) > 1


def test_alarms_that_were_not_counted_leave_the_length_of_the_footage() -> None:
    assert coverage(calibration(None, 60)).smallest_budget == "1/day"


@given(st.integers(1, 500), st.floats(0.2, 3000))
def test_budgets_are_held_from_one_on(n_alarms: int, minutes: float) -> None:
    """If a budget is held, so are all larger ones; and what is said to be needed is enough."""
    fitted = calibration(n_alarms, minutes)
    found = coverage(fitted)
    held = [is_supported(fitted, budget, found.footage_s) for budget in BUDGETS]
    assert held == sorted(held)
    for budget, seconds in found.needed_s.items():
        assert not is_supported(fitted, budget, found.footage_s)
        more = fitted.model_copy(update={"n_alarms": max(1, round(n_alarms * seconds / found.footage_s))})
        assert is_supported(more, budget, seconds)


@given(st.floats(1, 1e7), st.floats(1, 10))
def test_more_footage_never_holds_less(seconds: float, factor: float) -> None:
    less, more = coverage_of_footage(seconds), coverage_of_footage(seconds * factor)
    assert parse_budget(more.smallest_budget) <= parse_budget(less.smallest_budget)
