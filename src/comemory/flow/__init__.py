"""Optical flow, by name: the target of the motion branch and half of every clip.

An estimator computes the displacement of every pixel of the previous image on its way to the current one, in pixels of these
images: `previous[y, x]` moves to about `current[y + dy, x + dx]`. The result depends on the two images alone, never on the
calls before or on the number of threads: training, evaluation and a live camera see the same flow.

To add an estimator: one file with a class that takes `FlowSettings`, and one line in `FLOWS`.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from numpy import uint8
from numpy.typing import NDArray
from pydantic import Field, field_validator

from comemory.config import Settings
from comemory.errors import ConfigError, short_repr, suggest
from comemory.registry import Registry
from comemory.types import FlowEstimator, describe_value

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


class FlowSettings(Settings):
    """Which flow estimator, and its options.

    >>> FlowSettings(preset="medium").name
    'dis'
    """

    name: str = Field(
        "dis", title="Flow estimator", description="`dis`, `farneback`, `rgb_difference` or `raft`, which needs torch."
    )
    preset: Literal["ultrafast", "medium", "lean", "fine"] = Field(
        "lean",
        title="Flow preset",
        description="Speed against accuracy of `dis`. `ultrafast` and `medium` are OpenCV's presets. `fine` searches down to "
        "single pixels, which suits images of the network's size; `lean` is `fine` without the final smoothing.",
    )
    weights: str | None = Field(
        None, title="Flow weights", description="Path of the weight file `raft-small.pth`, for `raft` alone."
    )

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FLOWS:
            raise ValueError(f"unknown flow {short_repr(name)}: {suggest(name, FLOWS)}")
        return name


def open_flow(settings: FlowSettings) -> FlowEstimator:
    """Make the estimator of the settings.

    Raises:
        ConfigError: its weights are not given, cannot be read, or belong to another network.
        RuntimeMissing: the estimator needs a package that is not installed.

    >>> open_flow(FlowSettings(name="rgb_difference")).name
    'rgb_difference'
    """
    return cast(FlowEstimator, FLOWS.load(settings.name)(settings))


def check_pair(previous: NDArray[Any], current: NDArray[Any]) -> None:
    """Check that two images are RGB and of one size.

    Raises:
        ConfigError: an image is not uint8 (H, W, 3), has no pixels, or they differ in size.
    """
    for name, image in (("previous", previous), ("current", current)):
        if image.dtype != uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise ConfigError(
                f"cannot estimate flow: the {name} image is {describe_value(image)}, expected uint8 (H, W, 3)"
            )
    if previous.shape != current.shape:
        raise ConfigError(
            f"cannot estimate flow between images of different sizes, {previous.shape[:2]} and {current.shape[:2]}: "
            "resize them to one size first"
        )
