"""Score a source of your own, anything with a name, a rate and frames: `python examples/own_source.py [BUNDLE]`."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from comemory import Detector
from comemory.cli.demo import shipped_bundle
from comemory.types import Frame


@dataclass
class ConveyorBelt:
    """A texture that moves to the right."""

    name: str = "belt"
    rate_hz: float | None = 10.0

    def __iter__(self) -> Iterator[Frame]:
        texture = np.random.default_rng(0).integers(0, 256, (120, 180, 3), dtype=np.uint8)
        for index in range(20):
            yield Frame(np.roll(texture, 3 * index, axis=1), time_s=index / 10, index=index)


detector = Detector.open(sys.argv[1] if len(sys.argv) > 1 else shipped_bundle("synthetic-nano"))
values = [score.value for score in detector.run(ConveyorBelt())]
print(f"{len(values)} of 20 frames scored, mean {np.mean(values):.2f}")
