"""What a result was made with: code, packages and machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from comemory.provenance import cpu_name, current_commit, package_version
from comemory.types import JSON

PACKAGES = ("comemory", "torch", "numpy", "opencv-python-headless", "openvino", "av")
GIT_TIMEOUT_S = 20


@cache
def process_environment() -> JSON:
    """Return commit, versions and hardware of this process, as they were at the first call.

    Cached, because a process that runs for hours runs the code it was started with, whatever is committed meanwhile.

    Returns:
        `commit`, `dirty` (whether the package's own files have changes; None when not known), `versions`, `hardware`.
    """
    return {
        "commit": (current_commit() or "").removesuffix("-dirty") or None,
        "dirty": _is_dirty(),
        "versions": {package: package_version(package) for package in PACKAGES},
        "hardware": {
            "cpu": cpu_name(),
            "cores": os.cpu_count(),
            "threads": int(os.environ.get("OMP_NUM_THREADS", 0)) or None,
            "machine": platform.machine(),
            "system": platform.system(),
            "python": platform.python_version(),
        },
    }


def _is_dirty() -> bool | None:
    package = Path(__file__).resolve().parents[2]
    command = ["git", "-C", str(package), "status", "--porcelain", "--", "."]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(answer.stdout.strip()) if answer.returncode == 0 else None
