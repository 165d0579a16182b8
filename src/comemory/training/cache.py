"""Prepared frames on disk: each frame is decoded and its flow estimated once, whatever the number of epochs.

A video has three arrays. Their file name is a hash of the video's content and of the settings that shape the arrays, so
that arrays of other content or settings are never read. A source that is made in memory says what its content follows from,
in an attribute `fingerprint`; else its frames are read for the hash.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.clips.config import ClipSettings
from comemory.clips.layout import assemble_clip
from comemory.clips.preparation import FramePreparer, PreparedFrame
from comemory.errors import SourceError, TrainingError
from comemory.flow import FlowSettings, open_flow
from comemory.training.footage_sampling import ALL, FootageSampling
from comemory.training.used_frames import UsedFrames
from comemory.types import CELL, INPUT_MAPS, JSON, LabelledSource, named_input_maps
from comemory.video.frame_sampler import SourceSampler, measured_rate
from comemory.video.image_folder import DEFAULT_RATE_HZ
from comemory.video.source import open_source

CACHE_VERSION = 10
"""Part of the hash. Raise it whenever `clips.preparation`, a resize or a flow estimator gives other numbers than before."""
_ARRAYS = (".images", ".flows", ".maps")
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class PreparedVideo:
    """The prepared frames of one video, mapped from disk.

    Attributes:
        name: of the video in its data set.
        sha256: of the video's content, see `content_sha256`.
        notes: one line each on the times of its frames, such as a gap; see `video.frame_sampler`.

    Shapes:
        images: uint8 (n, C, H, W).
        flows: float16 (n, 2, H, W), pixels.
        input_maps: float16 (n, S, h, w), one map for each of `types.INPUT_MAPS`.
        indices: int64 (n,), of the frames in their source.
        samples: int64 (n,), their places in time, see `video.frame_sampler.Sample`: consecutive ones follow each other.
    """

    name: str
    images: NDArray[np.uint8]
    flows: NDArray[np.float16]
    input_maps: NDArray[np.float16]
    indices: NDArray[np.int64]
    samples: NDArray[np.int64]
    sha256: str = ""
    notes: tuple[str, ...] = ()

    def clip_ends(self, n_past: int) -> list[int]:
        """The frames at which a clip can end: they and the `n_past` before them are consecutive in time."""
        return [t for t in range(n_past, len(self.samples)) if self.samples[t] - self.samples[t - n_past] == n_past]

    def clip(self, end: int, settings: ClipSettings) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Frames and flow of the clip whose newest frame is number `end`, see `clips.layout.assemble_clip`."""
        window = range(end - settings.n_past, end + 1)
        return assemble_clip(
            [PreparedFrame(self.images[t], self.flows[t], self.input_maps[t]) for t in window], settings
        )

    def flow(self, end: int, settings: ClipSettings) -> NDArray[np.float32]:
        """The flow of the clip whose newest frame is number `end`. Shapes: float32 (2, H, W), pixels."""
        return np.asarray(self.flows[end if settings.flow_of == "next" else end - 1], np.float32)

    def evidence(self, end: int) -> dict[str, NDArray[np.float32]]:
        """The evidence that the clip has without a network, see `types.Clip.evidence`."""
        return named_input_maps(self.input_maps[end].astype(np.float32))

    def part(self, frames: slice) -> PreparedVideo:
        """A part of the video."""
        arrays = {name: getattr(self, name)[frames] for name in ("images", "flows", "input_maps", "indices", "samples")}
        return replace(self, **arrays)


