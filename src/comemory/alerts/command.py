"""Alerts given to a program on its standard input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO

from comemory.alerts.config import CommandSettings
from comemory.alerts.sink import Message
from comemory.errors import DeliveryError
from comemory.store.retained_topics import Announced

_MOST_ERROR_BYTES = 2000


class Command:
    """Runs a program for each alert: no shell, the JSON on standard input, its exit status as the answer."""

    def __init__(self, name: str, settings: CommandSettings) -> None:
        self.name, self.settings = name, settings
        self._argv = list(settings.argv)
        self._running: subprocess.Popen[bytes] | None = None

    def start(self, cameras: Sequence[str], announced: Announced) -> None:
        """Nothing to do: every alert starts the program."""

    def set_cameras(self, cameras: Sequence[str]) -> None:
        """Nothing to do: nobody is told of cameras before something happens."""

    def deliver(self, message: Message) -> None:
        """Run the program and wait for it.

        Raises:
            DeliveryError: it cannot be run, fails, or takes too long; then it is killed with its children.
        """
        try:
            with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
                given.write(json.dumps(message.payload).encode())
                given.seek(0)
                self._run(message, given, said)
        except OSError as error:
            if isinstance(error, DeliveryError):
                raise
            raise DeliveryError(f"cannot run {self._argv[0]!r}: {error.strerror or error}") from None

    def _run(self, message: Message, given: IO[bytes], said: IO[bytes]) -> None:
        environment = {
            **os.environ,
            "COMEMORY_ALERT_ID": message.id,
            "COMEMORY_ALERT_KIND": message.kind,
            "COMEMORY_THUMBNAIL": str(message.thumbnail or ""),
        }
        process = subprocess.Popen(
            self._argv,
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=said,
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
            raise DeliveryError(f"{self._argv[0]!r} ended with status {status}: {_last_words(said)}")

    def close(self) -> None:
        """Kill the program that is running."""
        process = self._running
        if process is not None and process.poll() is None:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and what it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


def _last_words(said: IO[bytes]) -> str:
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - _MOST_ERROR_BYTES))
    lines = said.read().decode(errors="replace").strip().splitlines()
    return " ".join(lines[-1].split())[:300] if lines else "it said nothing"
