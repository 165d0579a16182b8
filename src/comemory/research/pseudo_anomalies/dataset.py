"""Pseudo-anomalies as a data set: any other data set's held-out ordinary video, with acts that do not belong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.datasets import open_dataset
from comemory.errors import ConfigError, DatasetError
from comemory.research.pseudo_anomalies.footage import PseudoSource, Stock
from comemory.research.pseudo_anomalies.perturbations import ACTS, USUAL
from comemory.research.pseudo_anomalies.segments import Stretch, stretches
from comemory.types import DataCheck, Dataset, LabelledSource

HOLDOUT = 0.2
"""The share that `train.holdout` keeps back by default, and so the part that a network has not seen."""
MOST = 2
"""Stretches of the held-out video at the most; each is tested once for each kind, and once without."""


class Pseudo:
    """`pseudo:KIND:PATH`: validation without a label of the test set.

    Training video is that of the data set below. Testing video is what `comemory train` holds out of it, in which
    objects cut out of the same video do what they never did: one kind of act in each video, which is named after it, and in
    one video more, `usual`, the same objects at the same times do what they always do.

    Ours: the literature makes such clips to train on; here they choose between variants as well.

    Attributes:
        below: name of the data set that it is made of, such as `ped2`.
        made_of: names of the videos that its testing video was made of, once that was asked for.
    """

    name = "pseudo"

    def __init__(self, path: str) -> None:
        if not path.partition(":")[1]:
            raise ConfigError(f"cannot read the data set 'pseudo:{path}': expected pseudo:KIND:PATH")
        self._below: Dataset = open_dataset(path)
        self.below = self._below.name
        self.rate_hz: float | None = self._below.rate_hz
        self.made_of: tuple[str, ...] = ()

    def training(self) -> Sequence[LabelledSource]:
        """The ordinary video, as it is."""
        return self._below.training()

    def testing(self) -> Sequence[LabelledSource]:
        """Held-out video, once as usual and once for each kind of act.

        Raises:
            DatasetError: there is too little ordinary video.
        """
        held = stretches(self._below.training(), HOLDOUT)[1]
        if not held:
            raise DatasetError(f"pseudo:{self.below}: no stretch of ordinary video is long enough to act in")
        chosen = [held[i] for i in np.unique(np.linspace(0, len(held) - 1, min(MOST, len(held))).astype(int))]
        self.made_of = tuple(dict.fromkeys(stretch.video.name for stretch in chosen))
        return list(self._videos(chosen))

    def check(self) -> DataCheck:
        """What the data set below says of its training video, and what was made of it."""
        below = self._below.check()
        testing = self.testing()
        n_frames = sum(video.n_frames or 0 for video in testing)
        found = {**below.found, "testing videos": len(testing), "testing frames": n_frames}
        return DataCheck(found, {}, below.problems, below.notes)

    def _videos(self, chosen: Sequence[Stretch]) -> Iterator[LabelledSource]:
        for number, stretch in enumerate(chosen):
            stock = Stock()
            for kind in (USUAL, *ACTS):
                name = f"{kind}-{stretch.name}"
                source = PseudoSource(
                    name, stretch, self.rate_hz or stretch.rate_hz, kinds=[kind], seed=(number,), stock=stock
                )
                labels: NDArray[np.bool_] = source.labels
                yield LabelledSource(source.name, source, len(labels), labels, source.mask)
