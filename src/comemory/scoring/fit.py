"""The fit: from the evidence of ordinary video to a calibration."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.errors import ConfigError
from comemory.scoring.calibration import Calibration, Scorer, needed_evidence, unscaled
from comemory.scoring.channels import peak, thesis_parts
from comemory.scoring.config import DecisionSettings
from comemory.scoring.events import EventFinder
from comemory.scoring.spatial_baseline import UsualLevels, fit_perspective, fit_usual, with_relative
from comemory.scoring.tail import TAIL, TailScale, fit_tail_scale
from comemory.types import Score

ENOUGH_ALARMS = 10
"""Ordinary alarms that tell how many frames one has."""
CAREFUL_AT = 3.0
"""The level at which two scales are compared: one ordinary frame in a thousand."""
STEP = 0.1
"""From one threshold to the next at which alarms are counted, in decades."""


def fit_calibration(
    videos: Sequence[Sequence[Mapping[str, NDArray[np.float32]]]],
    settings: DecisionSettings,
    rate_hz: float,
    *,
    trained: Sequence[Mapping[str, NDArray[np.float32]]] = (),
    usual: Mapping[str, UsualLevels] | None = None,
    seen: Iterable[Iterable[Mapping[str, NDArray[np.float32]]]] = (),
) -> Calibration:
    """Fit on the evidence of ordinary videos that were not trained on.

    Ours: what was trained on errs less, so these are what scales are fitted on. But they are a fifth of the video, and may
    be the calmer fifth: people are faster in the morning than at noon. So the score's own scale is fitted twice, without
    and with what was trained on, the more careful of the two is kept, and alarms are counted on all of it.

    Args:
        videos: evidence maps of every frame of every video, in order.
        rate_hz: frames per second of the videos.
        trained: evidence of frames spread over the video that was trained on: what is usual at each place is taken
            from these, because it takes more of the camera's life than what was held out. Without them, from `videos`.
        usual: what is usual, where it is known already.
        seen: evidence of every frame, in order, of videos that were trained on; taken once, one frame at a time.

    Raises:
        ConfigError: fewer than 20 frames, or a channel that the evidence does not hold.
    """
    known = (
        dict(usual) if usual is not None else _usual(trained or [maps for video in videos for maps in video], settings)
    )
    frames = [with_relative(maps, known) for video in videos for maps in video]
    channels = (*settings.motion, *settings.appearance)
    scales = {channel: fit_tail_scale([peak(maps, channel).value for maps in frames]) for channel in channels}
    thesis = [thesis_parts(maps, settings.thesis_patch) for maps in frames]
    plain = Calibration(
        settings=settings,
        scales={**scales, "score": TailScale(knots=(0.0,), levels=(0.0,), excess=1.0)},
        usual=known,
        w_flow=_one_over_mean([flow.value for flow, _ in thesis]),
        w_frame=_one_over_mean([frame for _, frame in thesis]),
        rate_hz=rate_hz,
        frames_per_alarm=1.0,
        n_frames=len(frames),
    )
    return _with_score(plain, [_raw(plain, video) for video in videos], [_raw(plain, video) for video in seen])


def _raw(plain: Calibration, video: Iterable[Mapping[str, NDArray[np.float32]]]) -> NDArray[np.float64]:
    """The scores of a video before they are put on their own scale."""
    judge = Scorer(plain)
    return unscaled(np.array([judge.push(maps).raw for maps in video], np.float64), plain.settings)


def _with_score(
    plain: Calibration, held: Sequence[NDArray[np.float64]], seen: Sequence[NDArray[np.float64]]
) -> Calibration:
    """A calibration with a scale of the score itself and a count of its alarms."""
    both = [*held, *seen]
    fitted = (fit_tail_scale(np.concatenate(videos)) for videos in (held, both))
    scale = max(fitted, key=lambda scale: scale.value_at(CAREFUL_AT))
    n_alarms, frames_per_alarm = _alarms([scale(values) for values in both], plain.settings, plain.rate_hz)
    counted = {"frames_per_alarm": frames_per_alarm, "n_alarms": n_alarms, "n_seen": sum(map(len, seen))}
    return plain.model_copy(update={"scales": {**plain.scales, "score": scale}, **counted})


def _usual(frames: Sequence[Mapping[str, NDArray[np.float32]]], settings: DecisionSettings) -> dict[str, UsualLevels]:
    found: dict[str, UsualLevels] = {}
    for name in sorted(needed_evidence(settings)):
        if not frames:
            raise ConfigError("a calibration needs at least 20 ordinary frames, got 0")
        if name not in frames[0]:
            raise ConfigError(f"the decision needs the evidence {name!r}, which this model does not give")
        seen = (maps[name][0] for maps in frames)
        found[name] = fit_perspective(seen) if name == "flow_mean" else fit_usual(one[0] for one in seen)
    return found


def _one_over_mean(errors: Sequence[float]) -> float:
    mean = float(np.mean(errors))
    if not math.isfinite(mean):
        raise ConfigError(f"the mean error of ordinary frames is {mean}: the network is damaged, train it anew")
    return 1 / max(mean, float(np.finfo(np.float32).tiny))


def _alarms(videos: Sequence[NDArray[np.float64]], settings: DecisionSettings, rate_hz: float) -> tuple[int, float]:
    """How many alarms the tail begins with, and how many frames above a threshold make one.

    The latter at the highest threshold that still gives `ENOUGH_ALARMS`: the higher it is, the shorter they are.
    """
    threshold = TAIL
    begun_with = n_alarms = _n_alarms(videos, threshold, settings, rate_hz)
    frames = _n_above(videos, threshold)
    while (more := _n_alarms(videos, threshold + STEP, settings, rate_hz)) >= ENOUGH_ALARMS:
        threshold += STEP
        n_alarms, frames = more, _n_above(videos, threshold)
    return max(1, begun_with), max(1.0, frames / max(1, n_alarms))


def _n_above(videos: Sequence[NDArray[np.float64]], threshold: float) -> int:
    return sum(int((values >= threshold).sum()) for values in videos)


def _n_alarms(
    videos: Sequence[NDArray[np.float64]], threshold: float, settings: DecisionSettings, rate_hz: float
) -> int:
    alarms = 0
    for values in videos:
        finder = EventFinder("", threshold, settings)
        scores = (Score(i, i / rate_hz, float(value), 0.0, 0.0) for i, value in enumerate(values))
        alarms += sum(1 for _ in finder.run(scores))
    return alarms
