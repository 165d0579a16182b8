"""The memory of normal objects: more is worse where more is worse, and a new object is far where no normal one was."""

from __future__ import annotations

import numpy as np
import pytest

from comemory.errors import ConfigError
from comemory.scoring.normal_objects import (
    N_FEATURES,
    N_ONE_SIDED,
    NormalObjects,
    fit_normal_objects,
    object_features,
)
from comemory.scoring.objects import MovingObject


def normal(n_objects: int = 400) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n_objects, N_FEATURES)).astype(np.float32)


def test_a_normal_object_is_near_and_a_fast_one_is_far() -> None:
    memory = fit_normal_objects(normal())
    usual, fast = np.zeros((1, N_FEATURES), np.float32), np.zeros((1, N_FEATURES), np.float32)
    fast[0, 0] = 6
    assert memory.distances(usual)[0] < 0.5
    assert memory.distances(fast)[0] > 2


@pytest.mark.parametrize("number", range(N_ONE_SIDED))
def test_less_of_a_one_sided_feature_is_never_farther(number: int) -> None:
    memory = fit_normal_objects(normal())
    more, less = np.ones((1, N_FEATURES), np.float32), np.ones((1, N_FEATURES), np.float32)
    less[0, number] = -5
    assert memory.distances(less)[0] <= memory.distances(more)[0]


def test_two_sided_features_are_far_both_ways() -> None:
    memory = fit_normal_objects(normal())
    for sign in (-1, 1):
        strange = np.zeros((1, N_FEATURES), np.float32)
        strange[0, -1] = sign * 4
        assert memory.distances(strange)[0] > 0.5


def test_the_memory_is_bounded_and_deterministic() -> None:
    many = normal(5000)
    first, second = fit_normal_objects(many, 200), fit_normal_objects(many, 200)
    assert len(first.objects) <= 200
    np.testing.assert_array_equal(first.objects, second.objects)


def test_no_object_has_no_distance_and_no_memory() -> None:
    assert fit_normal_objects(normal()).distances(np.zeros((0, N_FEATURES), np.float32)).shape == (0,)
    with pytest.raises(ConfigError, match="at least one object"):
        fit_normal_objects(np.zeros((0, N_FEATURES), np.float32))


def test_features_are_finite_for_what_stands_still() -> None:
    still = MovingObject(1, 0, 0, (0, 0, 4, 10), 30, 20.0, 0.0, 0.0, 0.0)
    features = object_features(still, 128)
    assert len(features) == N_FEATURES
    assert np.isfinite(features).all()


def test_a_memory_survives_its_arrays_and_damage_is_refused() -> None:
    memory = fit_normal_objects(normal())
    arrays = memory.to_arrays()
    asked = normal(10)
    np.testing.assert_array_equal(NormalObjects.from_arrays(arrays).distances(asked), memory.distances(asked))
    for name, damage, message in (
        ("objects", arrays["objects"][:, 1:], "has shapes"),
        ("objects", np.full_like(arrays["objects"], np.nan), "not finite"),
        ("object_scale", arrays["object_scale"] * 0, "scale of 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            NormalObjects.from_arrays({**arrays, name: damage})
    with pytest.raises(ConfigError, match="lacks 'objects'"):
        NormalObjects.from_arrays({key: value for key, value in arrays.items() if key != "objects"})
