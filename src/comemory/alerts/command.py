"""Alerts handed to a program on its standard input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from contextlib import suppress
from typing import IO

from comemory.alerts.config import CommandSettings
from comemory.alerts.sink import Notification, Stateless
from comemory.errors import DeliveryError

_MAX_ERROR_BYTES = 2000


class Command(Stateless):
    """Runs a program for each alert: without a shell, with the JSON on standard input. Exit status 0 is a delivery."""

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
            with tempfile.TemporaryFile() as stdin_file, tempfile.TemporaryFile() as stderr_file:
                stdin_file.write(json.dumps(notification.payload).encode())
                stdin_file.seek(0)
                self._run(notification, stdin_file, stderr_file)
        except OSError as error:
            if isinstance(error, DeliveryError):
                raise
            raise DeliveryError(f"cannot run {self._argv[0]!r}: {error.strerror or error}") from None

    def _run(self, notification: Notification, stdin_file: IO[bytes], stderr_file: IO[bytes]) -> None:
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
            stderr=stderr_file,
            start_new_session=True,
            env=environment,
        )
        self._running = process
        try:
            status = process.wait(self.settings.timeout_s)
        except subprocess.TimeoutExpired:
            _kill(process)
            raise DeliveryError(f"{self._argv[0]!r} took longer than {self.settings.timeout_s:g} s") from None
        finally:
            self._running = None
        if status != 0:
            raise DeliveryError(f"{self._argv[0]!r} ended with status {status}: {_last_error_line(stderr_file)}")

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


def _last_error_line(stderr_file: IO[bytes]) -> str:
    size = stderr_file.seek(0, os.SEEK_END)
    stderr_file.seek(max(0, size - _MAX_ERROR_BYTES))
    lines = stderr_file.read().decode(errors="replace").strip().splitlines()
    return " ".join(lines[-1].split())[:300] if lines else "no error text"
