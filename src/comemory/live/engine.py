"""The engine: runs cameras and the workers that score them. See `contract.EngineContract`."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from comemory.detector import Detector
from comemory.errors import ComemoryError, ConfigError, SourceError, StoreError, suggest
from comemory.files import require_writable_folder
from comemory.live.camera import RunningCamera
from comemory.live.config import CameraSettings, LiveSettings, Zone
from comemory.live.config.overrides import Overrides
from comemory.live.contract import CameraStatus, Label, Message, Metrics, Snapshot, Verdict
from comemory.live.learning.feedback import FeedbackStore
from comemory.live.monitoring.watchdog import Task, Watchdog
from comemory.live.pauses import Pause, PauseKind, Pauses
from comemory.live.recording.event_writer import AlertObserver, EventWriter
from comemory.live.recording.task_queue import TaskQueue
from comemory.live.scoring.shared_network import NetworkPool
from comemory.live.subscribers import MessageBus
from comemory.live.workers import Workers
from comemory.scoring import parse_budget
from comemory.types import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from comemory.live.labels import Labeller
    from comemory.store.store import EventStore

DRIFT_INTERVAL_S = 60.0
REFERENCE_INTERVAL_S = 600.0
"""How often the reference views are saved, for a start after a crash."""
HANG_S = 30.0
"""Seconds without a round after which a watchdog counts as hanging: a round takes milliseconds, and a full disk may hold it for
seconds. Workers count as hanging when none has asked for frames for so long: each asks twice a second, or after a batch."""
MAX_CLIP_TASKS = 20_000
"""Packets that may wait for the disk: about a minute of ten cameras at 30 frames per second."""
LIVE_CHANGES = {"zones", "false_alarms", "hours", "unusual_times"}
"""Settings of a camera that can change without a new connection."""
FIXED = ("out", "runtime", "precision", "device", "workers", "store", "web", "labels")
"""Settings that take effect after a restart only."""
READ_WHEN_USED = ("retention", "learn")
"""Settings that no camera uses: they hold from the next sweep, or the next training."""
Requirements = tuple[Detector, list[Sequence[float]]]
"""What starting a camera requires: its detector, and the signatures of its events with the verdict normal."""


class Engine:
    """Runs cameras until it is stopped.

    One thread reads each camera. A pool of workers, one per core, scores the frames that have waited longest, whichever
    camera they are from. A watchdog looks after all threads. Clips and events are written by two threads of their own. No
    camera waits for another.

    Attributes:
        event_writer: writes the events.

    Args:
        settings: all live settings.
        store: the event store; None writes events to `events.jsonl` only. The engine does not close it.
        alerts: notified of every change at once.

    Raises:
        ConfigError: the output folder cannot be written.
    """

    def __init__(
        self, settings: LiveSettings, store: EventStore | None = None, alerts: AlertObserver | None = None
    ) -> None:
        require_writable_folder(settings.out)
        self._overrides = Overrides(settings.out)
        self._base_settings = settings
        self._settings = self._overrides.apply(settings)
        self._store = store
        self._subscribers = MessageBus()
        self._feedback = FeedbackStore(settings.out, store)
        self._pauses, self._alerts = Pauses(settings.out), alerts
        self.event_writer = EventWriter(settings.out, store, self._publish_error, alerts)
        self._clip_tasks = TaskQueue("clips", MAX_CLIP_TASKS)
        self._cameras: dict[str, RunningCamera] = {}
        self._networks = NetworkPool(
            self._settings.runtime, self._settings.precision, self.workers, self._settings.device
        )
        self._label_error = ""
        self._labeller = self._open_labeller()
        self._change_lock = threading.RLock()
        self._reloading = False
        self._stopping = threading.Event()
        self._workers = Workers(self.workers, lambda: list(self._cameras.values()))
        self._watchdog = Watchdog(self._tasks, self._watchdog_died, self._stopping)
        self._started: float | None = None
        self._drift_messages: dict[str, str | None] = {}
        self._without_feedback: set[str] = set()
        self._last_drift_check = self._last_reference_save = time.monotonic()

    @property
    def settings(self) -> LiveSettings:
        """The settings in force, with what was set while running."""
        return self._settings

    @property
    def workers(self) -> int:
        """Number of threads that score."""
        return self._settings.workers or len(os.sched_getaffinity(0))

    @property
    def is_alive(self) -> bool:
        """Whether the watchdog still makes its rounds: where it hangs, so does what it looks after."""
        return time.monotonic() - self._watchdog.last_round < HANG_S

    @property
    def failure(self) -> str:
        """See `contract.EngineContract.failure`."""
        if self._started is None or self._stopping.is_set():
            return "the engine has stopped"
        if not self.is_alive:
            return "the engine hangs"
        is_stuck = time.monotonic() - self._workers.last_progress >= HANG_S
        return "no worker makes progress" if is_stuck else ""

    @property
    def finished(self) -> bool:
        """Whether every camera was a file that has ended; False during a reload, or without a camera."""
        cameras = list(self._cameras.values())
        return bool(cameras) and not self._reloading and all(camera.finished for camera in cameras)

    @property
    def overloaded(self) -> list[str]:
        """Names of the cameras of which this machine drops many frames unscored."""
        return [name for name, camera in list(self._cameras.items()) if camera.is_overloaded]

    @property
    def failed(self) -> list[str]:
        """Names of the cameras that are files and could not be read to their end."""
        return [name for name, camera in list(self._cameras.items()) if camera.failed]

    def start(self) -> None:
        """See `contract.EngineContract.start`."""
        with self._change_lock:
            for name, camera in self._settings.cameras.items():
                if camera.enabled:
                    self._cameras[name] = self._new_camera(name, self._requirements_of(name, self._settings))
            self.event_writer.start()
            self._clip_tasks.start()
            self._started = time.monotonic()
            for camera_ in self._cameras.values():
                camera_.start()
            self._show_pauses()
            self._workers.start()
            self._watchdog.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """See `contract.EngineContract.stop`."""
        if self._started is None:
            return
        end = time.monotonic() + timeout_s

        def left(share: float) -> float:
            """Seconds until only this share of the time is left."""
            return max(0.01, end - share * timeout_s - time.monotonic())

        if not self._stopping.is_set():
            self._stopping.set()
            self._halt(left(0.8))
            self._workers.join(end - 0.6 * timeout_s)
            self._watchdog.join(left(0.6))
            for camera in list(self._cameras.values()):
                camera.finish(left(0.5))
            if not self._clip_tasks.finish(left(0.35)):
                for camera in list(self._cameras.values()):
                    camera.packets.flush()
                self._clip_tasks.finish(left(0.2))
        self.event_writer.stop(left(0))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until every camera was a file that has ended; False if the time is up first."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.finished:
            if end is not None and time.monotonic() >= end:
                return False
            if self._stopping.wait(0.05):
                return False
        return True

    def status(self) -> list[CameraStatus]:
        """See `contract.EngineContract.status`."""
        paused, snoozed = self._pauses.of_kind("pause"), self._pauses.of_kind("snooze")
        return [
            replace(
                camera.status(),
                paused_until=paused[name].until if name in paused else None,
                snoozed_until=snoozed[name].until if name in snoozed else None,
            )
            for name, camera in list(self._cameras.items())
        ]

    def snapshot(self, camera: str) -> Snapshot | None:
        """See `contract.EngineContract.snapshot`."""
        found = self._camera(camera)
        if found.pause_note is not None:
            return None
        return found.scorer.snapshot(found.reader.newest, found.state)

    def scores(self, camera: str, seconds: float) -> Sequence[tuple[datetime, float]]:
        """See `contract.EngineContract.scores`."""
        return self._camera(camera).scorer.stats.scores(seconds)

    def subscribe(self) -> AbstractContextManager[queue.Queue[Message]]:
        """See `contract.EngineContract.subscribe`."""
        return self._subscribers.subscribe()

    def publish(self, message: Message) -> None:
        """Send a message to all subscribers."""
        self._subscribers.publish(message)

    def set_zones(self, camera: str, zones: Sequence[Zone]) -> None:
        """See `contract.EngineContract.set_zones`.

        Raises:
            ConfigError: a zone is not a valid polygon.
        """
        self._set(camera, "zones", [[list(point) for point in zone] for zone in zones])

    def set_budget(self, camera: str, false_alarms: str) -> float:
        """See `contract.EngineContract.set_budget`."""
        parse_budget(false_alarms)
        self._set(camera, "false_alarms", false_alarms)
        return self._camera(camera).scorer.threshold

    @property
    def start_notes(self) -> list[str]:
        """For each camera, its false-alarm budget and those that its model's footage supports; and why there are no labels."""
        scorers = {name: camera.scorer for name, camera in self._cameras.items()}
        notes = [
            f"{name}: at most {scorer.false_alarms} false alarms; the model has {scorer.detector.bundle.coverage()}"
            for name, scorer in scorers.items()
        ]
        return [*notes, self._label_error] if self._label_error else notes

    def thresholds(self, camera: str, budgets: Sequence[str]) -> list[float]:
        """The thresholds that follow from budgets for a camera."""
        calibration = self._camera(camera).scorer.detector.bundle.calibration
        return [calibration.threshold(budget) for budget in budgets]

    def set_verdict(self, event_id: str, verdict: Verdict | None, by: str) -> None:
        """See `contract.EngineContract.set_verdict`."""
        self._suppress_normal(self._feedback.set_verdict(event_id, verdict, by))

    def set_verdicts(self, event_ids: Sequence[str], verdict: Verdict | None, by: str) -> dict[str, str]:
        """Set the same verdict on many events; the suppressions of each camera are made once.

        Returns:
            For each event that has no new verdict, why not.
        """
        changed, errors = self._feedback.set_verdicts(event_ids, verdict, by)
        for name in changed:
            self._suppress_normal(name)
        return errors

    def read_verdicts(self, camera: str) -> None:
        """Read the verdicts on a camera's events again, after another process has set one.

        Raises:
            StoreError: the store does not answer.
        """
        self._suppress_normal(camera)

    def _suppress_normal(self, name: str) -> None:
        """Suppress what looks like the events of a camera that are marked as normal."""
        if (camera := self._cameras.get(name)) is not None:
            camera.scorer.set_suppressions(self._feedback.normal_signatures(name))

    def set_model(self, camera: str, bundle: Path) -> None:
        """Switch a camera to another bundle without a gap; the choice survives a restart.

        Raises:
            BundleError: it cannot be used; the camera keeps its present one.
        """
        detector = self._networks.open_detector(bundle)
        self._set(camera, "model", str(bundle))
        self._camera(camera).swap_model(detector)

    def reset_reference_view(self, camera: str) -> None:
        """Accept the present view of a moved camera as its reference."""
        self._camera(camera).scorer.reset_reference_view()

    def pause(self, camera: str, until: datetime | None, by: str) -> None:
        """See `contract.EngineContract.pause`."""
        self._set_pause("pause", camera, Pause(datetime.now(UTC), until, by))

    def resume(self, camera: str) -> None:
        """See `contract.EngineContract.resume`."""
        self._set_pause("pause", camera, None)

    def snooze(self, camera: str, until: datetime, by: str) -> None:
        """See `contract.EngineContract.snooze`."""
        self._set_pause("snooze", camera, Pause(datetime.now(UTC), until, by))

    def end_snooze(self, camera: str) -> None:
        """See `contract.EngineContract.end_snooze`."""
        self._set_pause("snooze", camera, None)

    def reload(self, settings: LiveSettings) -> list[str]:
        """See `contract.EngineContract.reload`."""
        with self._change_lock:
            before, after = self._settings, self._overrides.apply(settings)
            fixed = [key for key in FIXED if _differ(before, after, key)]
            after = after.model_copy(update={key: getattr(before, key) for key in fixed})
            changes = self._changes(before, after)
            started = [name for name, change in changes.items() if change is None and _is_enabled(name, after)]
            requirements = {name: self._requirements_of(name, after) for name in started}
            running_on = [name for name in self._cameras if changes.get(name, set()) is not None]
            self._base_settings, self._settings, self._reloading = settings, after, True
            try:
                lines = [self._reload_camera(name, change, requirements.get(name)) for name, change in changes.items()]
                lines += [line for name in running_on if (line := self._load_replaced_model(name, after))]
            finally:
                self._reloading = False
            with suppress(SourceError):
                self._pauses.retain(after.cameras.keys())
            self._show_pauses()
            changed = [f"{key}: changed" for key in READ_WHEN_USED if _differ(before, after, key)]
            return [*(f"{key}: takes effect after a restart" for key in fixed), *changed, *lines]

    def metrics(self) -> Metrics:
        """See `contract.EngineContract.metrics`."""
        cameras = dict(self._cameras)
        stats = {name: camera.scorer.stats for name, camera in cameras.items()}
        return Metrics(
            frames={name: camera.reader.frames for name, camera in cameras.items()},
            dropped={name: camera.n_dropped for name, camera in cameras.items()},
            scored={name: one.scored for name, one in stats.items()},
            lost={name: camera.reader.lost for name, camera in cameras.items()},
            damaged={name: camera.reader.damaged for name, camera in cameras.items()},
            not_due={name: camera.reader.not_due for name, camera in cameras.items()},
            filling={name: one.filling for name, one in stats.items()},
            faulty={name: one.faulty for name, one in stats.items()},
            reconnects={name: camera.reader.reconnects for name, camera in cameras.items()},
            states={name: camera.state for name, camera in cameras.items()},
            events={name: one.events for name, one in stats.items()},
            suppressed={name: one.suppressed for name, one in stats.items()},
            recording_errors={name: one.recording_errors for name, one in stats.items()},
            latency_counts={name: list(one.latency_counts) for name, one in stats.items()},
            latency_sum_s={name: one.latency_sum_s for name, one in stats.items()},
            queue_depth=sum(camera.waiting_since is not None for camera in cameras.values()),
            writes_dropped=self.event_writer.n_dropped,
            uptime_s=0.0 if self._started is None else time.monotonic() - self._started,
        )

    def _camera(self, name: str) -> RunningCamera:
        if name not in self._cameras:
            raise ConfigError(f"there is no camera {name[:64]!r}: {suggest(name, self._cameras)}")
        return self._cameras[name]

    def _requirements_of(self, name: str, settings: LiveSettings) -> Requirements:
        """Everything of a camera that can be refused: made before any camera is started or stopped."""
        return self._networks.open_detector(settings.bundle_of(name)), self._normal_signatures(name)

    def _normal_signatures(self, name: str) -> list[Sequence[float]]:
        """The normal events of a camera; none while the store is away, then they are read once it is back."""
        try:
            found = self._feedback.normal_signatures(name)
        except StoreError:
            self._without_feedback.add(name)
            return []
        self._without_feedback.discard(name)
        return found

    def _read_missing_feedback(self) -> None:
        for name in list(self._without_feedback):
            if (camera := self._cameras.get(name)) is None:
                self._without_feedback.discard(name)
            elif normal := self._normal_signatures(name):
                camera.scorer.set_suppressions(normal)

    def _new_camera(self, name: str, requirements: Requirements) -> RunningCamera:
        detector, normal = requirements
        camera = RunningCamera(
            name,
            self._settings,
            detector,
            self.event_writer,
            self._clip_tasks,
            self.publish,
            self._workers.wake,
            None if self._labeller is None else self._find_label,
        )
        camera.scorer.set_suppressions(normal)
        if (pause := self._pauses.get("pause", name)) is not None:
            camera.pause(_note(pause))
        return camera

    def _set_pause(self, kind: PauseKind, name: str, pause: Pause | None) -> None:
        with self._change_lock:
            self._camera(name)
            self._pauses.set(kind, name, pause)
            self._apply_pause(kind, name)

    def _apply_pause(self, kind: PauseKind, name: str) -> None:
        if kind == "pause":
            pause, camera = self._pauses.get(kind, name), self._camera(name)
            if pause is None:
                camera.resume()
            else:
                camera.pause(_note(pause))
            camera.update_state()
        self._show_pauses()

    def _show_pauses(self) -> None:
        """Tell the alerts which cameras are paused and snoozed."""
        if self._alerts is not None:
            snoozed = {
                name: (one.since, one.until) for name, one in self._pauses.of_kind("snooze").items() if one.until
            }
            self._alerts.set_pauses(self._pauses.of_kind("pause").keys(), snoozed)

    def _end_pauses(self) -> None:
        for kind, name in self._pauses.expired(datetime.now(UTC)):
            with self._change_lock:
                self._pauses.end_expired(kind, name)
                if name in self._cameras:
                    self._apply_pause(kind, name)

    def _open_labeller(self) -> Labeller | None:
        """The detector of `[labels]`; a file that cannot be used is reported at the start, and events get no labels."""
        if self._settings.labels.file is None:
            return None
        from comemory.live.labels import Labeller

        try:
            return Labeller(self._settings.labels)
        except ComemoryError as error:
            self._label_error = f"events get no labels: {error}"
            return None

    def _find_label(self, image: NDArray[np.uint8], box: Box | None) -> Label | None:
        if (labeller := self._labeller) is None:
            return None
        try:
            return labeller.find(image, box)
        except ComemoryError as error:
            self._labeller, self._label_error = None, f"events get no labels: {error}"
            self._publish_error(self._label_error)
            return None

    def _set(self, camera: str, key: str, value: object) -> None:
        with self._change_lock:
            self._camera(camera)
            was = self._base_settings.cameras[camera].model_dump(mode="json")[key]
            changed = CameraSettings.model_validate({**self._settings.cameras[camera].model_dump(), key: value})
            self._overrides.set(camera, key, was, changed.model_dump(mode="json")[key])
            self._settings = self._settings.model_copy(update={"cameras": {**self._settings.cameras, camera: changed}})
            self._cameras[camera].scorer.configure(changed)

    def _changes(self, before: LiveSettings, after: LiveSettings) -> dict[str, set[str] | None]:
        """What a reload changes, by camera: the settings that change while it runs; None if it must start again or stop."""
        shared = any(_differ(before, after, key) for key in ("events", "health", "model"))
        found: dict[str, set[str] | None] = {}
        for name in sorted({*before.cameras, *after.cameras}):
            old, new = before.cameras.get(name), after.cameras.get(name)
            changed = {key for key in CameraSettings.model_fields if getattr(old, key, None) != getattr(new, key, None)}
            if changed or shared:
                can_go_on = changed <= LIVE_CHANGES and not shared and name in self._cameras and new is not None
                found[name] = changed if can_go_on else None
        return found

    def _reload_camera(self, name: str, changed: set[str] | None, requirements: Requirements | None) -> str:
        """Apply the new settings to one camera: change it, or stop it and start it again."""
        running = self._cameras.get(name)
        if changed is not None and running is not None:
            running.scorer.configure(self._settings.cameras[name])
            return f"{name}: {', '.join(sorted(changed))}"
        if running is not None:
            running.stop()
            running.finish()
        if requirements is None:
            self._cameras.pop(name, None)
            return f"{name}: stopped"
        camera = self._cameras[name] = self._new_camera(name, requirements)
        if self._stopping.is_set():
            camera.stop()
        else:
            camera.start()
        return f"{name}: {'restarted' if running else 'started'}"

    def _load_replaced_model(self, name: str, settings: LiveSettings) -> str:
        """Load the bundle of a running camera again if another one took its place; what was done, empty if nothing."""
        camera, path = self._cameras[name], settings.bundle_of(name)
        used = camera.scorer.newest_bundle
        try:
            if used.is_current():
                return ""
            detector = self._networks.open_detector(path)
        except ComemoryError as error:
            return f"{name}: keeps its present model: {error}"
        if detector.bundle.digest == used.digest:
            return ""
        camera.swap_model(detector)
        return f"{name}: model: the new bundle at {path}"

    def _halt(self, timeout_s: float) -> None:
        """Stop readers and workers; waits no longer than `timeout_s` for a change of cameras that is under way."""
        is_locked = self._change_lock.acquire(timeout=timeout_s)
        try:
            for camera in list(self._cameras.values()):
                camera.stop()
        finally:
            if is_locked:
                self._change_lock.release()
        self._workers.stop()

    def _watchdog_died(self) -> None:
        self.publish({"kind": "warning", "message": "the watchdog stopped with an error and is being restarted"})

    def _tasks(self) -> Iterator[Task]:
        """The tasks of one round: states, dead threads, overrides, drift and reference views."""
        cameras, now = list(self._cameras.values()), time.monotonic()
        for camera in cameras:
            yield from (camera.update_state, camera.restart_reader)
        yield from (
            self._workers.replace_dead,
            self._clip_tasks.restart,
            self.event_writer.restart,
            self._read_missing_feedback,
            self._end_pauses,
            self._apply_overrides,
        )
        if now - self._last_drift_check >= DRIFT_INTERVAL_S:
            self._last_drift_check = now
            yield self._publish_drift
        if now - self._last_reference_save >= REFERENCE_INTERVAL_S:
            self._last_reference_save = now
            for camera in cameras:
                yield partial(self._clip_tasks.submit, camera.scorer.health.save)

    def _apply_overrides(self) -> None:
        """Apply what another process has set, such as the bundle that `comemory learn` has trained."""
        if self._overrides.has_changed():
            with self._change_lock:
                after = self._overrides.apply(self._base_settings)
                for name, camera in list(self._cameras.items()):
                    self._apply_override(camera, after.cameras[name], after)

    def _apply_override(self, camera: RunningCamera, changed: CameraSettings, after: LiveSettings) -> None:
        before, wanted = self._settings.bundle_of(camera.name), after.bundle_of(camera.name)
        try:
            detector = self._networks.open_detector(wanted) if wanted != before else None
        except ComemoryError as error:
            self.publish({"kind": "warning", "message": f"{camera.name} keeps its present model: {error}"})
            return
        cameras = {**self._settings.cameras, camera.name: changed}
        self._settings = self._settings.model_copy(update={"cameras": cameras})
        camera.scorer.configure(changed)
        if detector is not None:
            camera.swap_model(detector)

    def _publish_drift(self) -> None:
        for name, camera in list(self._cameras.items()):
            message = camera.scorer.drift_guard.message
            if message and message != self._drift_messages.get(name):
                self.publish({"kind": "drift", "camera": name, "message": message})
            self._drift_messages[name] = message

    def _publish_error(self, error: str) -> None:
        self.publish({"kind": "warning", "message": error})


def _note(pause: Pause) -> str:
    """Why a camera is not watched, for people."""
    until = "" if pause.until is None else f", until {pause.until:%Y-%m-%d %H:%M} UTC"
    return f"not watched: paused by {pause.by}{until}"


def _is_enabled(name: str, settings: LiveSettings) -> bool:
    return name in settings.cameras and settings.cameras[name].enabled


def _differ(before: LiveSettings, after: LiveSettings, key: str) -> bool:
    return bool(getattr(before, key) != getattr(after, key))
