"""The engine: cameras, the workers that score them, and what others may ask of it. See `contract.EngineContract`."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from comemory.detector import Detector
from comemory.errors import ComemoryError, ConfigError, nearest
from comemory.files import require_folder
from comemory.live.camera import Camera
from comemory.live.config import CameraSettings, LiveSettings, Zone
from comemory.live.config.overrides import Overrides
from comemory.live.contract import CameraStatus, Message, Metrics, Snapshot, Verdict
from comemory.live.learning.feedback import Lessons
from comemory.live.monitoring.watchdog import Duty, Watchdog
from comemory.live.recording.event_writer import Errands, Journal
from comemory.live.scoring.shared_network import Networks
from comemory.live.subscribers import Subscribers
from comemory.live.workers import Workers
from comemory.scoring import parse_budget

if TYPE_CHECKING:
    from comemory.store.store import EventStore

DRIFT_S = 60.0
SCENE_S = 600.0
"""How often the learned scenes are kept, for a start after a crash."""
LIVE_CHANGES = {"zones", "false_alarms", "hours"}
"""Settings of a camera that change without a new connection."""
FIXED = ("out", "runtime", "precision", "workers", "store", "web", "alerts")
"""Settings that need a restart."""
Needs = tuple[Detector, list[Sequence[float]]]
"""What a camera is begun with: its detector, and what was called normal in front of it."""


class Engine:
    """Watches cameras until it is stopped.

    One thread reads each camera; as many workers as there are cores score the oldest frames that wait, whichever
    camera they are of; one looks after all of them; files and store have their own. No camera waits for another.

    Attributes:
        journal: of its events.

    Args:
        settings: of everything live.
        store: where events are kept; None keeps them in `events.jsonl` alone. The engine does not close it.

    Raises:
        ConfigError: the folder cannot be written.
    """

    def __init__(self, settings: LiveSettings, store: EventStore | None = None) -> None:
        require_folder(settings.out)
        self._overrides = Overrides(settings.out)
        self._told = settings
        self._settings = self._overrides.laid_over(settings)
        self._store = store
        self._subscribers = Subscribers()
        self._lessons = Lessons(settings.out, store)
        self.journal = Journal(settings.out, store, self._journal_trouble)
        self._films = Errands("films", 20_000)
        self._cameras: dict[str, Camera] = {}
        self._networks = Networks(self._settings.runtime, self._settings.precision, self.workers)
        self._changing = threading.RLock()
        self._reloading = False
        self._stopping = threading.Event()
        self._workers = Workers(self.workers, lambda: list(self._cameras.values()))
        self._watchdog = Watchdog(self._round, self._watchdog_died, self._stopping)
        self._started: float | None = None
        self._drifts: dict[str, str | None] = {}
        self._drift_told = self._scenes_kept = time.monotonic()

    @property
    def settings(self) -> LiveSettings:
        """As they are in force, with what was set while running."""
        return self._settings

    @property
    def workers(self) -> int:
        """Threads that run the network."""
        return self._settings.workers or len(os.sched_getaffinity(0))

    @property
    def finished(self) -> bool:
        """Whether all cameras were files, and all of them are over; never while a reload is on, or without a camera."""
        cameras = list(self._cameras.values())
        return bool(cameras) and not self._reloading and all(camera.finished for camera in cameras)

    @property
    def failed(self) -> list[str]:
        """The cameras that are files which cannot be read to their end."""
        return [name for name, camera in list(self._cameras.items()) if camera.failed]

    def start(self) -> None:
        """See `contract.EngineContract.start`."""
        with self._changing:
            for name, camera in self._settings.cameras.items():
                if camera.watch:
                    self._cameras[name] = self._new_camera(name, self._needs(name, self._settings))
            self.journal.start()
            self._films.start()
            self._started = time.monotonic()
            for camera_ in self._cameras.values():
                camera_.start()
            self._workers.start()
            self._watchdog.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """See `contract.EngineContract.stop`."""
        if self._started is None:
            return
        end = time.monotonic() + timeout_s

        def left(share: float) -> float:
            """Seconds until this share of the time is left."""
            return max(0.01, end - share * timeout_s - time.monotonic())

        if not self._stopping.is_set():
            self._stopping.set()
            self._halt(left(0.8))
            self._workers.join(end - 0.6 * timeout_s)
            self._watchdog.join(left(0.6))
            for camera in list(self._cameras.values()):
                camera.finish(left(0.5))
            if not self._films.finish(left(0.35)):
                for camera in list(self._cameras.values()):
                    camera.footage.hurry()
                self._films.finish(left(0.2))
        self.journal.stop(left(0))

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until all cameras are files that are over; False where the time is up first."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.finished:
            if end is not None and time.monotonic() >= end:
                return False
            if self._stopping.wait(0.05):
                return False
        return True

    def status(self) -> list[CameraStatus]:
        """See `contract.EngineContract.status`."""
        return [camera.status() for camera in list(self._cameras.values())]

    def snapshot(self, camera: str) -> Snapshot | None:
        """See `contract.EngineContract.snapshot`."""
        found = self._camera(camera)
        return found.watch.snapshot(found.reader.newest, found.state)

    def scores(self, camera: str, seconds: float) -> Sequence[tuple[datetime, float]]:
        """See `contract.EngineContract.scores`."""
        return self._camera(camera).watch.figures.scores(seconds)

    def subscribe(self) -> AbstractContextManager[queue.Queue[Message]]:
        """See `contract.EngineContract.subscribe`."""
        return self._subscribers.subscribe()

    def publish(self, message: Message) -> None:
        """Tell a message to all who listen."""
        self._subscribers.publish(message)

    def set_zones(self, camera: str, zones: Sequence[Zone]) -> None:
        """See `contract.EngineContract.set_zones`. Raises ConfigError where a zone is none."""
        self._set(camera, "zones", [[list(point) for point in zone] for zone in zones])

    def set_budget(self, camera: str, false_alarms: str) -> float:
        """See `contract.EngineContract.set_budget`."""
        parse_budget(false_alarms)
        self._set(camera, "false_alarms", false_alarms)
        return self._camera(camera).watch.threshold

    def thresholds(self, camera: str, budgets: Sequence[str]) -> list[float]:
        """The thresholds that budgets would give a camera."""
        calibration = self._camera(camera).watch.detector.bundle.calibration
        return [calibration.threshold(budget) for budget in budgets]

    def set_verdict(self, event_id: str, verdict: Verdict | None, by: str) -> None:
        """See `contract.EngineContract.set_verdict`."""
        name = self._lessons.set(event_id, verdict, by)
        if (camera := self._cameras.get(name)) is not None:
            camera.watch.teach(self._lessons.normal(name))

    def set_model(self, camera: str, bundle: Path) -> None:
        """Go over to another bundle without a gap; it is remembered beyond a restart.

        Raises:
            BundleError: it cannot be used; the camera goes on with the one it has.
        """
        detector = self._networks.detector(bundle)
        self._set(camera, "model", str(bundle))
        self._camera(camera).hand_over(detector)

    def accept_view(self, camera: str) -> None:
        """Take the present view of a moved camera for its scene."""
        self._camera(camera).watch.accept_view()

    def reload(self, settings: LiveSettings) -> list[str]:
        """See `contract.EngineContract.reload`."""
        with self._changing:
            before, after = self._settings, self._overrides.laid_over(settings)
            fixed = [key for key in FIXED if _differ(before, after, key)]
            after = after.model_copy(update={key: getattr(before, key) for key in fixed})
            changes = self._changes(before, after)
            begun = [name for name, change in changes.items() if change is None and _is_watched(name, after)]
            needs = {name: self._needs(name, after) for name in begun}
            self._told, self._settings, self._reloading = settings, after, True
            try:
                lines = [self._reload_camera(name, change, needs.get(name)) for name, change in changes.items()]
            finally:
                self._reloading = False
            return [*(f"{key}: needs a restart" for key in fixed), *lines]

    def metrics(self) -> Metrics:
        """See `contract.EngineContract.metrics`."""
        cameras = dict(self._cameras)
        figures = {name: camera.watch.figures for name, camera in cameras.items()}
        return Metrics(
            frames={name: camera.reader.frames for name, camera in cameras.items()},
            dropped={name: camera.slot.dropped + figures[name].skipped for name, camera in cameras.items()},
            scored={name: figure.scored for name, figure in figures.items()},
            reconnects={name: camera.reader.reconnects for name, camera in cameras.items()},
            states={name: camera.state for name, camera in cameras.items()},
            events={name: figure.events for name, figure in figures.items()},
            suppressed={name: figure.suppressed for name, figure in figures.items()},
            recording_errors={name: figure.recording_errors for name, figure in figures.items()},
            latency_counts={name: list(figure.latency_counts) for name, figure in figures.items()},
            latency_sum_s={name: figure.latency_sum_s for name, figure in figures.items()},
            queue_depth=sum(camera.waiting is not None for camera in cameras.values()),
            uptime_s=0.0 if self._started is None else time.monotonic() - self._started,
        )

    def _camera(self, name: str) -> Camera:
        if name not in self._cameras:
            raise ConfigError(f"there is no camera {name[:64]!r}: {nearest(name, self._cameras)}")
        return self._cameras[name]

    def _needs(self, name: str, settings: LiveSettings) -> Needs:
        """All of a camera that may be refused, before anything is begun or ended."""
        return self._networks.detector(settings.bundle_of(name)), self._lessons.normal(name)

    def _new_camera(self, name: str, needs: Needs) -> Camera:
        detector, normal = needs
        camera = Camera(name, self._settings, detector, self.journal, self._films, self.publish, self._workers.wake)
        camera.watch.teach(normal)
        return camera

    def _set(self, camera: str, key: str, value: object) -> None:
        with self._changing:
            self._camera(camera)
            was = self._told.cameras[camera].model_dump(mode="json")[key]
            changed = CameraSettings.model_validate({**self._settings.cameras[camera].model_dump(), key: value})
            self._overrides.set(camera, key, was, changed.model_dump(mode="json")[key])
            self._settings = self._settings.model_copy(update={"cameras": {**self._settings.cameras, camera: changed}})
            self._cameras[camera].watch.configure(changed)

    def _changes(self, before: LiveSettings, after: LiveSettings) -> dict[str, set[str] | None]:
        """The cameras that a reload changes: what of them changes while they run, None where they begin anew or end."""
        shared = any(_differ(before, after, key) for key in ("events", "health", "model", "drift"))
        found: dict[str, set[str] | None] = {}
        for name in sorted({*before.cameras, *after.cameras}):
            old, new = before.cameras.get(name), after.cameras.get(name)
            changed = {key for key in CameraSettings.model_fields if getattr(old, key, None) != getattr(new, key, None)}
            if changed or shared:
                goes_on = changed <= LIVE_CHANGES and not shared and name in self._cameras and new is not None
                found[name] = changed if goes_on else None
        return found

    def _reload_camera(self, name: str, changed: set[str] | None, needs: Needs | None) -> str:
        """Bring one camera to the new settings; one that begins anew gives way when the new one is there."""
        running = self._cameras.get(name)
        if changed is not None and running is not None:
            running.watch.configure(self._settings.cameras[name])
            return f"{name}: {', '.join(sorted(changed))}"
        if running is not None:
            running.stop()
            running.finish()
        if needs is None:
            self._cameras.pop(name, None)
            return f"{name}: no longer watched"
        camera = self._cameras[name] = self._new_camera(name, needs)
        if self._stopping.is_set():
            camera.stop()
        else:
            camera.start()
        return f"{name}: {'begun anew' if running else 'begun'}"

    def _halt(self, timeout_s: float) -> None:
        """Let readers and workers come to their end; whoever is changing cameras is not waited for longer than this."""
        is_alone = self._changing.acquire(timeout=timeout_s)
        try:
            for camera in list(self._cameras.values()):
                camera.stop()
        finally:
            if is_alone:
                self._changing.release()
        self._workers.stop()

    def _watchdog_died(self) -> None:
        self.publish({"kind": "trouble", "message": "the watchdog died of a fault and begins anew"})

    def _round(self) -> Iterator[Duty]:
        """The duties of one round: states, dead threads, what others have set, drift and learned scenes."""
        cameras, now = list(self._cameras.values()), time.monotonic()
        for camera in cameras:
            yield from (camera.look, camera.revive)
        yield from (self._workers.replace_dead, self._films.revive, self.journal.revive, self._take_overrides)
        if now - self._drift_told >= DRIFT_S:
            self._drift_told = now
            yield self._tell_drift
        if now - self._scenes_kept >= SCENE_S:
            self._scenes_kept = now
            for camera in cameras:
                yield partial(self._films.submit, camera.watch.health.save)

    def _take_overrides(self) -> None:
        """Go over to what another process has set, such as a bundle that a camera has learned."""
        if self._overrides.changed():
            with self._changing:
                after = self._overrides.laid_over(self._told)
                for name, camera in list(self._cameras.items()):
                    self._take_override(camera, after.cameras[name], after)

    def _take_override(self, camera: Camera, told: CameraSettings, after: LiveSettings) -> None:
        before, wanted = self._settings.bundle_of(camera.name), after.bundle_of(camera.name)
        try:
            detector = self._networks.detector(wanted) if wanted != before else None
        except ComemoryError as error:
            self.publish({"kind": "trouble", "message": f"{camera.name} keeps its model: {error}"})
            return
        cameras = {**self._settings.cameras, camera.name: told}
        self._settings = self._settings.model_copy(update={"cameras": cameras})
        camera.watch.configure(told)
        if detector is not None:
            camera.hand_over(detector)

    def _tell_drift(self) -> None:
        for name, camera in list(self._cameras.items()):
            message = camera.watch.guard.message
            if message and message != self._drifts.get(name):
                self.publish({"kind": "drift", "camera": name, "message": message})
            self._drifts[name] = message

    def _journal_trouble(self, trouble: str) -> None:
        self.publish({"kind": "trouble", "message": trouble})


def _is_watched(name: str, settings: LiveSettings) -> bool:
    return name in settings.cameras and settings.cameras[name].watch


def _differ(before: LiveSettings, after: LiveSettings, key: str) -> bool:
    return bool(getattr(before, key) != getattr(after, key))
