"""The live commands as an operator meets them: what they refuse at the start, in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from comemory import cli

pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = ("--model", REPOSITORY / "models" / "synthetic-nano")
VIDEO = REPOSITORY / "tests" / "data" / "hidden-frames.webm"
CAMERA = ("--camera", f"gate={VIDEO}")
LIVE_COMMANDS = (("watch",), ("watch", "--store", "none"), ("serve", "--port", "0"), ("learn", "gate"))


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line with which a command is refused as a usage error."""
    with pytest.raises(SystemExit) as left:
        cli.main([str(argument) for argument in arguments])
    said = capsys.readouterr()
    assert (left.value.code, said.out) == (2, ""), said
    assert said.err.count("\n") == 1, said.err
    return said.err.removeprefix("error: ").removesuffix("\n")


@pytest.mark.parametrize("command", [*LIVE_COMMANDS, ("learn", "gate", "--rollback")])
def test_an_output_folder_that_cannot_be_used_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    if command[0] == "serve":
        pytest.importorskip("fastapi", reason="needs comemory[web]")
    file = tmp_path / "afile"
    file.touch()
    given = (*command, *CAMERA, *MODEL, "--out")
    assert refused(capsys, *given, file) == f"cannot write into {file}: it is a file; choose a folder"
    said = refused(capsys, *given, file / "live")
    assert said == f"cannot write into {file / 'live'}: {file} is a file; choose a folder"
    said = refused(capsys, *given, "/proc/comemory")
    assert said.startswith("cannot write into /proc/comemory: ")
    assert said.endswith("; choose a writable folder")


@pytest.mark.parametrize("command", [("watch",), ("serve", "--port", "0")])
@pytest.mark.parametrize("from_file", [False, True])
def test_a_url_in_a_variable_that_is_not_set_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...], from_file: bool
) -> None:
    if command[0] == "serve":
        pytest.importorskip("fastapi", reason="needs comemory[web]")
    file = tmp_path / "live.toml"
    file.write_text('[cameras.yard]\nurl = "env:NO_SUCH_URL"\n' if from_file else "")
    given = (*CAMERA, "--config", file) if from_file else ("--camera", "yard=env:NO_SUCH_URL")
    assert refused(capsys, *command, *given, *MODEL, "--out", tmp_path / "live") == (
        "the url of camera 'yard' is 'env:NO_SUCH_URL', and the environment variable 'NO_SUCH_URL' is not set: set it"
    )


@pytest.mark.parametrize("as_json", [True, False])
def test_what_loggers_say_obeys_the_format_of_the_log(as_json: bool) -> None:
    """In a process of its own: pytest has handlers."""
    script = (
        "import logging\n"
        "from comemory.cli.live_options import LiveLog\n"
        f"LiveLog({as_json})\n"
        "logging.getLogger('comemory.server.routes.session').warning('a login from %s failed', '192.0.2.1')\n"
        "logging.getLogger('another.library').error('rtsp://user:hunter2@gate/x is gone')\n"
        "logging.getLogger('comemory').info('nothing to see')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    if as_json:
        entries = [json.loads(line) for line in lines]
        assert all(entry["time"].endswith("Z") for entry in entries)
        found = [(entry["what"], entry["text"]) for entry in entries]
    else:
        found = [(line[9:].split()[0], line[9:].split(maxsplit=1)[1]) for line in lines]
    assert found == [("warning", "a login from 192.0.2.1 failed"), ("error", "rtsp://user:***@gate/x is gone")]
