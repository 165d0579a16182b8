"""One form of a network beside fp32, on the same frames, each with its own calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Agreement, Bundle, Check, FormRecord
from comemory.errors import BundleError
from comemory.export.agreement import agreement, check
from comemory.export.footage import clips_of
from comemory.runtimes import RUNTIMES, Network
from comemory.scoring import Calibration, Scorer, fit_calibration
from comemory.training.cache import PreparedVideo
from comemory.types import Runtime

Maps = dict[str, NDArray[np.float32]]


class Comparison:
    """One form beside fp32, each on one thread and with its own calibration.

    Attributes:
        calibration: of the form, once `held_out` has fitted it.
    """

    def __init__(self, bundle: Bundle, runtime: str, network: Network, on_frame: Callable[[], None]) -> None:
        make = RUNTIMES.load(runtime)
        self._bundle, self._on_frame = bundle, on_frame
        self._fp32: Runtime = make(bundle.network, 1)
        self._form: Runtime = make(network, 1)
        self.calibration: Calibration = bundle.calibration

    def held_out(self, videos: Sequence[PreparedVideo], trained: Sequence[PreparedVideo] = ()) -> Agreement:
        """Fit the form's calibration on held-out ordinary video, and compare there.

        Args:
            trained: video that was trained on, to count alarms on too.
        """
        fitted = self._bundle.calibration
        maps = [list(self._observe(self._form, video)) for video in videos]
        seen = (self._observe(self._form, video) for video in trained)
        self.calibration = fit_calibration(maps, fitted.settings, fitted.rate_hz, usual=fitted.usual, seen=seen)
        scores = np.concatenate([_scores(self.calibration, video) for video in maps])
        return agreement(scores, self._all(self._fp32, fitted, videos))

    def check(self, videos: Sequence[tuple[PreparedVideo, NDArray[np.bool_]]]) -> Check:
        """Compare on labelled video."""
        alone = [video for video, _ in videos]
        labels = np.concatenate([labels[video.newest(self._bundle.clips.n_past)] for video, labels in videos])
        scores = self._all(self._form, self.calibration, alone)
        return check(scores, self._all(self._fp32, self._bundle.calibration, alone), labels)

    def _all(self, runtime: Runtime, fitted: Calibration, videos: Sequence[PreparedVideo]) -> NDArray[np.float64]:
        return np.concatenate([_scores(fitted, self._observe(runtime, video)) for video in videos])

    def _observe(self, runtime: Runtime, video: PreparedVideo) -> Iterator[Maps]:
        newest = video.newest(self._bundle.clips.n_past)
        for last, inputs in zip(newest, clips_of(video, self._bundle), strict=True):
            answered = {**runtime.run(inputs), **video.evidence(last)}
            self._on_frame()
            for name, values in answered.items():
                if not np.isfinite(values).all():
                    raise BundleError(
                        f"{runtime.name} gives a {name} that is no number in this precision; nothing was changed"
                    )
            yield {name: values for name, values in answered.items() if not name.startswith("updated_")}


def _scores(calibration: Calibration, maps: Iterator[Maps] | Sequence[Maps]) -> NDArray[np.float64]:
    judge = Scorer(calibration)
    return np.array([judge.push(one).value for one in maps], np.float64)


def refuse_distant(record: FormRecord, runtime: str, precision: str, floor: float) -> None:
    """Raise BundleError where the scores correlate less than the floor asks for."""
    compared: Mapping[str, Agreement] = {"held-out training video": record.held_out, **record.checks}
    for name, found in compared.items():
        lowest = min(found.spearman, found.pearson)
        if not lowest >= floor:
            raise BundleError(
                f"{precision} for {runtime} scores otherwise than fp32: correlation {lowest:.4f} on {name} "
                f"(Spearman {found.spearman:.4f}, Pearson {found.pearson:.4f}, {found.n_frames} frames), expected at "
                f"least {floor:g}; nothing was changed"
            )
