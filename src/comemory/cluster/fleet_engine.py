"""A fleet as one engine: what the page and the API show of it, and what they change."""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from comemory.bundle import Bundle, open_bundle
from comemory.cluster.fleet import Fleet
from comemory.cluster.fleet_files import Heartbeat, utc_now
from comemory.errors import ComemoryError, ConfigError, mask_password, suggest
from comemory.live.config import CameraSettings, LiveSettings, Zone
from comemory.live.config.overrides import Overrides
from comemory.live.contract import CameraState, CameraStatus, Message, Metrics, Snapshot, Verdict
from comemory.live.learning.feedback import FeedbackStore
from comemory.live.pauses import Pause, PauseKind, Pauses
from comemory.live.service import NO_FILE
from comemory.live.subscribers import MessageBus
from comemory.scoring import parse_budget
from comemory.store.store import EventStore

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

    from comemory.live.config.settings_file import SettingsFile

VIEWED_S = 10.0
"""Seconds for which the images of a camera are written after somebody asked for one."""
SCORES_S = 600.0
TICK_S = 1.0


class FleetEngine:
    """The cameras of all nodes. See `live.contract.EngineContract`.

    What a person changes here goes into the plan, and so to whichever node watches the camera, now and later.

    Args:
        fleet: it runs.
        settings: as they were read, without what was set while running.
        store: of the events of all nodes.
    """

    def __init__(self, fleet: Fleet, settings: LiveSettings, store: EventStore) -> None:
        self._fleet, self._base, self._store = fleet, settings, store
        self._overrides, self._pauses = Overrides(settings.out), Pauses(settings.out)
        self._feedback = FeedbackStore(settings.out, store)
        self._bus = MessageBus()
        self._started = time.monotonic()
        self._changing = threading.RLock()
        self._scores: dict[str, deque[tuple[datetime, float]]] = {}
        self._seen: dict[tuple[str, str], int] = {}
        self._viewed: dict[str, float] = {}
        self._bundles: dict[str, Bundle] = {}
        self._ending = threading.Event()
        fleet.on_heartbeat = self._take_in
        self._thread = threading.Thread(target=self._run, name="fleet-page", daemon=True)

    @property
    def settings(self) -> LiveSettings:
        """See `live.contract.EngineContract.settings`."""
        return self._fleet.plan.settings

    @property
    def failure(self) -> str:
        """See `live.contract.EngineContract.failure`. A node that is lost is none: its cameras are placed elsewhere."""
        return "" if self._fleet.is_alive else "cameras are no longer placed on nodes"

    def start(self) -> None:
        """Show what the nodes say, and give them the pauses.

        Raises:
            ComemoryError: a bundle cannot be used, or the plan not be written.
        """
        self.reload(self._base)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Stop showing them; the nodes go on."""
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def status(self) -> list[CameraStatus]:
        """See `live.contract.EngineContract.status`: of cameras that no node watches, why not."""
        found = []
        for name, camera in self.settings.cameras.items():
            if camera.enabled:
                heartbeat = self._fleet.heartbeat_of(name)
                said = {one.name: one for one in heartbeat.cameras} if heartbeat is not None else {}
                found.append(said.get(name) or self._unwatched(name, camera))
        return found

    def _unwatched(self, name: str, camera: CameraSettings) -> CameraStatus:
        node = self._fleet.plan.cameras.get(name)
        if node is None:
            state, why = CameraState.DOWN, "no node has room for it: add a node, or raise the capacity of one"
        elif self._fleet.health.state(node) == "lost":
            state, why = CameraState.DOWN, f"its node {node} does not answer, and no other node has room"
        else:
            state, why = CameraState.CONNECTING, f"node {node} takes it over"
        bundle = self._bundle(name)
        budget = camera.false_alarms or bundle.default_budget
        values: dict[str, Any] = {one.name: 0 for one in fields(CameraStatus)}
        values |= dict.fromkeys(("latency_ms_p50", "latency_ms_p99", "last_score", "size", "open_event", "drift"))
        values |= {"paused_until": None, "snoozed_until": None, "active": True, "zones": camera.zones}
        values |= {"name": name, "url": mask_password(camera.url), "state": state, "since": utc_now(), "message": why}
        values |= {"threshold": bundle.calibration.threshold(budget), "false_alarms": budget}
        values |= {"model": bundle.path.name, "model_sha256": bundle.digest}
        return CameraStatus(**values)

    def snapshot(self, camera: str) -> Snapshot | None:
        """See `live.contract.EngineContract.snapshot`: the node writes images once somebody has asked for one."""
        self._camera(camera)
        self._viewed[camera] = time.monotonic()
        node = self._fleet.plan.cameras.get(camera)
        return None if node is None else self._fleet.folder.read_picture(node, camera)

    def scores(self, camera: str, seconds: float) -> Sequence[tuple[datetime, float]]:
        """See `live.contract.EngineContract.scores`: one each second."""
        self._camera(camera)
        since = utc_now() - timedelta(seconds=min(seconds, SCORES_S))
        return [pair for pair in list(self._scores.get(camera, ())) if pair[0] >= since]

    def subscribe(self) -> AbstractContextManager[queue.Queue[Message]]:
        """See `live.contract.EngineContract.subscribe`."""
        return self._bus.subscribe()

    def set_zones(self, camera: str, zones: Sequence[Zone]) -> None:
        """See `live.contract.EngineContract.set_zones`."""
        self._set(camera, "zones", [[list(point) for point in zone] for zone in zones])

    def set_budget(self, camera: str, false_alarms: str) -> float:
        """See `live.contract.EngineContract.set_budget`."""
        parse_budget(false_alarms)
        self._set(camera, "false_alarms", false_alarms)
        return self.thresholds(camera, [false_alarms])[0]

    def thresholds(self, camera: str, budgets: Sequence[str]) -> list[float]:
        """See `live.contract.EngineContract.thresholds`."""
        self._camera(camera)
        calibration = self._bundle(camera).calibration
        return [calibration.threshold(budget) for budget in budgets]

    def set_verdict(self, event_id: str, verdict: Verdict | None, by: str) -> None:
        """See `live.contract.EngineContract.set_verdict`."""
        self._count("verdicts", {self._feedback.set_verdict(event_id, verdict, by)})

    def set_verdicts(self, event_ids: Sequence[str], verdict: Verdict | None, by: str) -> dict[str, str]:
        """See `live.contract.EngineContract.set_verdicts`."""
        changed, errors = self._feedback.set_verdicts(event_ids, verdict, by)
        self._count("verdicts", changed)
        return errors

    def reset_reference_view(self, camera: str) -> None:
        """See `live.contract.EngineContract.reset_reference_view`."""
        self._camera(camera)
        self._count("views", {camera})

    def _count(self, what: str, cameras: set[str]) -> None:
        """Tell the nodes of cameras that something of them has changed."""
        if cameras:
            with self._changing:
                counts = dict(getattr(self._fleet.plan, what))
                self._fleet.change(**{what: counts | {name: counts.get(name, 0) + 1 for name in cameras}})

    def pause(self, camera: str, until: datetime | None, by: str) -> None:
        """See `live.contract.EngineContract.pause`."""
        self._set_pause("pause", camera, Pause(utc_now(), until, by))

    def resume(self, camera: str) -> None:
        """See `live.contract.EngineContract.resume`."""
        self._set_pause("pause", camera, None)

    def snooze(self, camera: str, until: datetime, by: str) -> None:
        """See `live.contract.EngineContract.snooze`."""
        self._set_pause("snooze", camera, Pause(utc_now(), until, by))

    def end_snooze(self, camera: str) -> None:
        """See `live.contract.EngineContract.end_snooze`."""
        self._set_pause("snooze", camera, None)

    def _set_pause(self, kind: PauseKind, camera: str, pause: Pause | None) -> None:
        self._camera(camera)
        with self._changing:
            self._pauses.set(kind, camera, pause)
            self._fleet.change(pauses=self._pauses.to_json())

    def reload(self, settings: LiveSettings) -> list[str]:
        """See `live.contract.EngineContract.reload`."""
        with self._changing:
            after = self._overrides.apply(settings)
            for name in after.cameras:
                self._open_bundle(str(after.bundle_of(name)))
            before, self._base = self.settings, settings
            with suppress(ComemoryError):
                self._pauses.retain(after.cameras.keys())
            self._fleet.change(settings=after, pauses=self._pauses.to_json())
        keys = [key for key in LiveSettings.model_fields if key != "cameras"]
        names = sorted({*before.cameras, *after.cameras})
        return [
            *(f"{key}: changed" for key in keys if getattr(before, key) != getattr(after, key)),
            *(f"{name}: changed" for name in names if before.cameras.get(name) != after.cameras.get(name)),
        ]

    def metrics(self) -> Metrics:
        """See `live.contract.EngineContract.metrics`: the sum over the nodes that answer; the time of this process."""
        total = Metrics(uptime_s=time.monotonic() - self._started)
        for report in self._fleet.reports():
            part = None if report.state == "lost" or report.heartbeat is None else report.heartbeat.metrics
            if part is None:
                continue
            for one in fields(Metrics):
                if isinstance(mine := getattr(total, one.name), dict):
                    theirs = getattr(part, one.name)
                    mine.update({name: value for name, value in theirs.items() if name in report.placed})
            total.queue_depth += part.queue_depth
            total.writes_dropped += part.writes_dropped
        return total

    def _camera(self, name: str) -> CameraSettings:
        if name not in self.settings.cameras:
            raise ConfigError(f"there is no camera {name[:64]!r}: {suggest(name, self.settings.cameras)}")
        return self.settings.cameras[name]

    def _bundle(self, camera: str) -> Bundle:
        return self._open_bundle(str(self.settings.bundle_of(camera)))

    def _open_bundle(self, path: str) -> Bundle:
        if path not in self._bundles:
            self._bundles[path] = open_bundle(path)
        return self._bundles[path]

    def _set(self, camera: str, key: str, value: object) -> None:
        with self._changing:
            was = self._base.cameras[camera].model_dump(mode="json")[key] if camera in self._base.cameras else None
            changed = CameraSettings.model_validate({**self._camera(camera).model_dump(), key: value})
            self._overrides.set(camera, key, was, changed.model_dump(mode="json")[key])
            settings = self.settings
            self._fleet.change(settings=settings.model_copy(update={"cameras": {**settings.cameras, camera: changed}}))

    def _take_in(self, heartbeat: Heartbeat) -> None:
        """Pass on what a node says; called by the fleet with each new heartbeat."""
        key = heartbeat.node, heartbeat.started.isoformat()
        last = self._seen.get(key)
        placed = self._fleet.plan.cameras
        for number, message in heartbeat.messages:
            if last is not None and number > last:
                self._pass_on(message, heartbeat.node)
        self._seen[key] = max((number for number, _ in heartbeat.messages), default=last or 0)
        for status in heartbeat.cameras:
            score = status.last_score
            if score is None or not math.isfinite(score) or placed.get(status.name) != heartbeat.node:
                continue
            known = self._scores.setdefault(status.name, deque(maxlen=int(SCORES_S)))
            known.append((heartbeat.time, score))
            at = heartbeat.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            values = {"camera": status.name, "time": at, "score": score, "threshold": status.threshold}
            self._bus.publish({"kind": "score", **values})

    def _pass_on(self, message: Message, node: str) -> None:
        if message["kind"] == "command":
            self._obey(message)
        elif message["kind"] == "warning":
            self._bus.publish({**message, "message": f"node {node}: {message['message']}"})
        else:
            self._bus.publish(message)

    def _obey(self, message: Message) -> None:
        """Make a pause that came to a node through a sink hold for the whole fleet."""
        minutes, camera, by = message["minutes"], message["camera"], message["by"]
        until = None if minutes is None else utc_now() + timedelta(minutes=minutes)
        act: Callable[[], None]
        if message["action"] == "pause":
            act = (lambda: self.resume(camera)) if minutes == 0 else (lambda: self.pause(camera, until, by))
        else:
            act = (lambda: self.snooze(camera, until, by)) if minutes and until else (lambda: self.end_snooze(camera))
        with suppress(ComemoryError):
            act()

    def _run(self) -> None:
        """Say which cameras are looked at, and end the pauses whose time is over."""
        written: set[str] = set()
        beat = 0
        while not self._ending.wait(TICK_S):
            since = time.monotonic() - VIEWED_S
            for name in [name for name, at in list(self._viewed.items()) if at < since]:
                self._viewed.pop(name, None)
            beat += 1
            if set(self._viewed) != written or (self._viewed and beat % 5 == 0):
                written = set(self._viewed)
                self._fleet.folder.write_viewed(sorted(written))
            with suppress(ComemoryError):
                for kind, name in self._pauses.expired(utc_now()):
                    self._set_pause(kind, name, None)


class FleetService:
    """Changes the settings file of a fleet. See `live.contract.ServiceContract`; the nodes send the alerts.

    Args:
        engine: of the fleet.
        settings_file: None where there is none.
    """

    dispatcher = None

    def __init__(self, engine: FleetEngine, settings_file: SettingsFile | None) -> None:
        self.engine, self.settings_file = engine, settings_file

    def change_settings(self, edit: Callable[[TOMLDocument], None], check: Callable[[LiveSettings], None]) -> None:
        """See `live.contract.ServiceContract.change_settings`."""
        if self.settings_file is None:
            raise ConfigError(NO_FILE)

        def apply(settings: LiveSettings) -> None:
            check(settings)
            self.engine.reload(settings)

        self.settings_file.change(edit, apply)


def open_store(settings: LiveSettings, fleet: Fleet) -> EventStore:
    """The store of all nodes, for the page. It repairs and sweeps nothing: each node does that for its own events.

    Raises:
        StoreError: it cannot be opened.
    """
    from comemory.store.sites import Sites

    sites = Sites(fleet.folder.path)
    media = settings.out / "media"  # the page has no files of its own: those of a node may be on a disk of that node
    url = settings.store.media_url
    return EventStore.open(settings.store_url, media, shared=True, may_be_away=True, sites=sites, media_url=url)
