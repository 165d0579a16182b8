"""What a running engine offers to others: the page, the API and the tests use nothing else of it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from comemory.live.config import LiveSettings, Zone
from comemory.types import Box

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

    from comemory.alerts.dispatcher import Dispatcher
    from comemory.live.config.settings_file import SettingsFile

Verdict = Literal["normal", "abnormal"]


class CameraState(StrEnum):
    """The state of a camera. Frames are scored in `live` and `degraded` only: a camera fault is reported, never scored as normal.

    connecting  no connection yet
    live        frames arrive and are scored
    degraded    frames are scored, but many are not: they are lost on the network, or this machine is too slow
    stalled     connected, but no frames arrive
    frozen      frames arrive, but the image does not change
    black       the image is black
    covered     the lens is covered, dirty or out of focus
    moved       the camera shows another view than it used to
    down        no connection, or an error that stops the scoring
    ended       a file that was played to its end
    paused      not watched, because somebody paused it
    """

    CONNECTING = "connecting"
    LIVE = "live"
    DEGRADED = "degraded"
    STALLED = "stalled"
    FROZEN = "frozen"
    BLACK = "black"
    COVERED = "covered"
    MOVED = "moved"
    DOWN = "down"
    ENDED = "ended"
    PAUSED = "paused"

    @property
    def is_scored(self) -> bool:
        """Whether frames are scored in this state."""
        return self in (CameraState.LIVE, CameraState.DEGRADED)


@dataclass(frozen=True, slots=True)
class CameraStatus:
    """The status of a camera.

    Attributes:
        url: with the password masked.
        state: see `CameraState`.
        since: when the state began, UTC.
        fps_in: frames per second that arrive, over the last seconds.
        fps_scored: frames per second that are scored, over the last seconds.
        frames: number of frames received: the sum of `scored`, `dropped`, `damaged`, `not_due`, `filling`, `faulty` and
            `waiting`.
        dropped: number of frames that are not scored because this machine is too slow: newer ones were waiting, or frames
            of their clip were dropped.
        scored: number of frames scored.
        lost: number of frames that did not arrive, as far as the stream shows it.
        damaged: number of frames that are not scored because packets were lost: frames with a missing part, and those
            predicted from them.
        fps_due: frames per second that should be scored.
        latency_ms_p50: median time from a frame's arrival to its score, over the last minutes; None before the first.
        latency_ms_p99: its 99th percentile.
        reconnects: number of connections made after one was lost.
        attempts: number of connection attempts.
        last_score: None before the first score, and while the camera is not live.
        threshold: the score at which events begin; it follows from the budget.
        false_alarms: the false-alarm budget, such as `1/day`.
        model: name of the bundle.
        model_sha256: digest of the bundle.
        size: (height, width) of the camera's frames, in pixels; None before the first.
        active: whether events count at this time of day.
        open_event: id of the event under way, None without one.
        message: one line for people: why it is not live, with a hint.
        drift: one line if the scores of normal hours have moved away from the calibration, else None.
        paused_until: when a pause ends by itself, UTC; None without one, and for one that somebody must end.
        snoozed_until: until when its events make no alerts, UTC; None where they do.
        not_due: number of frames that are not to be scored: the camera sends more than the model or `fps` asks for.
        filling: number of frames that are not scored because their clip begins with the stream, after a gap in it, or
            after a fault.
        faulty: number of frames that are not scored because the image shows a fault, or the model gives no score.
        waiting: number of frames that wait for their score or are being scored.
    """

    name: str
    url: str
    state: CameraState
    since: datetime
    fps_in: float
    fps_scored: float
    fps_due: float
    frames: int
    dropped: int
    scored: int
    lost: int
    damaged: int
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
    paused_until: datetime | None = None
    snoozed_until: datetime | None = None
    not_due: int = 0
    filling: int = 0
    faulty: int = 0
    waiting: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """The newest image of a camera.

    Attributes:
        image: uint8 (H, W, 3), RGB, at most 640 pixels wide.
        heat: float32 (h, w) in [0, 1], of another size than the image; None if the frame was not scored.
        score: None if the frame was not scored.
        time: when it arrived, UTC; for a frame that was not scored, when it was first asked for.
    """

    image: NDArray[np.uint8]
    heat: NDArray[np.float32] | None
    score: float | None
    time: datetime
    state: CameraState


@dataclass(frozen=True, slots=True)
class Label:
    """What an object detector finds.

    Attributes:
        name: of the object.
        score: 0 to 1.
    """

    name: str
    score: float


@dataclass(slots=True)
class Metrics:
    """Counters since the start, by camera; the source of `/metrics`.

    Attributes:
        latency_buckets_s: upper bounds of the latency histogram, in seconds; the last is infinity.
        latency_counts: frames at or under each bound, by camera.
        latency_sum_s: sum of the latencies, by camera.
        queue_depth: number of cameras with a frame waiting for a worker.
        events: events started, without the suppressed ones.
        writes_dropped: minutes of scores and parts of hours of activity that were dropped, since the store was away too long.
    """

    frames: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    scored: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    damaged: dict[str, int] = field(default_factory=dict)
    not_due: dict[str, int] = field(default_factory=dict)
    filling: dict[str, int] = field(default_factory=dict)
    faulty: dict[str, int] = field(default_factory=dict)
    reconnects: dict[str, int] = field(default_factory=dict)
    states: dict[str, CameraState] = field(default_factory=dict)
    events: dict[str, int] = field(default_factory=dict)
    suppressed: dict[str, int] = field(default_factory=dict)
    recording_errors: dict[str, int] = field(default_factory=dict)
    latency_buckets_s: tuple[float, ...] = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, float("inf"))
    latency_counts: dict[str, list[int]] = field(default_factory=dict)
    latency_sum_s: dict[str, float] = field(default_factory=dict)
    queue_depth: int = 0
    writes_dropped: int = 0
    uptime_s: float = 0.0


FindLabel = Callable[[NDArray[np.uint8], Box | None], Label | None]
"""Names the object at a place of an RGB image; None where it finds none."""
Message = dict[str, Any]
"""A message to subscribers; all values are plain JSON. By `kind`:

