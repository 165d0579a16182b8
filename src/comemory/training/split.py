"""Which frames are trained on, and which are held out for the calibration and for validation: one rule for both."""

from __future__ import annotations

from collections.abc import Sequence

MIN_CALIBRATION_CLIPS = 20
"""A calibration needs at least this many clips: with fewer, a scale would be fitted on a handful of numbers."""

MAX_ALARM_COUNT_FRAMES = 18_000
"""Training frames on which alarms are counted, at most: half an hour at ten a second. More would only take time."""

VideoPart = tuple[int, slice]
"""The number of a video, and a range of its frames."""


def split_frames(
    n_frames: Sequence[int], share: float, n_past: int, n_clips: Sequence[int] | None = None
) -> tuple[list[VideoPart], list[VideoPart]]:
    """Split the frames of some videos into training and calibration.

    The calibration gets whole videos, spread evenly, where at least two make up the share and they hold
    `MIN_CALIBRATION_CLIPS`. Otherwise it gets the last part of every video that is long enough to be cut; with no such
    video, the last video. It never gets frames that were trained on: errors on them are smaller, and a threshold fitted
    on them would be too low.

    Args:
        n_frames: frames of each video.
        share: share of the frames for the calibration.
        n_past: frames of a clip before its newest one.
        n_clips: clips of each video, where gaps leave fewer than `n_frames` allows.

    Returns:
        Parts for the training and parts for the calibration; no frame is in both.

    >>> split_frames([100, 100], 0.2, 4)
    ([(0, slice(0, 80, None)), (1, slice(0, 80, None))], [(0, slice(80, 100, None)), (1, slice(80, 100, None))])
    """
    clips = [max(0, n - n_past) for n in n_frames] if n_clips is None else n_clips
    return _split_whole(n_frames, share, clips) or _split_each(n_frames, share, n_past)


def evenly_spaced(n_frames: Sequence[int], most: int = MAX_ALARM_COUNT_FRAMES) -> slice:
    """A slice of some videos, spread evenly, that holds about `most` frames, and at least one video.

    >>> evenly_spaced([6000] * 10), evenly_spaced([10**6])
    (slice(None, None, 4), slice(None, None, 1))
    """
    return slice(None, None, min(max(1, -(-sum(n_frames) // most)), max(1, len(n_frames))))


def _split_whole(
    n_frames: Sequence[int], share: float, n_clips: Sequence[int]
) -> tuple[list[VideoPart], list[VideoPart]] | None:
    """Whole videos for the calibration; None where there are too few videos, or the chosen ones hold too few clips."""
    n_videos = len(n_frames)
    n_held = min(round(n_videos * share), n_videos - 1)
    if n_held < 2:
        return None
    held = {round((i + 1) * n_videos / n_held) - 1 for i in range(n_held)}
    if sum(n_clips[i] for i in held) < MIN_CALIBRATION_CLIPS:
        return None
    whole = [(i, slice(0, n)) for i, n in enumerate(n_frames)]
    return [part for part in whole if part[0] not in held], [part for part in whole if part[0] in held]


def _split_each(n_frames: Sequence[int], share: float, n_past: int) -> tuple[list[VideoPart], list[VideoPart]]:
    """The last part of every video that can be cut so that both parts hold a clip; else the last video."""
    trained: list[VideoPart] = []
    held: list[VideoPart] = []
    for i, n in enumerate(n_frames):
        cut = min(n - n_past - 1, round(n * (1 - share)))
        if cut <= n_past:
            trained.append((i, slice(0, n)))
        else:
            trained.append((i, slice(0, cut)))
            held.append((i, slice(cut, n)))
    return (trained, held) if held else (trained[:-1], trained[-1:])
