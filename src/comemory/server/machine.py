"""What the machine has left: disk, memory, load."""

from __future__ import annotations

import os
import resource
import shutil
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from comemory.server.schemas import Answer


class Machine(Answer):
    """Disk, memory and load of the machine; null where it does not say."""

    disk_total_bytes: int | None = Field(description="Of the disk of the media folder.")
    disk_free_bytes: int | None
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    process_bytes: int = Field(description="Memory of this process.")
    load: float = Field(description="Mean number of busy cores in the last minute.")
    cores: int = Field(description="Cores that this process may use.")


def machine(folder: Path) -> Machine:
    """The machine now.

    Args:
        folder: on the disk that matters.
    """
    total, free = None, None
    with suppress(OSError):
        usage = shutil.disk_usage(folder)
        total, free = usage.total, usage.free
    memory = _memory()
    return Machine(
        disk_total_bytes=total,
        disk_free_bytes=free,
        memory_total_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        process_bytes=_process_bytes(),
        load=os.getloadavg()[0],
        cores=len(os.sched_getaffinity(0)),
    )


def _memory() -> dict[str, int]:
    """The lines of Linux's `/proc/meminfo` in bytes; empty elsewhere."""
    found = {}
    with suppress(OSError, ValueError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            found[name] = int(rest.split()[0]) * 1024
    return found


def _process_bytes() -> int:
    """Memory in use now; where only the highest is known, that."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
