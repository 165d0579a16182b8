"""The unit and the container file: checked by systemd's own tool, and held against what the program does."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from comemory.cli.application import TEMPORARY
from comemory.live.config import WebSettings
from comemory.live.systemd import notify, watchdog_interval_s

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNIT = (DEPLOY / "comemory.service").read_text(encoding="utf-8")
PROJECT = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
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


def commands() -> list[list[str]]:
    """The commands in the comments of the container file, as a shell splits them."""
    text = re.sub(r"\\\n# +", " ", CONTAINER)
    return [shlex.split(line.lstrip("# ")) for line in text.splitlines() if re.match(r"# {3,}podman", line)]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the container file: name and arguments, those of the last stage last."""
    text = re.sub(r"^#.*\n", "", CONTAINER, flags=re.MULTILINE).replace("\\\n", " ")
    return [
        (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1].strip()) for line in text.splitlines() if line.strip()
    ]


def values_of(command: list[str], option: str) -> list[str]:
    return [value for name, value in pairwise(command) if name == option]


def test_the_container_publishes_on_the_loopback() -> None:
    build, password, run, build_for_archives = commands()
    for command in (build, build_for_archives):
        assert command[:2] == ["podman", "build"]
        assert values_of(command, "--format") == ["docker"], "podman drops HEALTHCHECK in its own format"
        assert values_of(command, "-f") == ["deploy/Containerfile"]
    assert (password[:2], run[:2]) == (["podman", "run"], ["podman", "run"])
    port = WebSettings().port
    assert values_of(run, "-p") == [f"127.0.0.1:{port}:{port}"], "plain HTTP is for this machine only"
    assert not {"--publish", "-P", "--publish-all", "--network", "--net", "--privileged"} & {*run, *password}
    assert not values_of(password, "-p")
    assert values_of(run, "--cap-drop") == ["all"]
    assert values_of(run, "--security-opt") == ["no-new-privileges"]
    assert "--read-only" in run
    assert values_of(run, "--health-on-failure") == ["restart"]


def test_the_image_is_that_of_a_service_without_rights() -> None:
    last = dict(instructions())
    port = WebSettings().port
    assert last["USER"] == "comemory"
    assert last["EXPOSE"] == str(port)
    assert last["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(last["ENTRYPOINT"]) == ["comemory"]
    command = json.loads(last["CMD"])
    assert command[:1] == ["serve"]
    assert values_of(command, "--host") == ["0.0.0.0"], "podman publishes it"
    assert values_of(command, "--out")[0].startswith(last["VOLUME"] + "/")
    assert "--json" in command
    assert ("ENV", f"HEALTH_URL=http://127.0.0.1:{port}/healthz") in instructions()
    assert " CMD " in last["HEALTHCHECK"], "tests/server/test_serving.py runs it"


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-archive.lock"])
def test_the_lock_holds_a_hash_of_every_package(name: str) -> None:
    lines = [line for line in (DEPLOY / name).read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert len(lines) > 30
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    pinned = dict(line.split("==") for line in (DEPLOY.parent / "constraints.txt").read_text().split() if "==" in line)
    known = {name.lower(): version for name, version in pinned.items()}
    names = {line.split("==")[0].lower(): line.split("==")[1].split()[0] for line in lines}
    extras = runpy.run_path(str(DEPLOY / "lock.py"))["LOCKS"][name].split(",")
    wanted = [*PROJECT["dependencies"], *(one for extra in extras for one in packages_of(extra))]
    assert [one for one in wanted if package_name(one) not in {name.replace("_", "-") for name in names}] == [], (
        "run deploy/lock.py"
    )
    assert {name: version for name, version in names.items() if known.get(name, version) != version} == {}


def packages_of(extra: str) -> list[str]:
    """The packages of an extra, and of the extras of comemory that it names."""
    found = []
    for one in PROJECT["optional-dependencies"][extra]:
        other = re.fullmatch(r"comemory\[(\w+)\]", one)
        found += packages_of(other[1]) if other else [one]
    return found


def package_name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def test_the_job_of_an_archive_tries_again_what_may_pass() -> None:
    job = (DEPLOY / "archive-job.yaml").read_text(encoding="utf-8")
    rules = dict(re.findall(r"- action: (\w+)\n\s+onExitCodes:\n.*\n.*\n\s+values: \[(.*)\]", job))
    assert rules == {"FailIndex": "1, 2", "Count": str(TEMPORARY)}
    [image] = re.findall(r"image: (\S+)", job)
    build = f"--build-arg EXTRAS=archive --build-arg LOCK=requirements-archive.lock -t {image} ."
    assert build in job
    assert build in CONTAINER


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
