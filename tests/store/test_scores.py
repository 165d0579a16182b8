"""Recorded scores, and the alarms that a threshold would have made of them."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import NOON

from comemory.errors import StoreError
from comemory.store.scores import pack, summarise
from comemory.store.store import EventStore

values = st.floats(-50, 50, width=32)
recording = st.lists(st.tuples(st.integers(1, 3), st.lists(values, min_size=1, max_size=4)), max_size=30)


def rows_of(steps: list[tuple[int, list[float]]]) -> list[tuple[object, bytes]]:
    minute, rows = NOON, []
    for step, maxima in steps:
        minute += timedelta(minutes=step)
        rows.append((minute, pack(maxima)))
    return rows


def counted(steps: list[tuple[int, list[float]]], threshold: float) -> int:
    """Stretches at or above the threshold, one part after the other."""
    alarms, inside = 0, False
    for step, maxima in steps:
        inside = inside and step == 1
        for value in maxima:
            alarms += value >= threshold and not inside
            inside = value >= threshold
    return alarms


class TestAlarms:
    @given(recording, values)
    @settings(max_examples=40, deadline=None)
    def test_as_counted_one_by_one(self, steps: list[tuple[int, list[float]]], threshold: float) -> None:
        summary = summarise("gate", rows_of(steps))  # type: ignore[arg-type]
        assert summary.alarms(threshold) == counted(steps, threshold)
        for maximum in {value for _, maxima in steps for value in maxima}:
            assert summary.alarms(maximum) == counted(steps, maximum)

    @given(st.lists(st.lists(values, min_size=1, max_size=2), min_size=60, max_size=62))
    @settings(max_examples=20, deadline=None)
    def test_the_curve_is_that_of_the_alarms(self, minutes: list[list[float]]) -> None:
        steps = [(1, maxima) for maxima in minutes]
        summary = summarise("gate", rows_of(steps))  # type: ignore[arg-type]
        curve = summary.curve(20)
        assert [threshold for threshold, _ in curve] == sorted({threshold for threshold, _ in curve})
        assert curve[-1][1] == 0
        for threshold, per_day in curve:
            assert per_day == counted(steps, threshold) * 1440 / len(minutes)
            assert per_day == summary.alarms_per_day(threshold)

    def test_too_little_is_not_known(self) -> None:
        summary = summarise("gate", rows_of([(1, [5.0])] * 59))  # type: ignore[arg-type]
        assert summary.alarms_per_day(1.0) is None
        assert summary.curve() == []
        assert summarise("gate", []).to_json() == {
            "camera": "gate",
            "minutes": 0,
            "start": None,
            "end": None,
            "curve": [],
        }


class TestRecording:
    def test_a_day_of_scores(self, store: EventStore) -> None:
        chance = np.random.default_rng(0)
        minutes = chance.normal(size=(120, 3)).astype(np.float32)
        for k, maxima in enumerate(minutes):
            store.record_scores("gate", NOON + timedelta(minutes=k, seconds=30), maxima.tolist(), "model")
        store.record_scores("gate", NOON, [9.0], "model")
        store.record_scores("yard", NOON, [99.0], "model")
        store.record_scores("gate", NOON - timedelta(hours=2), [99.0], "other")
        summary = store.score_summary("gate", NOON, "model")
        assert summary.minutes == 120
        assert (summary.start, summary.end) == (NOON, NOON + timedelta(hours=2))
        assert summary.maxima[0] == 9.0
        assert np.array_equal(summary.maxima[1:], minutes[1:].astype(np.float64).ravel())
        assert store.score_summary("gate", NOON - timedelta(days=1)).minutes == 121
        assert store.score_summary("gate", NOON + timedelta(minutes=30, seconds=20)).start == NOON + timedelta(
            minutes=30
        )
        assert summary.alarms_per_day(8.0) == 12.0
        assert len(summary.to_json()["curve"]) > 20

    @pytest.mark.parametrize("maxima", [[], [float("nan")], [float("inf")], [1e300], [0.0] * 61])
    def test_what_is_no_minute_of_scores(self, file_store: EventStore, maxima: list[float]) -> None:
        with pytest.raises(StoreError, match="maxima"):
            file_store.record_scores("gate", NOON, maxima)
