"""The nouns of comemory and its seams.

Source -> Frame -> Clip -> Evidence -> Score -> Event
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

CELL = 4
"""Side in pixels of the cells that evidence maps are made of; `science.evidence.CELL`, which a test holds equal."""

SHOWN = ("restlessness", "beyond_noise")
"""Evidence that a clip shows by itself, whatever a network makes of it: motion that went nowhere, roots of pixels, and how
sure it is of each cell that it has changed by more than noise, from 0 to 1; see `video.restless`."""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the source; right and bottom are one past the last pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a source.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        time_s: seconds since the start of the source, from its own timestamps.
        index: 0 for the first frame of the source.
    """

    image: NDArray[np.uint8]
    time_s: float
    index: int


class Folding:
    """An array of (C, H, W), to be had folded: squares of pixels as the channels of one place.

    Each kind of squares is made once, when it is first asked for: a frame is in several clips. Threads may share one.
    """

    __slots__ = ("_array", "_made")

    def __init__(self, array: NDArray[np.float32]) -> None:
        self._array = array
        self._made: dict[int, NDArray[np.float32]] = {}

    def squares(self, side: int) -> NDArray[np.float32]:
        """The array in squares of `side` pixels, in the order of torch's `pixel_unshuffle`; C-contiguous.

        Shapes: returns (C side**2, H / side, W / side).

        >>> Folding(np.arange(4, dtype=np.float32).reshape(1, 2, 2)).squares(2).ravel()
        array([0., 1., 2., 3.], dtype=float32)
        """
        made = self._made.get(side)
        if made is None:
            channels, height, width = self._array.shape
            split = self._array.reshape(channels, height // side, side, width // side, side)
            folded = split.transpose(0, 2, 4, 1, 3).reshape(channels * side**2, height // side, width // side)
            made = self._made[side] = np.ascontiguousarray(folded)
        return made


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """The model's input for its newest frame.

    Attributes:
        pictures: float32 (C, H, W) in [-1, 1] each, oldest first; the last one is the frame to be predicted.
        motion: float32 (2, H, W), displacement (dx, dy) in pixels of the model's size.
        index, time_s: of the newest frame.
        shown: float32 (S, H / CELL, W / CELL), a map for each of `SHOWN`.
    """

    pictures: Sequence[Folding]
    motion: Folding
    index: int
    time_s: float
    shown: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        frames: NDArray[np.float32],
        flow: NDArray[np.float32],
        index: int = 0,
        time_s: float = 0.0,
        shown: NDArray[np.float32] | None = None,
    ) -> Clip:
        """A clip from its arrays, see `frames`, `flow` and `shown`: without it, nobody was restless and no change is noise."""
        if shown is None:
            shown = np.zeros((len(SHOWN), flow.shape[1] // CELL, flow.shape[2] // CELL), np.float32)
            shown[-1] = 1
        return cls([Folding(frame) for frame in frames], Folding(flow), index, time_s, shown)

    @property
    def frames(self) -> NDArray[np.float32]:
        """Float32 (T + 1, C, H, W), a new array."""
        return np.stack([picture.squares(1) for picture in self.pictures])

    @property
    def flow(self) -> NDArray[np.float32]:
        """Float32 (2, H, W)."""
        return self.motion.squares(1)

    @property
    def evidence(self) -> dict[str, NDArray[np.float32]]:
        """What the clip shows by itself, whatever a network makes of it: maps by name, float32 (1, 1, h, w)."""
        return shown_maps(self.shown)


def shown_maps(shown: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """What a clip shows by itself, by name of evidence. Shapes: (S, h, w); each map (1, 1, h, w)."""
    return {name: one[None, None] for name, one in zip(SHOWN, shown, strict=True)}


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What the network says of one clip: named raw numbers and named maps, float32."""

    values: Mapping[str, float]
    maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """How abnormal one frame is, made from past and present alone.

    Attributes:
        index, time_s: of the frame.
        value: calibrated and smoothed; higher is more abnormal.
        appearance, motion: the calibrated parts, on the same scale, before smoothing.
        box: the worst patch in pixels of the source.
        heat_map: float32 (h, w) in [0, 1], on request.
    """

    index: int
    time_s: float
    value: float
    appearance: float
    motion: float
    box: Box | None = None
    heat_map: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An interval of a source above threshold.

    Attributes:
        source: its name.
        start_frame, end_frame: the first and the last frame of it; both belong to it.
        peak_frame: the first frame of the highest score.
        start_s, end_s, peak_s: the times of these frames.
        box: the worst patch of the peak, in the pixels of the scores' boxes.
    """

    source: str
    start_frame: int
    end_frame: int
    peak_frame: int
    start_s: float
    end_s: float
    peak_s: float
    peak_score: float
    box: Box | None = None


@runtime_checkable
class Source(Protocol):
    """A video file, a folder of frames, or a camera: iterate it for its frames, from the first, each time anew.

    Attributes:
        name: short and free of secrets; it goes into tables and file names.
        rate_hz: frames per second as the container states it, None when it does not.
    """

    name: str
    rate_hz: float | None

    def __iter__(self) -> Iterator[Frame]: ...


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSource:
    """One video of a dataset, with what is known of it.

    Attributes:
        name: unique in its split, such as `01`.
        source: a path that `video.open_source` understands, or a Source made in memory.
        n_frames: counted without decoding where possible, None when not known.
        labels: bool (n_frames,), True where abnormal; None when there are no labels.
        mask: gives the bool (H, W) pixel mask of frame i; None when there are no masks.
    """

    name: str
    source: str | Source
    n_frames: int | None = None
    labels: NDArray[np.bool_] | None = None
    mask: Callable[[int], NDArray[np.bool_]] | None = None


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What `comemory data check` found.

    Attributes:
        found: counts, such as `{"training videos": 16, "training frames": 2550}`.
        published: the same keys with the published counts, where they are known.
        problems: one line each, starting with the path.
        notes: one line each, not problems: which label set is used, which part of the data set is here.
    """

    found: Mapping[str, int]
    published: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()


@runtime_checkable
class Dataset(Protocol):
    """Ordinary video to train on and labelled video to test on. Built from one path; opening decodes nothing.

    Attributes:
        name: the table's name, such as `ped2`.
        rate_hz: frames per second of the recordings where the container does not say (frame folders).
    """

    name: str
    rate_hz: float | None

    def __init__(self, path: str) -> None: ...

    def training(self) -> Sequence[LabelledSource]: ...

    def testing(self) -> Sequence[LabelledSource]: ...

    def check(self) -> DataCheck: ...


@runtime_checkable
class FlowEstimator(Protocol):
    """Dense motion between two pictures of the same size."""

    name: str

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Displacement of every pixel of `previous` on its way to `current`.

        Shapes:
            previous, current: uint8 (H, W, 3), RGB.
            returns: float32 (H, W, 2), (dx, dy) in pixels.
        """
        ...


@runtime_checkable
class Runtime(Protocol):
    """What executes an exported network: named arrays in, named arrays out. Holds no state between calls."""

    name: str

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]: ...


class Sink(Protocol):
    """Where events go."""

    def send(self, event: Event) -> None: ...


JSON = dict[str, Any]
"""A JSON object."""
