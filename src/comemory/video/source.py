"""Anything into Frames: video files, folders of frames, streams at a URL, and sources made in memory."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from av.video.reformatter import VideoReformatter

from comemory.errors import SourceError, mask_password, suggest
from comemory.types import Frame, Source
from comemory.video.container import Video
from comemory.video.image_folder import IMAGE_SUFFIXES, FrameFolder
from comemory.video.resize import resize

URL_SCHEMES = ("http", "https", "rtmp", "rtmps", "rtsp", "rtsps", "srt", "udp")


@runtime_checkable
class OpenedSource(Source, Protocol):
    """What `open_source` gives: a Source that also knows its length and size where they are cheap to know.

    Attributes:
        n_frames: counted without decoding, None when not known.
        size: (height, width) of its pictures as recorded, before any resize; None when not known.
        problems: what was skipped in the newest iteration, one line each, starting with the path; read after iterating.
    """

    n_frames: int | None
    size: tuple[int, int] | None
    problems: list[str]


def open_source(
    location: str | os.PathLike[str] | Source,
    *,
    size: tuple[int, int] | None = None,
    rate_hz: float | None = None,
) -> OpenedSource:
    """Open a video file, a folder of frames, a stream at a URL, or pass on a source made in memory.

    Frames are upright RGB, uint8, C-contiguous. Times are those of the container, relative to the first frame, so a
    variable frame rate is kept. Every iteration starts anew and holds the file open only while it runs.

    What cannot be read is left out, keeps its index, and is named in `problems` (see `Video`, `FrameFolder`): the
    caller does the rest and reports them. What cannot be used at all raises.

    Args:
        location: a path; or a URL with `://` (rtsp, http, …); or a Source.
        size: (height, width) to bring every frame to, in the one step that also makes it RGB. Without it a change of
            size on the way is an error, with it the source goes on.
        rate_hz: frames per second where the source does not state it (frame folders, raw streams).

    Raises:
        SourceError: missing, unreadable, empty, not a video, no video in it, no frames in the folder; see `Video` and
            `FrameFolder` for what iterating may raise.
    """
    _check_size_and_rate(size, rate_hz)
    if not isinstance(location, (str, os.PathLike)):
        return _wrap(location, size)
    text = os.fspath(location)
    if not text or "\0" in text:
        raise SourceError(f"cannot open {text!r}: expected a video file, a folder of frames or a URL")
    if "://" in text and isinstance(location, str):
        return _open_url(text, size, rate_hz)
    return _open_path(Path(text), size, rate_hz)


def source_name(location: str) -> str:
    """A short name for a path or URL, safe for file names and free of secrets.

    >>> source_name("/videos/gate 3.mp4")
    'gate_3'
    >>> source_name("rtsp://user:secret@camera.lan:554/live/1?token=abc")
    'camera.lan_live_1'
    """
    if "://" in location:
        parts = urlsplit(location)
        text = f"{parts.hostname or ''}/{unquote(parts.path).strip('/')}".strip("/")
    else:
        path = Path(location).resolve()
        text = path.name if path.is_dir() else path.stem
    return re.sub(r"[^\w.+-]+", "_", text).strip("._")[:100] or "source"


class ResizedSource:
    """A source made in memory, with every frame brought to one size; all else is the source's own."""

    def __init__(self, source: Source, size: tuple[int, int] | None) -> None:
        self.source = source
        self.name = source.name
        self.rate_hz = source.rate_hz
        self.n_frames: int | None = getattr(source, "n_frames", None)
        self.size: tuple[int, int] | None = getattr(source, "size", None)
        self.problems: list[str] = getattr(source, "problems", [])
        self._asked_size = size

    def __iter__(self) -> Iterator[Frame]:
        reformatter = VideoReformatter()
        for frame in self.source:
            self.size = self.size or (frame.image.shape[0], frame.image.shape[1])
            yield Frame(resize(frame.image, self._asked_size, reformatter=reformatter), frame.time_s, frame.index)


def _wrap(source: Source, size: tuple[int, int] | None) -> OpenedSource:
    if not isinstance(source, Source):
        raise SourceError(f"cannot open {source!r}: expected a path, a URL or a Source with name and rate_hz")
    return source if size is None and isinstance(source, OpenedSource) else ResizedSource(source, size)


def _open_url(url: str, size: tuple[int, int] | None, rate_hz: float | None) -> OpenedSource:
    shown = mask_password(url).partition("?")[0]
    scheme = url.partition("://")[0].lower()
    if scheme == "file":
        return _open_path(Path(unquote(urlsplit(url).path)), size, rate_hz)
    if scheme not in URL_SCHEMES:
        raise SourceError(f"cannot open {shown}: no such kind of stream, {suggest(scheme, URL_SCHEMES)}")
    try:
        return Video(url, name=source_name(url), size=size, rate_hz=rate_hz)
    except ValueError as error:
        raise SourceError(f"cannot open {shown}: not a valid URL ({error})") from error


def _open_path(path: Path, size: tuple[int, int] | None, rate_hz: float | None) -> OpenedSource:
    try:
        path = path.absolute()
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except OSError as error:
        raise SourceError(f"cannot open {path}: {error.strerror or error}") from error
    name = source_name(str(path))
    if stat.S_ISDIR(status.st_mode):
        return FrameFolder(path, name=name, size=size, rate_hz=rate_hz)
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"cannot open {path}: not a regular file; expected a video file, a folder of frames or a URL")
    if status.st_size == 0:
        raise SourceError(f"cannot open {path}: the file is empty")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SourceError(f"cannot open {path}: a single picture; give the folder that holds the frames")
    return Video(path, name=name, size=size, rate_hz=rate_hz)


def _check_size_and_rate(size: tuple[int, int] | None, rate_hz: float | None) -> None:
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise SourceError(f"cannot resize to {size}: expected a positive (height, width)")
    if rate_hz is not None and not 0 < rate_hz <= 1000:
        raise SourceError(f"a rate of {rate_hz} frames per second: expected more than 0 and at most 1000")
