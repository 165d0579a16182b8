"""All that ordinary video decides, and the judge that applies it frame by frame."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from comemory.config_model import Settings
from comemory.errors import ConfigError
from comemory.scoring.channels import Keep, Peak, parse_channel, peak, thesis_parts, thesis_score
from comemory.scoring.config import DecisionSettings
from comemory.scoring.spatial_baseline import RELATIVE, UsualLevels, with_relative
from comemory.scoring.tail import TAIL, TailScale, compressed, spread_out
from comemory.types import Box

FEW_ALARMS = 30
"""Ordinary alarms under which the threshold of one an hour is a third of a decade and more above that of a tail that is known."""


class Calibration(Settings):
    """All that ordinary video decides: it goes into the bundle.

    Attributes:
        settings: the decision's.
        scales: of each channel; and of `score`, the whole.
        usual: by name of evidence, what is usual at each place, for the channels that are measured by it.
        w_flow, w_frame: w_F and w_I of Eq. (17), (18): one over the mean on held-out ordinary frames.
        rate_hz: frames per second of the ordinary video.
        frames_per_alarm: ordinary frames above a threshold that belong to one alarm, on average.
        n_alarms: ordinary alarms that the tail of the score is known from; None where they were not counted, as before
            there was such a count: the tail is then taken for known.
        n_frames: ordinary frames the scales were fitted on, none of them trained on.
        n_seen: frames trained on that the score's own scale and the alarms were taken from too.
        still: grey levels that a block of a still scene may change by, see `video.still`; None where it was not measured.
    """

    settings: DecisionSettings
    scales: dict[str, TailScale]
    usual: dict[str, UsualLevels] = Field(default_factory=dict)
    w_flow: float = Field(gt=0)
    w_frame: float = Field(gt=0)
    rate_hz: float = Field(ge=1e-6, le=1e6)
    frames_per_alarm: float = Field(ge=1, le=1e9)
    n_alarms: int | None = Field(None, ge=1, le=10**9)
    n_frames: int = Field(ge=1)
    n_seen: int = Field(0, ge=0)
    still: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> Calibration:
        missing = {*self.settings.motion, *self.settings.appearance, "score"} - set(self.scales)
        if missing:
            raise ValueError(f"no scale was fitted for {', '.join(sorted(missing))}")
        blind = needed_evidence(self.settings) - set(self.usual)
        if blind:
            raise ValueError(f"nothing is known of what is usual for {', '.join(sorted(blind))}")
        return self

    @property
    def caution(self) -> str | None:
        """One sentence where the thresholds are careful for want of ordinary video, else None."""
        if self.n_alarms is None or self.n_alarms >= FEW_ALARMS:
            return None
        known = f"{self.n_alarms} ordinary alarm{'' if self.n_alarms == 1 else 's'}"
        return f"how often a score is passed is known from {known} alone: thresholds are careful, more video makes them bolder"

    def scaled(self, raw: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """Scores on the scale of ordinary frames, from those before it: of frames or of places."""
        decades = unscaled(raw, self.settings)
        return self.scales["score"](float(decades) if isinstance(raw, float) else decades)

    def threshold(self, false_alarms: str) -> float:
        """The score that ordinary video passes as often as the budget allows; see `parse_budget`.

        Ours: a score of s is passed by one ordinary frame in 10 ** s, `frames_per_alarm` such frames make one alarm, and
        the fewer alarms the tail is known from, the farther it may reach; see `careful`.
        """
        frames_per_hour = self.rate_hz * 3600
        level = max(0.0, math.log10(frames_per_hour / (parse_budget(false_alarms) * self.frames_per_alarm)))
        return compressed(level if self.n_alarms is None else careful(level, self.n_alarms))


def careful(level: float, n_alarms: int) -> float:
    """The level of a fitted tail that a new alarm passes once in 10 ** `level`.

    Ours: of an exponential tail whose mean excess m was taken from n values a new value passes x with the chance
    (1 + x / (n m)) ** -n, over all that the n might have been. With many that is the exponential itself; with few it is a
    longer tail, because the mean may have come out too short.

    >>> round(careful(4.0, 10), 2), round(careful(4.0, 1000), 2), careful(0.5, 1)
    (5.32, 4.01, 0.5)
    """
    if level <= TAIL:
        return level
    return TAIL + n_alarms * math.expm1((level - TAIL) * math.log(10) / n_alarms) / math.log(10)


def parse_budget(text: str) -> float:
    """`N/h`, `N/day`, `N/week` or `N/min` to false alarms an hour.

    Raises:
        ConfigError: it is none of these, or outside of what any threshold could keep (1e-9 to 1e9 an hour).

    >>> parse_budget("2/day") * 24
    2.0
    """
    hours = {"min": 1 / 60, "h": 1.0, "hour": 1.0, "day": 24.0, "d": 24.0, "week": 168.0}
    number, slash, unit = text.partition("/")
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


class Judgement(NamedTuple):
    """What the evidence of one frame comes to.

    Attributes:
        value, appearance, motion, box: see `types.Score`; 0 for a part that has no channels.
        thesis: the seed's Eq. (16), raw, whichever score is chosen.
        raw: the smoothed score before it is put on the scale of ordinary frames.
    """

    value: float
    appearance: float
    motion: float
    box: Box
    thesis: float
    raw: float


class Scorer:
    """Evidence of one source's frames, in order, to values; keeps the running average."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self._average: float | None = None

    def reset(self) -> None:
        """Forget the source."""
        self._average = None

    def push(self, maps: Mapping[str, NDArray[np.float32]], keep: Keep | None = None) -> Judgement:
        """Judge the evidence of the next frame, by the patches that may win."""
        fitted, spec = self.calibration, self.calibration.settings
        maps = with_relative(maps, fitted.usual)
        motion, appearance = self._part(maps, spec.motion, keep), self._part(maps, spec.appearance, keep)
        flow, frame = thesis_parts(maps, spec.thesis_patch, keep)
        thesis = thesis_score(flow.value, frame, fitted.w_flow, fitted.w_frame, spec.thesis_lambda)
        if spec.score == "thesis":
            raw, box = thesis, flow.box
        else:
            raw = float(combine(motion.value, appearance.value, spec))
            by_motion = motion.value >= appearance.value
            box = motion.box if spec.motion and (by_motion or not spec.appearance) else appearance.box
        average = raw if self._average is None else spec.smoothing * self._average + (1 - spec.smoothing) * raw
        self._average = average
        return Judgement(
            value=float(fitted.scaled(average)),
            appearance=appearance.value,
            motion=motion.value,
            box=box,
            thesis=thesis,
            raw=average,
        )

    def _part(self, maps: Mapping[str, NDArray[np.float32]], channels: Sequence[str], keep: Keep | None) -> Peak:
        """The channels of a part joined, and the box of the one that is highest."""
        if not channels:
            return Peak(0.0, (0, 0, 0, 0))
        spec, scales = self.calibration.settings, self.calibration.scales
        peaks = [(channel, peak(maps, channel, keep)) for channel in channels]
        levels = [float(scales[channel](found.value)) for channel, found in peaks]
        highest = max(
            range(len(peaks)), key=lambda i: levels[i] - (spec.handicap(channels[i]) if spec.fusion == "either" else 0)
        )
        return Peak(float(join(levels, channels, spec)), peaks[highest][1].box)


