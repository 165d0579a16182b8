"""OpenVINO's core, one for the whole process."""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from comemory.runtimes.sharing import require_own_process

CACHE = "COMEMORY_CACHE"
"""Environment variable: a folder of this user's for compiled networks, which makes the next start faster."""


def shared_core() -> Any:
    """The core that everything in this process uses. It is never freed.

    A core gives the thread that first compiles with it a stack for signals. Freed in another thread, such as a worker that
    drops the old model of a camera, it takes the memory of that stack along, and the next signal ends the process: SIGTERM
    would no longer store the open events.

    Raises:
        ConfigError: this process was forked from one that has a core.
    """
    require_own_process("OpenVINO")
    return _core(os.environ.get(CACHE, ""))


@cache
def _core(folder: str) -> Any:
    import openvino as ov

    core = ov.Core()
    if folder:
        core.set_property({"CACHE_DIR": folder})
    return core
