"""Everything live, put together: store, alerts, engine, retention, signals."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from comemory.errors import ComemoryError, ConfigError, mask_password
from comemory.live.config import LiveSettings, absolute
from comemory.live.engine import Engine
from comemory.live.monitoring.memory_use import share_arenas

if TYPE_CHECKING:
    from comemory.alerts.dispatcher import Dispatcher
    from comemory.store.store import EventStore

SWEEP_S = 600.0
STOP_S = 4.5
"""From when it is to end until all of it has: half a second less than is promised, for the process to leave."""
ENGINE_S = 2.7
"""Of these, the share of cameras, events and clips."""
HARD_END_S = 4.9
"""From when it is to end until the system ends the process, whatever hangs."""
HUNG = "hung.txt"
"""File in OUT: where each thread was when that happened."""


class Service:
    """A running system: `with Service(settings) as service: service.run()`.

    Attributes:
        engine, store: None for a store that the settings switch off.
        dispatcher: of alerts; None without a store or without alerts.

    Args:
        reread: reads the settings again, for SIGHUP; None leaves them.
        on_reload: called with one line for each thing that a reload changed, or why it failed.
        ends_process: the process ends with it: `HARD_END_S` after it is to end at the latest.

    Raises:
        ComemoryError: from entering it, where something of it cannot be used.
    """

    def __init__(
        self,
        settings: LiveSettings,
        reread: Callable[[], LiveSettings] | None = None,
        on_reload: Callable[[str], None] = lambda line: None,
        *,
        ends_process: bool = False,
    ) -> None:
        self.settings = settings
        self.store: EventStore | None = None
        self.dispatcher: Dispatcher | None = None
        self._reread, self._on_reload, self._ends_process = reread, on_reload, ends_process
        self._stack = ExitStack()
        self._ending = threading.Event()
        self._deadline: float | None = None
        self._reloading = threading.Event()

    def __enter__(self) -> Service:
        share_arenas()
        with ExitStack() as stack:
            stack.enter_context(self.signals())
            self.store = self._open_store(stack)
            self.dispatcher = self._open_alerts(stack)
            self.engine = Engine(self.settings, self.store)
            self.engine.start()
            stack.callback(lambda: self.engine.stop(self._left(0.5)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        if self._ends_process:
            with suppress(OSError):
                report = self.settings.out / HUNG
                if not report.stat().st_size:
                    report.unlink()

    def stop_engine(self) -> None:
        """End what is watched, with its events stored; alerts and store go on until the end of the block."""
        self.engine.stop(self._left(STOP_S - ENGINE_S))

    def end(self) -> None:
        """Let `run` come to its end; from now on everything has `STOP_S` to end in."""
        if self._deadline is None:
            self._deadline = time.monotonic() + STOP_S
            if self._ends_process:
                self._limit_the_end()
        self._ending.set()

    def run(self, seconds: float | None = None, *, until_finished: bool = True) -> None:
        """Go on until SIGTERM, SIGINT, `end`, the time is up, or every camera was a file that is over.

        Args:
            until_finished: whether files that are over end it.
        """
        end = None if seconds is None else time.monotonic() + seconds
        swept = time.monotonic()
        while not self._ending.wait(0.1):
            if end is not None and time.monotonic() >= end:
                return
            if until_finished and self.engine.finished:
                return
            if self._reloading.is_set():
                self._reloading.clear()
                threading.Thread(target=self.reload, name="reload", daemon=True).start()
            if time.monotonic() - swept >= SWEEP_S:
                swept = time.monotonic()
                threading.Thread(target=self.sweep, name="sweep", daemon=True).start()

    def reload(self) -> None:
        """Read the settings again; what is wrong with them is told, and the present ones stay."""
        if self._reread is None:
            return
        try:
            for line in self.engine.reload(self._reread()) or ["nothing changed"]:
                self._on_reload(line)
            if self.dispatcher is not None:
                self.dispatcher.set_cameras(list(self.engine.settings.cameras))
        except ComemoryError as error:
            self._on_reload(f"the settings stay as they were: {error}")

    def sweep(self) -> None:
        """Delete what is older, or more, than the retention allows."""
        if self.store is None:
            return
        kept = self.engine.settings.retention
        try:
            self.store.sweep(datetime.now(UTC), kept.days, int(kept.gigabytes * 1e9), int(kept.free_gigabytes * 1e9))
        except (ComemoryError, OSError) as error:
            self._on_reload(f"old events were not deleted: {error}")

    @contextmanager
    def signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end it, SIGHUP reloads; only the main thread can ask for that, others leave them.

        They do so from the beginning of the block to its end: an end that is on is not broken off by a second signal.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            self.end()

        def reload(number: int, frame: FrameType | None) -> None:
            self._reloading.set()

        wanted = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: reload}
        before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _left(self, kept_s: float = 0.0) -> float:
        """Seconds of the time to end in, less those to be kept for what follows; it begins with the first question."""
        self.end()
        return max(0.1, (self._deadline or 0.0) - kept_s - time.monotonic())

    def _limit_the_end(self) -> None:
        """Have the process ended by a thread of the interpreter that waits for no lock, not even its own."""
        try:
            with (self.settings.out / HUNG).open("a", encoding="utf-8") as file:
                kept = os.dup(file.fileno())
        except OSError:
            kept = sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
        faulthandler.dump_traceback_later(HARD_END_S, exit=True, file=kept)

    def _open_store(self, stack: ExitStack) -> EventStore | None:
        if not self.settings.store.enabled:
            return None
        from comemory.store.store import EventStore

        self.settings.out.mkdir(parents=True, exist_ok=True)
        return stack.enter_context(EventStore.open(self.settings.store_url, self.settings.media))

    def _open_alerts(self, stack: ExitStack) -> Dispatcher | None:
        if self.store is None or not self.settings.alerts:
            return None
        from comemory.alerts.dispatcher import Dispatcher
        from comemory.alerts.sink import open_sink

        sinks = [open_sink(name, told) for name, told in self.settings.alerts.items()]
        dispatcher = Dispatcher(self.store, sinks, list(self.settings.cameras))
        dispatcher.start()
        stack.callback(lambda: dispatcher.stop(self._left()))
        return dispatcher


def camera_flags(flags: Sequence[str]) -> dict[str, dict[str, str]]:
    """`NAME=URL` flags as the settings of cameras.

    Raises:
        ConfigError: one is no such pair.

    >>> camera_flags(["gate=rtsp://gate.lan/live?a=b"])
    {'gate': {'url': 'rtsp://gate.lan/live?a=b'}}
    """
    cameras: dict[str, dict[str, str]] = {}
    for flag in flags:
        name, equals, url = flag.partition("=")
        if not equals or not name or not url or "://" in name:
            raise ConfigError(
                f"cannot read --camera {mask_password(flag)!r}: expected NAME=URL, such as gate=rtsp://host/stream"
            )
        if name in cameras:
            raise ConfigError(f"two cameras are called {name!r}: give each a name of its own")
        cameras[name] = {"url": absolute(url, Path.cwd())}
    return cameras
