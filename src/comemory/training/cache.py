"""Prepared frames on disk: each frame is decoded and its flow estimated once, whatever the number of epochs.

Three arrays for each video, named by what went into it: the content of the video and the settings that shape the
arrays. A change of either is another name, so a stale array is never read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.clips.builder import ClipSettings, Preparation, Prepared, assemble
from comemory.errors import SourceError, TrainingError
from comemory.flow import FlowSettings, open_flow
from comemory.types import CELL, JSON, SHOWN, LabelledSource, shown_maps
from comemory.video.source import open_source

PREPARATION = 9
"""Raised whenever `video.clips.Preparation`, a resize or a flow estimator gives other numbers than before."""
_ARRAYS = (".pictures", ".flows", ".shown")
_BLOCK = 2**20


@dataclass(frozen=True)
class PreparedVideo:
    """The prepared frames of one video, mapped from disk.

    Attributes:
        content: sha256 of what the frames were made from, see `content_hash`.

    Shapes:
        pictures: uint8 (n, C, H, W). flows: float16 (n, 2, H, W). shown: float16 (n, S, h, w). indices: int64 (n,), of the
        frames in their source.
    """

    name: str
    pictures: NDArray[np.uint8]
    flows: NDArray[np.float16]
    shown: NDArray[np.float16]
    indices: NDArray[np.int64]
    content: str = ""

    def newest(self, n_past: int) -> list[int]:
        """The places whose `n_past` frames before are consecutive in the source, so that a clip can end there."""
        return [t for t in range(n_past, len(self.indices)) if self.indices[t] - self.indices[t - n_past] == n_past]

    def clip(self, newest: int, settings: ClipSettings) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The clip whose newest frame is number `newest`, as `video.clips.assemble` gives it."""
        window = range(newest - settings.n_past, newest + 1)
        return assemble([Prepared(self.pictures[t], self.flows[t], self.shown[t]) for t in window], settings)

    def evidence(self, newest: int) -> dict[str, NDArray[np.float32]]:
        """What that clip shows by itself, see `types.Clip.evidence`."""
        return shown_maps(self.shown[newest].astype(np.float32))

    def part(self, frames: slice) -> PreparedVideo:
        """Some frames of it."""
        arrays = {name: getattr(self, name)[frames] for name in ("pictures", "flows", "shown", "indices")}
        return replace(self, **arrays)


def prepare_videos(
    videos: Sequence[LabelledSource],
    folder: Path,
    clips: ClipSettings,
    flow: FlowSettings,
    *,
    dataset: str,
    rate_hz: float | None = None,
    on_frame: Callable[[str], None] = lambda name: None,
) -> tuple[list[PreparedVideo], list[str]]:
    """Prepare the videos that the cache does not hold yet, and map all of them.

    Args:
        folder: of the cache.
        dataset: names the data set; part of the key of sources that are made in memory.
        rate_hz: frames per second where a video does not say.
        on_frame: called with the video's name for each frame, prepared now or found in the cache.

    Returns:
        The videos long enough to train on, and one line for each problem met (a corrupt frame, a short video).

    Raises:
        TrainingError: no video is long enough, or the cache cannot be used.
    """
    prepared: list[PreparedVideo] = []
    problems: list[str] = []
    for video in videos:
        try:
            ready, met = _prepared(video, folder, clips, flow, dataset, rate_hz, on_frame)
        except SourceError as error:
            problems.append(str(error))
            continue
        except OSError as error:
            raise TrainingError(f"cannot use the flow cache {folder}: {error.strerror or error}") from None
        problems += met
        if not ready.newest(clips.n_past):
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
    on_frame: Callable[[str], None],
) -> tuple[PreparedVideo, list[str]]:
    """The frames of a video from the cache, written into it first where they are not there, and the problems met."""
    content = content_hash(video, dataset)
    stem = folder / _key(content, clips, flow, rate_hz)
    note = _note(stem, clips)
    if note is None:
        note = _write(video, stem, clips, flow, rate_hz, on_frame)
    else:
        for _ in note["indices"]:
            on_frame(video.name)
    return _map(video.name, stem, clips, note, content), list(note.get("problems", []))


