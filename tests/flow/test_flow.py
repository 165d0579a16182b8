"""What every flow estimator fulfils, and how one is chosen."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from comemory.config import build
from comemory.errors import ComemoryError, ConfigError, RuntimeMissing
from comemory.flow import FLOWS, FlowSettings, open_flow
from comemory.registry import Registry
from comemory.types import FlowEstimator

Make = Callable[[FlowSettings], FlowEstimator]
MOTION = [
    FlowSettings(name="dis", preset="ultrafast"),
    FlowSettings(name="dis", preset="medium"),
    FlowSettings(name="farneback"),
    FlowSettings(name="raft"),
]
EVERY = [*MOTION, *(FlowSettings(name=name) for name in FLOWS if name not in {chosen.name for chosen in MOTION})]
"""`MOTION`, which find how far a shift was, and every other entry of the registry."""


@pytest.fixture
def make(request: pytest.FixtureRequest) -> Make:
    """Opens the estimator of some settings; `raft` with its weights, or skips."""

    def opened(chosen: FlowSettings) -> FlowEstimator:
        weights = request.getfixturevalue("raft_weights") if chosen.name == "raft" else None
        return open_flow(chosen.model_copy(update={"weights": weights}))

    return opened


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0).astype(np.float32)
    low, high = smooth.min(), smooth.max()
    return np.asarray((smooth - low) / max(float(high - low), 1.0) * 255, dtype=np.uint8)


def shifted(height: int, width: int, dx: int, dy: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two cuttings of one texture, so that what is at (y, x) in the first is at (y + dy, x + dx) in the second."""
    edge = 16
    whole = texture(height + 2 * edge, width + 2 * edge)
    first = whole[edge : edge + height, edge : edge + width]
    second = whole[edge - dy : edge - dy + height, edge - dx : edge - dx + width]
    return np.ascontiguousarray(first), np.ascontiguousarray(second)


def label(chosen: FlowSettings) -> str:
    return f"{chosen.name}-{chosen.preset}" if chosen.name == "dis" else chosen.name


every = pytest.mark.parametrize("chosen", EVERY, ids=label)
motion = pytest.mark.parametrize("chosen", MOTION, ids=label)


@every
def test_it_meets_the_interface(make: Make, chosen: FlowSettings) -> None:
    estimator = make(chosen)
    assert isinstance(estimator, FlowEstimator)
    assert estimator.name == chosen.name
    flow = estimator.estimate(*shifted(48, 80, 1, 0))
    assert flow.shape == (48, 80, 2)
    assert flow.dtype == np.float32
    assert flow.flags["C_CONTIGUOUS"]
    assert flow.flags["WRITEABLE"]


@motion
def test_it_finds_a_known_shift(make: Make, chosen: FlowSettings) -> None:
    flow = make(chosen).estimate(*shifted(200, 280, 3, -2))
    assert np.hypot(flow[..., 0] - 3, flow[..., 1] + 2).mean() < 0.3


@every
def test_equal_images_have_no_flow(make: Make, chosen: FlowSettings) -> None:
    still = texture(96, 128)
    assert np.abs(make(chosen).estimate(still, still.copy())).mean() < 0.1


@every
def test_flat_and_flashing_images_give_finite_flow(make: Make, chosen: FlowSettings) -> None:
    estimator = make(chosen)
    black, white = np.zeros((64, 96, 3), np.uint8), np.full((64, 96, 3), 255, np.uint8)
    assert np.isfinite(estimator.estimate(black, black)).all()
    assert np.isfinite(estimator.estimate(black, white)).all()


@every
def test_earlier_calls_do_not_matter(make: Make, chosen: FlowSettings) -> None:
    pair = shifted(64, 100, 2, 1)
    expected = make(chosen).estimate(*pair)
    used = make(chosen)
    for height, width, dx in ((64, 100, -5), (90, 70, 4), (33, 150, 1), (64, 100, 7)):
        used.estimate(*shifted(height, width, dx, -dx))
        np.testing.assert_array_equal(used.estimate(*pair), expected)


