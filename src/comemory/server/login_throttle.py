"""Guesses at the password: counted by place, and made to wait."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class LoginThrottle:
    """How often a place has guessed wrong, and how long it waits for that.

    Args:
        free: wrong guesses that cost nothing.
        wait_s: after the first one more; doubled with each that follows, up to `longest_s`.
        everywhere: wrong guesses a minute, of all places together, after which all wait.
        at_once: guesses that are looked at at the same time; more are made to wait.
    """

    MAX_CLIENTS = 4096

    def __init__(
        self,
        free: int = 5,
        wait_s: float = 15.0,
        longest_s: float = 900.0,
        everywhere: int = 60,
        at_once: int = 2,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.free, self.wait_s, self.longest_s, self.everywhere, self._now = free, wait_s, longest_s, everywhere, now
        self._lock = threading.RLock()
        self._at_once = threading.BoundedSemaphore(at_once)
        self._clients: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._window, self._n_window = now(), 0

    @contextmanager
    def attempt(self, place: str) -> Iterator[float]:
        """Seconds until this place may guess again, 0 while it may. Such a guess counts as wrong unless it `succeeded`."""
        if not self._at_once.acquire(blocking=False):
            yield 1.0
            return
        try:
            with self._lock:
                wait_s = self.wait(place)
                if wait_s == 0:
                    self.record_failure(place)
            yield wait_s
        finally:
            self._at_once.release()

    def wait(self, place: str) -> float:
        """Seconds until this place may guess again, 0 when it may.

        >>> clock = [0.0]
        >>> throttle = LoginThrottle(free=1, wait_s=10, now=lambda: clock[0])
        >>> attempts.failed("192.0.2.1"), attempts.wait("192.0.2.1")
        (None, 0.0)
        >>> attempts.failed("192.0.2.1"), attempts.wait("192.0.2.1"), attempts.wait("192.0.2.2")
        (None, 10.0, 0.0)
        """
        with self._lock:
            until = self._clients.get(client_network(place), (0, 0.0))[1]
            if self._n_window >= self.everywhere:
                until = max(until, self._window + 60.0)
            return max(0.0, until - self._now())

    def record_failure(self, place: str) -> None:
        """Count a wrong guess."""
        with self._lock:
            now = self._now()
            if now - self._window >= 60.0:
                self._window, self._n_window = now, 0
            self._n_window += 1
            count = self._clients.pop(client_network(place), (0, 0.0))[0] + 1
            over = count - self.free
            wait_s = min(self.wait_s * 2 ** min(over - 1, 30), self.longest_s) if over > 0 else 0.0
            self._clients[client_network(place)] = (count, now + wait_s)
            if len(self._clients) > self.MAX_CLIENTS:
                self._clients.popitem(last=False)

    def record_success(self, place: str) -> None:
        """Forget a place's wrong guesses, and that this one was thought to be one."""
        with self._lock:
            self._n_window = max(0, self._n_window - 1)
            self._clients.pop(client_network(place), None)


def client_network(place: str) -> str:
    """What counts as one place: an IPv4 address, or the /64 network of an IPv6 address, which one subscriber has whole.

    >>> network("2001:db8::1") == network("2001:db8::2"), network("192.0.2.1")
    (True, '192.0.2.1')
    """
    try:
        address = ipaddress.ip_address(place.partition("%")[0])
    except ValueError:
        return place
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
