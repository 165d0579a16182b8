"""How evidence becomes a score and a score an event."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from comemory.config_model import Settings
from comemory.scoring.channels import UNLEARNED, parse_channel
from comemory.types import CELL


class DecisionSettings(Settings):
    """How evidence becomes a score and a score an event.

    Attributes:
        score: `comemory`, or `thesis` for the seed's Eq. (16) with its w fitted on held-out ordinary video.
        motion, appearance: channels of each part, `STATISTIC:PATCH` with the patch side in pixels; one of the two parts
            may have none.
        fusion: `either` takes the rarest channel, each after its handicap; `sum` takes the mean of each part's channels and
            adds appearance, weighted.
        motion_handicap: decades by which a motion channel that stands on learning must be rarer than one of the flow as it is
            to count as much.
        appearance_handicap: the same of an appearance channel.
        appearance_weight: of the appearance part in the sum; lambda_S of Eq. (16) for our own score.
        thesis_patch: patch side of Eq. (16) to (19), pixels.
        thesis_lambda: lambda_S of Eq. (16).
        smoothing: share of the past in the running average over scores; 0 for none.
        release: an event ends when the score falls under this share of the threshold.
        min_frames: shorter events are dropped.
        join_s: events closer than this many seconds are one.
    """

    score: Literal["comemory", "thesis"] = "comemory"
    motion: tuple[str, ...] = ("flow_speed:8", "perspective_speed:8", "restlessness:12", "flow_residual:8")
    appearance: tuple[str, ...] = ("frame_error:32",)
    fusion: Literal["either", "sum"] = "either"
    motion_handicap: float = Field(1.0, ge=0, le=6)
    appearance_handicap: float = Field(3.0, ge=0, le=6)
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

    def handicap(self, channel: str) -> float:
        """The decades that are taken off a channel's level before the rarest is chosen."""
        if channel in self.appearance:
            return self.appearance_handicap
        return 0.0 if parse_channel(channel)[0] in UNLEARNED else self.motion_handicap
