"""Opens a camera once and takes one frame of it: to test a URL before it is used."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.errors import SourceError, mask_password
from comemory.live.capture.connection import Connection, explain_read_error
from comemory.live.config import CameraSettings, HealthSettings
from comemory.live.recording.packet_buffer import LIBRARY_ERRORS
from comemory.live.recording.snapshots import downscale, to_rgb
from comemory.video.image_folder import FrameFolder, upright_size

WIDTH = 640
"""Of the picture, pixels at most."""
TIMEOUT_S = 15.0
"""For everything: more than the time limit of a connection and the longest usual key frame interval."""
MAX_AT_ONCE = 2
_running = threading.BoundedSemaphore(MAX_AT_ONCE)


@dataclass(frozen=True, slots=True, eq=False)
class CameraProbe:
    """What a camera shows.

    Attributes:
        image: uint8 (H, W, 3), RGB.
        size: (height, width) of the camera's frames, in pixels.
        rate_hz: frames a second that the stream states; None where it does not.
        codec: such as `h264`; `images` for a folder.
    """

    image: NDArray[np.uint8]
    size: tuple[int, int]
    rate_hz: float | None
    codec: str


def probe_camera(camera: CameraSettings, health: HealthSettings, timeout_s: float = TIMEOUT_S) -> CameraProbe:
    """Take one frame of a camera, as it would be read.

    Raises:
        SourceError: it cannot be opened, gives no frame in time, or too many cameras are being tested.
        ConfigError: its URL is an environment variable that is not set.
    """
    location = camera.resolved_url
    if not _running.acquire(blocking=False):
        raise SourceError(f"{MAX_AT_ONCE} cameras are being tested: wait until that is done")
    found: list[CameraProbe | SourceError] = []

    def probe() -> None:
        try:
            found.append(_probe(location, camera, health))
        except SourceError as error:
            found.append(error)
        except LIBRARY_ERRORS as error:
            found.append(SourceError(f"{mask_password(location)}: {explain_read_error(error, location)}"))
        finally:
            _running.release()

    # A thread of its own: no time limit of the library covers the resolution of a name.
    thread = threading.Thread(target=probe, name="camera test", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if not found:
        raise SourceError(f"{mask_password(location)}: no picture within {timeout_s:g} s")
    if isinstance(found[0], SourceError):
        raise found[0]
    return found[0]


def _probe(location: str, camera: CameraSettings, health: HealthSettings) -> CameraProbe:
    is_file = "://" not in location and not location.startswith("/dev/")
    if is_file and Path(location).is_dir():
        for frame in FrameFolder(Path(location), name="", size=None, rate_hz=1.0):
            height, width = frame.image.shape[:2]
            return CameraProbe(downscale(frame.image, WIDTH), (height, width), None, "images")
        raise SourceError(f"{location}: it contains no image")
    with Connection(location, camera, health, is_file=is_file) as connection:
        context, rate_hz = connection.stream.codec_context, connection.stream.average_rate
        for packet in connection.packets():
            for image in context.decode(packet):
                if not image.is_corrupt:
                    rgb = downscale(to_rgb(image), WIDTH)
                    return CameraProbe(rgb, upright_size(image), float(rate_hz) if rate_hz else None, context.name)
    raise SourceError(f"{mask_password(location)}: it contains no frame that can be decoded")
