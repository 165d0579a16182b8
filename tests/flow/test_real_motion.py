"""Flow on real video: what moved can be found again where the flow says."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from comemory.flow import FlowSettings, open_flow
from comemory.types import FlowEstimator

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def ped2(data: Path) -> Pair:
    folder = data / "ped2" / "testing" / "frames" / "02"
    first, second = (cv2.imread(str(folder / f"{index:03d}.jpg")) for index in (110, 111))
    assert first is not None
    assert second is not None
    return cv2.cvtColor(first, cv2.COLOR_BGR2RGB), cv2.cvtColor(second, cv2.COLOR_BGR2RGB)


@pytest.fixture(scope="module")
def avenue(data: Path) -> Pair:
    wanted = []
    with av.open(str(data / "avenue" / "testing_videos" / "17.avi")) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= 100:
                wanted.append(frame.to_ndarray(format="rgb24"))
            if len(wanted) == 2:
                break
    return wanted[0], wanted[1]


@pytest.fixture(params=["ped2", "avenue"])
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.getfixturevalue(request.param)


def remaining_error(estimator: FlowEstimator, pair: Pair) -> float:
    """Error of the current frame warped back, as a share of the error without flow, over the pixels that changed."""
    flow = estimator.estimate(*pair)
    before, after = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in pair)
    rows, columns = np.mgrid[: before.shape[0], : before.shape[1]].astype(np.float32)
    warped = cv2.remap(
        after, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    changed = cv2.absdiff(before, after) > 12
    left = np.abs(before[changed].astype(np.float64) - warped[changed])
    return float(left.mean() / cv2.absdiff(before, after)[changed].mean())


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        (FlowSettings(name="dis", preset="medium"), 0.5),
        (FlowSettings(name="dis", preset="ultrafast"), 0.75),
        (FlowSettings(name="farneback"), 0.5),
    ],
    ids=["medium", "ultrafast", "farneback"],
)
def test_flow_explains_most_of_the_change(pair: Pair, settings: FlowSettings, bound: float) -> None:
    assert remaining_error(open_flow(settings), pair) < bound


@pytest.fixture
def raft(raft_weights: str) -> FlowEstimator:
    return open_flow(FlowSettings(name="raft", weights=raft_weights))


def test_raft_explains_some_of_the_change(pair: Pair, raft: FlowEstimator) -> None:
    assert remaining_error(raft, pair) < 0.9


@pytest.mark.parametrize("shift", [(1, 0), (3, -2), (8, 5), (-20, 12)])
def test_raft_finds_a_known_shift_of_a_real_frame(ped2: Pair, raft: FlowEstimator, shift: tuple[int, int]) -> None:
    dx, dy = shift
    frame = ped2[0]
    moved = cv2.warpAffine(
        frame, np.array([[1, 0, dx], [0, 1, dy]], np.float32), frame.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
    )
    flow = raft.estimate(frame, np.asarray(moved, np.uint8))[24:-24, 24:-24]
    assert np.hypot(flow[..., 0] - dx, flow[..., 1] - dy).mean() < 0.15


def test_raft_and_dis_agree_on_the_direction(avenue: Pair, raft: FlowEstimator) -> None:
    dense = open_flow(FlowSettings()).estimate(*avenue)
    learned = raft.estimate(*avenue)
    moving = np.hypot(dense[..., 0], dense[..., 1]) > 1.5
    same_way = (dense[moving] * learned[moving]).sum(axis=1) > 0
    assert moving.sum() > 500
    assert same_way.mean() > 0.8
