"""Weights of channels from normal video alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from comemory.scoring.weights import N_SEGMENTS, fit_weight, segments


def test_a_channel_whose_tail_is_known_counts_nearly_in_full() -> None:
    random = np.random.default_rng(0)
    assert fit_weight([random.exponential(size=500) for _ in range(8)]) > 0.9


def test_a_channel_that_is_high_for_whole_videos_counts_less() -> None:
    random = np.random.default_rng(0)
    steady = [random.exponential(size=500) for _ in range(8)]
    hourly = [video + 3 * number for number, video in enumerate(steady)]
    assert fit_weight(hourly) < 0.6 * fit_weight(steady)


def test_a_channel_with_surprises_in_left_out_video_counts_less() -> None:
    random = np.random.default_rng(0)
    steady = [random.exponential(size=500) for _ in range(8)]
    surprising = [*steady[:-1], np.concatenate([steady[-1][:400], 50 + random.exponential(size=100)])]
    assert fit_weight(surprising) < fit_weight(steady)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12).filter(sum))
def test_segments_lose_no_frame(lengths: list[int]) -> None:
    values = np.arange(sum(lengths), dtype=np.float64)
    videos = np.split(values, np.cumsum(lengths)[:-1])
    parts = segments(videos)
    np.testing.assert_array_equal(np.concatenate(parts), values)
    assert all(len(part) for part in parts)
    assert len(parts) >= min(N_SEGMENTS // len(videos), max(lengths))
