"""Which false-alarm budgets the footage of a training supports, and how much footage a smaller one needs.

Ours, two rules. First, the alarms in normal video that a threshold is fitted on must be enough: a budget is supported while the
small-sample correction raises the tail probability of its threshold by less than `MAX_CORRECTION`. Second, extrapolation has a
limit: a budget is supported while the time between two of its alarms is at most `MAX_EXTRAPOLATION` times the footage.
So minutes support `10/h`, an hour supports `1/day`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from comemory.scoring.calibration import Calibration, parse_budget, small_sample_correction
from comemory.scoring.config import DEFAULT_FALSE_ALARMS
from comemory.scoring.tail import TAIL_START

MAX_CORRECTION = 4.0
"""Factor in tail probability. Corrected by more, a threshold is too high for what is obvious: with this factor a minute and a
half of a walkway supports a budget at which its trucks and cyclists are events."""

MAX_EXTRAPOLATION = 24.0
"""A day's budget needs an hour of footage: the tail is fitted on fractions of a second, but a day has quiet and busy hours."""

BUDGETS = (
    *("1/week", "2/week", "1/day", "2/day", "5/day", "10/day"),
    *("1/h", "2/h", "5/h", "10/h", "20/h", "50/h", "100/h", "200/h", "500/h", "1000/h"),
)
"""The budgets that are proposed, the fewest alarms first."""

GOALS = ("1/h", "1/day")
"""The budgets for which the needed footage is reported."""

TYPICAL_ALARMS_PER_HOUR = 200.0
"""Alarms an hour at the start of the tail, for footage that no model was trained on yet: three scenes had 150 to 575."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which budgets footage supports.

    Attributes:
        footage_s: its length, seconds.
        smallest_budget: the smallest of `BUDGETS` that it supports.
        needed_s: about how many seconds of footage support each goal that this footage does not support.
    """

    footage_s: float
    smallest_budget: str
    needed_s: Mapping[str, float]

    def __str__(self) -> str:
        """One sentence.

        >>> print(Coverage(93.0, "50/h", {"1/h": 500.0, "1/day": 3600.0}))
        1 min 33 s of normal footage: budgets down to 50/h; 1/h needs about 9 min, 1/day about 1 h
        """
        text = f"{duration(self.footage_s)} of normal footage: budgets down to {self.smallest_budget}"
        needs = [f"{budget} about {duration(seconds, rounded=True)}" for budget, seconds in self.needed_s.items()]
        return f"{text}; {', '.join(needs).replace(' about', ' needs about', 1)}" if needs else text


def coverage(calibration: Calibration, n_frames: int | None = None, goals: Sequence[str] = GOALS) -> Coverage:
    """Which budgets the footage of a calibration supports.

    Args:
        calibration: fitted on it.
        n_frames: of all footage; by default those that the calibration saw, which may be fewer.
        goals: budgets of interest.
    """
    footage_s = (n_frames or _n_counted(calibration)) / calibration.rate_hz
    smallest_budget = next((budget for budget in BUDGETS if is_supported(calibration, budget, footage_s)), BUDGETS[-1])
    missed = [goal for goal in goals if not is_supported(calibration, goal, footage_s)]
    return Coverage(footage_s, smallest_budget, {goal: _needed_s(calibration, goal, footage_s) for goal in missed})


def coverage_of_footage(footage_s: float) -> Coverage:
    """An estimate of what footage supports before a model is trained on it, from the alarms that other scenes had.

    >>> print(coverage_of_footage(180.0))
    3 min of normal footage: budgets down to 2/h; 1/h needs about 4 min, 1/day about 1 h
    """

    def is_enough(budget: str, seconds: float) -> bool:
        level = TAIL_START + math.log10(max(1.0, TYPICAL_ALARMS_PER_HOUR / parse_budget(budget)))
        n_alarms = max(1, round(TYPICAL_ALARMS_PER_HOUR * seconds / 3600))
        return _is_corrected_little(level, n_alarms) and _is_in_reach(budget, seconds)

    smallest_budget = next((budget for budget in BUDGETS if is_enough(budget, footage_s)), BUDGETS[-1])
    missed = [goal for goal in GOALS if not is_enough(goal, footage_s)]
    return Coverage(footage_s, smallest_budget, {goal: _lowest(partial(is_enough, goal), footage_s) for goal in missed})


def default_budget(calibration: Calibration, n_frames: int | None = None) -> str:
    """The false-alarm budget where the user gives none: `1/h`, or more alarms where the footage does not support that.

    Args:
        calibration: of the model.
        n_frames: see `coverage`.
    """
    found = coverage(calibration, n_frames).smallest_budget
    return found if parse_budget(found) > parse_budget(DEFAULT_FALSE_ALARMS) else DEFAULT_FALSE_ALARMS


def is_supported(calibration: Calibration, budget: str, footage_s: float) -> bool:
    """Whether footage of that length supports a budget, by the two rules above."""
    if calibration.n_alarms is None:
        return _is_in_reach(budget, footage_s)
    level = calibration.budget_level(budget)
    return _is_corrected_little(level, calibration.n_alarms) and _is_in_reach(budget, footage_s)


def _is_corrected_little(level: float, n_alarms: int) -> bool:
    return small_sample_correction(level, n_alarms) - level < math.log10(MAX_CORRECTION)


def _is_in_reach(budget: str, footage_s: float) -> bool:
    # A second is forgiven: an hour of footage at 29.97 frames per second may lack a frame.
    return 3600 / parse_budget(budget) <= MAX_EXTRAPOLATION * (footage_s + 1)


def _needed_s(calibration: Calibration, budget: str, footage_s: float) -> float:
    """About how much footage supports a budget, if it has as many alarms an hour as that of the calibration."""
    level, n_alarms = calibration.budget_level(budget), calibration.n_alarms

    def is_enough(seconds: float) -> bool:
        if not _is_in_reach(budget, seconds):
            return False
        return n_alarms is None or _is_corrected_little(level, max(1, round(n_alarms * seconds / footage_s)))

    return _lowest(is_enough, footage_s)


def _lowest(is_enough: Callable[[float], bool], start_s: float) -> float:
    """The lowest length of footage that is enough, within a tenth."""
    seconds = max(start_s, 1.0)
    while not is_enough(seconds) and seconds < 1e9:
        seconds *= 1.1
    return seconds


def _n_counted(calibration: Calibration) -> int:
    return calibration.n_frames + calibration.n_training_frames


def duration(seconds: float, *, rounded: bool = False) -> str:
    """A duration in words.

    Args:
        seconds: its length.
        rounded: up to a whole number of one unit, for estimates.

    >>> duration(7.24), duration(93.4), duration(3725), duration(180)
    ('7.2 s', '1 min 33 s', '1 h 2 min', '3 min')
    >>> duration(613, rounded=True), duration(3600, rounded=True), duration(5000, rounded=True)
    ('11 min', '1 h', '1.5 h')
    """
    if rounded:
        if seconds < 3540:
            return f"{max(1, math.ceil(seconds / 60 - 0.05))} min"
        return f"{math.ceil(2 * seconds / 3600 - 0.2) / 2:g} h"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    large, small = (f"{minutes} min", f"{rest} s") if minutes < 60 else (f"{minutes // 60} h", f"{minutes % 60} min")
    return large if small.startswith("0 ") else f"{large} {small}"
