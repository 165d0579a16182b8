"""What a figure was made with: code, packages, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from pathlib import Path

from comemory.provenance import commit, cpu_name, package_version
from comemory.types import JSON

PACKAGES = ("comemory", "torch", "numpy", "opencv-python-headless", "openvino", "av")


@cache
def surroundings() -> JSON:
    """Commit, versions and hardware of this process, as they are when first asked for.

    Returns:
        `commit`, `dirty` (whether the package's own files were edited since; None when not known), `versions`, `hardware`.
    """
    return {
        "commit": (commit() or "").removesuffix("-dirty") or None,
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
    asked = ["git", "-C", str(package), "status", "--porcelain", "--", "."]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return bool(answer.stdout.strip()) if answer.returncode == 0 else None
