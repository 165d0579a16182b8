"""OpenVINO's core, one for the whole process."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

CACHE = "COMEMORY_CACHE"
"""Environment variable: a folder of this user's for compiled networks, which makes the next start faster."""


def shared_core() -> Any:
    """The core that everything in this process uses. It is never freed.

    A core gives the thread that first compiles with it a stack for signals. Freed in another thread, such as a worker that
    drops the old model of a camera, it takes the memory of that stack along, and the next signal ends the process: SIGTERM
    would no longer store the open events.
    """
    return _core(os.getpid(), os.environ.get(CACHE, ""))


@cache
def _core(process: int, folder: str) -> Any:
    """The core of a process, which a forked one must not use."""
    import openvino as ov

    core = ov.Core()
    if folder:
        core.set_property({"CACHE_DIR": folder})
    return core
