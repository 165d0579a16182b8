"""A Python child process that exchanges lines of text with this one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from comemory.errors import SourceError

STOP_TIMEOUT_S = 5.0
"""Seconds that a process has to end after it was asked to; then it is killed."""


def describe_exit(code: int) -> str:
    """How a process ended, in words.

    >>> describe_exit(1), describe_exit(-9)
    ('ended with code 1', 'was killed by signal 9')
    """
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"


class LineProcess:
    """A Python process, and the thread that reads what it prints.

    Args:
        command: arguments of the interpreter that runs this code, such as `-m` and a module.
        environment: variables to set beside those of this process.
        on_line: called with each line that the process prints, in a thread; with None once it has ended.
        log: file to which its standard error is appended; None shares the standard error of this process.
        own_session: start it in a session of its own, so that Ctrl-C in the terminal does not reach it.

    Raises:
        SourceError: the process cannot be started, or the file not opened.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str | None], None],
        *,
        log: Path | None = None,
        own_session: bool = False,
    ) -> None:
        self._on_line = on_line
        try:
            with ExitStack() as stack:
                if log is not None:
                    log.parent.mkdir(parents=True, exist_ok=True)
                self._process = subprocess.Popen(
                    [sys.executable, *command],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=None if log is None else stack.enter_context(log.open("ab")),
                    env={**os.environ, **environment},
                    start_new_session=own_session,
                    text=True,
                    encoding="utf-8",
                )
        except OSError as error:
            raise SourceError(f"cannot start a worker: {error}") from None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, line: str) -> None:
        """Write a line to its standard input. If it is gone already, the end of its output says so."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def wait(self) -> int:
        """Wait for a process that is ending; returns its exit code, negative for a signal."""
        code = self._process.wait()
        self._close()
        return code

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close()

    def _close(self) -> None:
        self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._on_line(line)
        self._on_line(None)
