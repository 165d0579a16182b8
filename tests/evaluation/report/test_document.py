"""What a report is made from is checked where it is made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from comemory.errors import EvaluationError
from comemory.evaluation.report import ClipCurve, Finding

PICTURE = np.zeros((4, 6, 3), np.uint8)
TIME = np.array([0.0, 0.1, 0.2])


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"time_s": TIME[:2]}, "time_s of clip 'gate' has shape"),
        ({"labels": np.array([True])}, "labels of clip 'gate' has shape"),
        ({"control": np.zeros((3, 1))}, "control of clip 'gate' has shape"),
        ({"score": np.array([0.0, np.nan, 1.0])}, "score of clip 'gate' holds"),
        ({"control": np.array([0.0, np.inf, 1.0])}, "control of clip 'gate' holds"),
        ({"score": np.array([0.0, 1e200, 1.0])}, "score of clip 'gate' holds"),
        ({"time_s": TIME[::-1]}, "runs backwards"),
        ({"threshold": float("nan")}, "threshold nan of clip 'gate'"),
    ],
)
def test_clip_curves_refuse(changes: dict[str, Any], text: str) -> None:
    known: dict[str, Any] = {"name": "gate", "time_s": TIME, "score": np.zeros(3)}
    with pytest.raises(EvaluationError, match=text):
        ClipCurve(**(known | changes))


def test_single_precision_is_welcome() -> None:
    ClipCurve("gate", TIME.astype(np.float32), np.ones(3, np.float32), threshold=np.float32(0.5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"kind": "success"}, "expected 'false alarm' or 'miss'"),
        ({"picture": np.zeros((4, 6), np.uint8)}, "expected uint8"),
        ({"picture": np.zeros((4, 6, 3))}, "expected uint8"),
        ({"picture": np.zeros((0, 6, 3), np.uint8)}, "expected uint8"),
        ({"heat_map": np.zeros(3)}, "heat map"),
        ({"heat_map": np.array([[np.nan]])}, "heat map"),
        ({"score": float("inf")}, "score inf"),
        ({"time_s": float("nan")}, "time nan"),
    ],
)
def test_findings_refuse(changes: dict[str, Any], text: str) -> None:
    known: dict[str, Any] = {"kind": "miss", "video": "gate", "frame": 3, "time_s": 0.1, "score": 1.0}
    with pytest.raises(EvaluationError, match=text) as caught:
        Finding(**(known | {"picture": PICTURE} | changes))
    assert "frame 3 of 'gate'" in str(caught.value)
