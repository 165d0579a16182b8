"""Where a result comes from: commit, versions, machine. What cannot be determined is None."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def package_version(package: str) -> str | None:
    """The installed version of a distribution; None when it is not installed.

    >>> package_version("no-such-distribution") is None
    True
    """
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def current_commit() -> str | None:
    """The commit of the checkout that this package runs from, with `-dirty` when it was edited; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (answer.stdout.strip() or None) if answer.returncode == 0 else None


def cpu_name() -> str | None:
    """The model name of the CPU; None where the system does not report it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None
