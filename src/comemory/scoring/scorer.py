"""Evidence of one source's frames to scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from comemory.scoring.calibration import Calibration
from comemory.scoring.channels import PatchFilter, Peak, find_peak, thesis_parts, thesis_score
from comemory.scoring.config import ScoringSettings
from comemory.types import Box, Evidence


class ScoreParts(NamedTuple):
    """The score of one frame and what it is made of.

    Attributes:
        value: see `types.Score`.
        appearance: see `types.Score`; 0 without channels.
        motion: see `types.Score`; 0 without channels.
        box: the patch that set the score, in pixels of the model's image; None where that was a number of the whole frame.
        uncalibrated: the smoothed score before it is calibrated.
    """

    value: float
    appearance: float
    motion: float
    box: Box | None
    uncalibrated: float


class Scorer:
    """Scores the frames of one source, in order. Its only state is the moving average over scores."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        smoothing_s = calibration.settings.smoothing_s
        self._past = math.exp(-1 / (calibration.rate_hz * smoothing_s)) if smoothing_s else 0.0
        self._average: float | None = None

    def reset(self) -> None:
        """Forget the source: the next frame starts another one."""
        self._average = None

    def update(self, evidence: Evidence, patch_filter: PatchFilter | None = None) -> ScoreParts:
        """Score the next frame.

        Args:
            evidence: of the frame's clip.
            patch_filter: which patches may set the score; all without it.
        """
        settings = self.calibration.settings
        channels = (*settings.motion, *settings.appearance)
        peaks = {channel: find_peak(evidence.maps, channel, patch_filter) for channel in channels}
        thesis = thesis_peak(evidence, self.calibration, patch_filter) if settings.score == "thesis" else None
        return self.update_peaks(peaks, thesis)

    def update_peaks(self, peaks: Mapping[str, Peak], thesis: Peak | None = None) -> ScoreParts:
        """Score the next frame by the largest patch of each channel.

        Args:
            peaks: by channel.
            thesis: Eq. (16) of the frame, where that is the score.
        """
        settings = self.calibration.settings
        motion = self._part({channel: peaks[channel] for channel in settings.motion})
        appearance = self._part({channel: peaks[channel] for channel in settings.appearance})
        if thesis is not None:
            raw, box = thesis
        else:
            is_motion = bool(settings.motion) and (motion.value >= appearance.value or not settings.appearance)
            box = motion.box if is_motion else appearance.box
            raw = float(fuse_parts(motion.value, appearance.value, settings))
        average = raw
        if self._average is not None:
            average = self._past * self._average + (1 - self._past) * raw
        self._average = average
        value = float(self.calibration.calibrated(average))
        return ScoreParts(value, appearance.value, motion.value, box, average)

    def _part(self, peaks: Mapping[str, Peak]) -> Peak:
        """The fused level of a part's channels, and the box of the channel that contributed most."""
        if not peaks:
            return Peak(0.0, None)
        settings, scales = self.calibration.settings, self.calibration.scales
        if settings.is_sum:
            levels = [float(self.calibration.level(channel, found.value)) for channel, found in peaks.items()]
            highest = max(range(len(levels)), key=levels.__getitem__)
            fused = sum(levels)
        else:
            levels = [float(scales[channel](found.value)) for channel, found in peaks.items()]
            channels = list(peaks)
            highest = max(range(len(levels)), key=lambda i: levels[i] - settings.penalty(channels[i]))
            fused = float(fuse_channels(levels, channels, settings))
        return Peak(fused, list(peaks.values())[highest].box)


def thesis_peak(evidence: Evidence, calibration: Calibration, patch_filter: PatchFilter | None = None) -> Peak:
    """Compute Eq. (16) for a frame, uncalibrated, with the box of its patch. Source: thesis, Eq. (16) to (19)."""
    flow, frame = thesis_parts(evidence.maps, patch_filter=patch_filter)
    w_flow, w_frame = calibration.thesis_weights
    return Peak(thesis_score(flow.value, frame, w_flow, w_frame), flow.box)


def fuse_channels(
    levels: Sequence[float | NDArray[np.float64]], channels: Sequence[str], settings: ScoringSettings
) -> NDArray[np.float64]:
    """Fuse the levels of a part's channels, of frames or of places: their maximum, less each channel's penalty.

    Ours: learned channels are surprised by normal events more often than measured speed is, so they must be rarer to
    count as much.

    >>> float(fuse_channels([2.0, 2.5], ["flow_speed:12", "flow_residual:12"], ScoringSettings()))
    2.0
    """
    penalised = (
        np.asarray(level, np.float64) - settings.penalty(name) for level, name in zip(levels, channels, strict=True)
    )
    return np.asarray(reduce(np.maximum, penalised))


def fuse_parts(
    motion: float | NDArray[np.float64], appearance: float | NDArray[np.float64], settings: ScoringSettings
) -> NDArray[np.float64]:
    """Fuse motion and appearance, of frames or of places: their sum or their maximum. A part without channels does not count.

    Ours: both parts are -log10 of a tail probability. In a sum each channel is weighted by what normal video tells of
    it. Without such weights a part that carries no information in this scene would add its noise: hence the maximum.

    >>> float(fuse_parts(3.0, 2.0, ScoringSettings(fusion="maximum", appearance=("frame_error:32",))))
    3.0
    """
    m, a = np.asarray(motion, np.float64), np.asarray(appearance, np.float64)
    if settings.is_sum:
        return m + a
    if not settings.motion or not settings.appearance:
        return m if settings.motion else a
    return np.maximum(m, a)
