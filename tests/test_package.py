"""The public names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import comemory
from comemory.provenance import package_version


@pytest.mark.parametrize("name", comemory.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(comemory, name).__module__.startswith("comemory.")
    assert name in dir(comemory)


def test_the_version_is_that_of_the_distribution() -> None:
    assert comemory.__version__ == (package_version("comemory") or "unknown")
    assert "__version__" in dir(comemory)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        comemory.no_such_name  # noqa: B018


OPEN_A_DETECTOR = """
import multiprocessing, sys
import comemory
from comemory.provenance import package_version
def refuse(*arguments): raise SystemExit("a process was started")
multiprocessing.Process.start = refuse
from comemory.detector import Detector
from comemory.export.openvino import _nncf
Detector.open(sys.argv[1])
if sys.argv[2] == "nncf": _nncf()
import openvino.tools.ovc.telemetry_utils as utils
print(utils.tm.__name__, sys.modules["openvino_telemetry"])
"""


@pytest.mark.parametrize("more", ["", "nncf"])
def test_there_is_no_telemetry(more: str, nano_bundle: Path, tmp_path: Path) -> None:
    if more:
        pytest.importorskip(more)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI")}
    done = subprocess.run(
        [sys.executable, "-c", OPEN_A_DETECTOR, str(nano_bundle), more],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "openvino.tools.ovc.telemetry_stub None\n"), done.stderr
    assert not (tmp_path / "intel").exists()
