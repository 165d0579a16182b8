"""The malloc arenas of a process with many threads."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNT = """
import ctypes, re, sys, threading
from comemory.live.monitoring.memory_use import limit_malloc_arenas
taken = sys.argv[1] == "limited" and limit_malloc_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
together = threading.Barrier(12)
def allocate():
    together.wait()
    libc.malloc(100_000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(12)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.tmpfile.restype = ctypes.c_void_p
file = libc.tmpfile()
libc.malloc_info(0, ctypes.c_void_p(file))
libc.rewind(ctypes.c_void_p(file))
text = ctypes.create_string_buffer(1_000_000)
libc.fread(text, 1, 999_999, ctypes.c_void_p(file))
print(taken, text.value.count(b"<heap nr="))
"""


def count_arenas(mode: str, **environment: str) -> list[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", COUNT, mode]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**inherited, **environment})
    return done.stdout.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_threads_share_two_arenas() -> None:
    assert count_arenas("limited") == ["True", "2"]
    assert int(count_arenas("unlimited")[1]) > 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_environment_variable_takes_precedence() -> None:
    assert count_arenas("limited", MALLOC_ARENA_MAX="3")[0] == "False"