`score`  camera, time (ISO 8601, UTC), score, appearance, motion, threshold, box
`event`  camera, change (`new`, `update`, `end`), event (the stored event as JSON)
`state`  camera, time, state, before, message: the state has changed
`drift`  camera, message: the scores have moved away from the calibration
`model`  camera, model, message: the camera uses another bundle now
`warning`  message: something could not be written or used (`error` is taken: browsers use it for the connection)
"""


class EngineContract(Protocol):
    """A running engine. Every method may be called from any thread; a camera that does not exist is a ConfigError."""

    @property
    def settings(self) -> LiveSettings:
        """The settings it runs with."""
        ...

    @property
    def failure(self) -> str:
        """Why no camera can be scored: one line that names no camera; empty while all is well, and while a camera is down."""
        ...

    def start(self) -> None:
        """Start all cameras. A camera that cannot be reached is a state, not an error.

        Raises:
            ComemoryError: a bundle cannot be used.
        """
        ...

    def stop(self, timeout_s: float = 5.0) -> None:
        """End within `timeout_s`: open events are closed and stored. May be called twice."""
        ...

    def status(self) -> list[CameraStatus]:
        """The status of every camera."""
        ...

    def snapshot(self, camera: str) -> Snapshot | None:
        """The newest image of a camera, with its heat map; None before the first."""
        ...

    def scores(self, camera: str, seconds: float) -> Sequence[tuple[datetime, float]]:
        """Times (UTC) and scores of the last `seconds` (at most 600), oldest first."""
        ...

    def subscribe(self) -> AbstractContextManager[queue.Queue[Message]]:
        """A bounded queue of messages; if it is full, the oldest message is dropped."""
        ...

    def set_zones(self, camera: str, zones: Sequence[Zone]) -> None:
        """Replace the zones of a camera."""
        ...

    def set_budget(self, camera: str, false_alarms: str) -> float:
        """Set the false-alarm budget and give the threshold that follows.

        Raises:
            ConfigError: the budget cannot be parsed.
        """
        ...

    def set_verdict(self, event_id: str, verdict: Verdict | None, by: str) -> None:
        """Set the verdict on an event. `normal` suppresses similar events of the camera from now on; None removes it.

        Args:
            event_id: id of the event.
            verdict: None removes the present one.
            by: name of the user.

        Raises:
            ConfigError: there is no such event.
        """
        ...

    def set_verdicts(self, event_ids: Sequence[str], verdict: Verdict | None, by: str) -> dict[str, str]:
        """Set the same verdict on many events.

        Returns:
            For each event that has no new verdict, why not.
        """
        ...

    def thresholds(self, camera: str, budgets: Sequence[str]) -> list[float]:
        """The thresholds that follow from budgets for a camera."""
        ...

    def reset_reference_view(self, camera: str) -> None:
        """Accept the present view of a moved camera as its reference."""
        ...

    def pause(self, camera: str, until: datetime | None, by: str) -> None:
        """Stop watching a camera, also after a restart.

        Args:
            camera: its name.
            until: when it is watched again, UTC; None for not before `resume`.
            by: name of the user.
        """
        ...

    def resume(self, camera: str) -> None:
        """Watch a paused camera again."""
        ...

    def snooze(self, camera: str, until: datetime, by: str) -> None:
        """Send no alerts for events of a camera that begin before a time, also after a restart.

        Args:
            camera: its name.
            until: UTC.
            by: name of the user.
        """
        ...

    def end_snooze(self, camera: str) -> None:
        """Send alerts again for the events of a snoozed camera that begin from now on."""
        ...

    def reload(self, settings: LiveSettings) -> list[str]:
        """Apply new settings; cameras whose settings did not change go on undisturbed. Gives one line per change.

        A bundle that was replaced at its path is loaded again, without a gap; one that cannot be used is reported, and the
        camera keeps its present one.

        Raises:
            ComemoryError: a part of them, such as a bundle, cannot be used; nothing has changed then.
        """
        ...

    def metrics(self) -> Metrics:
        """The metrics of the service and of every camera."""
        ...


class ServiceContract(Protocol):
    """What the page changes of the settings, beside what the engine offers."""

    @property
    def engine(self) -> EngineContract:
        """The running engine."""
        ...

    @property
    def dispatcher(self) -> Dispatcher | None:
        """Sends the alerts; None where this process sends none."""
        ...

    @property
    def settings_file(self) -> SettingsFile | None:
        """Changed by `change_settings`; None where there is none, or it is not to be changed."""
        ...

    def change_settings(self, edit: Callable[[TOMLDocument], None], check: Callable[[LiveSettings], None]) -> None:
        """Change the settings file and apply it, without a restart.

        Args:
            edit: changes the file's document.
            check: raises a ConfigError where the settings that follow are not what was wanted.

        Raises:
            ConfigError: there is no settings file, it cannot be written, or the new settings are not valid.
            ComemoryError: they cannot be applied; nothing has changed then.
        """
        ...
