"""The notification socket of systemd: that the service is ready, that it lives, that it stops (sd_notify)."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Send a state, such as `READY=1` or `WATCHDOG=1`. Without systemd this does nothing.

    Args:
        state: see sd_notify(3).
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
        # A socket in the abstract namespace has a null byte in place of the @.
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.sendall(state.encode())


def watchdog_interval_s() -> float | None:
    """How often systemd expects `WATCHDOG=1`: half of its limit. None where it expects none."""
    text, process = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or (process and process != str(os.getpid())):
        return None
    return int(text) / 2e6