def join(
    levels: Sequence[float | NDArray[np.float64]], channels: Sequence[str], settings: DecisionSettings
) -> NDArray[np.float64]:
    """One part from the levels of its channels, of frames or of places.

    Ours: the speed is what it is; what stands on learning surprises more often, and so has to be rarer to count as much.

    >>> float(join([2.0, 2.5], ["flow_speed:12", "flow_residual:12"], DecisionSettings()))
    2.0
    """
    if settings.fusion == "sum":
        return np.asarray(np.mean(np.stack([np.asarray(level, np.float64) for level in levels]), axis=0))
    held_back = (
        np.asarray(level, np.float64) - settings.handicap(name) for level, name in zip(levels, channels, strict=True)
    )
    return np.asarray(reduce(np.maximum, held_back))


def combine(
    motion: float | NDArray[np.float64], appearance: float | NDArray[np.float64], settings: DecisionSettings
) -> NDArray[np.float64]:
    """The score before calibration, of frames or of places; a part without channels has no say.

    Ours: both parts are logarithms of rarity. Their weighted sum has the shape of the seed's Eq. (16), with the levels in
    the place of the errors' logarithms; but where one part says nothing of a scene, its noise drowns the other. So the
    rarer one decides; see `join` for what holds back the one that errs more often.

    >>> float(combine(3.0, 2.0, DecisionSettings()))
    3.0
    >>> float(combine(3.0, 1.0, DecisionSettings(fusion="sum", appearance_weight=0.5)))
    3.5
    """
    m, a = np.asarray(motion, np.float64), np.asarray(appearance, np.float64)
    if settings.fusion == "sum":
        return np.asarray(m + settings.appearance_weight * a)
    if not settings.motion or not settings.appearance:
        return m if settings.motion else a
    return np.maximum(m, a)


def unscaled(raw: float | NDArray[np.float64], settings: DecisionSettings) -> NDArray[np.float64]:
    """Decades as they are before they are compressed; Eq. (16) is none of them."""
    return np.asarray(raw, np.float64) if settings.score == "thesis" else spread_out(raw)


def needed_evidence(settings: DecisionSettings) -> set[str]:
    """The evidence whose usual levels the channels need."""
    names = {parse_channel(channel)[0] for channel in (*settings.motion, *settings.appearance)}
    return {RELATIVE[name] for name in names & set(RELATIVE)}
