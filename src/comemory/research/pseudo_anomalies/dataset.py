"""Pseudo-anomalies as a data set: held-out normal video of another data set, with objects that behave abnormally."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from comemory import datasets
from comemory.errors import ConfigError, DatasetError
from comemory.research.pseudo_anomalies.footage import ObjectBank, PseudoSource
from comemory.research.pseudo_anomalies.perturbations import NORMAL, PERTURBATIONS
from comemory.research.pseudo_anomalies.segments import VideoSegment, split_segments
from comemory.types import DataCheck, Dataset, LabelledSource

KIND = "pseudo"
HELD_OUT_SHARE = 0.2
"""Equal to the default of `train.calibration_share`: the part of the video that a network has not seen."""
MAX_SEGMENTS = 2
"""Segments used, each once for every perturbation and once without. With two, an evaluation takes as long as one on Ped2."""


def open_any_dataset(spec: str) -> Dataset:
    """Open a data set of any kind, `pseudo:KIND:PATH` included.

    Args:
        spec: `KIND:PATH`.

    Raises:
        ConfigError: an unknown kind, or no colon.
        DatasetError: the path is missing, or does not hold what the kind promises.
    """
    kind, _, path = spec.partition(":")
    return PseudoAnomalies(path) if kind.strip() == KIND else datasets.open_dataset(spec)


class PseudoAnomalies:
    """`pseudo:KIND:PATH`: validation without a label of the test set.

    The training videos are those of the base data set. The test videos are made of what `comemory train` holds out of
    them: objects cut out of the same video behave abnormally. Each test video has one kind of perturbation and is
    named after it, such as `fast-01-160`. In one more video, `normal-…`, the same objects at the same times do what they
    always do.

    Ours: the literature trains on such clips; here they also rank variants of a model.

    Args:
        path: `KIND:PATH` of the base data set.

    Attributes:
        name: `pseudo`.
        rate_hz: that of the base data set.
        base: name of the base data set, such as `ped2`.
        source_videos: names of the videos that the test videos are made of; empty until `testing` was called.
    """

    name = KIND

    def __init__(self, path: str) -> None:
        if not path.partition(":")[1]:
            raise ConfigError(f"cannot read the data set 'pseudo:{path}': expected pseudo:KIND:PATH")
        self._base: Dataset = datasets.open_dataset(path)
        self.base = self._base.name
        self.rate_hz: float | None = self._base.rate_hz
        self.source_videos: tuple[str, ...] = ()

    def training(self) -> Sequence[LabelledSource]:
        """Return the normal videos, unchanged."""
        return self._base.training()

    def testing(self) -> Sequence[LabelledSource]:
        """Return held-out video, once without an anomaly and once for each perturbation.

        Raises:
            DatasetError: there is too little normal video.
        """
        held_out = split_segments(self._base.training(), HELD_OUT_SHARE)[1]
        if not held_out:
            raise DatasetError(f"pseudo:{self.base}: no held-out segment of normal video is long enough")
        # Evenly spaced over the held-out video, so that a change of light or crowd over the day is in it.
        picks = np.unique(np.linspace(0, len(held_out) - 1, min(MAX_SEGMENTS, len(held_out))).astype(int))
        chosen = [held_out[i] for i in picks]
        self.source_videos = tuple(dict.fromkeys(segment.video.name for segment in chosen))
        return list(self._videos(chosen))

    def check(self) -> DataCheck:
        """Return what the base data set reports of its training videos, and counts of the test videos made of them."""
        base = self._base.check()
        testing = self.testing()
        n_frames = sum(video.n_frames or 0 for video in testing)
        found = {**base.found, "testing videos": len(testing), "testing frames": n_frames}
        return DataCheck(found, {}, base.problems, base.notes)

    def _videos(self, segments: Sequence[VideoSegment]) -> Iterator[LabelledSource]:
        for number, segment in enumerate(segments):
            bank = ObjectBank()
            for kind in (NORMAL, *PERTURBATIONS):
                source = PseudoSource(
                    f"{kind}-{segment.name}",
                    segment,
                    self.rate_hz or segment.rate_hz,
                    kinds=[kind],
                    seed=(number,),
                    bank=bank,
                )
                labels = source.labels
                yield LabelledSource(source.name, source, len(labels), labels, source.mask)