@every
def test_a_result_is_not_overwritten_by_the_next_call(make: Make, chosen: FlowSettings) -> None:
    estimator = make(chosen)
    first = estimator.estimate(*shifted(64, 64, 2, 1))
    kept = first.copy()
    estimator.estimate(*shifted(64, 64, -4, 3))
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("chosen", [c for c in EVERY if c.name != "raft"], ids=label)
def test_the_number_of_opencv_threads_does_not_matter(make: Make, chosen: FlowSettings) -> None:
    pair = shifted(120, 160, 3, 1)
    before = cv2.getNumThreads()
    try:
        flows = []
        for threads in (1, 2, 5):
            cv2.setNumThreads(threads)
            flows.append(make(chosen).estimate(*pair))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(flows[0], flows[1])
    np.testing.assert_array_equal(flows[0], flows[2])


@every
def test_threads_may_share_an_estimator(make: Make, chosen: FlowSettings) -> None:
    estimator = make(chosen)
    pairs = [shifted(64 + 8 * i, 96 - 4 * i, i, -i) for i in range(8)]
    expected = [estimator.estimate(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: estimator.estimate(*pair), pairs))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@every
def test_the_memory_layout_does_not_matter(make: Make, chosen: FlowSettings) -> None:
    estimator = make(chosen)
    first, second = shifted(64, 96, 2, 0)
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in (first, second)]
    first.flags.writeable = False
    np.testing.assert_array_equal(estimator.estimate(first[:, ::-1], second[:, ::-1]), estimator.estimate(*mirrored))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(1, 40),
    st.integers(1, 300),
    st.booleans(),
    st.sampled_from([one for one in EVERY if one.name != "raft"]),
)
def test_any_size_gives_finite_flow(short: int, long: int, upright: bool, chosen: FlowSettings) -> None:
    height, width = (long, short) if upright else (short, long)
    flow = open_flow(chosen).estimate(*shifted(height, width, 1, 1))
    assert flow.shape == (height, width, 2)
    assert np.isfinite(flow).all()


@every
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)),
        (np.zeros((8, 8, 3), np.float32), np.zeros((8, 8, 3), np.float32)),
        (np.zeros((0, 8, 3), np.uint8), np.zeros((0, 8, 3), np.uint8)),
        (np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 4), np.uint8)),
        (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)),
    ],
    ids=["grey", "float", "empty", "alpha", "sizes"],
)
def test_invalid_images_are_refused_in_one_line(
    make: Make, chosen: FlowSettings, first: NDArray, second: NDArray
) -> None:
    with pytest.raises(ConfigError, match="cannot estimate flow") as caught:
        make(chosen).estimate(first, second)
    assert "\n" not in str(caught.value)


def test_the_closest_name_is_suggested() -> None:
    with pytest.raises(ConfigError, match="did you mean 'farneback'") as caught:
        build(FlowSettings, {"name": "farnebak"})
    assert "\n" not in str(caught.value)
    with pytest.raises(ConfigError, match="unknown flow 'os:system'"):
        open_flow(FlowSettings.model_construct(name="os:system"))


@pytest.mark.parametrize("values", [{"preset": "slow"}, {"speed": 1}, {"weights": 3}])
def test_unknown_settings_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        build(FlowSettings, values)


def test_settings_are_frozen_and_survive_json() -> None:
    chosen = FlowSettings(name="raft", weights="raft-small.pth")
    assert FlowSettings.model_validate_json(chosen.model_dump_json()) == chosen
    with pytest.raises(ValidationError):
        chosen.name = "dis"  # type: ignore[misc]


def test_only_raft_imports_torch() -> None:
    program = (
        "import sys, numpy as np\n"
        "from comemory.flow import FLOWS, FlowSettings, open_flow\n"
        "assert not {'cv2', 'torch'} & set(sys.modules)\n"
        "image = np.zeros((40, 40, 3), np.uint8)\n"
        "for name in set(FLOWS) - {'raft'}:\n"
        "    open_flow(FlowSettings(name=name)).estimate(image, image)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_missing_torch_is_named_with_a_hint() -> None:
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from comemory.errors import RuntimeMissing\n"
        "from comemory.flow import FlowSettings, open_flow\n"
        "try:\n"
        "    open_flow(FlowSettings(name='raft', weights='x.pth'))\n"
        "except RuntimeMissing as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert "pip install '.[train]'" in done.stdout
    assert issubclass(RuntimeMissing, ComemoryError)


def test_the_registry_has_entries_of_the_package_only() -> None:
    assert isinstance(FLOWS, Registry)
    assert all(place.startswith("comemory.flow.") for place in FLOWS.values())
