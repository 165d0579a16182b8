"""The parts of a report are checked when they are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from comemory.errors import EvaluationError
from comemory.evaluation.report import ClipCurve, WorstFrame

IMAGE = np.zeros((4, 6, 3), np.uint8)
TIME = np.array([0.0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"time_s": TIME[:2]}, "time_s of clip 'gate' has shape"),
        ({"labels": np.array([True])}, "labels of clip 'gate' has shape"),
        ({"motion_baseline": np.zeros((3, 1))}, "motion_baseline of clip 'gate' has shape"),
        ({"score": np.array([0.0, np.nan, 1.0])}, "score of clip 'gate' holds"),
        ({"motion_baseline": np.array([0.0, np.inf, 1.0])}, "motion_baseline of clip 'gate' holds"),
        ({"score": np.array([0.0, 1e200, 1.0])}, "score of clip 'gate' holds"),
        ({"time_s": TIME[::-1]}, "runs backwards"),
        ({"threshold": float("nan")}, "threshold nan of clip 'gate'"),
    ],
)
def test_malformed_clip_curves_are_refused(changes: dict[str, Any], text: str) -> None:
    known: dict[str, Any] = {"name": "gate", "time_s": TIME, "score": np.zeros(3)}
    with pytest.raises(EvaluationError, match=text):
        ClipCurve(**(known | changes))


def test_single_precision_is_accepted() -> None:
    ClipCurve("gate", TIME.astype(np.float32), np.ones(3, np.float32), threshold=np.float32(0.5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "success"}, "expected 'false alarm' or 'miss'"),
        ({"image": np.zeros((4, 6), np.uint8)}, "expected uint8"),
        ({"image": np.zeros((4, 6, 3))}, "expected uint8"),
        ({"image": np.zeros((0, 6, 3), np.uint8)}, "expected uint8"),
        ({"heat_map": np.zeros(3)}, "heat map"),
        ({"heat_map": np.array([[np.nan]])}, "heat map"),
        ({"score": float("inf")}, "score inf"),
        ({"time_s": float("nan")}, "time nan"),
    ],
)
def test_malformed_findings_are_refused(changes: dict[str, Any], text: str) -> None:
    known: dict[str, Any] = {"kind": "miss", "video": "gate", "frame": 3, "time_s": 0.1, "score": 1.0}
    with pytest.raises(EvaluationError, match=text) as caught:
        WorstFrame(**(known | {"image": IMAGE} | changes))
    assert "frame 3 of 'gate'" in str(caught.value)
