"""Keeps the memory of a long-running process from growing."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

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
