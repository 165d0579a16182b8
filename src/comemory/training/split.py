"""Which part of the ordinary video is kept back: one rule, for calibration and for validation."""

from __future__ import annotations

from collections.abc import Sequence

LEAST = 20
"""Held-out clips that a calibration takes at the least."""

MOST_SEEN = 18_000
"""Frames trained on that the alarms are counted on too: half an hour at ten a second."""

Part = tuple[int, slice]
"""The number of a video, and its frames."""


def hold_out(
    n_frames: Sequence[int], share: float, n_past: int, n_clips: Sequence[int] | None = None
) -> tuple[list[Part], list[Part]]:
    """Share out the frames of some videos.

    Whole videos, spread evenly, where there are enough of them; else the last part of every video that is long enough
    to be cut; else the last video. Never frames that were trained on, because a threshold fitted on them is too low.

    Args:
        n_frames: of each video.
        share: to be held out.
        n_past: frames of a clip before its newest one.
        n_clips: of each video, where gaps leave fewer than the frames allow.

    Returns:
        Parts to train on and parts held out; no frame is in both.

    >>> hold_out([100, 100], 0.2, 4)
    ([(0, slice(0, 80, None)), (1, slice(0, 80, None))], [(0, slice(80, 100, None)), (1, slice(80, 100, None))])
    """
    n_videos = len(n_frames)
    clips = [max(0, n - n_past) for n in n_frames] if n_clips is None else n_clips
    whole = [(i, slice(0, n)) for i, n in enumerate(n_frames)]
    n_held = min(round(n_videos * share), n_videos - 1)
    if n_held >= 2:
        held = {round((i + 1) * n_videos / n_held) - 1 for i in range(n_held)}
        if sum(clips[i] for i in held) >= LEAST:
            return [part for part in whole if part[0] not in held], [part for part in whole if part[0] in held]
    trained: list[Part] = []
    kept: list[Part] = []
    for i, n in enumerate(n_frames):
        cut = min(n - n_past - 1, round(n * (1 - share)))
        if cut <= n_past:
            trained.append(whole[i])
            continue
        trained.append((i, slice(0, cut)))
        kept.append((i, slice(cut, n)))
    return (trained, kept) if kept else (trained[:-1], trained[-1:])


def spread(n_frames: Sequence[int], most: int = MOST_SEEN) -> slice:
    """Which of some videos to look at, spread evenly, so that they have about `most` frames; at least one of them.

    >>> spread([6000] * 10), spread([10**6])
    (slice(None, None, 4), slice(None, None, 1))
    """
    return slice(None, None, min(max(1, -(-sum(n_frames) // most)), max(1, len(n_frames))))
