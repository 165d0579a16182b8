"""How the process keeps its memory over months."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

M_ARENA_MAX = -8
"""Of glibc's `mallopt`."""
ARENAS = 2


def share_arenas(number: int = ARENAS) -> bool:
    """Let all threads of this process share a few heaps; say whether the C library takes that.

    glibc gives up to eight heaps a core to threads. Cameras come and go, and with them packets and pictures of all
    sizes: each heap keeps the holes they leave for itself, and the process grows though nothing more is in use. Call it
    before threads are started. `MALLOC_ARENA_MAX` in the environment stands above it.
    """
    if "MALLOC_ARENA_MAX" in os.environ:
        return False
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).mallopt(M_ARENA_MAX, number))
    return False
