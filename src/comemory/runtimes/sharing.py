"""What makes a runtime safe to share: one caller at a time, and none in a forked process."""

from __future__ import annotations

import os
import threading
from types import TracebackType

from comemory.errors import ConfigError

_used_in: dict[str, int] = {}
"""The process that first used a library, by its name: here, or in the process that this one was forked from."""


def require_own_process(library: str) -> None:
    """Refuse a library that was in use when this process was forked.

    A fork copies the memory and none of the threads. A library that has started some then waits for ever for one that is
    not there, already in compiling another network.

    Raises:
        ConfigError: this process was forked from one that had used the library.
    """
    process = os.getpid()
    if _used_in.setdefault(library, process) != process:
        raise ConfigError(
            f"{library} was in use when this process was forked, and does not work in it: start processes with the method "
            "'spawn', such as multiprocessing.get_context('spawn'), and open a detector in each"
        )


class OneCaller:
    """A context in which one thread at a time uses a library, in the process that first used it.

    Args:
        library: its name, see `require_own_process`.

    >>> with OneCaller("some library"):
    ...     pass
    """

    def __init__(self, library: str) -> None:
        self._library, self._lock = library, threading.Lock()

    def __enter__(self) -> None:
        """Wait for the turn.

        Raises:
            ConfigError: in a forked process, where a thread that does not exist may hold the lock.
        """
        require_own_process(self._library)
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the next one in."""
        self._lock.release()
