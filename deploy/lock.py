"""Write deploy/requirements.lock: the packages of the container image, each with its version and hash.

    python deploy/lock.py

It resolves the extras of the image with constraints.txt, for the Python and the platform that it runs with (those of the
image: Python 3.11 on x86-64 Linux). The build of another platform installs by constraints.txt instead.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = "web,postgres,alerts"


def main() -> int:
    """Resolve, and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--constraint", str(ROOT / "constraints.txt"), "--report", str(report), f"{ROOT}[{EXTRAS}]"]
        subprocess.run(command, check=True)
        found = json.loads(report.read_text(encoding="utf-8"))["install"]
    lines = []
    for package in found:
        hashes = package["download_info"].get("archive_info", {}).get("hashes", {})
        name, version = package["metadata"]["name"], package["metadata"]["version"]
        if name != "comemory":
            lines.append(f"{name}=={version} --hash=sha256:{hashes['sha256']}")
    head = "# Made by deploy/lock.py: the packages of the container image with their hashes.\n"
    (ROOT / "deploy" / "requirements.lock").write_text(
        head + "\n".join(sorted(lines, key=str.lower)) + "\n", encoding="utf-8"
    )
    print(f"{len(lines)} packages are in deploy/requirements.lock")
    return 0


if __name__ == "__main__":
    sys.exit(main())
