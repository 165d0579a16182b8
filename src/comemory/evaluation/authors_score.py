"""The score of a network's authors, for the paper protocol: numbers of the evidence, scaled within each video and added.

A number named `cusum:NAME` is first summed over the frames, never below 0. A bundle states the score in `config.json`
(`graph.own_score`), so that it is computed without torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from comemory import metrics
from comemory.bundle import Bundle
from comemory.errors import BundleError, short_repr
from comemory.types import Evidence

CUMULATIVE = "cusum:"


def authors_score_weights(bundle: Bundle) -> Mapping[str, float]:
    """Return the weight of each number of the evidence; empty where the paper protocol takes the calibrated score.

    Raises:
        BundleError: the bundle states something else than weights of evidence that its graph gives.
    """
    graph = bundle.config.get("graph", {})
    weights = graph.get("own_score", {})
    outputs = graph.get("outputs")
    given = outputs if isinstance(outputs, list) else []
    is_valid = isinstance(weights, dict) and all(
        name.removeprefix(CUMULATIVE) in given and isinstance(weight, (int, float)) and math.isfinite(weight)
        for name, weight in weights.items()
    )
    if not is_valid:
        raise BundleError(
            f"{bundle.path}/config.json: graph.own_score is {short_repr(weights)}: expected weights of "
            "numbers that the graph gives"
        )
    return {name: float(weight) for name, weight in weights.items()}


def numbers_of(evidence: Evidence, weights: Mapping[str, float]) -> list[float]:
    """Return the numbers that the authors' score is made of, in the order of the weights; of a map, its largest value."""
    return [float(evidence.maps[name.removeprefix(CUMULATIVE)].max()) for name in weights]


def authors_score(numbers: NDArray[np.float64], weights: Mapping[str, float]) -> NDArray[np.float64]:
    """Return the authors' score of one video. It looks ahead: the whole video is known.

    Source: Liu et al., CVPR 2018, Eq. (9), for each number; the sums are those of the models' authors.

    Shapes:
        numbers: float64 (n_frames, n_numbers); returns: float64 (n_frames,), in 0 to the sum of the weights.

    >>> authors_score(np.array([[1.0, 10.0], [3.0, 10.0], [2.0, 30.0]]), {"a": 0.6, "b": 0.4}).round(2).tolist()
    [0.0, 0.6, 0.7]
    """
    columns = [
        cumulative_sum(column) if name.startswith(CUMULATIVE) else column
        for name, column in zip(weights, numbers.T, strict=True)
    ]
    total = np.zeros(len(numbers))
    for weight, values in zip(weights.values(), metrics.offline_min_max(columns), strict=True):
        total += weight * values
    return total


def cumulative_sum(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the sum of the values so far, which starts again from 0 where it would fall below.

    Source: Page, Continuous inspection schemes, Biometrika 1954 (CUSUM).

    >>> cumulative_sum(np.array([-1.0, 2.0, 1.0, -4.0, 1.0])).tolist()
    [0.0, 2.0, 3.0, 0.0, 1.0]
    """
    sums, total = np.zeros(len(values)), 0.0
    for number, value in enumerate(values):
        total = max(0.0, total + float(value))
        sums[number] = total
    return sums
