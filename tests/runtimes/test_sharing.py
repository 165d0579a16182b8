"""A runtime is used by one thread at a time, and not in a forked process, where it would wait for ever."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from comemory.runtimes.sharing import OneCaller

REPOSITORY = Path(__file__).resolve().parents[2]
FORKED = """
import os, signal, sys, threading
from comemory.detector import Detector
made = []
def open_one():
    made.append(Detector.open(sys.argv[1], runtime=sys.argv[2], threads=1).stages)
opening = threading.Thread(target=open_one)
opening.start()
opening.join()
for use in (open_one, lambda: made[0].runtime.run(made[0].example_inputs())):
    child = os.fork()
    if not child:
        signal.alarm(60)  # ends it if it waits for ever
        try:
            use()
        except Exception as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize(("runtime", "library"), [("openvino", "OpenVINO"), ("pytorch", "PyTorch")])
def test_a_forked_process_is_told_to_start_in_another_way(runtime: str, library: str) -> None:
    """Neither opening a network nor running that of the parent hangs, whatever the parent's threads did."""
    pytest.importorskip({"pytorch": "torch"}.get(runtime, runtime))
    command = [sys.executable, "-c", FORKED, str(REPOSITORY / "models" / "synthetic-nano"), runtime]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    line = (
        f"ConfigError: {library} was in use when this process was forked, and does not work in it: start processes with "
        "the method 'spawn', such as multiprocessing.get_context('spawn'), and open a detector in each"
    )
    assert done.stdout.splitlines() == [line, line]


def test_the_turn_is_passed_on_after_an_error_too() -> None:
    one = OneCaller("nothing")
    with pytest.raises(ValueError), one:
        raise ValueError
    took = threading.Event()

    def take() -> None:
        with one:
            took.set()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(60)
    assert took.is_set()
