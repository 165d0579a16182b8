"""The activity by hour: which places move, how fast, and when a part of an hour is complete."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from comemory.live.recording.activity import PART_S, ActivityRecorder
from comemory.store.activity import COLUMNS, ROWS

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC).timestamp()


def evidence(shape: tuple[int, int], place: tuple[int, int] | None, speed: float = 3.0) -> dict[str, np.ndarray]:
    """A still picture but for one place, which moves at a speed in pixels a frame."""
    confidence, flow = np.zeros((1, 1, *shape), np.float32), np.full((1, 2, *shape), 0.1, np.float32)
    if place is not None:
        confidence[0, 0][place], flow[0, 0][place], flow[0, 1][place] = 1.0, speed, 0.0
    return {"change_confidence": confidence, "flow_mean": flow}


def test_frames_are_added_up_until_the_part_is_over() -> None:
    recorder = ActivityRecorder(width=192, rate_hz=10.0)
    assert recorder.add(NOON, evidence((32, 48), (31, 47))) is None
    assert recorder.add(NOON + 1, evidence((32, 48), None)) is None
    done = recorder.add(NOON + PART_S, evidence((32, 48), (0, 0)))
    assert done is not None
    assert (done.hour.timestamp(), done.frames) == (NOON, 2)
    assert done.moving.sum() == done.moving[ROWS - 1, COLUMNS - 1] == 1
    assert done.speed[ROWS - 1, COLUMNS - 1] == pytest.approx(3 * 10 / 192)
    rest = recorder.finish()
    assert rest is not None
    assert (rest.frames, rest.moving[0, 0]) == (1, 1)
    assert recorder.finish() is None


@pytest.mark.parametrize("shape", [(12, 16), (8, 9), (33, 50), (1, 1)])
def test_every_size_of_map_fills_the_grid(shape: tuple[int, int]) -> None:
    recorder = ActivityRecorder(width=100, rate_hz=1.0)
    recorder.add(NOON, {"change_confidence": np.ones((1, 1, *shape)), "flow_mean": np.ones((1, 2, *shape))})
    done = recorder.finish()
    assert done is not None
    assert (done.moving == 1).all()
