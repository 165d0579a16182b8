"""The newest frame of a camera as JPEG, encoded once for all viewers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.live.contract import EngineContract, Snapshot
from comemory.video.overlay import blend_heat_map

WIDTHS = (160, 320, 480, 640)
QUALITY = 80


@dataclass(frozen=True, slots=True)
class EncodedSnapshot:
    """An encoded frame.

    Attributes:
        tag: changes with the frame; for `ETag`.
        score: None where the frame was not scored.
    """

    jpeg: bytes
    tag: str
    score: float | None


class SnapshotEncoder:
    """Encodes snapshots of a running engine, and caches the newest of each camera, width and kind."""

    def __init__(self, engine: EngineContract) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._cache: dict[tuple[str, int, bool], EncodedSnapshot] = {}

    def latest(self, camera: str, width: int = 640, heat: bool = False) -> EncodedSnapshot | None:
        """The newest frame, None before the first.

        Args:
            camera: its name.
            width: minimum width; the next larger of `WIDTHS` is used, and never more than the snapshot has.
            heat: draw the heat map over it.

        Raises:
            ConfigError: there is no such camera.
        """
        snapshot = self._engine.snapshot(camera)
        if snapshot is None:
            return None
        width = next((known for known in WIDTHS if known >= width), WIDTHS[-1])
        key, tag = (camera, width, heat), f'"{snapshot.time.timestamp():.6f}-{width}-{heat:d}"'
        with self._lock:
            cached = self._cache.get(key)
            if cached is None or cached.tag != tag:
                cached = self._cache[key] = EncodedSnapshot(_jpeg(_drawn(snapshot, width, heat)), tag, snapshot.score)
            return cached

    def discard(self, is_known: Callable[[str], bool]) -> None:
        """Remove cameras that are gone from the cache."""
        with self._lock:
            self._cache = {key: cached for key, cached in self._cache.items() if is_known(key[0])}


def _drawn(snapshot: Snapshot, width: int, heat: bool) -> NDArray[np.uint8]:
    image = snapshot.image
    if width < image.shape[1]:
        height = max(1, round(image.shape[0] * width / image.shape[1]))
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if heat and snapshot.heat is not None:
        image = image.copy()
        blend_heat_map(image, snapshot.heat)
    return image


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return encoded.tobytes()
