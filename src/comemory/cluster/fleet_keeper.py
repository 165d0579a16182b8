"""Keeps the group of one node running on its machine: starts it, or adopts the one that runs, and starts it again."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from comemory.cluster.fleet_claim import running_pid
from comemory.cluster.fleet_files import FleetFolder
from comemory.errors import ComemoryError
from comemory.files import require_writable_folder
from comemory.live.config import LiveSettings

CHECK_S = 1.0
"""Seconds between two checks of the group."""
FIRST_PAUSE_S, MAX_PAUSE_S = 10.0, 60.0
"""Seconds between two starts: doubled while the group does not stay, up to the limit."""
STAYS_S = 60.0
"""A group that has run longer than this is restarted at once when it ends."""
HANG_S = 60.0
"""Seconds without a heartbeat, with a shared path that can be read, after which a running group is killed."""
MAX_LOG_BYTES = 5_000_000
LOG = "group.log"
"""What the group writes to its standard output and error, beside its heartbeat."""
LAUNCHER = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
log = logging.getLogger(__name__)


class GroupKeeper:
    """Keeps a group running, unless the fleet is stopped. If it dies itself, the group goes on; the next keeper adopts it.

    Args:
        out: the output folder of the fleet.
        node: its name.
    """

    def __init__(self, out: Path, node: str) -> None:
        self._folder, self._node = FleetFolder(out), node
        self._pause_s, self._next_start, self._started = FIRST_PAUSE_S, 0.0, 0.0
        self._beat: object = None
        self._beat_s = time.monotonic()

    def run(self, ending: threading.Event) -> None:
        """Keep the group running until `ending` is set; the group goes on then."""
        while not ending.wait(CHECK_S):
            with suppress(ComemoryError, OSError, subprocess.SubprocessError):
                self.check_group()

    def check_group(self) -> None:
        """Start the group if it is wanted and does not run, and kill one that hangs.

        Raises:
            ComemoryError, OSError: the shared path cannot be read, or the group not be started.
        """
        now, pid = time.monotonic(), running_pid(self._folder.path.parent, self._node)
        if pid is not None:
            self._kill_hanging(pid, now)
            return
        self._beat_s = now
        plan = self._folder.read_plan(LiveSettings())
        if plan is not None and plan.is_stopped:
            self._pause_s, self._next_start = FIRST_PAUSE_S, 0.0
        elif plan is not None and now >= self._next_start:
            stayed = now - self._started > STAYS_S
            self._pause_s = FIRST_PAUSE_S if stayed else min(2 * self._pause_s, MAX_PAUSE_S)
            self._started, self._next_start = now, now + self._pause_s
            self._start()

    def _start(self) -> None:
        """Start the group by a process that ends at once: the group is nobody's child, and Ray does not end it."""
        folder = self._folder.node(self._node)
        require_writable_folder(folder)
        path = folder / LOG
        with suppress(OSError):
            if path.stat().st_size > MAX_LOG_BYTES:
                path.replace(path.with_suffix(".log.1"))
        group = [sys.executable, "-P", "-m", "comemory.cluster.fleet_claim", str(self._folder.path.parent), self._node]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        with path.open("ab") as output:
            subprocess.run(
                [sys.executable, "-I", "-S", "-c", LAUNCHER, *group],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                check=True,
                timeout=60,
            )

    def _kill_hanging(self, pid: int, now: float) -> None:
        heartbeat = self._folder.read_heartbeat(self._node)
        beat = None if heartbeat is None else heartbeat.beat
        if beat != self._beat:
            self._beat, self._beat_s = beat, now
        elif now - self._beat_s > HANG_S:
            log.error("the group of %s hangs: process %d is killed", self._node, pid)
            self._beat_s = now
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
