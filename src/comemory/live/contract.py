"""What others may know and ask of a running engine; what the page, the API and the tests are built against."""

from __future__ import annotations

import queue
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from comemory.live.config import LiveSettings, Zone

Verdict = Literal["normal", "abnormal"]


class CameraState(StrEnum):
    """How a camera is. Frames are scored in `live` alone: all else is a state of its own, never normal.

    `ended` is a file that was played to its end; one that could not be read is `down`.
    """

    CONNECTING = "connecting"
    LIVE = "live"
    STALLED = "stalled"
    FROZEN = "frozen"
    BLACK = "black"
    BLINDED = "blinded"
    MOVED = "moved"
    DOWN = "down"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """How a camera is doing.

    Attributes:
        url: with the password masked.
        since: when the state began, UTC.
        fps_in, fps_scored: over the last seconds.
        frames, dropped, scored: frames that arrived; that gave way to a newer one unseen; that were scored.
        latency_ms_p50, latency_ms_p99: from the frame's arrival to its score, over the last minutes; None before any.
        reconnects: connections that were made anew after one was lost.
        attempts: connections that were tried.
        last_score: None until there is one, and while the camera is not live.
        threshold: of the score; events begin there.
        model: name of the bundle; `model_sha256` its digest.
        size: (height, width) of the camera's picture, None before the first.
        message: one line for people: why it is not live, and the cure.
        drift: one line when the scores of ordinary hours moved away from the calibration, else None.
    """

    name: str
    url: str
    state: CameraState
    since: datetime
    fps_in: float
    fps_scored: float
    frames: int
    dropped: int
    scored: int
    latency_ms_p50: float | None
    latency_ms_p99: float | None
    reconnects: int
    attempts: int
    last_score: float | None
    threshold: float
    false_alarms: str
    model: str
    model_sha256: str
    size: tuple[int, int] | None
    zones: tuple[Zone, ...]
    active: bool
    open_event: str | None
    message: str
    drift: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The newest picture of a camera.

    Attributes:
        picture: uint8 (H, W, 3), RGB, of the camera's own size or smaller (640 wide at most).
        heat: float32 (h, w) in [0, 1], another size than the picture's; None where the picture was not scored.
        score: None where the picture was not scored.
        time: when it arrived, UTC; of a picture that was not scored when it was first asked for.
    """

    picture: NDArray[np.uint8]
    heat: NDArray[np.float32] | None
    score: float | None
    time: datetime
    state: CameraState


@dataclass(slots=True)
class Metrics:
    """Counters since the start, by camera; what `/metrics` is made of.

    Attributes:
        latency_buckets_s: upper bounds of the histogram; the last is infinity.
        latency_counts: frames at or under each bound, for each camera.
        latency_sum_s: for each camera.
        queue_depth: cameras with a frame waiting for a worker.
        events: events begun, by camera; suppressed ones apart.
    """

    frames: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    scored: dict[str, int] = field(default_factory=dict)
    reconnects: dict[str, int] = field(default_factory=dict)
    states: dict[str, CameraState] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    suppressed: dict[str, int] = field(default_factory=dict)
    recording_errors: dict[str, int] = field(default_factory=dict)
    latency_buckets_s: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, float("inf"))
    latency_counts: dict[str, list[int]] = field(default_factory=dict)
    latency_sum_s: dict[str, float] = field(default_factory=dict)
    queue_depth: int = 0
    uptime_s: float = 0.0


Message = dict[str, Any]
"""What a subscriber gets; all are plain JSON values. By `kind`:

`score`  camera, time (ISO 8601, UTC), score, appearance, motion, threshold, box
`event`  camera, change (`new`, `update`, `end`), event (the stored event as JSON)
`state`  camera, time, state, before, message
`drift`  camera, message
`model`  camera, model, message: it has gone over to another bundle
`trouble`  message: something could not be written or used
"""


class EngineContract(Protocol):
    """A running engine, as the page and the API see it. Every method may be called from any thread."""

    @property
    def settings(self) -> LiveSettings: ...

    def start(self) -> None:
        """Begin watching. Raises ComemoryError where a bundle cannot be used; a camera that cannot is only a state."""
        ...

    def stop(self, timeout_s: float = 5.0) -> None:
        """End within the time: open events are closed and stored. May be called twice."""
        ...

    def status(self) -> list[CameraStatus]: ...

    def snapshot(self, camera: str) -> Snapshot | None:
        """The newest picture. Raises ConfigError where there is no such camera, as all that follow do."""
        ...

    def scores(self, camera: str, seconds: float) -> Sequence[tuple[datetime, float]]:
        """Scores of the last seconds (600 at most), oldest first."""
        ...

    def subscribe(self) -> AbstractContextManager[queue.Queue[Message]]:
        """A bounded queue of messages; the oldest give way where it is full."""
        ...

    def set_zones(self, camera: str, zones: Sequence[Zone]) -> None: ...

    def set_budget(self, camera: str, false_alarms: str) -> float:
        """Set the false-alarm budget; gives the threshold. Raises ConfigError where it cannot be read."""
        ...

    def set_verdict(self, event_id: str, verdict: Verdict | None, by: str) -> None:
        """Mark an event; `normal` teaches the camera, None takes it back. Raises ConfigError where there is none."""
        ...

    def reload(self, settings: LiveSettings) -> list[str]:
        """Take new settings; cameras that did not change are not disturbed. Gives one line for each change.

        Raises ComemoryError where something of them cannot be used, such as a bundle: then nothing has changed.
        """
        ...

    def metrics(self) -> Metrics: ...
