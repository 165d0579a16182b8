"""Which process is the group of a node on this machine: `python -m comemory.cluster.fleet_claim OUT NODE` becomes it.

It is claimed before the program is loaded, which takes seconds: whoever looks meanwhile sees that it starts.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import struct
import sys
import threading
from contextlib import suppress
from pathlib import Path


def _address(out: Path, node: str) -> str:
    """Of the socket that the group holds on its machine: it is free as soon as the process is gone."""
    return "\0comemory-fleet-" + hashlib.sha256(f"{out.absolute()}\0{node}".encode()).hexdigest()[:32]


def claim(out: Path, node: str) -> socket.socket | None:
    """Become the group of a node on this machine; None where another process is it.

    Args:
        out: the output folder of the fleet.
        node: name of the node.
    """
    holding = socket.socket(socket.AF_UNIX)
    try:
        holding.bind(_address(out, node))
    except OSError:
        holding.close()
        return None
    holding.listen(1024)
    threading.Thread(target=_accept, args=(holding,), name="claim", daemon=True).start()
    return holding


def _accept(holding: socket.socket) -> None:
    """Accept each connection and close it, so that the queue of the socket never fills."""
    with suppress(OSError):
        while True:
            with suppress(ConnectionAbortedError):
                holding.accept()[0].close()


def running_pid(out: Path, node: str) -> int | None:
    """The process that is the group of a node on this machine; None where there is none."""
    with socket.socket(socket.AF_UNIX) as asking:
        # A time-out of Python's would make the socket non-blocking, and that is refused where the queue is full.
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 5, 0))
        try:
            asking.connect(_address(out, node))
            credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        except OSError:
            return None
    pid, _, _ = struct.unpack("3i", credentials)
    return int(pid)


def main(arguments: list[str]) -> int:
    """Claim the group, and run it; the exit code."""
    os.umask(0o077)
    out, node = Path(arguments[0]), arguments[1]
    holding = claim(out, node)
    if holding is None:
        return 0
    with holding:
        from comemory.cluster.fleet_group import run_group

        return run_group(out, node)


if __name__ == "__main__":
    exit_code = main(sys.argv[1:])
    logging.shutdown()
    os._exit(exit_code)
