"""When a lost camera is tried again."""

from __future__ import annotations

from itertools import accumulate, pairwise

from hypothesis import given
from hypothesis import strategies as st

from comemory.live.capture.backoff import Backoff


def attempt_times(per_min: int, max_pause_s: float, failures: list[int], live_s: list[float]) -> list[float]:
    """When attempts are made; each connection lives for some time."""
    backoff, now, found = Backoff(per_min, max_pause_s), 1000.0, []
    for failed, lived_s in zip(failures, live_s, strict=False):
        backoff.record_attempt(now)
        found.append(now)
        now += lived_s
        now += backoff.pause_s(now, failed)
    return found


@given(
    st.integers(1, 60),
    st.floats(0.5, 300),
    st.lists(st.integers(0, 20), min_size=1, max_size=60),
    st.lists(st.floats(0, 5), min_size=60, max_size=60),
)
def test_no_minute_has_more_attempts_than_allowed(
    per_min: int, max_pause_s: float, failures: list[int], live_s: list[float]
) -> None:
    made = attempt_times(per_min, max_pause_s, failures, live_s)
    for start in made:
        assert sum(start <= at < start + 60 - 1e-6 for at in made) <= per_min


def test_pauses_grow_up_to_the_limit() -> None:
    gone = attempt_times(12, 8.0, list(range(20)), [0.0] * 20)
    pauses = [later - earlier for earlier, later in pairwise(gone)]
    assert pauses[0] <= 0.5
    assert max(pauses) <= 8.0


def test_camera_that_is_lost_repeatedly_waits_less_than_eight_seconds() -> None:
    made = attempt_times(12, 8.0, [0] * 30, [1.0] * 30)
    pauses = [later - earlier - 1.0 for earlier, later in pairwise(made)]
    assert max(pauses) < 8
    assert list(accumulate(pauses))[2] < 2
