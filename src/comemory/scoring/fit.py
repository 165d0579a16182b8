"""Fits the calibration on the evidence of normal video."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comemory.errors import ConfigError
from comemory.scoring.calibration import Calibration, expand_scores, needed_baselines
from comemory.scoring.channels import HAND_DESIGNED, Peak, find_peak, parse_channel, thesis_parts, thesis_score
from comemory.scoring.config import ScoringSettings
from comemory.scoring.directional import fit_directional_levels
from comemory.scoring.events import EventFinder
from comemory.scoring.scorer import Scorer
from comemory.scoring.spatial_baseline import (
    DIRECTIONAL,
    SpatialBaseline,
    fit_row_baseline,
    fit_spatial_baseline,
    normalise,
)
from comemory.scoring.tail import TAIL_START, TailScale, fit_tail_scale
from comemory.scoring.weights import fit_weight
from comemory.types import Evidence, Score

Maps = Mapping[str, NDArray[np.float32]]
"""Raw evidence maps of one frame by name, before the spatial baselines are known."""

MIN_ALARMS = 10
"""Alarms that are needed to measure how many frames one has."""

COMPARED_AT = 3.0
"""The level, one normal frame in a thousand, at which two scales are compared."""

THRESHOLD_STEP = 0.1
"""Distance of the thresholds at which alarms are counted, in log10 units."""


def fit_calibration(
    videos: Iterable[Iterable[Maps]],
    settings: ScoringSettings,
    rate_hz: float,
    *,
    baseline_frames: Sequence[Maps] = (),
    spatial_baselines: Mapping[str, SpatialBaseline] | None = None,
    known_baselines: Mapping[str, SpatialBaseline] | None = None,
    training_videos: Iterable[Iterable[Maps]] = (),
    known: Calibration | None = None,
) -> Calibration:
    """Fit on the evidence of normal videos that the network was not trained on.

    Ours: a network errs less on its training video, so scales are fitted on held-out video. But that is only a fifth of
    the video and may be its quieter fifth. So the score's own scale is fitted twice, without and with training video;
    the more conservative one is used, and alarms are counted on all of it.

    Of each frame a few numbers are held, not its evidence, so that hours of video fit into memory. Only where spatial baselines
    must be fitted on `videos` themselves is their evidence held.

    Args:
        videos: evidence of every frame of every held-out video, in order; iterated once, one frame at a time.
        settings: what to fit for.
        rate_hz: frames per second of the videos.
        baseline_frames: evidence of frames spread over the training video, to fit the spatial baselines on: it covers
            more of the camera's life than the held-out video. Without it, `videos` are used.
        spatial_baselines: all baselines, where they are known already; none is fitted then.
        known_baselines: some of them, such as those of the scene; the others are fitted.
        training_videos: evidence of every frame of training videos, in order; iterated once, one frame at a time.
        known: fitted on the same video with the network in another precision. What needs no output of the network is taken
            from it: a score without one is then the same to the last bit.

    Raises:
        ConfigError: fewer than 20 frames, or the evidence lacks a channel.
    """
    if spatial_baselines is None:
        of_scene = known_baselines or {}
        if not baseline_frames and needed_baselines(settings) - set(of_scene):
            videos = [list(video) for video in videos]
            baseline_frames = [maps for video in videos for maps in video]
        spatial_baselines = _fit_spatial_baselines(baseline_frames, settings, of_scene)

    def measured(parts: Iterable[Iterable[Maps]], with_thesis: bool) -> list[list[_Measured]]:
        found = ((normalise(maps, spatial_baselines) for maps in video) for video in parts)
        return [[_measure(evidence, settings, with_thesis) for evidence in video] for video in found]

    held_out = measured(videos, with_thesis=True)
    training = measured(training_videos, with_thesis=settings.score == "thesis")
    plain = _fit_channels(held_out, training, settings, rate_hz, spatial_baselines, known)
    if known is not None and not settings.needs_network:
        return known.model_copy(update={"w_flow": plain.w_flow, "w_frame": plain.w_frame})
    scores = [[_raw_scores(plain, video) for video in part] for part in (held_out, training)]
    return _with_score_scale(plain, *scores)


@dataclass(frozen=True, slots=True)
class _Measured:
    """What a calibration needs of a frame.

    Attributes:
        peaks: the largest patch of every channel.
        thesis: the flow error and the frame error of Eq. (16); None where they are not measured.
    """

    peaks: Mapping[str, Peak]
    thesis: tuple[Peak, float] | None


def _measure(evidence: Evidence, settings: ScoringSettings, with_thesis: bool) -> _Measured:
    peaks = {channel: find_peak(evidence.maps, channel) for channel in (*settings.motion, *settings.appearance)}
    has_errors = {"flow_error", "frame_error"} <= set(evidence.maps)
    return _Measured(peaks, thesis_parts(evidence.maps) if with_thesis and has_errors else None)


def _fit_channels(
    held_out: Sequence[Sequence[_Measured]],
    training: Sequence[Sequence[_Measured]],
    settings: ScoringSettings,
    rate_hz: float,
    baselines: Mapping[str, SpatialBaseline],
    known: Calibration | None,
) -> Calibration:
    """A calibration whose channels have scales and weights, and whose score is still as it is before calibration.

    A channel without the network is fitted on the training video too, if it is to be part of a sum. The thesis' score has no
    channels, and is fitted on held-out video alone.
    """
    if settings.score == "thesis":
        training = []
    w_flow, w_frame = _thesis_weights(held_out)
    scales = {"score": TailScale(knots=(0.0,), levels=(0.0,), excess=1.0)}
    weights: dict[str, float] = {}
    for channel in (*settings.motion, *settings.appearance):
        is_measured = parse_channel(channel)[0] in HAND_DESIGNED
        if is_measured and known is not None:
            scales[channel] = known.scales[channel]
            weights |= {name: weight for name, weight in known.weights.items() if name == channel}
            continue
        used = [*held_out, *training] if settings.is_sum and is_measured else held_out
        values = [np.array([frame.peaks[channel].value for frame in video], np.float64) for video in used if video]
        resolution = settings.resolution(channel)
        scales[channel] = fit_tail_scale(np.concatenate([*values, np.zeros(0)]), resolution)
        if settings.is_sum:
            weights[channel] = fit_weight(values, resolution)
    return Calibration(
        settings=settings,
        scales=scales,
        weights=weights,
        spatial_baselines=dict(baselines),
        rate_hz=rate_hz,
        frames_per_alarm=1.0,
        n_frames=sum(map(len, held_out)),
        w_flow=w_flow,
        w_frame=w_frame,
        static_threshold=None if known is None else known.static_threshold,
    )


def _raw_scores(calibration: Calibration, video: Sequence[_Measured]) -> NDArray[np.float64]:
    """The scores of a video before calibration: in log10 units, or Eq. (16) where that is the score."""
    scorer = Scorer(calibration)
    if calibration.settings.score == "thesis":
        w_flow, w_frame = calibration.thesis_weights
        parts = [(frame.peaks, frame.thesis) for frame in video]
        found = [
            (peaks, errors and Peak(thesis_score(errors[0].value, errors[1], w_flow, w_frame), errors[0].box))
            for peaks, errors in parts
        ]
        return np.array([scorer.update_peaks(peaks, thesis).uncalibrated for peaks, thesis in found], np.float64)
    raw = np.array([scorer.update_peaks(frame.peaks).uncalibrated for frame in video], np.float64)
    return expand_scores(raw, calibration.settings)


def _with_score_scale(
    plain: Calibration, held_out: Sequence[NDArray[np.float64]], training: Sequence[NDArray[np.float64]]
) -> Calibration:
    """The calibration with the scale of the score itself and its alarm count."""
    both = [*held_out, *training]
    scales = (fit_tail_scale(np.concatenate(videos)) for videos in (held_out, both))
    # The scale that needs the higher raw score for the same level gives the higher thresholds.
    scale = max(scales, key=lambda scale: scale.value_at(COMPARED_AT))
    n_alarms, frames_per_alarm = _count_alarms([scale(values) for values in both], plain.settings, plain.rate_hz)
    counted = {
        "frames_per_alarm": frames_per_alarm,
        "n_alarms": n_alarms,
        "n_training_frames": sum(map(len, training)),
    }
    return plain.model_copy(update={"scales": {**plain.scales, "score": scale}, **counted})


def _fit_spatial_baselines(
    frames: Sequence[Maps], settings: ScoringSettings, known: Mapping[str, SpatialBaseline]
) -> dict[str, SpatialBaseline]:
    fitted = dict(known)
    for baseline in sorted(needed_baselines(settings) - set(known)):
        name = "flow_mean" if baseline == DIRECTIONAL else baseline
        if not frames:
            raise ConfigError("a calibration needs at least 20 normal frames, got 0")
        if name not in frames[0]:
            raise ConfigError(f"the score needs the evidence {name!r}, which this model does not give")
        found = (maps[name][0] for maps in frames)
        if baseline == DIRECTIONAL:
            fitted[baseline] = SpatialBaseline(levels=fit_directional_levels(found))
        elif name == "flow_mean":
            fitted[baseline] = fit_row_baseline(found)
        else:
            fitted[baseline] = fit_spatial_baseline(one[0] for one in found)
    return fitted


def _thesis_weights(videos: Sequence[Sequence[_Measured]]) -> tuple[float, float] | tuple[None, None]:
    """w_F and w_I of Eq. (17) and (18); None where the model does not give both errors."""
    errors = [frame.thesis for video in videos for frame in video if frame.thesis is not None]
    if not errors:
        return None, None
    return _one_over_mean([flow.value for flow, _ in errors]), _one_over_mean([frame for _, frame in errors])


def _one_over_mean(errors: Sequence[float]) -> float:
    mean = float(np.mean(errors))
    if not math.isfinite(mean):
        raise ConfigError(f"the mean error of normal frames is {mean}: the network is damaged, train it again")
    return 1 / max(mean, float(np.finfo(np.float32).tiny))


def _count_alarms(
    videos: Sequence[NDArray[np.float64]], settings: ScoringSettings, rate_hz: float
) -> tuple[int, float]:
    """Count the alarms where the tail starts, and how many frames above the threshold an alarm has.

    Alarms are shorter the higher the threshold is, so their frames are counted at the highest threshold that still has
    `MIN_ALARMS`.
    """
    threshold = TAIL_START
    n_at_start = n_alarms = _n_alarms(videos, threshold, settings, rate_hz)
    n_frames = _n_above(videos, threshold)
    while (more := _n_alarms(videos, threshold + THRESHOLD_STEP, settings, rate_hz)) >= MIN_ALARMS:
        threshold += THRESHOLD_STEP
        n_alarms, n_frames = more, _n_above(videos, threshold)
    return max(1, n_at_start), max(1.0, n_frames / max(1, n_alarms))


def _n_above(videos: Sequence[NDArray[np.float64]], threshold: float) -> int:
    return sum(int((values >= threshold).sum()) for values in videos)


def _n_alarms(
    videos: Sequence[NDArray[np.float64]], threshold: float, settings: ScoringSettings, rate_hz: float
) -> int:
    n_alarms = 0
    for values in videos:
        finder = EventFinder("", threshold, settings)
        scores = (Score(i, i / rate_hz, float(value), 0.0, 0.0) for i, value in enumerate(values))
        n_alarms += sum(1 for _ in finder.run(scores))
    return n_alarms
