"""Evidence to score to events: numpy, causal, fitted on ordinary video alone.

A *channel* is one named statistic of the evidence at one patch size, such as `flow_speed:12`, taken at the frame's
largest patch.
Every channel is put on one scale by the ordinary video kept back from training: a value of 3 is passed by one
ordinary frame in 10 ** 3. The motion and the appearance part are the means of their channels, the score their weighted
sum, as in the seed's Eq. (16).

Shape suffixes: h w cells, H W places of a patch map.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from comemory.errors import ConfigError, nearest
from comemory.settings import Settings
from comemory.types import Box, Event, Score

CELL = 4
"""Side in pixels of the cells that evidence maps are made of; `science.evidence.CELL`, which a test holds equal."""

STATISTICS = {
    "flow_speed": "length of the patch's mean flow vector, pixels",
    "flow_residual": "length of the patch's mean unexplained flow vector, pixels",
    "flow_error": "mean squared error of the flow, pixels squared: S_F of the seed's Eq. (18)",
    "frame_error": "mean squared error of the predicted frame: S_I of the seed's Eq. (17)",
    "motion_distance": "mean squared distance of the motion queries to their nearest item",
    "appearance_distance": "mean squared distance of the appearance queries to their nearest item",
}


class DecisionSettings(Settings):
    """How evidence becomes a score and a score an event.

    Attributes:
        score: `comemory`, or `thesis` for the seed's Eq. (16) with its w fitted on held-out ordinary video.
        motion, appearance: channels of each part, `STATISTIC:PATCH` with the patch side in pixels; one of the two parts
            may have none.
        appearance_weight: of the appearance part beside the motion part; lambda_S of Eq. (16) for our own score.
        thesis_patch: patch side of Eq. (16) to (19), pixels.
        thesis_lambda: lambda_S of Eq. (16).
        smoothing: share of the past in the running average over scores; 0 for none.
        release: an event ends when the score falls under this share of the threshold.
        min_frames: shorter events are dropped.
        join_s: events closer than this many seconds are one.
    """

    score: Literal["comemory", "thesis"] = "comemory"
    motion: tuple[str, ...] = ("flow_speed:12", "flow_residual:12")
    appearance: tuple[str, ...] = ("frame_error:16",)
    appearance_weight: float = Field(0.2, gt=0)
    thesis_patch: int = Field(16, ge=CELL, multiple_of=CELL)
    thesis_lambda: float = Field(0.2, ge=0)
    smoothing: float = Field(0.0, ge=0, lt=1)
    release: float = Field(0.8, gt=0, le=1)
    min_frames: int = Field(2, ge=1)
    join_s: float = Field(1.0, ge=0)

    @field_validator("motion", "appearance")
    @classmethod
    def _readable(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        for channel in channels:
            parse_channel(channel)
        return channels

    @model_validator(mode="after")
    def _judges_something(self) -> DecisionSettings:
        if not self.motion and not self.appearance:
            raise ValueError("neither motion nor appearance has a channel: give one, such as flow_speed:12")
        return self


def parse_channel(channel: str) -> tuple[str, int]:
    """Split `STATISTIC:PATCH`.

    Raises:
        ConfigError: an unknown statistic, or a patch that is not a multiple of the cell.

    >>> parse_channel("flow_speed:12")
    ('flow_speed', 12)
    """
    name, _, side = channel.partition(":")
    if name not in STATISTICS:
        raise ConfigError(f"unknown statistic {name!r} in channel {channel!r}: {nearest(name, STATISTICS)}")
    if not (side.isascii() and side.isdigit() and len(side) <= 5) or not int(side) or int(side) % CELL:
        raise ConfigError(f"channel {channel!r} needs a patch side that is a multiple of {CELL}, such as {name}:16")
    return name, int(side)


class Peak(NamedTuple):
    """The largest patch of a frame: its value and the box in pixels of the model's picture, inside of it."""

    value: float
    box: Box


