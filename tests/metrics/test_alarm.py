"""Alarms counted by hand, and properties that hold for any events."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.errors import EvaluationError
from comemory.metrics import DetectionDelay, detection_delay, false_alarms_per_hour, intervals

FLAGS = st.lists(st.booleans(), max_size=40)


@given(FLAGS)
@settings(deadline=None, max_examples=100)
def test_intervals_rebuild_the_flags_and_never_touch(flags: list[bool]) -> None:
    runs = intervals(flags)
    rebuilt = np.zeros(len(flags), bool)
    for first, last in runs:
        rebuilt[first : last + 1] = True
    assert rebuilt.tolist() == flags
    assert all(after[0] > before[1] + 1 for before, after in pairwise(runs))


def test_false_alarms_by_hand() -> None:
    labels = [np.array([0, 0, 0, 0, 1, 1, 0, 0]), np.array([0] * 10)]
    events = [[(0, 1), (3, 4), (7, 7)], [(2, 8)]]
    # False: (0, 1), (7, 7), (2, 8). Normal: 6 frames at 2 Hz and 10 frames at 5 Hz, 5 s.
    assert false_alarms_per_hour(events, labels, [2.0, 5.0]) == pytest.approx(3 / 5 * 3600)


def test_no_alarm_is_zero_and_no_normal_frame_is_unknown() -> None:
    assert false_alarms_per_hour([[]], [[0, 0, 1]], [25.0]) == 0.0
    assert false_alarms_per_hour([[(0, 2)]], [[1, 1, 1]], [25.0]) is None
    assert false_alarms_per_hour([], [], []) is None


def test_delay_by_hand() -> None:
    labels = [[0, 1, 1, 1, 1, 0, 1, 1, 0, 1, 0]]
    events = [[(0, 1), (3, 3), (7, 8)]]
    # Anomalies: 1-4 alarmed from its start, 6-7 alarmed one frame late, 9 missed.
    assert detection_delay(events, labels, [10.0]) == DetectionDelay(0.05, 2, 1, median_in_view_s=0.05, n_in_view=3)


def test_delay_of_one_event_over_two_anomalies() -> None:
    assert detection_delay([[(1, 5)]], [[1, 1, 0, 0, 1, 1]], [1.0]) == DetectionDelay(
        0.5, 2, 0, median_in_view_s=0.0, n_in_view=1
    )


def test_delay_without_events_or_anomalies() -> None:
    assert detection_delay([[]], [[0, 1]], [1.0]) == DetectionDelay(None, 0, 1, None, 1)
    assert detection_delay([[(0, 0)]], [[0, 0]], [1.0]) == DetectionDelay(None, 0, 0)
    assert detection_delay([], [], []) == DetectionDelay(None, 0, 0)


@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 2**30))
@settings(deadline=None, max_examples=80)
def test_events_that_are_the_labels_are_never_false_or_late(labels: list[bool], seed: int) -> None:
    events = [intervals(labels)]
    assert false_alarms_per_hour(events, [labels], [25.0]) in (0.0, None)
    delay = detection_delay(events, [labels], [25.0])
    assert delay.n_missed == 0
    assert delay.median_s in (0.0, None)
    alarms = np.random.default_rng(seed).random(len(labels)) < 0.3
    found = detection_delay([intervals(alarms)], [labels], [25.0])
    assert found.n_detected == sum(alarms[first : last + 1].any() for first, last in events[0])


@pytest.mark.parametrize("function", [false_alarms_per_hour, detection_delay])
def test_invalid_input_is_refused(function: object) -> None:
    assert callable(function)
    for event in [(-1, 0), (1, 0), (0, 2)]:
        with pytest.raises(EvaluationError, match=r"event of frames .* in video 'gate'"):
            function([[event]], [[0, 1]], [25.0], ["gate"])
    for rate in [0.0, -1.0, float("nan"), float("inf")]:
        with pytest.raises(EvaluationError, match=r"rate .* Hz of video 'gate'"):
            function([[]], [[0, 1]], [rate], ["gate"])
    with pytest.raises(EvaluationError, match="expected one of each"):
        function([[]], [[0, 1]], [25.0, 25.0])


def test_anomalies_under_way_at_the_first_score_are_counted_apart() -> None:
    labels = [[1, 1, 1, 0, 0, 1, 1, 1], [0, 0, 1, 1, 0, 0, 0, 0]]
    watched = [[0, 0, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1, 1]]
    found = detection_delay([[(2, 2), (7, 7)], []], labels, [1.0, 1.0], scored=watched)
    assert found == DetectionDelay(2.0, 2, 1, median_in_view_s=2.0, n_in_view=1)


def test_frames_that_only_join_an_event_overlap_nothing() -> None:
    labels, events = [[0, 0, 1, 1, 0, 0]], [[(1, 4)]]
    assert false_alarms_per_hour(events, labels, [1.0]) == 0.0
    assert false_alarms_per_hour(events, labels, [1.0], above_threshold=[[0, 1, 0, 0, 1, 0]]) == 900.0


def test_frames_without_a_score_do_not_count_as_normal_time() -> None:
    assert false_alarms_per_hour([[(2, 3)]], [[0] * 4], [1.0], scored=[[0, 0, 1, 1]]) == 1800.0


def test_flags_of_other_frames_are_refused() -> None:
    with pytest.raises(EvaluationError, match="3 flags of video number 0 for 4 frames"):
        detection_delay([[]], [[0] * 4], [1.0], scored=[[1] * 3])
