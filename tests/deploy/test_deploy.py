"""The unit and the container file: checked by systemd's own tool, and held against what the program does."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from comemory.live.systemd import notify, watchdog_interval_s

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNIT = (DEPLOY / "comemory.service").read_text(encoding="utf-8")
CONTAINER = (DEPLOY / "Containerfile").read_text(encoding="utf-8")


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs systemd-analyze: apt-get install systemd")
    unit = tmp_path / "comemory.service"
    unit.write_text(UNIT.replace("/opt/comemory/bin/comemory", "/bin/true"), encoding="utf-8")
    done = subprocess.run([program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    problems = [line for line in done.stderr.splitlines() if "comemory.service" in line and "Restart" not in line]
    assert problems == [], "keys of newer versions of systemd, such as RestartSteps, are ignored by older ones"


def test_the_service_never_stays_down() -> None:
    assert "StartLimitIntervalSec=0" in UNIT
    assert "Restart=on-failure" in UNIT
    assert "Type=notify" in UNIT


@pytest.mark.parametrize("text", [UNIT, CONTAINER])
def test_the_checkout_is_installed_not_a_name_on_an_index(text: str) -> None:
    assert re.search(r"pip install [^\n]*'?comemory\b", text) is None
    assert "constraints.txt" in text


def test_the_container_publishes_on_the_loopback() -> None:
    examples = [
        line for line in CONTAINER.splitlines() if "-p " in line and "podman" not in line and "certificate" not in line
    ]
    assert all("-p 127.0.0.1:8710:8710" in line for line in examples if line.startswith("#     "))
    assert "--format docker" in CONTAINER, "podman drops HEALTHCHECK in its own format"


def test_the_lock_holds_a_hash_of_every_package() -> None:
    lines = [line for line in (DEPLOY / "requirements.lock").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert len(lines) > 30
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    pinned = dict(line.split("==") for line in (DEPLOY.parent / "constraints.txt").read_text().split() if "==" in line)
    known = {name.lower(): version for name, version in pinned.items()}
    names = {line.split("==")[0].lower(): line.split("==")[1].split()[0] for line in lines}
    assert {name: version for name, version in names.items() if known.get(name, version) != version} == {}


def test_systemd_is_notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert channel.recv(100) == b"READY=1"
    notify("WATCHDOG=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_the_watchdog_is_fed_twice_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watchdog_interval_s() is None
    monkeypatch.setenv("WATCHDOG_USEC", "60000000")
    assert watchdog_interval_s() == 30.0
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid() + 1))
    assert watchdog_interval_s() is None
