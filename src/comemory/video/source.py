"""Opens anything as a source of frames: video files, folders of frames, streams at a URL, and sources made in memory."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

import numpy as np
from av.video.reformatter import VideoReformatter

from comemory.errors import SourceError, mask_password, short_repr, suggest
from comemory.secret_values import encode_url
from comemory.types import Frame, Source, describe_value, is_number
from comemory.video.container import Video
from comemory.video.image_folder import IMAGE_SUFFIXES, FrameFolder
from comemory.video.resize import MAX_PIXELS, resize

_EXPECTED_PATH = "expected a video file, a folder of frames or a URL"
_EXPECTED_SOURCE = "expected a path, a URL, or a Source (with name, rate_hz, and frames when iterated)"

URL_SCHEMES = ("http", "https", "rtmp", "rtmps", "rtsp", "rtsps", "srt", "udp")


@runtime_checkable
class OpenedSource(Source, Protocol):
    """A Source as `open_source` returns it: with its length and size, where they can be known without decoding.

    Attributes:
        n_frames: counted without decoding; None when not known.
        size: (height, width) of its frames as recorded, before any resize; None when not known.
        problems: what the newest iteration skipped, one line each, starting with the path. Complete after the iteration.
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
    """Open a video file, a folder of frames, a stream at a URL, or a source made in memory.

    Frames are upright RGB, uint8, C-contiguous. Times are those of the container, relative to the first frame: a variable
    frame rate is preserved. Each iteration starts at the first frame and has the file open only while it runs.

    A frame that cannot be read is skipped, keeps its index, and is listed in `problems`; see `Video` and `FrameFolder`. A
    source that cannot be used at all raises an error.

    Args:
        location: a path; a URL with `://` (rtsp, http, ...); or a Source.
        size: (height, width) to resize every frame to, in the same step that converts it to RGB; at most
            `resize.MAX_PIXELS`. Without it a source whose frames change their size is refused.
        rate_hz: frames per second of a source that does not state them (folders of frames, raw streams).

    Raises:
        SourceError: it is missing, unreadable, empty, no video, or has no frames; or the size or the rate is none. See
            `Video` and `FrameFolder` for what iterating may raise.
    """
    _check_size_and_rate(size, rate_hz)
    if not isinstance(location, (str, os.PathLike)):
        return _wrap(location, size)
    text = os.fspath(location)
    if not text or "\0" in text:
        raise SourceError(f"cannot open {text!r}: {_EXPECTED_PATH}")
    if "://" in text and isinstance(location, str):
        return _open_url(text, size, rate_hz)
    return _open_path(Path(text), size, rate_hz)


def source_name(location: str) -> str:
    """Make a short name of a path or URL, safe for file names and free of secrets.

    >>> source_name("/videos/gate 3.mp4")
    'gate_3'
    >>> source_name("rtsp://user:secret@camera.lan:554/live/1?token=abc")
    'camera.lan_live_1'
    """
    if "://" in location:
        parts = urlsplit(encode_url(location))
        text = f"{parts.hostname or ''}/{unquote(parts.path).strip('/')}".strip("/")
    else:
        path = Path(location).resolve()
        text = path.name if path.is_dir() else path.stem
    return re.sub(r"[^\w.+-]+", "_", text).strip("._")[:100] or "source"


class ResizedSource:
    """A source made in memory whose frames are checked, and resized to one size. The rest is the source's own.

    Args:
        source: yields frames.
        size: (height, width) to resize to; None leaves the size.
    """

    def __init__(self, source: Source, size: tuple[int, int] | None) -> None:
        self.source = source
        self.name = source.name
        self.rate_hz = source.rate_hz
        self.n_frames: int | None = getattr(source, "n_frames", None)
        self.size: tuple[int, int] | None = getattr(source, "size", None)
        self.problems: list[str] = getattr(source, "problems", [])
        self._target_size = size

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames from the first on.

        Raises:
            SourceError: the source yields something else than frames of RGB images.
        """
        reformatter = VideoReformatter()
        for frame in map(require_frame, self.source):
            self.size = self.size or (frame.image.shape[0], frame.image.shape[1])
            yield replace(frame, image=resize(frame.image, self._target_size, reformatter=reformatter))


def require_frame(value: object) -> Frame:
    """Return a frame as it is, and refuse anything else in one short line.

    Raises:
        SourceError: it is no `Frame`, such as an array without its time and index.

    >>> import numpy as np
    >>> require_frame(Frame(np.zeros((2, 2, 3), np.uint8), time_s=0.0, index=0)).index
    0
    """
    if not isinstance(value, Frame):
        raise SourceError(
            f"a frame is {describe_value(value)}: expected comemory.Frame(image, time_s, index), image uint8 (height, width, 3)"
        )
    return value


def _wrap(source: Source, size: tuple[int, int] | None) -> OpenedSource:
    if not isinstance(source, Source):
        raise SourceError(f"cannot open {describe_value(source)}: {_EXPECTED_SOURCE}")
    return source if size is None and isinstance(source, OpenedSource) else ResizedSource(source, size)


def _open_url(url: str, size: tuple[int, int] | None, rate_hz: float | None) -> OpenedSource:
    printable = mask_password(url).partition("?")[0]
    scheme = url.partition("://")[0].lower()
    if scheme == "file":
        return _open_path(Path(unquote(urlsplit(url).path)), size, rate_hz)
    if scheme not in URL_SCHEMES:
        raise SourceError(f"cannot open {printable}: unknown kind of stream, {suggest(scheme, URL_SCHEMES)}")
    try:
        return Video(encode_url(url), name=source_name(url), size=size, rate_hz=rate_hz)
    except ValueError as error:
        raise SourceError(f"cannot open {printable}: not a valid URL ({error})") from error


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
        raise SourceError(f"cannot open {path}: not a regular file; {_EXPECTED_PATH}")
    if status.st_size == 0:
        raise SourceError(f"cannot open {path}: the file is empty")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        raise SourceError(f"cannot open {path}: a single image; give the folder of the frames")
    return Video(path, name=name, size=size, rate_hz=rate_hz)


def _check_size_and_rate(size: tuple[int, int] | None, rate_hz: float | None) -> None:
    if size is not None:
        sides = [side for side in size if isinstance(side, int | np.integer)] if isinstance(size, tuple | list) else []
        if len(sides) != 2 or len(sides) != len(size) or min(sides) < 1:
            raise SourceError(
                f"cannot resize to {short_repr(size)}: expected a positive (height, width), whole numbers"
            )
        if int(sides[0]) * int(sides[1]) > MAX_PIXELS:
            raise SourceError(f"cannot resize to {short_repr(size)}: expected at most {MAX_PIXELS // 10**6} megapixels")
    if rate_hz is not None and not (is_number(rate_hz) and 0 < rate_hz <= 1000):
        raise SourceError(
            f"a rate of {short_repr(rate_hz)} frames per second: expected a number above 0 and at most 1000"
        )
