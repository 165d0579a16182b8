"""Everything that is fitted on normal video, and the thresholds that follow from it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from comemory.config import Settings
from comemory.errors import ConfigError
from comemory.scoring.channels import parse_channel
from comemory.scoring.config import ScoringSettings
from comemory.scoring.spatial_baseline import DIRECTIONAL, NORMALISED, SpatialBaseline, normalise
from comemory.scoring.tail import TAIL_START, TailScale, compress, expand
from comemory.types import Evidence

FEW_ALARMS = 30
"""Below this many alarms on normal video, the small-sample correction raises the 1/h threshold by a factor of two or
more in tail probability."""


class Calibration(Settings):
    """Everything that is fitted on normal video; it is part of the bundle.

    Attributes:
        settings: the scoring settings it was fitted for.
        scales: of each channel by name, and of the whole score by the name `score`.
        weights: of each channel in a sum, see `weights.fit_weight`.
        spatial_baselines: by name of evidence, for the channels that are normalised by one.
        w_flow: w_F of the thesis' Eq. (18): one over the mean flow error on held-out normal frames; None where the model
            does not give both errors.
        w_frame: w_I of the thesis' Eq. (17), the same for the frame error.
        rate_hz: frames per second of the normal video.
        frames_per_alarm: mean number of normal frames above the threshold that belong to one alarm.
        n_alarms: alarms on normal video that the tail of the score is known from; None where they were not counted,
            and thresholds then get no small-sample correction.
        n_frames: held-out normal frames that the scales were fitted on.
        n_training_frames: frames of the training video that the score's scale and the alarm count used as well.
        static_threshold: grey levels by which a block of a static scene may change, see `clips.static_gate`; None where
            it was not measured.
    """

    settings: ScoringSettings
    scales: dict[str, TailScale]
    weights: dict[str, float] = Field(default_factory=dict)
    spatial_baselines: dict[str, SpatialBaseline] = Field(default_factory=dict)
    w_flow: float | None = Field(None, gt=0)
    w_frame: float | None = Field(None, gt=0)
    rate_hz: float = Field(ge=1e-6, le=1e6)
    frames_per_alarm: float = Field(ge=1, le=1e9)
    n_alarms: int | None = Field(None, ge=1, le=10**9)
    n_frames: int = Field(ge=1)
    n_training_frames: int = Field(0, ge=0)
    static_threshold: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _check_complete(self) -> Calibration:
        missing = {*self.settings.motion, *self.settings.appearance, "score"} - set(self.scales)
        if missing:
            raise ValueError(f"no scale was fitted for {', '.join(sorted(missing))}")
        if self.settings.is_sum and (missing := {*self.settings.motion, *self.settings.appearance} - set(self.weights)):
            raise ValueError(f"no weight was fitted for {', '.join(sorted(missing))}")
        if any(not 0 <= weight <= 1 for weight in self.weights.values()):
            raise ValueError("the weights of channels lie between 0 and 1")
        missing = needed_baselines(self.settings) - set(self.spatial_baselines)
        if missing:
            raise ValueError(f"no spatial baseline was fitted for {', '.join(sorted(missing))}")
        if self.settings.score == "thesis" and not self.has_thesis_score:
            raise ValueError("the thesis score needs the weights w_flow and w_frame, which were not fitted")
        return self

    @property
    def has_thesis_score(self) -> bool:
        """Whether Eq. (16) can be computed: the model gives both errors."""
        return self.w_flow is not None and self.w_frame is not None

    @property
    def thesis_weights(self) -> tuple[float, float]:
        """w_F and w_I of Eq. (16).

        Raises:
            ConfigError: the model does not give both errors.
        """
        if self.w_flow is None or self.w_frame is None:
            raise ConfigError("Eq. (16) needs flow_error and frame_error, which this model does not give")
        return self.w_flow, self.w_frame

    @property
    def small_sample_note(self) -> str | None:
        """One sentence where too little normal video makes the thresholds conservative, else None."""
        if self.n_alarms is None or self.n_alarms >= FEW_ALARMS:
            return None
        count = f"{self.n_alarms} alarm{'' if self.n_alarms == 1 else 's'}"
        return (
            f"the normal video gave only {count} to fit thresholds on, so they are conservative and miss events: "
            "calibrate on more normal video to lower them"
        )

    def normalise(self, maps: Mapping[str, NDArray[np.float32]]) -> Evidence:
        """The evidence of a clip from its raw maps, see `spatial_baseline.normalise`."""
        return normalise(maps, self.spatial_baselines)

    def level(self, channel: str, values: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """The level of a channel that counts in a sum: weighted, not compressed, and at least 0.

        A channel that is quieter than normal says nothing, so it cannot hide another one.
        """
        return np.asarray(self.weights[channel] * np.maximum(expand(self.scales[channel](values)), 0), np.float64)

    def calibrated(self, raw: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Put raw scores, of frames or of places, on the scale of the score: -log10 of the share of normal frames above."""
        levels = expand_scores(raw, self.settings)
        return self.scales["score"](float(levels) if isinstance(raw, float) else levels)

    def threshold(self, false_alarms: str) -> float:
        """The score that normal video passes as often as the budget allows.

        Ours: one normal frame in 10 ** s has a score of s or more, and `frames_per_alarm` such frames make one alarm.
        `small_sample_correction` then raises the threshold by how uncertain the tail is.

        Args:
            false_alarms: the budget; see `parse_budget`.

        Raises:
            ConfigError: the budget cannot be read.
        """
        level = self.budget_level(false_alarms)
        return compress(level if self.n_alarms is None else small_sample_correction(level, self.n_alarms))

    def budget_level(self, false_alarms: str) -> float:
        """-log10 of the share of normal frames that may score higher under a budget, before any correction."""
        frames_per_hour = self.rate_hz * 3600
        return max(0.0, math.log10(frames_per_hour / (parse_budget(false_alarms) * self.frames_per_alarm)))


