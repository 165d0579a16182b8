"""`comemory serve --cluster`: the cameras of several machines, and one page over all of them."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from comemory.cli.application import exit_immediately
from comemory.cli.live_options import LiveLog
from comemory.cli.options import console, error_console
from comemory.cli.terminal import count_of, print_line
from comemory.errors import ComemoryError, SourceError

if TYPE_CHECKING:
    from comemory.cluster.fleet import Fleet, NodeReport
    from comemory.live.config import LiveSettings
    from comemory.server.auth import Auth
    from comemory.server.nodes import Node
    from comemory.store.store import EventStore


def serve_fleet(
    address: str,
    config: Path | None,
    read: Callable[[Path | None], LiveSettings],
    open_auth: Callable[[LiveSettings], Auth],
    log: LiveLog,
) -> None:
    """Place the cameras on the nodes of a cluster, and serve the page, until a signal ends that; the nodes go on.

    Args:
        address: of `--cluster`.
        config: the settings file; None without one.
        read: reads the settings of that file, or of another one in its place; again on SIGHUP.
        open_auth: makes what authenticates callers.
        log: of the command.

    Raises:
        ComemoryError: a part of it cannot be used.
    """
    from comemory.cluster.archive import parse_cluster
    from comemory.cluster.fleet import Fleet, open_node_provider, require_fleet_settings, with_absolute_paths
    from comemory.cluster.fleet_engine import FleetEngine, FleetService, open_store
    from comemory.live.config.overrides import Overrides
    from comemory.live.config.settings_file import SettingsFile
    from comemory.server.app import create_app
    from comemory.server.audit import AuditLog
    from comemory.server.serve import allowed_hosts, proxy_of, require_password, serving

    def read_absolute(file: Path | None = None) -> LiveSettings:
        return with_absolute_paths(read(file))

    live, cluster = read_absolute(), parse_cluster(address)
    require_fleet_settings(live)
    auth, out = open_auth(live), live.out
    require_password(live.web, auth.is_required)
    fleet = Fleet(Overrides(out).apply(live), lambda: open_node_provider(cluster, out), live.store_url)
    fleet.on_change = lambda line: log.write("fleet", line)
    ended = threading.Event()
    with fleet, open_store(live, fleet) as store:
        engine = FleetEngine(fleet, live, store)
        engine.start()
        page = create_app(
            engine,
            store,
            auth,
            hosts=allowed_hosts(live.web),
            proxy=proxy_of(live.web),
            audit=AuditLog(out / "audit.jsonl"),
            service=FleetService(engine, None if config is None else SettingsFile(config, read_absolute)),
            nodes=lambda: [_node(report) for report in fleet.reports()],
        )

        def reload() -> None:
            try:
                for line in engine.reload(read_absolute()) or ["nothing changed"]:
                    log.write("reload", line)
            except ComemoryError as error:
                log.write("reload", f"the settings have not changed: {error}")

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        signal.signal(signal.SIGHUP, lambda *_: threading.Thread(target=reload, daemon=True).start())
        with serving(page, live.web, ended.set) as url:
            how = "found running" if fleet.is_adopted else "started"
            nodes = count_of(len(fleet.plan.nodes), "node")
            log.write("start", f"{count_of(len(live.cameras), 'camera')} on {nodes}, {how}")
            print_line(console, f"the page is at {url}")
            sys.stdout.flush()
            _wait(ended, fleet, store, log)
        engine.stop()
    log.write("stop", "the page has stopped, the nodes go on; comemory serve --cluster … --stop ends them")
    exit_immediately()


class ConnectionLog:
    """Logs when something is lost that the fleet needs, and when it is back.

    Args:
        subject: of the lines.
        log: of the command.
    """

    def __init__(self, subject: str, log: LiveLog) -> None:
        self._subject, self._log, self._last = subject, log, ""

    def update(self, error: str | None) -> None:
        """Write a line when the error has changed.

        Args:
            error: why it cannot be used now; empty or None where it can.
        """
        if (error or "") != self._last:
            self._last = error or ""
            self._log.write(self._subject, self._last or "connected")


def _wait(ended: threading.Event, fleet: Fleet, store: EventStore, log: LiveLog) -> None:
    """Wait for the end; log when Ray or the store is lost, and when it is back; tell the service manager that all is well.

    Raises:
        SourceError: cameras are no longer placed.
    """
    from comemory.live.systemd import notify

    ray, events = ConnectionLog("ray", log), ConnectionLog("store", log)
    notify("READY=1")
    events.update(store.error)
    while not ended.wait(1.0):
        if not fleet.is_alive:
            raise SourceError("the thread that places the cameras has died: start the command again, the nodes go on")
        notify("WATCHDOG=1")
        ray.update(fleet.node_provider_error())
        events.update(store.error)


def stop_fleet(live: LiveSettings) -> None:
    """End the groups of all nodes, wait until they have, and say what they could not store.

    Raises:
        ConfigError: there is no fleet, or its page still runs.
        SourceError: a node has not ended in time.
    """
    from comemory.cluster.fleet import stop_nodes, waiting_changes
    from comemory.cluster.fleet_files import FleetFolder

    folder = FleetFolder(live.out)
    left = stop_nodes(folder)
    if left:
        raise SourceError(
            f"these nodes have not ended: {', '.join(left)}; they end when they can read {live.out} again"
        )
    print_line(console, "the fleet has ended")
    for path, n_changes in waiting_changes(folder).items():
        text = f"{count_of(n_changes, 'change')} of events and states not stored yet, waiting in {path}"
        print_line(error_console, f"note: {text}: started again, the fleet stores them once its store answers")


def _node(report: NodeReport) -> Node:
    from comemory.server.nodes import Node

    said = report.heartbeat
    total = None if said is None else said.memory_total_bytes
    free = None if said is None else said.memory_available_bytes
    return Node(
        name=report.name,
        host=None if said is None else said.host,
        state=report.state,
        capacity=report.capacity,
        placed=list(report.placed),
        watched=[] if said is None or report.state == "lost" else [status.name for status in said.cameras],
        cores=None if said is None else said.cores,
        load=None if said is None else said.load,
        memory_total_bytes=total,
        memory_used_bytes=None if total is None or free is None else total - free,
        process_bytes=None if said is None else said.process_bytes,
        last_heartbeat=None if said is None else said.time,
        age_s=report.age_s,
        version=None if said is None else said.version,
        error=report.error,
    )