def prepare_videos(
    videos: Sequence[LabelledSource],
    folder: Path,
    clips: ClipSettings,
    flow: FlowSettings,
    *,
    dataset: str,
    rate_hz: float | None = None,
    sampling: Mapping[str, FootageSampling] | None = None,
    on_frame: Callable[[str], None] = lambda name: None,
) -> tuple[list[PreparedVideo], list[str]]:
    """Prepare the videos that the cache does not hold yet, and map all of them into memory.

    Args:
        videos: of the data set.
        folder: the cache.
        clips: how clips are made.
        flow: how optical flow is computed.
        dataset: name of the data set; part of `PreparedVideo.sha256` of sources that are rendered in memory.
        rate_hz: frames per second of the training, to which all videos are resampled; None leaves each its own.
        sampling: which frames of each video are used, by its name; videos that it lacks are left out. None uses all frames.
        on_frame: called with the video's name for each frame, prepared or found in the cache.

    Returns:
        The videos that hold a clip, and one line for each problem met (a corrupt frame, a short video).

    Raises:
        TrainingError: no video is long enough, or the cache cannot be used.
    """
    prepared: list[PreparedVideo] = []
    problems: list[str] = []
    for video in videos:
        if sampling is not None and video.name not in sampling:
            continue
        used = ALL if sampling is None else sampling[video.name]
        try:
            ready, met = _prepared(video, folder, clips, flow, dataset, rate_hz, used, on_frame)
        except SourceError as error:
            problems.append(str(error))
            continue
        except OSError as error:
            raise TrainingError(f"cannot use the flow cache {folder}: {error.strerror or error}") from None
        problems += met
        if not ready.clip_ends(clips.n_past):
            problems.append(
                f"{video.name}: {len(ready.indices)} frames are too few, {clips.n_past + 1} in a row are needed"
            )
            continue
        prepared.append(ready)
    if not prepared:
        raise TrainingError(f"no video to train on ({'; '.join(problems[:3]) or 'the data set lists none'})")
    return prepared, problems


def _prepared(
    video: LabelledSource,
    folder: Path,
    clips: ClipSettings,
    flow: FlowSettings,
    dataset: str,
    rate_hz: float | None,
    used: FootageSampling,
    on_frame: Callable[[str], None],
) -> tuple[PreparedVideo, list[str]]:
    """One video from the cache, which is filled first where needed, and the problems met."""
    content = content_sha256(video, dataset)
    stem = folder / _key(f"{content}{_made_content(video)}", clips, flow, rate_hz, used)
    index = _read_index(stem, clips)
    if index is None:
        index = _write(video, stem, clips, flow, rate_hz, used, on_frame)
    else:
        for _ in index["indices"]:
            on_frame(video.name)
    return _open_arrays(video.name, stem, clips, index, content), list(index.get("problems", []))


def _write(
    video: LabelledSource,
    stem: Path,
    clips: ClipSettings,
    flow: FlowSettings,
    rate_hz: float | None,
    used: FootageSampling,
    on_frame: Callable[[str], None],
) -> JSON:
    """Write the arrays, and last the JSON index, which says how long they are and marks them as complete.

    The files have temporary names with the process id until all are written: a kill leaves nothing that looks complete.
    """
    preparation = FramePreparer(clips, open_flow(flow), rate_hz)
    size = (clips.flow_height, clips.flow_width)
    source = open_source(video.source, size=size, rate_hz=rate_hz)
    stem.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(stem)
    sampler = SourceSampler(rate_hz or measured_rate(source) or DEFAULT_RATE_HZ, video.name)
    frames = UsedFrames(video, source, sampler, used, size, on_frame)
    indices: list[int] = []
    samples: list[int] = []
    temporary = {suffix: Path(f"{stem}{suffix}.{os.getpid()}") for suffix in (*_ARRAYS, ".json")}
    try:
        with ExitStack() as opened:
            images, flows, maps = (opened.enter_context(temporary[suffix].open("wb")) for suffix in _ARRAYS)
            for frame, sample in frames:
                if samples and sample.index != samples[-1] + 1:
                    preparation.reset()
                indices.append(frame.index)
                samples.append(sample.index)
                prepared = preparation.prepare(frame.image, sample.flow_scale)
                images.write(prepared.image.tobytes())
                flows.write(prepared.flow.tobytes())
                maps.write(prepared.input_maps.tobytes())
        index = {
            "name": video.name,
            "indices": indices,
            "samples": samples,
            "problems": frames.problems,
            "notes": sampler.notes,
        }
        temporary[".json"].write_text(json.dumps(index), encoding="utf-8")
        for suffix, path in temporary.items():
            path.replace(stem.with_suffix(suffix))
    finally:
        for path in temporary.values():
            path.unlink(missing_ok=True)
    return index


