"""The share of frames with a problem, over a window."""

from __future__ import annotations

from comemory.live.monitoring.recent_share import RecentShare


def test_share_is_that_of_the_window() -> None:
    share = RecentShare(0.1, 0.05, window_s=10, min_frames=10)
    for second in range(30):
        share.update(float(second), 10 if second >= 5 else 0, 10 * second)
    assert share.share == 0.0, "all problems are older than the window"
    assert share.hz == 10.0


def test_few_frames_have_no_share() -> None:
    share = RecentShare(0.1, 0.05, min_frames=100)
    share.update(0.0, 0, 0)
    assert not share.update(1.0, 50, 99)
    assert share.update(2.0, 50, 100)


def test_two_limits_keep_it_from_flapping() -> None:
    share = RecentShare(0.1, 0.05, window_s=1000, min_frames=10)
    share.update(0.0, 0, 0)
    found = [share.update(float(k), problems, 100 * k) for k, problems in ((1, 8), (2, 22), (3, 24), (4, 24), (5, 24))]
    assert found == [False, True, True, True, False]
