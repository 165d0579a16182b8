"""Writing videos and images: whole or not at all, and never over what they were made from."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream
from numpy.typing import NDArray

from comemory.errors import ConfigError, RuntimeMissing, SourceError
from comemory.types import Frame, describe_value
from comemory.video.image_folder import DEFAULT_RATE_HZ, IMAGE_SUFFIXES
from comemory.video.overlay import draw_score
from comemory.video.resize import resize

__all__ = ["VideoWriter", "draw_score", "save_image", "write_video"]

TIME_BASE = Fraction(1, 90_000)

_BT709 = 1
_ENCODERS = ("libx264", "libopenh264")
_LIBRARY_ERRORS = (av.FFmpegError, OSError, ValueError, OverflowError)


FRAGMENTS = {
    "movflags": "+empty_moov+default_base_moof+frag_keyframe",
    "frag_duration": "1000000",
    "flush_packets": "1",
}
"""Options of an mp4 file that can be played at any moment while it is written: what it misses is the last second."""


class VideoWriter:
    """Writes an H.264 mp4 file under a temporary name, and renames it when it is complete.

    A context manager. Leaving it normally finishes the file. Leaving it by an exception removes what was written, and leaves
    a file that was at the target as it was.

    Args:
        path: the file to write; its folder must exist. An existing file is replaced.
        size: (height, width) of the video. Images of another size are resized. An odd height or width gets one more row or
            column, a copy of the last one, because 4:2:0 video has even sizes.
        rate_hz: rate of images that come without a time, and the duration of the last image.
        inputs: paths that must not be overwritten.
        quality: constant rate factor of x264: 18 looks lossless, 23 is its default, 28 is small.
        in_place: write under the final name, in fragments of a second: a crash leaves a file that can be played.

    Attributes:
        path: of the file.
        n_frames: number of images written so far.

    Raises:
        ConfigError: the target is one of the inputs.
        SourceError: the target cannot be written: its folder is missing, it is a folder, no permission, disk full.
        RuntimeMissing: this build of PyAV has no H.264 encoder.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: tuple[int, int],
        rate_hz: float | None = None,
        *,
        inputs: Iterable[str | os.PathLike[str]] = (),
        quality: int = 23,
        in_place: bool = False,
    ) -> None:
        self.path = Path(path)
        self.n_frames = 0
        self._size = size
        self._interval = max(1, round(1 / TIME_BASE / Fraction(rate_hz or DEFAULT_RATE_HZ)))
        self._first_s: float | None = None
        self._newest_pts = -1
        _refuse_inputs(self.path, inputs)
        self._temporary: str | None = str(self.path) if in_place else _temporary_beside(self.path)
        options = FRAGMENTS if in_place else {"movflags": "+faststart"}
        try:
            self._container = av.open(self._temporary, "w", format="mp4", options=options)
            self._stream = self._add_stream(quality)
        except BaseException as error:
            self._discard()
            self._raise(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def write(self, image: NDArray[np.uint8] | Frame, time_s: float | None = None) -> None:
        """Append an image.

        Args:
            image: RGB pixels, or a Frame, whose time is used.
            time_s: when it is shown, relative to the first image; by default one interval after the image before. A time
                that is not later than that of the image before is moved to just after it.

        Raises:
            SourceError: it is not an image, or the disk is full; the file is removed.

        Shapes:
            image: uint8 (H, W, 3), RGB.
        """
        if self._temporary is None:
            raise SourceError(f"cannot write to {self.path}: this video is finished")
        if isinstance(image, Frame):
            time_s = image.time_s if time_s is None else time_s
        image = image.image if isinstance(image, Frame) else image
        try:
            frame = av.VideoFrame.from_ndarray(_pad_to_even(resize(image, self._size)), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
            frame.pts, frame.time_base, frame.duration = self._pts(time_s), TIME_BASE, self._interval
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except BaseException as error:
            self._discard()
            self._raise(error)
        self.n_frames += 1

    def close(self) -> None:
        """Finish the file and rename it to its path.

        Raises:
            SourceError: no image was written, or the rest of the file cannot be written; nothing is left behind.
        """
        if self._temporary is None:
            return
        try:
            if self.n_frames == 0:
                raise SourceError(f"cannot write {self.path}: no frames were given")
            for packet in self._stream.encode(None):
                self._container.mux(packet)
            self._container.close()
            _check_whole(self._temporary, self.n_frames)
            Path(self._temporary).replace(self.path)
            self._temporary = None
        except BaseException as error:
            self._discard()
            self._raise(error)

    def _add_stream(self, quality: int) -> VideoStream:
        encoder = next((name for name in _ENCODERS if name in av.codecs_available), None)
        if encoder is None:
            raise RuntimeMissing("no H.264 encoder in this build of PyAV: pip install av from PyPI")
        options = {"crf": str(quality), "preset": "veryfast"} if encoder == "libx264" else {}
        stream = self._container.add_stream(encoder, rate=Fraction(1 / TIME_BASE / self._interval), options=options)
        assert isinstance(stream, VideoStream)
        height, width = self._size
        stream.height, stream.width, stream.pix_fmt = height + height % 2, width + width % 2, "yuv420p"
        stream.time_base = stream.codec_context.time_base = TIME_BASE
        stream.codec_context.thread_count = 1
        for tag in ("colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, tag, _BT709)
        stream.codec_context.color_range = ColorRange.MPEG
        return stream

    def _pts(self, time_s: float | None) -> int:
        pts = self._newest_pts + self._interval if self._newest_pts >= 0 else 0
        if time_s is not None:
            if self._first_s is None:
                self._first_s = time_s - float(pts * TIME_BASE)
            pts = max(round((time_s - self._first_s) / TIME_BASE), self._newest_pts + 1)
        self._newest_pts = pts
        return pts

    def _discard(self) -> None:
        if self._temporary is None:
            return
        with suppress(*_LIBRARY_ERRORS, AttributeError):
            self._container.close()
        with suppress(OSError):
            Path(self._temporary).unlink()
        self._temporary = None

    def _raise(self, error: BaseException) -> None:
        if isinstance(error, _LIBRARY_ERRORS) and not isinstance(error, SourceError):
            raise SourceError(f"cannot write {self.path}: {getattr(error, 'strerror', None) or error}") from error
        raise error


def write_video(
    frames: Iterable[Frame],
    path: str | os.PathLike[str],
    rate_hz: float | None = None,
    *,
    inputs: Sequence[str | os.PathLike[str]] = (),
    quality: int = 23,
) -> int:
    """Write frames with their own times to an H.264 mp4 file. It has the size of the first frame.

    Args:
        frames: at least one.
        path: see `VideoWriter`.
        rate_hz: see `VideoWriter`.
        inputs: see `VideoWriter`.
        quality: see `VideoWriter`.

    Returns:
        The number of frames that were written.

    Raises:
        ConfigError: see `VideoWriter`.
        SourceError: see `VideoWriter`; also without frames.
        RuntimeMissing: see `VideoWriter`.
    """
    writer: VideoWriter | None = None
    with ExitStack() as stack:
        for frame in frames:
            if writer is None:
                height, width = frame.image.shape[:2]
                writer = stack.enter_context(
                    VideoWriter(path, (height, width), rate_hz, inputs=inputs, quality=quality)
                )
            writer.write(frame)
    if writer is None:
        raise SourceError(f"cannot write {path}: no frames were given")
    return writer.n_frames


def save_image(
    image: NDArray[np.uint8], path: str | os.PathLike[str], *, inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Write one image as PNG or JPEG, whole or not at all.

    Args:
        image: its pixels.
        path: ends in .png, .jpg or .jpeg, which decides the format.
        inputs: paths that must not be overwritten.

    Raises:
        ConfigError: the target is one of the inputs, or has another ending.
        SourceError: it is not an image, or the target cannot be written.

    Shapes:
        image: uint8 (H, W, 3), RGB, or uint8 (H, W), grey.
    """
    target = Path(path)
    if target.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"cannot write an image to {target}: expected a name that ends in .png or .jpg")
    if image.dtype != np.uint8 or image.size == 0 or not (image.ndim == 2 or image.shape[2:] == (3,)):
        raise SourceError(
            f"cannot write {target}: {describe_value(image)} is no image, expected uint8 (height, width, 3)"
        )
    _refuse_inputs(target, inputs)
    pixels = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    temporary = _temporary_beside(target)
    try:
        _, encoded = cv2.imencode(target.suffix.lower(), pixels)
        Path(temporary).write_bytes(encoded.tobytes())
        Path(temporary).replace(target)
    except (OSError, cv2.error) as error:
        raise SourceError(f"cannot write {target}: {getattr(error, 'strerror', None) or error}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)


def _refuse_inputs(target: Path, inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Refuse a target that is an input, under whatever name, or a frame of an input folder.

    Raises:
        ConfigError: it is.
    """
    place = target.resolve()
    for source in map(Path, inputs):
        same = source.resolve() == place
        with suppress(OSError):
            same = same or source.samefile(target)
        if target.suffix.lower() in IMAGE_SUFFIXES and target.exists():
            same = same or source.resolve() == place.parent
        if same:
            raise ConfigError(f"cannot write {target}: it is an input; choose another output")


def _temporary_beside(target: Path) -> str:
    """Choose a free name in the folder of the target.

    Raises:
        SourceError: the folder is missing, or the target exists and is not a file.
    """
    folder = target.absolute().parent
    if not folder.is_dir():
        raise SourceError(f"cannot write {target}: there is no folder {folder}; create it first")
    if target.exists() and not target.is_file():
        raise SourceError(f"cannot write {target}: it exists and is not a file; choose another output")
    return str(folder / f".comemory-{secrets.token_hex(6)}.part")


def _pad_to_even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    if height % 2 or width % 2:
        return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return image


def _check_whole(path: str, n_frames: int) -> None:
    """Read the header back and count the frames: a full disk may go unnoticed while data is buffered.

    Raises:
        SourceError: the file has fewer frames than were written.
    """
    with av.open(path) as container:
        n_indexed = len(container.streams.video[0].index_entries) if container.streams.video else 0
    if n_indexed != n_frames:
        raise SourceError(f"only {n_indexed} of {n_frames} frames are on the disk: is it full?")