class PatchMap(NamedTuple):
    """A channel's value at every patch of a frame.

    Attributes:
        values: float64 (H, W); the patch at row y, column x begins at the pixel (y * pitch, x * pitch).
        pitch: pixels from one patch to the next.
        side: of the patches in pixels: whole places, and no more of them than the picture has.
    """

    values: NDArray[np.float64]
    pitch: int
    side: int

    def box(self, row: int, column: int) -> Box:
        """The pixels of one patch."""
        left, top = column * self.pitch, row * self.pitch
        return (left, top, left + self.side, top + self.side)


def patch_means(cells_Chw: NDArray[np.float32], side: int) -> NDArray[np.float64]:
    """Means over all square patches of `side` cells that lie fully inside the map.

    Ours: the seed does not say what happens at the border; padding there cost 5 points of AUC on Ped2.

    Shapes:
        cells_Chw: float (C, h, w). returns: float64 (C, h - side + 1, w - side + 1).

    >>> patch_means(np.arange(4, dtype=np.float32).reshape(1, 2, 2), 2)
    array([[[1.5]]])
    """
    total = np.pad(cells_Chw.astype(np.float64).cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    sums = total[:, side:, side:] - total[:, :-side, side:] - total[:, side:, :-side] + total[:, :-side, :-side]
    return np.asarray(sums / side**2)


def patch_map(maps: Mapping[str, NDArray[np.float32]], channel: str) -> PatchMap:
    """A channel's value at every patch.

    Shapes:
        maps: float32 (1, C, h, w) by name of evidence, as the graph gives them.

    Raises:
        ConfigError: the evidence has no such statistic.
    """
    name, side = parse_channel(channel)
    stored = "flow_mean" if name == "flow_speed" else name
    if stored not in maps:
        raise ConfigError(
            f"channel {channel!r} needs the evidence {stored!r}, which this model does not give: {nearest(stored, maps)}"
        )
    cells = maps[stored][0]
    pitch = 2 * CELL if name.endswith("_distance") else CELL
    n_cells = min(max(1, side // pitch), *cells.shape[-2:])
    means = patch_means(cells, n_cells)
    values = np.sqrt((means**2).sum(axis=0)) if name in ("flow_speed", "flow_residual") else means[0]
    return PatchMap(values, pitch, n_cells * pitch)


def peak(maps: Mapping[str, NDArray[np.float32]], channel: str) -> Peak:
    """The largest patch of a channel."""
    return _largest(patch_map(maps, channel))


def _largest(patches: PatchMap) -> Peak:
    row, column = divmod(int(patches.values.argmax()), patches.values.shape[1])
    return Peak(float(patches.values[row, column]), patches.box(row, column))


def thesis_parts(maps: Mapping[str, NDArray[np.float32]], patch: int) -> tuple[Peak, float]:
    """S_F of the patch where it is largest, and S_I of that same patch. Source: seed, Eq. (17) to (19)."""
    flow = patch_map(maps, f"flow_error:{patch}")
    frame = patch_map(maps, f"frame_error:{patch}")
    return _largest(flow), float(frame.values.flat[int(flow.values.argmax())])


def thesis_score(flow: float, frame: float, w_flow: float, w_frame: float, weight: float) -> float:
    """S = log(w_F S_F) + lambda_S log(w_I S_I). Source: seed, Eq. (16), with the second log of its source.

    >>> thesis_score(2.0, 1.0, 0.5, 1.0, 0.2)
    0.0
    """
    smallest = np.finfo(np.float64).tiny
    return math.log(max(w_flow * flow, smallest)) + weight * math.log(max(w_frame * frame, smallest))


FARTHEST = 6.0
"""The last decade that a scale counts."""


class TailScale(Settings):
    """A statistic to the number of zeros in "one ordinary frame in …", strictly increasing.

    Ours: up to the 90th percentile the share of ordinary frames above is counted; beyond, where counting
    runs out of frames, the excess is taken as exponential with the mean excess seen there; beyond `FARTHEST`, one frame
    in a million, no footage could tell, and the scale grows as the logarithm. Below the
    lowest ordinary frame it nears -1, so that one calm channel cannot outweigh an alarm of another.

    Attributes:
        knots: quantiles of the statistic on ordinary frames, increasing.
        levels: -log10 of the share above each knot, increasing.
        excess: mean excess over the last knot.
    """

    knots: tuple[float, ...]
    levels: tuple[float, ...]
    excess: float = Field(gt=0)

    @model_validator(mode="after")
    def _increasing(self) -> TailScale:
        if not self.knots or len(self.knots) != len(self.levels):
            raise ValueError(f"a scale has as many knots as levels, got {len(self.knots)} and {len(self.levels)}")
        if any(low >= high for numbers in (self.knots, self.levels) for low, high in pairwise(numbers)):
            raise ValueError("the knots and the levels of a scale increase")
        return self

    def __call__(self, value: float | NDArray[np.float64]) -> NDArray[np.float64]:
        """The scaled value; one decade of frames for each unit."""
        x = np.asarray(value, np.float64)
        inside = np.interp(x, self.knots, self.levels)
        above = np.maximum(x - self.knots[-1], 0) / self.excess * math.log10(math.e)
        depth = np.maximum(self.knots[0] - x, 0) / self.excess * math.log10(math.e)
        below = -depth / (1 + depth)
        scaled = inside + above + below
        beyond = np.log10(1 + np.maximum(scaled - FARTHEST, 0))
        return np.asarray(np.where(scaled > FARTHEST, FARTHEST + beyond, scaled))


def fit_tail_scale(values: Sequence[float] | NDArray[np.float64]) -> TailScale:
    """Fit the scale on a statistic of ordinary frames.

    Raises:
        ConfigError: fewer than 20 values, or one that is not finite.

    >>> scale = fit_tail_scale(np.linspace(0, 1, 1001))
    >>> round(float(scale(0.9)), 2)
    1.0
    """
    x = np.sort(np.asarray(values, np.float64))
    n_finite = int(np.isfinite(x).sum())
    if n_finite < max(20, len(x)):
        raise ConfigError(
            f"a calibration needs at least 20 ordinary frames with finite values, got {len(x)}, {n_finite} of them finite"
        )
    shares = 1 - np.arange(0.0, 0.901, 0.05)
    knots = np.quantile(x, 1 - shares)
    smallest = max(float(np.ptp(x)), abs(float(x[-1])), 1e-9) * 1e-6
    knots = np.maximum.accumulate(knots + np.arange(len(knots)) * smallest)
    tail = x[x > knots[-1]]
    excess = float((tail - knots[-1]).mean()) if len(tail) else smallest
    return TailScale(
        knots=tuple(knots.tolist()), levels=tuple((-np.log10(shares)).tolist()), excess=max(excess, smallest)
    )


class Calibration(Settings):
    """All that ordinary video decides: it goes into the bundle.

    Attributes:
        settings: the decision's.
        scales: of each channel; of `thesis` when that is the score; and of `score`, the whole.
        w_flow, w_frame: w_F and w_I of Eq. (17), (18): one over the mean on held-out ordinary frames.
        rate_hz: frames per second of the ordinary video.
        frames_per_alarm: ordinary frames above a threshold that belong to one alarm, on average.
        n_frames: ordinary frames the scales were fitted on.
    """

    settings: DecisionSettings
    scales: dict[str, TailScale]
    w_flow: float = Field(gt=0)
    w_frame: float = Field(gt=0)
    rate_hz: float = Field(gt=0)
    frames_per_alarm: float = Field(ge=1)
    n_frames: int = Field(ge=1)

    @model_validator(mode="after")
    def _complete(self) -> Calibration:
        missing = {*self.settings.motion, *self.settings.appearance, "score"} - set(self.scales)
        if missing:
            raise ValueError(f"no scale was fitted for {', '.join(sorted(missing))}")
        return self

    def threshold(self, false_alarms: str) -> float:
        """The score that ordinary video passes as often as the budget allows; see `parse_budget`.

        Ours: a score of s is passed by one ordinary frame in 10 ** s, and `frames_per_alarm` such frames make one alarm.
        """
        frames_per_hour = self.rate_hz * 3600
        return max(0.0, math.log10(frames_per_hour / (parse_budget(false_alarms) * self.frames_per_alarm)))


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


class Judge:
    """Evidence of one source's frames, in order, to values; keeps the running average."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self._average: float | None = None

    def reset(self) -> None:
        """Forget the source."""
        self._average = None

    def push(self, maps: Mapping[str, NDArray[np.float32]]) -> Judgement:
        """Judge the evidence of the next frame."""
        fitted, spec = self.calibration, self.calibration.settings
        motion, appearance = self._part(maps, spec.motion), self._part(maps, spec.appearance)
        flow, frame = thesis_parts(maps, spec.thesis_patch)
        thesis = thesis_score(flow.value, frame, fitted.w_flow, fitted.w_frame, spec.thesis_lambda)
        if spec.score == "thesis":
            raw, box = thesis, flow.box
        else:
            raw = combine(motion.value, appearance.value, spec.appearance_weight)
            box = (
                motion.box
                if spec.motion and (motion.value >= appearance.value or not spec.appearance)
                else appearance.box
            )
        average = raw if self._average is None else spec.smoothing * self._average + (1 - spec.smoothing) * raw
        self._average = average
        return Judgement(
            value=float(fitted.scales["score"](average)),
            appearance=appearance.value,
            motion=motion.value,
            box=box,
            thesis=thesis,
            raw=average,
        )

    def _part(self, maps: Mapping[str, NDArray[np.float32]], channels: Sequence[str]) -> Peak:
        """The mean of the scaled channels, and the box of the highest; 0 without channels."""
        if not channels:
            return Peak(0.0, (0, 0, 0, 0))
        peaks = [(channel, peak(maps, channel)) for channel in channels]
        scaled = [Peak(float(self.calibration.scales[channel](found.value)), found.box) for channel, found in peaks]
        return Peak(sum(found.value for found in scaled) / len(scaled), max(scaled).box)


def combine(motion: float, appearance: float, appearance_weight: float) -> float:
    """The score before calibration.

    Ours: both parts are logarithms of rarity, so the weighted sum has the shape of the seed's Eq. (16); it takes the
    place of the errors' logarithms there.

    >>> combine(3.0, 1.0, 0.5)
    3.5
    """
    return motion + appearance_weight * appearance


def fit_calibration(
    videos: Sequence[Sequence[Mapping[str, NDArray[np.float32]]]], settings: DecisionSettings, rate_hz: float
) -> Calibration:
    """Fit on the evidence of ordinary videos that were not trained on.

    Args:
        videos: evidence maps of every frame of every video, in order.
        rate_hz: frames per second of the videos.

    Raises:
        ConfigError: fewer than 20 frames, or a channel that the evidence does not hold.
    """
    frames = [maps for video in videos for maps in video]
    channels = [*settings.motion, *settings.appearance]
    scales = {channel: fit_tail_scale([peak(maps, channel).value for maps in frames]) for channel in channels}
    thesis = [thesis_parts(maps, settings.thesis_patch) for maps in frames]
    unscaled = TailScale(knots=(0.0,), levels=(0.0,), excess=1.0)
    plain = Calibration(
        settings=settings,
        scales={**scales, "score": unscaled},
        w_flow=_one_over_mean([flow.value for flow, _ in thesis]),
        w_frame=_one_over_mean([frame for _, frame in thesis]),
        rate_hz=rate_hz,
        frames_per_alarm=1.0,
        n_frames=len(frames),
    )
    raw = [_judged(plain, video) for video in videos]
    scale = fit_tail_scale(np.concatenate(raw))
    scaled = [scale(values) for values in raw]
    return plain.model_copy(
        update={"scales": {**scales, "score": scale}, "frames_per_alarm": _frames_per_alarm(scaled, settings, rate_hz)}
    )


def _one_over_mean(errors: Sequence[float]) -> float:
    mean = float(np.mean(errors))
    if not math.isfinite(mean):
        raise ConfigError(f"the mean error of ordinary frames is {mean}: the network is damaged, train it anew")
    return 1 / max(mean, float(np.finfo(np.float32).tiny))


def _judged(calibration: Calibration, video: Sequence[Mapping[str, NDArray[np.float32]]]) -> NDArray[np.float64]:
    judge = Judge(calibration)
    return np.array([judge.push(maps).raw for maps in video], np.float64)


def _frames_per_alarm(videos: Sequence[NDArray[np.float64]], settings: DecisionSettings, rate_hz: float) -> float:
    """How many frames above a threshold make one alarm, at the highest threshold that some ordinary frames still pass."""
    threshold = 1.3
    above = sum(int((values >= threshold).sum()) for values in videos)
    alarms = 0
    for values in videos:
        finder = EventFinder("", threshold, settings)
        scores = (Score(i, i / rate_hz, float(value), 0.0, 0.0) for i, value in enumerate(values))
        alarms += len(list(finder.run(scores)))
    return max(1.0, above / max(1, alarms))


class EventFinder:
    """Scores of one source, in order, to events: up at the threshold, down at a share of it.

    Ours: what follows a high score at the next frame belongs to its event while it stays over the release; after low
    scores, or frames without any, a high score still does where no more than `join_s` lie between the two. Events with
    fewer high scores than `min_frames` are dropped after that.

    Args:
        source: name that the events carry.
        threshold: of the score's value.
        settings: `release`, `min_frames` and `join_s` are used.
    """

    def __init__(self, source: str, threshold: float, settings: DecisionSettings) -> None:
        self.source, self.threshold, self.settings = source, threshold, settings
        self._open: Event | None = None
        self._n_high = 0
        self._last_high: Score | None = None
        self._held = False

    @property
    def open(self) -> Event | None:
        """The event as far as it goes, long enough to count or not yet; None when there is none."""
        return self._open

    @property
    def active(self) -> bool:
        """Whether the last score pushed belongs to an event that is long enough to count."""
        return self._open is not None and self._n_high >= self.settings.min_frames and self._held

    def push(self, score: Score) -> Event | None:
        """Take the next score; give the event that is over with it, if one is."""
        ended = None
        if self._last_high is not None:
            follows = self._held and score.index == self._last_high.index + 1
            if not follows and score.time_s - self._last_high.time_s > self.settings.join_s:
                ended = self.finish()
        release = min(self.threshold, self.threshold * self.settings.release)
        self._held = score.value >= (release if self._held else self.threshold)
        if self._held:
            self._grow(score)
        return ended

    def finish(self) -> Event | None:
        """End the open event, if there is one: the source is over."""
        event, n_high = self._open, self._n_high
        self._open, self._n_high, self._last_high, self._held = None, 0, None, False
        return event if event is not None and n_high >= self.settings.min_frames else None

    def run(self, scores: Iterable[Score]) -> Iterable[Event]:
        """All events of a source."""
        for score in scores:
            if (event := self.push(score)) is not None:
                yield event
        if (event := self.finish()) is not None:
            yield event

    def _grow(self, score: Score) -> None:
        self._last_high = score
        self._n_high += 1
        old = self._open
        if old is None or score.value > old.peak_score:
            start = (score.index, score.time_s) if old is None else (old.start_frame, old.start_s)
            peak_of = (score.index, score.time_s, score.value, score.box)
        else:
            start = (old.start_frame, old.start_s)
            peak_of = (old.peak_frame, old.peak_s, old.peak_score, old.box)
        self._open = Event(
            self.source, start[0], score.index, peak_of[0], start[1], score.time_s, peak_of[1], peak_of[2], peak_of[3]
        )
