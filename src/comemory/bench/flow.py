"""Timings of every optical flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.bench.timing import Timing, interleave, measurement_environment, threads
from comemory.errors import ConfigError
from comemory.flow import FlowSettings, open_flow
from comemory.types import JSON, FlowEstimator

MAX_PIXELS = 2**26


def flow_cost(estimators: Mapping[str, FlowEstimator], size: tuple[int, int], rounds: int) -> dict[str, Timing]:
    """Time the flow of one pair of images for each estimator, in alternating rounds.

    Args:
        estimators: by their name in the result.
        size: height and width of the images.
        rounds: pairs for each estimator.

    Raises:
        ConfigError: the size or the number of rounds cannot be measured.
    """
    previous, current = moving_images(size)
    calls = {name: _estimation(estimator, previous, current) for name, estimator in estimators.items()}
    return interleave(calls, rounds)


def bench_flow(size: tuple[int, int] = (240, 360), rounds: int = 20, weights: str | None = None) -> JSON:
    """Time every flow and preset on this machine.

    Args:
        size: height and width of the images.
        rounds: pairs for each of them.
        weights: weight file of `raft`, which is left out without it.

    Returns:
        `flows`, the fastest first, each with `name`, `preset` and `Timing.summary`; `left_out` with the reasons;
        `size`, `threads` and the environment.

    Raises:
        ConfigError: the size or the number of rounds cannot be measured, or the weights cannot be read.
        RuntimeMissing: weights are given but torch is not installed.
    """
    chosen = {f"dis-{preset}": FlowSettings(preset=preset) for preset in ("ultrafast", "medium", "lean", "fine")}
    chosen |= {name: FlowSettings(name=name) for name in ("farneback", "rgb_difference")}
    if weights is not None:
        chosen["raft"] = FlowSettings(name="raft", weights=weights)
    timings = flow_cost({name: open_flow(settings) for name, settings in chosen.items()}, size, rounds)
    flows = [
        {
            "name": chosen[name].name,
            "preset": chosen[name].preset if chosen[name].name == "dis" else None,
            **timing.summary(),
        }
        for name, timing in sorted(timings.items(), key=lambda item: item[1].median_ms)
    ]
    return {
        "size": list(size),
        "flows": flows,
        "left_out": {} if weights is not None else {"raft": "no weights given"},
        "threads": threads(),
        **measurement_environment(),
    }


def moving_images(size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two images of a static texture and a textured block that moves by (3, 1) pixels; always the same ones.

    Raises:
        ConfigError: a side below 1, or more than 2**26 pixels.
    """
    height, width = size
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise ConfigError(f"cannot make images of {height}x{width}: expected 1 to {MAX_PIXELS} pixels")
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    previous = np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), dtype=np.uint8)
    top, left, tall, wide = height // 4, width // 4, height // 2, width // 2
    block = 255 - previous[top : top + tall, left : left + wide]
    images = []
    for dx, dy in ((0, 0), (3, 1)):
        image = previous.copy()
        place = image[top + dy : top + dy + tall, left + dx : left + dx + wide]
        place[:] = block[: place.shape[0], : place.shape[1]]
        images.append(image)
    return images[0], images[1]


def _estimation(
    estimator: FlowEstimator, previous: NDArray[np.uint8], current: NDArray[np.uint8]
) -> Callable[[], object]:
    return lambda: estimator.estimate(previous, current)
