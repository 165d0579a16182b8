"""Opens the URL of a camera: options, time limits, and what kind of stream it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from comemory.errors import SourceError, last_line, mask_password
from comemory.live.config import CameraSettings, HealthSettings
from comemory.live.recording.packet_buffer import LIBRARY_ERRORS, Packet
from comemory.secret_values import encode_url
from comemory.video.container import FILE_FORMATS, URL_PROTOCOLS
from comemory.video.resize import MAX_PIXELS
from comemory.video.source import URL_SCHEMES, open_source

OPEN_TIMEOUT_S = 4.0
SEGMENT_TIMEOUT_S = 20.0
"""Time limit for the next segment of a playlist: twice the longest that is usual (10 s)."""
HTTP_ANALYSIS_US = "1000000"
"""Microseconds of a stream that are analysed before it is shown; the default of 5 s is longer than a camera may take."""
UDP_BUFFER_BYTES = 4 * 2**20
"""The system's default of 208 KiB holds less than one key frame of a 4K camera."""
FLUSH_S = 2.0
"""A stream that ended within this time after its last packet was ended by the camera."""
SINGLE_IMAGE_FORMATS = ("mjpeg", "image2")
ARRIVAL_FORMATS = ("mpjpeg", "mjpeg", "v4l2", "video4linux2,v4l2")
"""Formats without a clock of the camera: frames get their time of arrival."""


class Connection:
    """An open camera, file or recording.

    Attributes:
        container: the open container.
        stream: its first video stream.
        is_file: it is a file of this machine.
        is_recording: it has an end: a file, a file at a URL, or a playlist that has ended.
        is_segmented: it comes in segments of seconds, as HLS does.
        is_single_image: it may be one image instead of a stream.
        uses_arrival_time: it has no clock of its own.
        duration_s: that it states; 0 for none.
    """

    def __init__(self, location: str, camera: CameraSettings, health: HealthSettings, *, is_file: bool) -> None:
        self.is_file = is_file
        self.container = _open_file(location) if is_file else _open_stream(location, camera, health)
        try:
            name = self.container.format.name
            over_http = location.lower().startswith("http")
            self.is_segmented = over_http and "hls" in name.split(",")
            self.is_single_image = over_http and (name.endswith("_pipe") or name in SINGLE_IMAGE_FORMATS)
            # A live stream may state a duration too, but no server knows the size of one.
            has_size = self.is_segmented or (over_http and self.container.size > 0)
            self.duration_s = (self.container.duration or 0) / av.time_base
            self.is_recording = is_file or (over_http and has_size and self.duration_s > 0)
            self.uses_arrival_time = not is_file and name in ARRIVAL_FORMATS
            self.stream = _video_stream(self.container, mask_password(location))
        except BaseException:
            self.container.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def packets(self) -> Iterator[Any]:
        """The packets; None at the end, for the decoder to return its last frames.

        A camera that has fallen silent does not get a None: its last frames would look like new ones.
        """
        arrived = time.monotonic()
        for packet in self.container.demux(self.stream):
            if packet.size > 0:
                arrived = time.monotonic()
                yield packet
        if self.is_recording or time.monotonic() - arrived < FLUSH_S:
            yield None


def copy_packet(packet: Any, at: float) -> Packet:
    """A copy of a packet, independent of the connection.

    Args:
        packet: of PyAV.
        at: Unix time of its frame.
    """
    return Packet(bytes(packet), packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe, at)


def explain_read_error(error: BaseException, location: str) -> str:
    """Why a camera cannot be read, and what to do, in one line."""
    if isinstance(error, av.ExitError):
        return "the camera sends nothing: check its power and network"
    if location.startswith("/dev/"):
        if isinstance(error, FileNotFoundError):
            return "no such device: is the camera plugged in? v4l2-ctl --list-devices lists the cameras"
        if isinstance(error, PermissionError):
            return "permission denied: add this user to the group video"
        if getattr(error, "errno", None) in (16, 25):
            return "not a camera, or another program is using it: close that program, or choose another device"
    return str(getattr(error, "strerror", None) or last_line(error))


def _open_file(location: str) -> InputContainer:
    open_source(location)
    options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": "file", "format_whitelist": FILE_FORMATS}
    return av.open(location, options=options, metadata_errors="replace")


def _open_stream(location: str, camera: CameraSettings, health: HealthSettings) -> InputContainer:
    location = encode_url(location)
    scheme, path = location.partition("://")[0].lower(), urlsplit(location).path.lower()
    options = {"max_pixels": str(MAX_PIXELS), "protocol_whitelist": URL_PROTOCOLS}
    silence_s = max(health.stalled_s * 1.5, 2.0)
    if location.startswith("/dev/"):
        options = {}
    elif scheme not in URL_SCHEMES:
        raise SourceError(f"cannot open {mask_password(location)}: unknown kind of stream: expected rtsp:// or http://")
    elif scheme.startswith("rtsp"):
        options |= {"rtsp_transport": camera.transport, "probesize": "32768", "analyzeduration": "200000"}
        if camera.transport == "udp":
            options["buffer_size"] = str(UDP_BUFFER_BYTES)
    elif path.endswith(".m3u8"):
        silence_s = max(silence_s, SEGMENT_TIMEOUT_S)
    else:
        options["analyzeduration"] = HTTP_ANALYSIS_US
    return av.open(
        location,
        format="v4l2" if location.startswith("/dev/") else None,
        options=options,
        metadata_errors="replace",
        timeout=(OPEN_TIMEOUT_S, silence_s),
    )


def _video_stream(container: InputContainer, shown: str) -> VideoStream:
    if not container.streams.video:
        raise SourceError(f"{shown}: it contains no video stream")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise SourceError(f"{shown}: no decoder for its video: set the camera to H.264")
    height, width = stream.codec_context.height, stream.codec_context.width
    if height * width > MAX_PIXELS:
        raise SourceError(
            f"{shown}: its frames are {width}x{height}: at most {MAX_PIXELS // 10**6} megapixels are supported"
        )
    stream.codec_context.thread_count = 1
    with suppress(*LIBRARY_ERRORS):
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream
