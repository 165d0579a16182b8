"""The types that all packages share, and the interfaces between packages.

Source -> Frame -> Clip -> Evidence -> Score -> Event
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from comemory.errors import DatasetError, SourceError, short_repr

CELL = 4
"""Side in pixels of the cells of which evidence maps are made; a test holds it equal to `models.evidence.CELL`."""

INPUT_MAPS = ("agitation", "change_confidence")
"""Evidence maps that are computed from the frames, without a network; see `clips.agitation`.

`agitation` is motion in place, in square roots of pixels. `change_confidence` is how certain it is that a cell has changed by
more than noise, from 0 to 1.
"""

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of the source; right and bottom are one past the last pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One image of a source.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        time_s: seconds since the start of the source, from its own timestamps.
        index: 0 for the first frame of the source; a gap in the indices is a lost frame.
        is_restart: another recording begins with this frame: the clock of the source started again, or its size changed.

    >>> Frame(np.zeros((480, 640, 3), np.uint8), time_s=0.04, index=1)
    Frame(image=uint8 (480, 640, 3), time_s=0.04, index=1)
    """

    image: NDArray[np.uint8]
    time_s: float
    index: int
    is_restart: bool = False

    def __post_init__(self) -> None:
        """Refuse a time and an index that nothing after this could use.

        Raises:
            SourceError: the time is not a finite number, or the index is not a whole one.
        """
        try:
            has_time = math.isfinite(self.time_s)
        except (TypeError, ValueError, OverflowError):
            has_time = False
        if not has_time:
            raise SourceError(f"a frame has the time {short_repr(self.time_s)}: expected its seconds, a finite number")
        if type(self.index) is not int:  # of NumPy, whose small types overflow
            object.__setattr__(self, "index", _read_index(self.index))

    def __repr__(self) -> str:
        return f"Frame(image={describe_value(self.image)}, time_s={self.time_s}, index={self.index})"


def _read_index(index: Any) -> int:
    try:
        return int(operator.index(index))
    except TypeError:
        raise SourceError(f"a frame has the index {short_repr(index)}: expected a whole number") from None


def describe_value(value: object) -> str:
    """A value for an error message, on one short line: an array by its type and shape, all else by its type.

    >>> describe_value(np.zeros((480, 640, 3), np.uint8)), describe_value([1, 2])
    ('uint8 (480, 640, 3)', 'a list')
    """
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    return f"a {type(value).__name__}"


def is_number(value: object) -> bool:
    """Whether a value is one real number, of Python or NumPy; true and false are none.

    >>> is_number(2), is_number(np.float32(0.5)), is_number(True), is_number("2")
    (True, True, False, False)
    """
    return isinstance(value, float | int | np.floating | np.integer) and not isinstance(value, bool)


class PixelArray:
    """A float32 array (C, H, W) that also gives its space-to-depth layouts.

    Each layout is computed once, when it is first asked for, because a frame belongs to several clips. Threads may share an
    array.
    """

    __slots__ = ("_array", "_layouts")

    def __init__(self, array: NDArray[np.float32]) -> None:
        self._array = array
        self._layouts: dict[int, NDArray[np.float32]] = {}

    def space_to_depth(self, block_size: int) -> NDArray[np.float32]:
        """Move each block of pixels into the channels, in the order of torch's `pixel_unshuffle`.

        Args:
            block_size: side of a block in pixels; 1 is the array as it is.

        Shapes:
            returns: float32 (C block_size**2, H / block_size, W / block_size), C-contiguous.

        >>> PixelArray(np.arange(4, dtype=np.float32).reshape(1, 2, 2)).space_to_depth(2).ravel()
        array([0., 1., 2., 3.], dtype=float32)
        """
        layout = self._layouts.get(block_size)
        if layout is None:
            channels, height, width = self._array.shape
            rows, columns = height // block_size, width // block_size
            blocks = self._array.reshape(channels, rows, block_size, columns, block_size).transpose(0, 2, 4, 1, 3)
            layout = np.ascontiguousarray(blocks.reshape(channels * block_size**2, rows, columns))
            self._layouts[block_size] = layout
        return layout


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """The network's input for its newest frame: T + 1 frames, the optical flow of the last pair, and the input maps.

    Attributes:
        images: float32 (C, H, W) in [-1, 1] each, the oldest first; the last one is the frame that is predicted.
        motion: float32 (2, H, W), displacement (dx, dy) in pixels of the network's image.
        index: of the newest frame.
        time_s: of the newest frame.
        input_maps: float32 (S, H / CELL, W / CELL), one map for each of `INPUT_MAPS`.
    """

    images: Sequence[PixelArray]
    motion: PixelArray
    index: int
    time_s: float
    input_maps: NDArray[np.float32]

    @classmethod
    def from_arrays(
        cls,
        frames: NDArray[np.float32],
        flow: NDArray[np.float32],
        index: int = 0,
        time_s: float = 0.0,
        input_maps: NDArray[np.float32] | None = None,
    ) -> Clip:
        """Make a clip from its arrays.

        Args:
            frames: see `frames`.
            flow: see `flow`.
            index: of the newest frame.
            time_s: of the newest frame.
            input_maps: see `input_maps`; by default no agitation, and every change is certain.
        """
        if input_maps is None:
            input_maps = np.zeros((len(INPUT_MAPS), flow.shape[1] // CELL, flow.shape[2] // CELL), np.float32)
            input_maps[INPUT_MAPS.index("change_confidence")] = 1
        return cls([PixelArray(frame) for frame in frames], PixelArray(flow), index, time_s, input_maps)

    @property
    def frames(self) -> NDArray[np.float32]:
        """The images as one new array, float32 (T + 1, C, H, W)."""
        return np.stack([image.space_to_depth(1) for image in self.images])

    @property
    def newest_image(self) -> NDArray[np.uint8]:
        """The frame that is predicted, in grey levels or RGB: uint8 (C, H, W), a new array."""
        levels = (self.images[-1].space_to_depth(1) + np.float32(1)) * np.float32(127.5)
        return np.asarray(np.rint(levels), dtype=np.uint8)

    @property
    def flow(self) -> NDArray[np.float32]:
        """The motion as one array, float32 (2, H, W)."""
        return self.motion.space_to_depth(1)

    @property
    def flow_mean(self) -> NDArray[np.float32]:
        """The mean flow of each cell. Shapes: float32 (1, 2, h, w), pixels."""
        n, height, width = self.flow.shape
        cells = self.flow.reshape(n, height // CELL, CELL, width // CELL, CELL)
        return np.asarray(cells.mean(axis=(2, 4))[None], dtype=np.float32)

    @property
    def evidence(self) -> dict[str, NDArray[np.float32]]:
        """The evidence that needs no network: `flow_mean` and the input maps, float32 (1, C, h, w) each, by name."""
        return {"flow_mean": self.flow_mean, **named_input_maps(self.input_maps)}


def named_input_maps(stacked: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """Stacked input maps by name of evidence. Shapes: float32 (S, h, w) to (1, 1, h, w) each."""
    return {name: one[None, None] for name, one in zip(INPUT_MAPS, stacked, strict=True)}


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What is known of one clip before it is scored: the maps and numbers measured, and those divided by their normal level.

    It is the only thing between a runtime and the scorer.

    Attributes:
        maps: float32 (1, C, h, w) by name: the network's outputs, the clip's input maps, and what the spatial baseline makes
            of both. Updated memory items, float32 (N, D), are among them where they were asked for.
    """

    maps: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """How abnormal one frame is, computed from past and present frames alone.

    Attributes:
        index: of the frame.
        time_s: of the frame.
        value: calibrated, and smoothed where the settings say so; higher is more abnormal.
        appearance: the appearance channels fused, before the calibration of the score; not comparable with `value`.
        motion: the same of the motion channels.
        box: the moving object at the patch of the strongest channel, or that patch where no object is; in pixels of the source.
            None where that channel is one number per frame, which cannot localise.
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
    """An interval of a source, from where the score reaches the threshold until it falls below the release threshold.

    Attributes:
        source: name of the source.
        start_frame: its first frame.
        end_frame: its last frame, which belongs to it.
        peak_frame: the first frame with the highest score.
        start_s: time of the first frame.
        end_s: time of the last frame.
        peak_s: time of the peak frame.
        peak_score: the highest score.
        box: that of the score at the peak, in the same pixels.
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
    """A video file, a folder of frames, or a camera. Each iteration yields its frames from the first on.

    `name` and `rate_hz` are only read: constants of a class, fields of a frozen dataclass and properties will do.

    A source that is made in memory may also have a `fingerprint`, a text that says what its frames follow from. Prepared frames
    are kept by it; without one they are kept by a hash of all frames, which are rendered for it each time.
    """

    @property
    def name(self) -> str:
        """Short and free of secrets; it appears in tables and file names."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """Frames per second as the container states them; None when it does not."""
        ...

    def __iter__(self) -> Iterator[Frame]: ...


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSource:
    """One video of a data set, with its labels.

    Attributes:
        name: unique in its split, such as `01`.
        source: a path that `video.source.open_source` takes, or a Source made in memory.
        n_frames: counted without decoding where possible; None when not known.
        labels: bool (n_frames,), True where abnormal; None when there are no labels. Numbers 0 and 1 of any type, and
            lists of them, are read as such.
        mask: returns the bool (H, W) pixel mask of a frame by its index; None when there are no masks.
    """

    name: str
    source: str | Source
    n_frames: int | None = None
    labels: NDArray[np.bool_] | None = None
    mask: Callable[[int], NDArray[np.bool_]] | None = None

    def __post_init__(self) -> None:
        """Read the labels once, so that nothing after this meets another type.

        Raises:
            DatasetError: they are not one 0 or 1 for each frame.
        """
        if self.labels is not None:
            object.__setattr__(self, "labels", _read_labels(self.labels, self.name))


def _read_labels(labels: Any, name: str) -> NDArray[np.bool_]:
    try:
        given = np.asarray(labels)
    except ValueError:  # a list of lists of several lengths
        given = np.array(labels, object)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "biuf"):
        raise DatasetError(
            f"the labels of video {name!r} are {describe_value(given)}: expected one 0 or 1 for each frame"
        )
    flags = given.astype(np.bool_)
    if (wrong := np.flatnonzero(flags != given)).size:
        raise DatasetError(
            f"the labels of video {name!r} have {given[wrong[0]]} at frame {wrong[0]}: expected 0 (normal) or 1 (abnormal)"
        )
    return flags


@dataclass(frozen=True, slots=True)
class DataCheck:
    """What `comemory data check` found.

    Attributes:
        found: counts, such as `{"training videos": 16, "training frames": 2550}`.
        published: the same keys with the published counts, where they are known.
        problems: one line each, starting with the path.
        notes: one line each, not problems: which label set is used, which part of the data set is here.
        seconds: duration of the footage, such as `{"training footage": 255.0}`.
    """

    found: Mapping[str, int]
    published: Mapping[str, int] = field(default_factory=dict)
    problems: Sequence[str] = ()
    notes: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class Dataset(Protocol):
    """Normal video to train on and labelled video to test on. Made from one path; opening it decodes nothing."""

    @property
    def name(self) -> str:
        """Its entry in the registry, such as `ped2`."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """Frames per second of the recordings where no container states them (folders of frames)."""
        ...

    def __init__(self, path: str) -> None: ...

    def training(self) -> Sequence[LabelledSource]:
        """The videos of normal behaviour, without labels."""
        ...

    def testing(self) -> Sequence[LabelledSource]:
        """The videos to evaluate on, with labels."""
        ...

    def check(self) -> DataCheck:
        """Compare what is on the disk with what was published."""
        ...


@runtime_checkable
class ListsUnusedFiles(Protocol):
    """A data set that says what lies beside its videos and is not used."""

    def unused_files(self) -> Sequence[str]:
        """One line for each thing that is not used, with the reason."""
        ...


@runtime_checkable
class FlowEstimator(Protocol):
    """Dense motion between two images of the same size."""

    @property
    def name(self) -> str:
        """Its entry in the registry, such as `dis`."""
        ...

    def estimate(self, previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Estimate the displacement of every pixel of `previous` on its way to `current`.

        Shapes:
            previous, current: uint8 (H, W, 3), RGB.
            returns: float32 (H, W, 2), (dx, dy) in pixels.
        """
        ...


@runtime_checkable
class Runtime(Protocol):
    """Executes an exported network.

    Detectors of one bundle may share it: no call changes what another one gives, also where several threads call at the
    same time. `runtimes.sharing.OneCaller` lets them take turns.
    """

    @property
    def name(self) -> str:
        """Its entry in the registry, such as `openvino`."""
        ...

    def run(self, inputs: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Run the network on named arrays; returns its named outputs."""
        ...


JSON = dict[str, Any]
"""A JSON object."""