def small_sample_correction(level: float, n_alarms: int) -> float:
    """Raise a level of a fitted tail so that a new alarm passes it once in 10 ** `level`.

    Ours: take an exponential tail whose mean excess m was estimated from n values. Over all that these n values might
    have been, a new value exceeds x with probability (1 + x / (n m)) ** -n. For large n that is the exponential itself;
    for small n the tail is heavier, because the mean may have come out too small.

    >>> round(small_sample_correction(4.0, 10), 2), round(small_sample_correction(4.0, 1000), 2)
    (5.32, 4.01)
    >>> small_sample_correction(0.5, 1)  # below the tail frames were counted: nothing to correct
    0.5
    """
    if level <= TAIL_START:
        return level
    return TAIL_START + n_alarms * math.expm1((level - TAIL_START) * math.log(10) / n_alarms) / math.log(10)


def parse_budget(text: str) -> float:
    """Convert `N/min`, `N/h`, `N/day` or `N/week` to false alarms an hour.

    Raises:
        ConfigError: the text has another form, or lies outside of what a threshold can achieve (1e-9 to 1e9 an hour).

    >>> parse_budget("2/day") * 24
    2.0
    """
    hours = {"min": 1 / 60, "h": 1.0, "hour": 1.0, "day": 24.0, "d": 24.0, "week": 168.0}
    number, slash, unit = text.partition("/") if isinstance(text, str) else ("", "", "")
    try:
        count = float(number)
    except ValueError:
        count = math.nan
    hourly = count / hours.get(unit.strip(), math.nan)
    if not slash or not 1e-9 <= hourly <= 1e9:
        raise ConfigError(
            f"cannot read the false-alarm budget {text!r}: expected a positive number and a unit, such as 1/h or 2/day"
        )
    return hourly


def expand_scores(raw: float | NDArray[np.float64], settings: ScoringSettings) -> NDArray[np.float64]:
    """Raw scores in log10 units, before compression; a sum and Eq. (16) are not compressed and stay as they are.

    The levels were compressed before the penalty was subtracted, so what all channels lost is put back meanwhile.
    """
    if settings.is_sum or settings.score == "thesis":
        return np.asarray(raw, np.float64)
    common = settings.common_penalty
    return expand(raw + common) - common


def needed_baselines(settings: ScoringSettings) -> set[str]:
    """Names of the spatial baselines that the channels need: of evidence, or `DIRECTIONAL`."""
    names = {parse_channel(channel)[0] for channel in (*settings.motion, *settings.appearance)}
    directional = {DIRECTIONAL} if "directional_speed" in names else set()
    return {NORMALISED[name] for name in names & set(NORMALISED)} | directional


def evidence_to_normalise(settings: ScoringSettings) -> set[str]:
    """Names of the evidence that the spatial baselines are fitted on."""
    return {"flow_mean" if name == DIRECTIONAL else name for name in needed_baselines(settings)}
