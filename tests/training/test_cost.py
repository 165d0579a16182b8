"""The cost of a network: against numbers counted by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.training.config import read_training_config
from comemory.training.cost import network_cost


def test_counts_the_parameters_of_mnad_as_published() -> None:
    settings = ["model=mnad-prediction", "network.width=64", "clips.channels=3", "clips.height=32", "clips.width=32"]
    assert network_cost(read_training_config("small", settings=settings))["parameters"] == 15_650_819


def test_operations_grow_with_the_number_of_pixels() -> None:
    small, large = (
        network_cost(read_training_config("small", settings=["model=autoencoder", f"clips.width={width}"]))["macs"]
        for width in (96, 192)
    )
    assert large == 2 * small


def test_counts_frozen_parameters_apart() -> None:
    cost = network_cost(read_training_config("small", settings=["model=tsc"]))
    assert cost["parameters"] == 1280 * 256
    assert cost["frozen_parameters"] == 2_223_872


def test_the_motion_baseline_costs_nothing() -> None:
    assert network_cost(read_training_config("small", settings=["model=motion-baseline"])) == {
        "parameters": 0,
        "frozen_parameters": 0,
        "macs": 0,
    }