def _remove_leftovers(stem: Path) -> None:
    """Remove temporary files of this video whose process is gone."""
    for left in stem.parent.glob(f"{stem.name}.*.*"):
        try:
            os.kill(int(left.suffix[1:]), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (OSError, ValueError, OverflowError):
            continue


def _read_index(stem: Path, clips: ClipSettings) -> JSON | None:
    """The index of the arrays; None where the cache does not hold all of them completely."""
    try:
        index: JSON = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        n_values = len(index["indices"]) * clips.height * clips.width
        is_whole = len(index["samples"]) == len(index["indices"]) and isinstance(index["notes"], list)
        sizes = [stem.with_suffix(suffix).stat().st_size for suffix in _ARRAYS]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    half = np.dtype(np.float16).itemsize
    expected = [
        n_values * clips.channels * np.dtype(np.uint8).itemsize,
        n_values * 2 * half,
        len(INPUT_MAPS) * n_values // CELL**2 * half,
    ]
    return index if is_whole and sizes == expected else None


def _open_arrays(name: str, stem: Path, clips: ClipSettings, index: JSON, content: str) -> PreparedVideo:
    indices, samples = (np.array(index[key], np.int64) for key in ("indices", "samples"))
    notes = tuple(index["notes"])
    n_frames, shape = len(indices), (clips.height, clips.width)
    cells = (len(INPUT_MAPS), clips.height // CELL, clips.width // CELL)
    if not n_frames:
        empty = np.zeros((0, clips.channels, *shape), np.uint8)
        flows, maps = np.zeros((0, 2, *shape), np.float16), np.zeros((0, *cells), np.float16)
        return PreparedVideo(name, empty, flows, maps, indices, samples, content, notes)
    images = np.memmap(stem.with_suffix(".images"), np.uint8, "r", shape=(n_frames, clips.channels, *shape))
    flows = np.memmap(stem.with_suffix(".flows"), np.float16, "r", shape=(n_frames, 2, *shape))
    maps = np.memmap(stem.with_suffix(".maps"), np.float16, "r", shape=(n_frames, *cells))
    return PreparedVideo(name, images, flows, maps, indices, samples, content, notes)


def _key(content: str, clips: ClipSettings, flow: FlowSettings, rate_hz: float | None, used: FootageSampling) -> str:
    """The file name of the arrays. `n_past` and `flow_of` only choose among prepared frames, so they are no part of it."""
    shaping = clips.model_dump(exclude={"n_past", "flow_of"})
    parts = [CACHE_VERSION, shaping, flow.model_dump(), rate_hz, *used.key]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    digest.update(content.encode())
    if flow.weights is not None:
        with suppress(OSError):
            for block in _blocks(Path(flow.weights)):
                digest.update(block)
    return digest.hexdigest()[:32]


def content_sha256(video: LabelledSource, dataset: str) -> str:
    """sha256 of a video's file, or of the files in its folder; of its name and data set where it is rendered in memory.

    It says which video a bundle was trained on. A training and a test video that are rendered in memory may share it.

    Raises:
        SourceError: the file or folder cannot be read.
    """
    digest = hashlib.sha256()
    if not isinstance(video.source, str):
        digest.update(f"{dataset}/{video.name}".encode())
        return digest.hexdigest()
    path = Path(video.source)
    try:
        files = sorted(entry for entry in path.iterdir() if entry.is_file()) if path.is_dir() else [path]
        for file in files:
            digest.update(file.name.encode())
            for block in _blocks(file):
                digest.update(block)
    except OSError as error:
        raise SourceError(f"cannot read {error.filename or path}: {error.strerror or error}") from None
    return digest.hexdigest()


def _made_content(video: LabelledSource) -> str:
    """What the frames of a source that is made in memory follow from, else a hash of them all; empty for a path."""
    source = video.source
    if isinstance(source, str):
        return ""
    fingerprint = getattr(source, "fingerprint", None)
    if isinstance(fingerprint, str):
        return f"{type(source).__qualname__} {fingerprint}"
    digest = hashlib.sha256()
    for frame in source:
        shape = (frame.image.shape, frame.time_s, frame.index, frame.is_restart)
        digest.update(f"{shape}".encode())
        digest.update(frame.image.tobytes())
    return digest.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while block := content.read(_BLOCK_BYTES):
            yield block
