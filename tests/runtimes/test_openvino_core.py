"""OpenVINO's core is shared and never freed: otherwise a signal may end the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from comemory.runtimes.openvino_core import CACHE

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = """
import gc, os, signal, sys, threading
from comemory.bundle import open_bundle
from comemory.runtimes.openvino import OpenVino
made = [OpenVino(open_bundle(sys.argv[1]).network, 1)]
freeing = threading.Thread(target=lambda: (made.clear(), gc.collect()))
freeing.start()
freeing.join()
signal.signal(signal.SIGHUP, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGHUP)
"""


def test_a_signal_is_handled_after_another_thread_freed_a_network(tmp_path: Path) -> None:
    """A model of a camera is made in the main thread, and freed by the worker that replaces it."""
    for folder in ("", str(tmp_path)):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(REPOSITORY / "models" / "synthetic-nano")],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, CACHE: folder},
        )
        assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
