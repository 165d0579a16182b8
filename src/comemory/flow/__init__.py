"""Dense motion between two frames, by name: the target of the motion branch and half of every clip.

An estimator gives the displacement of every pixel of the previous frame on its way to the current one, in pixels of the
pictures it is given: `previous[y, x]` is found again near `current[y + dy, x + dx]`. Its answer depends on these two
pictures alone, never on the calls before or on the number of threads, so that training, evaluation and a live camera
see the same flow.

To add an estimator: one file with a class that takes `FlowSettings`, and one line in `FLOWS`.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from numpy import uint8
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, field_validator

from comemory.errors import ConfigError, suggest
from comemory.registry import Registry
from comemory.types import FlowEstimator

FLOWS = Registry(
    "flow",
    {
        "dis": "comemory.flow.dis:Dis",
        "farneback": "comemory.flow.farneback:Farneback",
        "rgb_difference": "comemory.flow.rgb_difference:RgbDifference",
        "raft": "comemory.flow.raft:Raft",
    },
    extras={"raft": "train"},
)


class FlowSettings(BaseModel):
    """Which estimator, and what it needs to know.

    Attributes:
        name: an entry of `FLOWS`.
        preset: speed against accuracy, for `dis` alone.
        weights: path of the weight file, for `raft` alone.

    >>> FlowSettings(preset="fast").name
    'dis'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    name: str = "dis"
    preset: Literal["ultrafast", "fast", "medium", "lean", "fine"] = "lean"
    weights: str | None = None

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FLOWS:
            raise ValueError(f"unknown flow {name!r}: {suggest(name, FLOWS)}")
        return name


def open_flow(settings: FlowSettings) -> FlowEstimator:
    """Make the estimator that `settings` describe.

    Raises:
        ConfigError: no such estimator, or its weights are not given, not there or not its own.
        RuntimeMissing: the estimator needs a package that is not installed.

    >>> open_flow(FlowSettings(name="rgb_difference")).name
    'rgb_difference'
    """
    return cast(FlowEstimator, FLOWS.load(settings.name)(settings))


def check_pair(previous: NDArray[Any], current: NDArray[Any]) -> None:
    """Refuse what is not two RGB pictures of one size.

    Raises:
        ConfigError: another shape or type than uint8 (H, W, 3), no pixels, or two sizes.
    """
    for name, image in (("previous", previous), ("current", current)):
        if image.dtype != uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ConfigError(
                f"cannot estimate flow: the {name} picture is {image.dtype} {image.shape}, expected uint8 (H, W, 3)"
            )
    if previous.shape != current.shape:
        raise ConfigError(
            f"cannot estimate flow between pictures of different sizes, {previous.shape[:2]} and {current.shape[:2]}: "
            "resize them to one size first"
        )
