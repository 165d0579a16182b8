"""Memory: keeps that of a long-running process from growing, and says what there is."""

from __future__ import annotations

import ctypes
import os
import resource
from contextlib import suppress
from pathlib import Path

M_ARENA_MAX = -8
"""Parameter of glibc's `mallopt`."""
N_ARENAS = 2
"""Measured: with two, the process stays level over days; with one, threads wait for each other."""


def limit_malloc_arenas(number: int = N_ARENAS) -> bool:
    """Let all threads of this process share a few heaps (malloc arenas); False if the C library does not support it.

    glibc gives threads up to eight arenas per core. Cameras allocate packets and images of all sizes in many threads, and
    each arena keeps its own holes: the process grows although no more memory is in use. Call it before threads start.
    `MALLOC_ARENA_MAX` in the environment takes precedence.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, number))
    return False


def machine_memory() -> dict[str, int]:
    """The lines of Linux's `/proc/meminfo` in bytes; empty elsewhere."""
    found = {}
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            found[name] = int(rest.split()[0]) * 1024
    return found


def process_bytes() -> int:
    """Memory in use now by this process; where only the highest is known, that."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