def _write(
    video: LabelledSource,
    stem: Path,
    clips: ClipSettings,
    flow: FlowSettings,
    rate_hz: float | None,
    on_frame: Callable[[str], None],
) -> JSON:
    """Write the arrays, then the JSON file that says how long they are and marks them as whole."""
    preparation = Preparation(clips, open_flow(flow), rate_hz)
    source = open_source(video.source, size=(clips.flow_height, clips.flow_width), rate_hz=rate_hz)
    stem.parent.mkdir(parents=True, exist_ok=True)
    _sweep(stem)
    indices: list[int] = []
    passing = {suffix: Path(f"{stem}{suffix}.{os.getpid()}") for suffix in (*_ARRAYS, ".json")}
    try:
        with ExitStack() as opened:
            pictures, flows, shown = (opened.enter_context(passing[suffix].open("wb")) for suffix in _ARRAYS)
            for frame in source:
                if indices and frame.index != indices[-1] + 1:
                    preparation.reset()
                indices.append(frame.index)
                one = preparation.push(frame.image)
                pictures.write(one.picture.tobytes())
                flows.write(one.flow.tobytes())
                shown.write(one.shown.tobytes())
                on_frame(video.name)
        note = {"name": video.name, "indices": indices, "problems": list(source.problems)}
        passing[".json"].write_text(json.dumps(note), encoding="utf-8")
        for suffix, path in passing.items():
            path.replace(stem.with_suffix(suffix))
    finally:
        for path in passing.values():
            path.unlink(missing_ok=True)
    return note


def _sweep(stem: Path) -> None:
    """Remove what processes that were killed have left of this video."""
    for left in stem.parent.glob(f"{stem.name}.*.*"):
        try:
            os.kill(int(left.suffix[1:]), 0)
        except ProcessLookupError:
            left.unlink(missing_ok=True)
        except (OSError, ValueError, OverflowError):
            continue


def _note(stem: Path, clips: ClipSettings) -> JSON | None:
    """What the cache says of the arrays; None where it does not hold the whole of them."""
    try:
        note: JSON = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        n_values = len(note["indices"]) * clips.height * clips.width
        sizes = [stem.with_suffix(suffix).stat().st_size for suffix in _ARRAYS]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    half = np.dtype(np.float16).itemsize
    expected = [
        n_values * clips.channels * np.dtype(np.uint8).itemsize,
        n_values * 2 * half,
        len(SHOWN) * n_values // CELL**2 * half,
    ]
    return note if sizes == expected else None


def _map(name: str, stem: Path, clips: ClipSettings, note: JSON, content: str) -> PreparedVideo:
    indices = np.array(note["indices"], np.int64)
    n_frames, shape = len(indices), (clips.height, clips.width)
    cells = (len(SHOWN), clips.height // CELL, clips.width // CELL)
    if not n_frames:
        empty = np.zeros((0, clips.channels, *shape), np.uint8)
        flows, shown = np.zeros((0, 2, *shape), np.float16), np.zeros((0, *cells), np.float16)
        return PreparedVideo(name, empty, flows, shown, indices, content)
    pictures = np.memmap(stem.with_suffix(".pictures"), np.uint8, "r", shape=(n_frames, clips.channels, *shape))
    flows = np.memmap(stem.with_suffix(".flows"), np.float16, "r", shape=(n_frames, 2, *shape))
    shown = np.memmap(stem.with_suffix(".shown"), np.float16, "r", shape=(n_frames, *cells))
    return PreparedVideo(name, pictures, flows, shown, indices, content)


def _key(content: str, clips: ClipSettings, flow: FlowSettings, rate_hz: float | None) -> str:
    """Names the arrays. What only chooses among prepared frames (`n_past`, `flow_of`) shapes none of them."""
    shaping = clips.model_dump(exclude={"n_past", "flow_of"})
    digest = hashlib.sha256(json.dumps([PREPARATION, shaping, flow.model_dump(), rate_hz], sort_keys=True).encode())
    digest.update(content.encode())
    if flow.weights is not None:
        with suppress(OSError):
            for block in _blocks(Path(flow.weights)):
                digest.update(block)
    return digest.hexdigest()[:32]


def content_hash(video: LabelledSource, dataset: str) -> str:
    """sha256 of a video's file or of its folder's files; of its name and data set where it is made in memory.

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


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as content:
        while block := content.read(_BLOCK):
            yield block
