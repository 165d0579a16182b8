"""Write the locks in deploy/: the packages of each container image, with their versions and hashes.

    python deploy/lock.py

It resolves the extras of an image with constraints.txt, for the Python and the platform that it runs with (those of the
image: Python 3.11 on x86-64 Linux). The build of another platform installs by constraints.txt instead.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {"requirements.lock": "web,postgres,alerts", "requirements-archive.lock": "archive"}
"""The extras of the image of the service, and of that for archives."""


def main() -> int:
    """Resolve, and write the files."""
    for name, extras in LOCKS.items():
        write(name, extras)
    return 0


def write(name: str, extras: str) -> None:
    """Write one lock."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--constraint", str(ROOT / "constraints.txt"), "--report", str(report), f"{ROOT}[{extras}]"]
        subprocess.run(command, check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    lines = []
    for package in found:
        hashes = package["download_info"].get("archive_info", {}).get("hashes", {})
        package_name, version = package["metadata"]["name"], package["metadata"]["version"]
        if package_name != "comemory":
            lines.append(f"{package_name}=={version} --hash=sha256:{hashes['sha256']}")
    head = f"# Made by deploy/lock.py: the packages of the extras {extras} with their hashes.\n"
    (ROOT / "deploy" / name).write_text(head + "\n".join(sorted(lines, key=str.lower)) + "\n", encoding="utf-8")
    print(f"{len(lines)} packages are in deploy/{name}")


if __name__ == "__main__":
    sys.exit(main())
