"""What the machine has left: disk, memory, load."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

from pydantic import Field

from comemory.live.monitoring.memory_use import machine_memory, process_bytes
from comemory.server.schemas import ResponseBody


class MachineStatus(ResponseBody):
    """Disk, memory and load of the machine; null where it does not say."""

    disk_total_bytes: int | None = Field(description="Of the disk of the media folder.")
    disk_free_bytes: int | None
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    process_bytes: int = Field(description="Memory of this process.")
    load: float = Field(description="Mean number of busy cores in the last minute.")
    cores: int = Field(description="Cores that this process may use.")


def machine_status(folder: Path) -> MachineStatus:
    """The machine now.

    Args:
        folder: on the disk that matters.
    """
    total, free = None, None
    with suppress(OSError):
        usage = shutil.disk_usage(folder)
        total, free = usage.total, usage.free
    memory = machine_memory()
    return MachineStatus(
        disk_total_bytes=total,
        disk_free_bytes=free,
        memory_total_bytes=memory.get("MemTotal"),
        memory_available_bytes=memory.get("MemAvailable"),
        process_bytes=process_bytes(),
        load=os.getloadavg()[0],
        cores=len(os.sched_getaffinity(0)),
    )
