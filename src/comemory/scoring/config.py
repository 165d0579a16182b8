"""How evidence becomes a score, and a score an event."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from comemory.config import Settings
from comemory.scoring.channels import HAND_DESIGNED, OBJECT_STATISTICS, parse_channel

DEFAULT_FALSE_ALARMS = "1/h"
"""The false-alarm budget of every command that is given none.

One an hour, because minutes of normal video are enough to place that threshold; a smaller budget such as `1/day` then
extrapolates, gives a conservative threshold, and misses events. All published results use it too.
"""


class ScoringSettings(Settings):
    """How evidence becomes a score, and a score an event."""

    score: Literal["comemory", "thesis"] = Field(
        "comemory",
        title="Score",
        description="`comemory` fuses calibrated channels; `thesis` takes Eq. (16) of the thesis.",
    )
    fusion: Literal["sum", "maximum"] = Field(
        "maximum",
        title="Fusion",
        description="`sum` adds the channels' levels, with weights that normal video gives; `maximum` takes the highest, less "
        "its penalty. The presets of cameras have `sum` and other channels than these defaults.",
    )
    motion: tuple[str, ...] = Field(
        ("flow_speed:8", "relative_speed:8", "agitation:12", "flow_residual:8"),
        title="Motion channels",
        description="Channels of the motion part, each `STATISTIC:PATCH` with the side of its patches in pixels. Either "
        "this list or `appearance` may be empty.",
    )
    appearance: tuple[str, ...] = Field(
        ("frame_error:32",),
        title="Appearance channels",
        description="Channels of the appearance part, written as those of `motion`.",
    )
    motion_penalty: float = Field(
        1.0,
        ge=0,
        le=6,
        title="Penalty of learned motion channels",
        description='With `fusion = "maximum"`, subtracted from the level of motion channels that a network learned, in log10 '
        "units: with 1, they must be ten times as rare as hand-designed channels to count as much.",
    )
    appearance_penalty: float = Field(
        3.0,
        ge=0,
        le=6,
        title="Penalty of appearance channels",
        description='With `fusion = "maximum"`, subtracted from the level of appearance channels, in log10 units.',
    )
    descent_resolution: float = Field(
        0.0,
        ge=0,
        le=10,
        title="Resolution of the descent",
        description="Expected heights a second. Where normal objects hardly descend, the scale of `descent` is that of "
        "descents with this mean: a head that bobs a little more than usual is rare there, but no fall. 0 takes the footage "
        "as it is.",
    )
    smoothing_s: float = Field(
        0.0,
        ge=0,
        le=60,
        title="Smoothing",
        description="Time constant of the moving average over scores, seconds; 0 turns it off.",
    )
    release: float = Field(
        0.8,
        gt=0,
        le=1,
        title="Release threshold",
        description="An event goes on while the score stays above this share of the threshold.",
    )
    min_frames: int = Field(
        2,
        ge=1,
        title="Shortest event",
        description="Events in which fewer frames are above the release threshold are dropped.",
    )
    join_s: float = Field(
        1.0,
        ge=0,
        title="Longest gap inside an event",
        description="Scores above the threshold that are no more than this many seconds apart belong to one event.",
    )

    @field_validator("motion", "appearance")
    @classmethod
    def _check_channels(cls, channels: tuple[str, ...]) -> tuple[str, ...]:
        for channel in channels:
            parse_channel(channel)
        return channels

    @model_validator(mode="after")
    def _check_not_empty(self) -> ScoringSettings:
        if not self.motion and not self.appearance:
            raise ValueError("neither motion nor appearance has a channel: give one, such as flow_speed:12")
        return self

    @property
    def is_sum(self) -> bool:
        """Whether the score is the sum of its channels."""
        return self.score == "comemory" and self.fusion == "sum"

    @property
    def needs_network(self) -> bool:
        """Whether the score needs an output of the network; otherwise frames and flow are enough."""
        names = {parse_channel(channel)[0] for channel in (*self.motion, *self.appearance)}
        return self.score == "thesis" or not names <= set(HAND_DESIGNED)

    @property
    def needs_scene(self) -> bool:
        """Whether a channel measures moving objects, which needs a scene in the bundle."""
        names = {parse_channel(channel)[0] for channel in (*self.motion, *self.appearance)}
        return not names.isdisjoint(OBJECT_STATISTICS)

    @property
    def common_penalty(self) -> float:
        """The penalty that all channels have at least: it says nothing of one against another, so it changes no result."""
        return min(self.penalty(channel) for channel in (*self.motion, *self.appearance))

    @property
    def has_descent_resolution(self) -> bool:
        """Whether `descent_resolution` changes the score: it does with a channel of the descent."""
        return any(self.resolution(channel) for channel in (*self.motion, *self.appearance))

    def resolution(self, channel: str) -> float:
        """The mean that the values of a channel have at least on normal video, for its scale; 0 where there is no such limit."""
        return self.descent_resolution if parse_channel(channel)[0] == "descent" else 0.0

    def penalty(self, channel: str) -> float:
        """Log10 units that are subtracted from a channel's level before the maximum is taken."""
        if channel in self.appearance:
            return self.appearance_penalty
        return 0.0 if parse_channel(channel)[0] in HAND_DESIGNED else self.motion_penalty
