"""The score of a network's authors: against numbers computed by hand, and in an evaluation without torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comemory.bundle import open_bundle
from comemory.errors import BundleError
from comemory.evaluation.authors_score import authors_score, authors_score_weights, numbers_of
from comemory.types import Evidence


def test_each_number_is_scaled_within_the_video_before_it_is_weighted() -> None:
    numbers = np.array([[-30.0, 4.0], [-20.0, 2.0], [-25.0, 3.0]])
    assert authors_score(numbers, {"a": 0.6, "b": 0.4}).tolist() == pytest.approx([0.4, 0.6, 0.5])


def test_a_constant_number_adds_nothing() -> None:
    assert authors_score(np.array([[1.0, 7.0], [2.0, 7.0]]), {"a": 1.0, "b": 5.0}).tolist() == [0.0, 1.0]


def test_a_cumulative_number_is_summed_before_it_is_scaled() -> None:
    assert authors_score(np.array([[-1.0], [2.0], [2.0], [-9.0]]), {"cusum:a": 1.0}).tolist() == [0.0, 0.5, 1.0, 0.0]


def test_a_video_without_scores_has_no_authors_score() -> None:
    assert authors_score(np.zeros((0, 2)), {"a": 0.6, "b": 0.4}).shape == (0,)


def test_of_a_map_the_largest_value_counts() -> None:
    maps = {"a": np.array([3.0], np.float32), "b": np.array([[[[1.0, 5.0]]]], np.float32)}
    assert numbers_of(Evidence(maps), {"b": 1.0, "a": 2.0}) == [5.0, 3.0]


def test_a_bundle_without_an_authors_score_states_none(nano_bundle: Path) -> None:
    assert authors_score_weights(open_bundle(nano_bundle)) == {}


@pytest.mark.parametrize(
    "stated", [["frame_error"], {"absent": 1.0}, {"frame_error": "1"}, {"frame_error": float("inf")}]
)
def test_refuses_weights_that_the_graph_does_not_fit(nano_bundle: Path, stated: object) -> None:
    bundle = open_bundle(nano_bundle)
    config = {**bundle.config, "graph": {**bundle.config["graph"], "own_score": stated}}
    with pytest.raises(BundleError, match=r"graph\.own_score is .*: expected weights of numbers that the graph gives"):
        authors_score_weights(replace(bundle, config=config))
