"""Slows down guesses at the password: wrong ones are counted by client, and make it wait."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class LoginThrottle:
    """Counts wrong guesses by client, and how long each client must wait for them.

    A browser that has logged in before is a client of its own, whatever its address: neither its neighbours nor a flood
    of guesses from everywhere make it wait.

    Args:
        free: wrong guesses without a wait.
        wait_s: after the next wrong one; it doubles with each that follows, up to `max_wait_s`.
        max_per_minute: wrong guesses a minute, of all unknown clients together, after which all of them wait.
        at_once: guesses that are checked at the same time; more must wait a second.
    """

    MAX_CLIENTS = 4096

    def __init__(
        self,
        free: int = 5,
        wait_s: float = 15.0,
        max_wait_s: float = 900.0,
        max_per_minute: int = 60,
        at_once: int = 2,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.free, self.wait_s, self.max_wait_s, self.max_per_minute = free, wait_s, max_wait_s, max_per_minute
        self._now = now
        self._lock = threading.RLock()
        self._slots = {is_known: threading.BoundedSemaphore(at_once) for is_known in (False, True)}
        self._clients: OrderedDict[str, tuple[int, float]] = OrderedDict()
        self._window, self._n_window = now(), 0

    @contextmanager
    def attempt(self, client: str, device: str | None = None) -> Iterator[float]:
        """Seconds until the client may guess; 0 where it may now. Such a guess counts as wrong until `record_success`.

        Args:
            client: address of the client.
            device: id of a browser that has logged in before.
        """
        slot = self._slots[device is not None]
        if not slot.acquire(blocking=False):
            yield 1.0
            return
        try:
            with self._lock:
                wait_s = self.wait(client, device)
                if wait_s == 0:
                    self.record_failure(client, device)
            yield wait_s
        finally:
            slot.release()

    def wait(self, client: str, device: str | None = None) -> float:
        """Seconds until the client may guess; 0 where it may now.

        >>> clock = [0.0]
        >>> throttle = LoginThrottle(free=1, wait_s=10, now=lambda: clock[0])
        >>> throttle.record_failure("192.0.2.1"), throttle.wait("192.0.2.1")
        (None, 0.0)
        >>> throttle.record_failure("192.0.2.1"), throttle.wait("192.0.2.1"), throttle.wait("192.0.2.2")
        (None, 10.0, 0.0)
        >>> throttle.wait("192.0.2.1", device="a browser that has logged in")
        0.0
        """
        with self._lock:
            until = self._clients.get(_key(client, device), (0, 0.0))[1]
            if device is None and self._n_window >= self.max_per_minute:
                until = max(until, self._window + 60.0)
            return max(0.0, until - self._now())

    def record_failure(self, client: str, device: str | None = None) -> None:
        """Count a wrong guess."""
        with self._lock:
            now, key = self._now(), _key(client, device)
            if now - self._window >= 60.0:
                self._window, self._n_window = now, 0
            self._n_window += device is None
            count = self._clients.pop(key, (0, 0.0))[0] + 1
            over = count - self.free
            wait_s = min(self.wait_s * 2 ** min(over - 1, 30), self.max_wait_s) if over > 0 else 0.0
            self._clients[key] = (count, now + wait_s)
            if len(self._clients) > self.MAX_CLIENTS:
                self._clients.popitem(last=False)

    def record_success(self, client: str, device: str | None = None) -> None:
        """Forget the client's wrong guesses, this one included."""
        with self._lock:
            self._n_window = max(0, self._n_window - (device is None))
            self._clients.pop(_key(client, device), None)


def _key(client: str, device: str | None) -> str:
    return client_network(client) if device is None else f"device {device}"


def client_network(client: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 network of an IPv6 address, which belongs to one subscriber.

    >>> client_network("2001:db8::1") == client_network("2001:db8::2"), client_network("192.0.2.1")
    (True, '192.0.2.1')
    """
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
