"""What users write, checked by `mypy --strict` with the sources; nothing here runs.

A source, a data set, a flow estimator and a runtime only have to be readable: constants of a class, fields of a frozen
dataclass and properties meet the interfaces.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comemory import Detector, EventFinder, Frame, Source, open_bundle, open_source
from comemory.types import DataCheck, Dataset, FlowEstimator, LabelledSource, Runtime


class Constants:
    name = "constants"
    rate_hz = 10.0

    def __iter__(self) -> Iterator[Frame]:
        yield Frame(np.zeros((4, 4, 3), np.uint8), 0.0, 0)


class NoRate:
    name = "no-rate"
    rate_hz = None

    def __iter__(self) -> Iterator[Frame]:
        yield from ()


@dataclass(frozen=True)
class Frozen:
    name: str = "frozen"
    rate_hz: float | None = 10.0

    def __iter__(self) -> Iterator[Frame]:
        yield from ()


class Properties:
    @property
    def name(self) -> str:
        return "properties"

    @property
    def rate_hz(self) -> float:
        return 10.0

    def __iter__(self) -> Iterator[Frame]:
        yield from ()


class Assigned:
    def __init__(self) -> None:
        self.name, self.rate_hz = "assigned", 10.0

    def __iter__(self) -> Iterator[Frame]:
        yield from ()


class Yard:
    name = "yard"
    rate_hz = None

    def __init__(self, path: str) -> None:
        self.path = path

    def training(self) -> list[LabelledSource]:
        return [LabelledSource("day", Constants())]

    def testing(self) -> list[LabelledSource]:
        return [LabelledSource("night", f"{self.path}/night.mp4")]

    def check(self) -> DataCheck:
        return DataCheck({"training videos": 1})


class NoFlow:
    name = "none"

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.zeros((*previous.shape[:2], 2), np.float32)


class Nothing:
    name = "nothing"

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        return dict(inputs)


def use() -> None:
    sources: list[Source] = [Constants(), NoRate(), Frozen(), Properties(), Assigned()]
    dataset: Dataset = Yard("yard")
    flow: FlowEstimator = NoFlow()
    runtime: Runtime = Nothing()
    detector = Detector(open_bundle("models/gate"), runtime=runtime)
    finder = EventFinder("gate", detector.bundle.calibration.threshold("1/h"), detector.bundle.calibration.settings)
    for source in (*sources, Constants(), Frozen(), Properties(), open_source(Frozen(), size=(2, 3))):
        for event in finder.run(detector.run(source)):
            print(event.peak_score, dataset.name, flow.name)
