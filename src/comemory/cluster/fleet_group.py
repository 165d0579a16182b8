"""The group of cameras of one node: a process of its own, which outlives whoever started it, and does what the plan says."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from comemory.alerts.config import SinkSettings
from comemory.alerts.sink import CameraCommand
from comemory.cluster.fleet_files import FleetFolder, FleetPlan, Heartbeat, utc_now
from comemory.errors import ComemoryError, ConfigError, last_line, mask_password
from comemory.files import require_writable_folder
from comemory.live.config import LiveSettings
from comemory.live.contract import Message
from comemory.live.engine import FIXED
from comemory.live.monitoring.memory_use import machine_memory, process_bytes
from comemory.live.service import Service
from comemory.provenance import package_version
from comemory.store.sites import Sites, announce

BEAT_S = 1.0
"""Seconds between two heartbeats, and between two looks at the plan and at the cameras that are viewed."""
MESSAGES_S = 15.0
"""How long a message is repeated in the heartbeats: the placing process may miss some of them."""
MAX_MESSAGES = 200
VIEWED_S = 30.0
"""Seconds after the last change of `viewed.json` after which nobody looks any more."""
RETRY_S = 5.0
"""Seconds until a plan that could not be applied is tried again."""
ERROR = "error.txt"
"""Why the group could not start the last time."""
log = logging.getLogger("comemory.fleet")


def settings_for(plan: FleetPlan, node: str, folder: FleetFolder) -> LiveSettings:
    """The settings of one node: all cameras, those of other nodes not enabled; a folder and MQTT topics of its own."""
    settings = plan.settings
    cameras = {
        name: camera if plan.cameras.get(name) == node else camera.model_copy(update={"enabled": False})
        for name, camera in settings.cameras.items()
    }
    alerts = {name: _of_node(sink, node) for name, sink in settings.alerts.items()}
    changes: dict[str, Any] = {"cameras": cameras, "alerts": alerts, "out": folder.node(node)}
    if settings.store.media is not None:  # on a disk of the node, which several nodes of one machine may share
        changes["store"] = settings.store.model_copy(update={"media": settings.store.media / node})
    return settings.model_copy(update=changes)


def _of_node(sink: SinkSettings, node: str) -> SinkSettings:
    """A sink whose topics and client no other node has: a broker lets one client of a name in."""
    prefix = getattr(sink, "prefix", None)
    if prefix is None:
        return sink
    client_id = getattr(sink, "client_id", None)
    return sink.model_copy(update={"prefix": f"{prefix}/{node}", "client_id": client_id and f"{client_id}-{node}"})


def node_conditions(before: FleetPlan, plan: FleetPlan, node: str) -> dict[str, str]:
    """What a node reports of the others in system alerts; only what has changed is sent.

    Of all nodes that run, the first by name reports those that are lost. Each that has reported one reports its return.

    Args:
        before: the plan that the node has followed.
        plan: the new one.
        node: its name.

    Returns:
        Node to error in one line, empty where the node is up.
    """
    found = {name: "" for name, other in plan.nodes.items() if name != node and other.state == "up"}
    if node != min((name for name, one in plan.nodes.items() if one.state != "lost"), default=None):
        return found
    for name in (name for name, other in plan.nodes.items() if name != node and other.state == "lost"):
        own = [camera for camera, home in before.cameras.items() if home == name]
        moved = [camera for camera in own if plan.cameras.get(camera) not in (None, name)]
        error = f"node {name} does not answer"
        if moved:
            error += f"; {', '.join(moved)}: watched by other nodes"
        if unwatched := [camera for camera in own if camera not in moved]:
            error += f"; {', '.join(unwatched)}: not watched, no other node has room"
        found[name] = error
    return found


class CameraGroup:
    """The running group: a live service, and the threads that exchange files with the placing process over the shared path.

    A shared path that hangs stops those threads, and no camera.

    Args:
        folder: of the fleet.
        node: its name.
    """

    def __init__(self, folder: FleetFolder, node: str) -> None:
        self._folder, self._node = folder, node
        self._started, self._count = utc_now(), 0
        plan = self._wait_for_plan()
        # Start without a camera: heartbeats begin before the models are loaded, and the plan may have changed by then.
        self._plan = replace(plan, number=plan.number - 1, cameras={})
        self._wanted = settings_for(self._plan, node, folder)
        self._error = self._last_note = ""
        self._messages: deque[tuple[float, int, Message]] = deque(maxlen=MAX_MESSAGES)
        self._n_messages = 0
        self._applied_pauses: dict[tuple[str, str], Any] = {}
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        """Watch until a signal or a plan ends it.

        Raises:
            ComemoryError: it cannot start.
        """
        require_writable_folder(self._folder.node(self._node))
        if self._plan.is_stopped:
            return
        sites = Sites(self._folder.path)
        with Service(self._wanted, lambda: self._wanted, self._note, ends_process=True, sites=sites) as self._service:
            (self._folder.node(self._node) / ERROR).unlink(missing_ok=True)
            if self._service.store is not None:
                announce(self._folder.node(self._node), self._service.store.site, self._service.store.media)
            self._service.on_command = self._report_command
            works = (self._follow_plan, self._show_pictures, self._collect_messages, self._beat)
            self._threads = [threading.Thread(target=one, name=one.__name__.strip("_"), daemon=True) for one in works]
            for thread in self._threads:
                thread.start()
            log.info("watching as node %s", self._node)
            self._service.run(until_finished=False)
            self._ending.set()

    def _wait_for_plan(self) -> FleetPlan:
        while True:
            plan = self._folder.read_plan()
            if plan is not None:
                return plan
            time.sleep(BEAT_S)

    def _note(self, line: str) -> None:
        log.info("%s", mask_password(line))
        self._last_note = line

    def _beat(self) -> None:
        """Say each second that this node is there, as long as its engine makes its rounds, and it follows the plan."""
        is_reported = False
        while not self._ending.wait(BEAT_S):
            if not (self._service.engine.is_alive and all(thread.is_alive() for thread in self._threads)):
                continue  # other nodes take over, and the keeper kills this process
            try:
                self._folder.write_heartbeat(self._heartbeat())
                is_reported = False
            except OSError as error:
                if not is_reported:
                    log.warning("no heartbeat can be written: %s; the cameras go on", error)
                is_reported = True

    def _heartbeat(self) -> Heartbeat:
        engine, memory = self._service.engine, machine_memory()
        self._count += 1
        recent = time.monotonic() - MESSAGES_S
        return Heartbeat(
            node=self._node,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started,
            count=self._count,
            time=utc_now(),
            plan=self._plan.number,
            version=package_version("comemory") or "",
            cores=len(os.sched_getaffinity(0)),
            load=os.getloadavg()[0],
            memory_total_bytes=memory.get("MemTotal"),
            memory_available_bytes=memory.get("MemAvailable"),
            process_bytes=process_bytes(),
            cameras=tuple(engine.status()),
            metrics=engine.metrics(),
            messages=tuple((number, message) for at, number, message in list(self._messages) if at >= recent),
            error=self._error or engine.event_writer.error,
        )

    def _follow_plan(self) -> None:
        """Apply each new plan. What was moved to another node stops here even where the rest cannot be applied."""
        stamp, next_try = (0, 0), 0.0
        while True:
            present = self._folder.plan_stamp()
            if present in (stamp, (0, 0)) or time.monotonic() < next_try:
                if self._ending.wait(BEAT_S):
                    return
                continue
            try:
                plan = self._folder.read_plan(self._plan.settings)
                is_applied = plan is None or plan.number <= self._plan.number or self._apply(plan)
                self._error = self._plan.settings_error if is_applied else self._error
            except ComemoryError as error:
                is_applied, self._error = False, str(error)
            if is_applied:
                stamp = present
            else:
                next_try = time.monotonic() + RETRY_S

    def _apply(self, plan: FleetPlan) -> bool:
        if self._service.dispatcher is not None:
            for name, error in node_conditions(self._plan, plan, self._node).items():
                self._service.dispatcher.report(f"nodes.{name}", error)
        before, self._wanted = self._wanted, settings_for(plan, self._node, self._folder)
        if plan.is_stopped or any(getattr(before, key) != getattr(self._wanted, key) for key in FIXED):
            log.info("ends: %s", "the fleet is stopped" if plan.is_stopped else "a setting needs a new start")
            self._service.end()
            return True
        if self._wanted != before and not self._service.reload():
            self._error, wanted = self._last_note, self._wanted
            self._wanted = _without_new(before, wanted)
            self._service.reload()
            return False
        self._follow_pauses(plan)
        engine = self._service.engine
        for name in [name for name, node in plan.cameras.items() if node == self._node]:
            with suppress(ConfigError):
                if plan.verdicts.get(name) != self._plan.verdicts.get(name):
                    engine.read_verdicts(name)
                if plan.views.get(name) != self._plan.views.get(name):
                    engine.reset_reference_view(name)
        self._plan = plan
        return True

    def _follow_pauses(self, plan: FleetPlan) -> None:
        """Pause and snooze the cameras of this node as the plan says."""
        engine = self._service.engine
        own = {status.name for status in engine.status()}
        self._applied_pauses = {key: one for key, one in self._applied_pauses.items() if key[1] in own}
        for kind in ("pause", "snooze"):
            for name in own:
                wanted = plan.pauses.get(kind, {}).get(name)
                if self._applied_pauses.get((kind, name), 0) == wanted:
                    continue
                self._applied_pauses[kind, name] = wanted
                until = None if not wanted or wanted["until"] is None else datetime.fromisoformat(wanted["until"])
                by = str(wanted["by"]) if wanted else ""
                with suppress(ComemoryError):
                    if kind == "pause":
                        engine.pause(name, until, by) if wanted else engine.resume(name)
                    elif until is not None:
                        engine.snooze(name, until, by)
                    else:
                        engine.end_snooze(name)

    def _report_command(self, command: CameraCommand, error: str) -> None:
        """Report a command that came through a sink to the placing process, so that it holds wherever the camera moves."""
        if not error:
            values = {"camera": command.camera, "action": command.action, "minutes": command.minutes}
            self._remember({"kind": "command", **values, "by": f"alerts.{command.sink}"})

    def _remember(self, message: Message) -> None:
        self._n_messages += 1
        self._messages.append((time.monotonic(), self._n_messages, message))

    def _collect_messages(self) -> None:
        with self._service.engine.subscribe() as arriving:
            while not self._ending.is_set():
                with suppress(queue.Empty):
                    message = arriving.get(timeout=0.5)
                    if message["kind"] != "score":
                        self._remember(message)
                        self._log_message(message)

    def _log_message(self, message: Message) -> None:
        if message["kind"] == "state":
            log.info("%s: %s %s", message["camera"], message["state"], mask_password(message["message"]))
        elif message["kind"] == "event" and message["change"] != "update":
            log.info("%s: event %s, %s", message["camera"], message["event"]["id"], message["change"])
        elif message["kind"] == "warning":
            log.warning("%s", mask_password(message["message"]))

    def _show_pictures(self) -> None:
        """Write the newest image of each camera of this node that somebody looks at."""
        seen, changed = (0, 0), 0.0
        written: set[str] = set()
        while not self._ending.wait(BEAT_S):
            stamp, viewed = self._folder.read_viewed()
            if stamp != seen:
                seen, changed = stamp, time.monotonic()
            own = {status.name for status in self._service.engine.status()}
            wanted = own.intersection(viewed) if time.monotonic() - changed < VIEWED_S else set()
            for name in written - wanted:
                self._folder.remove_picture(self._node, name)
            written &= wanted
            for name in wanted:
                with suppress(ConfigError, OSError):
                    if (snapshot := self._service.engine.snapshot(name)) is not None:
                        self._folder.write_picture(self._node, name, snapshot)
                        written.add(name)


def _without_new(before: LiveSettings, wanted: LiveSettings) -> LiveSettings:
    """The settings before, without the cameras that are not wanted here any more."""
    cameras = {
        name: camera
        if camera.enabled and name in wanted.cameras and wanted.cameras[name].enabled
        else camera.model_copy(update={"enabled": False})
        for name, camera in before.cameras.items()
    }
    return before.model_copy(update={"cameras": cameras})


def run_group(out: Path, node: str) -> int:
    """Run the group of a node; the exit code.

    Args:
        out: the output folder of the fleet.
        node: its name.
    """
    folder = FleetFolder(out)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        CameraGroup(folder, node).run()
    except ComemoryError as error:
        text = mask_password(last_line(error))
        log.error("cannot start: %s", text)
        with suppress(OSError):
            (folder.node(node) / ERROR).write_text(text + "\n", encoding="utf-8")
        return 1
    return 0
