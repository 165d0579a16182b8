"""The stills of an event."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cv2
import numpy as np

from comemory.live.recording.snapshots import save_heat_map
from comemory.types import Score
from comemory.video.overlay import draw_score

IMAGE = np.full((240, 360, 3), 100, np.uint8)
HEAT = np.zeros((24, 36), np.float32)
SCORE = Score(index=7, time_s=0.28, value=4.5, appearance=1.0, motion=1.0)
AT = datetime(2026, 11, 30, 9, 57, 15, tzinfo=UTC)


def drawn(path: Path, time_s: float, at: datetime, value: float = 4.5) -> np.ndarray:
    score = replace(SCORE, time_s=time_s, value=value)
    image = cv2.imread(str(save_heat_map(IMAGE, score, HEAT, path, None, at)))
    assert image is not None
    return image


def test_the_heat_map_of_a_live_event_has_the_time_of_day(tmp_path: Path) -> None:
    """Whatever clock the camera counts its frames by."""
    picture = drawn(tmp_path / "a.jpg", 1_795_891_035.76, AT)
    assert np.array_equal(picture, drawn(tmp_path / "b.jpg", 3.0, AT))
    assert not np.array_equal(picture, drawn(tmp_path / "c.jpg", 3.0, AT + timedelta(seconds=1)))
    clock = f"{AT.astimezone():%Y-%m-%d %H:%M:%S}"
    wanted = draw_score(IMAGE, SCORE, heat_map=HEAT, event=True, clock=clock, strip=False)
    assert np.abs(picture[..., ::-1].astype(int) - wanted).mean() < 2


def test_a_still_has_no_strip_for_a_curve_and_shows_its_score(tmp_path: Path) -> None:
    picture = drawn(tmp_path / "a.jpg", 3.0, AT)
    assert picture.shape == (480, 720, 3), "the frame alone, twice as large"
    assert draw_score(IMAGE, SCORE, event=True).shape[0] > 480, "that of a video is below the frame"
    other = drawn(tmp_path / "b.jpg", 3.0, AT, value=9.5)
    rows, columns = np.nonzero(np.abs(picture.astype(int) - other).max(axis=2) > 60)
    assert len(rows), "the score stands beside the time"
    assert rows.max() - rows.min() < 40
    assert columns.max() - columns.min() < 100
