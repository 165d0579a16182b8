"""What a camera's URL leads to, opened: options, time limits, and what can be told of it before it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from comemory.errors import SourceError, last_line, mask_password
from comemory.live.config import CameraSettings, HealthSettings
from comemory.live.recording.packet_buffer import LIBRARY_ERRORS, Sent
from comemory.video.container import FILE_FORMATS, URL_PROTOCOLS
from comemory.video.resize import MAX_PIXELS
from comemory.video.source import URL_SCHEMES, open_source

OPEN_TIMEOUT_S = 4.0
PIECE_TIMEOUT_S = 20.0
"""A play list is given so long for its next piece: two of the longest that are usual."""
DATAGRAM_BUFFER = 4 * 2**20
ARRIVAL_FORMATS = ("mpjpeg", "mjpeg", "v4l2", "video4linux2,v4l2")
"""Formats that carry no clock of the camera: the time of arrival is taken."""


class Connection:
    """An open camera, file or recording.

    Attributes:
        container, stream: of the first video in it.
        is_file: of this machine.
        is_recording: it has an end: a file, or one at a URL. A play list that has ended is one too.
        is_piecewise: it comes in pieces of seconds, as HLS does.
        by_arrival: it has no clock of its own.
    """

    def __init__(self, location: str, camera: CameraSettings, health: HealthSettings, *, is_file: bool) -> None:
        self.is_file = is_file
        self.container = _open_file(location) if is_file else _open_stream(location, camera, health)
        try:
            name = self.container.format.name
            over_http = location.lower().startswith("http")
            self.is_piecewise = over_http and "hls" in name.split(",")
            self.is_recording = is_file or (over_http and (self.container.duration or 0) > 0)
            self.by_arrival = not is_file and name in ARRIVAL_FORMATS
            self.stream = _video_stream(self.container, mask_password(location))
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def packets(self) -> Iterator[Any]:
        """The packets, and at the end None, which lets the decoder give its last pictures."""
        for packet in self.container.demux(self.stream):
            if packet.size > 0:
                yield packet
        yield None


def sent(packet: Any, at: float) -> Sent:
    """A packet as it is kept."""
    return Sent(bytes(packet), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, at)


def reason_of(error: BaseException, location: str) -> str:
    """Why a camera cannot be read, in one line."""
    if isinstance(error, av.ExitError):
        return "the camera sends nothing: check its power and network"
    if location.startswith("/dev/"):
        if isinstance(error, FileNotFoundError):
            return "no such device: is the camera plugged in? v4l2-ctl --list-devices names those that are"
        if isinstance(error, PermissionError):
            return "this user may not read it: add the user to the group video"
        if getattr(error, "errno", None) in (16, 25):
            return "no camera that is free: another program holds it, or it is another kind of device"
    return str(getattr(error, "strerror", None) or last_line(error))


def _open_file(location: str) -> InputContainer:
    open_source(location)
    options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": "file", "format_whitelist": FILE_FORMATS}
    return av.open(location, options=options, metadata_errors="replace")


def _open_stream(location: str, camera: CameraSettings, health: HealthSettings) -> InputContainer:
    scheme, path = location.partition("://")[0].lower(), urlsplit(location).path.lower()
    options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": URL_PROTOCOLS}
    silence_s = max(health.stalled_s * 1.5, 2.0)
    if location.startswith("/dev/"):
        options = {}
    elif scheme not in URL_SCHEMES:
        raise SourceError(f"cannot open {mask_password(location)}: no such kind of stream: give rtsp:// or http://")
    elif scheme.startswith("rtsp"):
        options |= {"rtsp_transport": camera.transport, "probesize": "32768", "analyzeduration": "200000"}
        if camera.transport == "udp":
            options["buffer_size"] = str(DATAGRAM_BUFFER)
    elif path.endswith(".m3u8"):
        silence_s = max(silence_s, PIECE_TIMEOUT_S)
    return av.open(
        location,
        format="v4l2" if location.startswith("/dev/") else None,
        options=options,
        metadata_errors="replace",
        timeout=(OPEN_TIMEOUT_S, silence_s),
    )


def _video_stream(container: InputContainer, shown: str) -> VideoStream:
    if not container.streams.video:
        raise SourceError(f"{shown}: there is no video in it: expected a video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise SourceError(f"{shown}: no decoder for its video: set the camera to H.264")
    height, width = stream.codec_context.height, stream.codec_context.width
    if height * width > MAX_PIXELS:
        raise SourceError(f"{shown}: its pictures are {height}x{width}: at most {MAX_PIXELS // 10**6} megapixels")
    stream.codec_context.thread_count = 1
    with suppress(*LIBRARY_ERRORS):
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream
