"""Alerts handed to a program on its standard input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import IO

from comemory.alerts.config import CommandSettings
from comemory.alerts.sink import Notification, StatelessSink
from comemory.errors import DeliveryError

_MAX_ERROR_BYTES = 2000


class Command(StatelessSink):
    """Runs a program for each alert: without a shell, with the JSON on standard input. Exit status 0 is a delivery."""

    Settings = CommandSettings

    def __init__(self, name: str, settings: CommandSettings) -> None:
        self.name, self.settings = name, settings
        self._argv = list(settings.argv)
        self._running: subprocess.Popen[bytes] | None = None

    def deliver(self, notification: Notification) -> None:
        """Run the program and wait for it.

        Raises:
            DeliveryError: it cannot be run, fails, or takes too long and is killed with its children.
        """
        try:
            # In memory, so that a full disk does not silence the alert that reports it.
            with os.fdopen(os.memfd_create("alert"), "w+b") as stdin_file:
                stdin_file.write(json.dumps(notification.payload).encode())
                stdin_file.seek(0)
                self._run(notification, stdin_file)
        except OSError as error:
            if isinstance(error, DeliveryError):
                raise
            raise DeliveryError(f"cannot run {self._argv[0]!r}: {error.strerror or error}") from None

    def _run(self, notification: Notification, stdin_file: IO[bytes]) -> None:
        environment = {
            **os.environ,
            "COMEMORY_ALERT_ID": notification.id,
            "COMEMORY_ALERT_KIND": notification.kind,
            "COMEMORY_THUMBNAIL": str(notification.thumbnail or ""),
        }
        process = subprocess.Popen(
            self._argv,
            stdin=stdin_file,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=environment,
        )
        self._running = process
        errors = _Tail(process.stderr)
        try:
            status = process.wait(self.settings.timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise DeliveryError(f"{self._argv[0]!r} took longer than {self.settings.timeout_s:g} s") from None
        finally:
            self._running = None
            errors.close()
        if status != 0:
            raise DeliveryError(f"{self._argv[0]!r} ended with status {status}: {errors.last_line()}")

    def close(self) -> None:
        """Kill the program that is running."""
        process = self._running
        if process is not None and process.poll() is None:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


class _Tail:
    """Reads a pipe to its end, so that the program never blocks on it, and keeps the last bytes."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        self._pipe, self._bytes = pipe, b""
        self._thread = threading.Thread(target=self._read, name="stderr of an alert", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while self._pipe is not None and (chunk := os.read(self._pipe.fileno(), 1 << 16)):
            self._bytes = (self._bytes + chunk)[-_MAX_ERROR_BYTES:]
        if self._pipe is not None:
            self._pipe.close()

    def close(self) -> None:
        """Wait for the end of the pipe. A child that was left behind may hold it open, and is not waited for."""
        self._thread.join(1.0)

    def last_line(self) -> str:
        """The last line, cut to a length that fits an error."""
        lines = self._bytes.decode(errors="replace").strip().splitlines()
        return " ".join(lines[-1].split())[:300] if lines else "no error text"
