"""A complete live system: store, alerts, engine, retention, signals."""

from __future__ import annotations

import faulthandler
import math
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from comemory.errors import ComemoryError, ConfigError, mask_password
from comemory.files import require_writable_folder
from comemory.live.config import LiveSettings, absolute
from comemory.live.engine import Engine
from comemory.live.monitoring.memory_use import limit_malloc_arenas
from comemory.live.systemd import notify, watchdog_interval_s

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

    from comemory.alerts.config import SinkSettings
    from comemory.alerts.dispatcher import Dispatcher
    from comemory.alerts.sink import CameraCommand, Sink
    from comemory.live.config.settings_file import SettingsFile
    from comemory.store.sites import Sites
    from comemory.store.store import EventStore

SWEEP_INTERVAL_S = 600.0
OVERLOAD_INTERVAL_S = 10.0
STOP_S = 4.5
"""Shutdown budget: the promised 5 s less 0.5 s for the process to exit."""
ENGINE_S = 2.7
"""Part of the shutdown budget for cameras, events and clips; the rest is for alerts and the store."""
HARD_END_S = 4.9
"""Seconds after which the process is killed, whatever hangs."""
HARD_END_NOTE_S = 0.3
"""Seconds before that at which one line says so: a busy machine may take a moment to write it."""
HANG_REPORT = "hung.txt"
"""File in OUT with the stack of each thread when that happened."""


NO_FILE = "the settings cannot be changed here: start comemory serve with --config FILE.toml; the file may be empty"


class Service:
    """A running system: `with Service(settings) as service: service.run()`.

    Attributes:
        engine: the running engine.
        store: the event store; None if the settings switch it off.
        dispatcher: sends the alerts; None without a store.
        on_command: called for each command that came through a sink, with why it failed, or an empty text.
        settings_file: changed by `change_settings`; None where there is none, or it is not to be changed.

    Args:
        reload_settings: reads the settings again, for SIGHUP; None ignores SIGHUP.
        on_reload: called with one line for each change of a reload, or with why it failed.
        ends_process: the process ends with the service: `HARD_END_S` after its end was asked for at the latest.
        sites: media folders of other services that share the database. Their events are listed too, and cameras that
            are not enabled run there, so that they are not announced here.

    Raises:
        ComemoryError: on entering, if a part of it cannot be used.
    """

    def __init__(
        self,
        settings: LiveSettings,
        reload_settings: Callable[[], LiveSettings] | None = None,
        on_reload: Callable[[str], None] = lambda line: None,
        *,
        ends_process: bool = False,
        settings_file: SettingsFile | None = None,
        sites: Sites | None = None,
    ) -> None:
        self._sites = sites
        self.settings, self.settings_file = settings, settings_file
        self.store: EventStore | None = None
        self.dispatcher: Dispatcher | None = None
        self._reload_settings, self._on_reload, self._ends_process = reload_settings, on_reload, ends_process
        self._stack = ExitStack()
        self._n_unstored = 0
        self._end_requested = threading.Event()
        self._has_ended = threading.Event()
        self._deadline: float | None = None
        self._reload_requested = threading.Event()
        self._change_lock = threading.Lock()
        self._commands: queue.SimpleQueue[CameraCommand] = queue.SimpleQueue()
        self.on_command: Callable[[CameraCommand, str], None] = lambda command, error: None

    def __enter__(self) -> Service:
        limit_malloc_arenas()
        self._require_urls(self.settings)
        require_writable_folder(self.settings.out)
        try:
            with ExitStack() as stack:
                stack.enter_context(self.signals())
                self.store = self._open_store(stack)
                self.dispatcher = self._open_alerts(stack)
                self.engine = Engine(self.settings, self.store, self.dispatcher)
                self.engine.start()
                stack.callback(self._stop_and_count)
                self._stack = stack.pop_all()
        except BaseException:
            faulthandler.cancel_dump_traceback_later()  # nothing of the service is left that could hang
            self._has_ended.set()
            self._remove_empty_report()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._has_ended.set()
        self._remove_empty_report()

    def _remove_empty_report(self) -> None:
        if self._ends_process:
            with suppress(OSError):
                report = self.settings.out / HANG_REPORT
                if not report.stat().st_size:
                    report.unlink()

    @property
    def n_unstored(self) -> int:
        """Changes that could not be stored; after the end, they wait for the next start."""
        return self._n_unstored

    def stop_engine(self) -> None:
        """Stop the cameras and store their events; alerts and store go on until the end of the block."""
        self.engine.stop(self._left(STOP_S - ENGINE_S))

    def _stop_and_count(self) -> None:
        self.engine.stop(self._left(0.5))
        self._n_unstored = self.engine.event_writer.n_unstored
        if self._n_unstored:
            self._on_reload(
                f"{self._n_unstored} changes could not be stored ({self.engine.event_writer.error or 'no time left'}): they "
                f"wait in {self.settings.media} and are stored at the next start"
            )

    def end(self) -> None:
        """End `run`; everything must have ended `STOP_S` from now."""
        if self._deadline is None:
            notify("STOPPING=1")
            self._deadline = time.monotonic() + STOP_S
            if self._ends_process:
                self._limit_the_end()
        self._end_requested.set()

    def run(self, seconds: float | None = None, *, until_finished: bool = True) -> None:
        """Run until SIGTERM, SIGINT, `end`, the time is up, or every camera was a file that has ended.

        Args:
            seconds: None sets no limit.
            until_finished: whether the end of all files ends it.
        """
        end = None if seconds is None else time.monotonic() + seconds
        swept = checked = time.monotonic()
        interval_s = watchdog_interval_s()
        reported = -math.inf
        notify("READY=1")
        while not self._end_requested.wait(0.1):
            if interval_s is not None and time.monotonic() - reported >= interval_s and self.engine.is_alive:
                reported = time.monotonic()
                notify("WATCHDOG=1")
            if end is not None and time.monotonic() >= end:
                return
            if until_finished and self.engine.finished:
                return
            self._obey_commands()
            if time.monotonic() - checked >= OVERLOAD_INTERVAL_S:
                checked = time.monotonic()
                self._report_overload()
            if self._reload_requested.is_set():
                self._reload_requested.clear()
                threading.Thread(target=self.reload, name="reload", daemon=True).start()
            if time.monotonic() - swept >= SWEEP_INTERVAL_S:
                swept = time.monotonic()
                threading.Thread(target=self.sweep, name="sweep", daemon=True).start()

    def _obey_commands(self) -> None:
        """Pause and snooze cameras as was asked for through the sinks."""
        while not self._commands.empty():
            command, error = self._commands.get(), ""
            by = f"alerts.{command.sink}"
            until = None if command.minutes is None else datetime.now(UTC) + timedelta(minutes=command.minutes)
            try:
                if command.action == "pause" and command.minutes != 0:
                    self.engine.pause(command.camera, until, by)
                elif command.action == "pause":
                    self.engine.resume(command.camera)
                elif command.minutes and until is not None:
                    self.engine.snooze(command.camera, until, by)
                else:
                    self.engine.end_snooze(command.camera)
            except ComemoryError as failure:
                error = str(failure)
                self._on_reload(f"{by}: {command.action} of {command.camera} failed: {error}")
            self.on_command(command, error)

    def _report_overload(self) -> None:
        """Send a system alert where this machine is too slow for its cameras, and another one when it no longer is."""
        if self.dispatcher is not None:
            names = ", ".join(self.engine.overloaded)
            self.dispatcher.report(
                "overload", f"this machine is too slow: frames of {names} are dropped unscored" if names else ""
            )

    def reload(self) -> bool:
        """Read the settings again and apply them; if they are invalid, report it, keep the present ones and return False."""
        if self._reload_settings is None:
            return False
        try:
            with self._change_lock:
                self._apply(self._reload_settings())
        except ComemoryError as error:
            self._on_reload(f"the settings have not changed: {error}")
            return False
        return True

    def _require_urls(self, settings: LiveSettings) -> None:
        """Refuse a camera whose URL is not known. In a fleet it is down, because it may be known on other nodes."""
        if self._sites is None:
            settings.require_urls()

    def _announced(self, settings: LiveSettings) -> list[str]:
        """The cameras that sinks announce."""
        return [name for name, camera in settings.cameras.items() if camera.enabled or self._sites is None]

    def change_settings(self, edit: Callable[[TOMLDocument], None], check: Callable[[LiveSettings], None]) -> None:
        """Change the settings file and apply it, without a restart.

        Args:
            edit: changes the file's document.
            check: raises a ConfigError where the settings that follow are not what was wanted.

        Raises:
            ConfigError: there is no settings file, it cannot be written, or the new settings are not valid.
            ComemoryError: they cannot be applied; nothing has changed then.
        """
        if self.settings_file is None:
            raise ConfigError(NO_FILE)

        def apply(settings: LiveSettings) -> None:
            check(settings)
            self._apply(settings)

        with self._change_lock:
            self.settings_file.change(edit, apply)

    def _apply(self, settings: LiveSettings) -> None:
        self._require_urls(settings)
        before = self.engine.settings.alerts
        changed = {name: sink for name, sink in settings.alerts.items() if before.get(name) != sink}
        removed = sorted(before.keys() - settings.alerts.keys())
        sinks = self._open_sinks(changed)
        lines = self.engine.reload(settings)
        if self.dispatcher is not None:
            if sinks or removed:
                self.dispatcher.set_sinks(sinks, removed)
                lines += [f"alerts.{name}: {'changed' if name in before else 'added'}" for name in changed]
                lines += [f"alerts.{name}: removed" for name in removed]
            self.dispatcher.set_cameras(self._announced(self.engine.settings))
        for line in lines or ["nothing changed"]:
            self._on_reload(line)

    def _open_sinks(self, alerts: Mapping[str, SinkSettings]) -> list[Sink]:
        from comemory.alerts.sink import open_sink

        return [open_sink(name, sink) for name, sink in alerts.items()] if self.store is not None else []

    def sweep(self) -> None:
        """Delete what the retention settings do not allow to be stored any longer."""
        retention = self.engine.settings.retention
        self.engine.event_writer.expire_lines(datetime.now(UTC) - timedelta(days=retention.days))
        if self.store is None:
            return
        try:
            swept = self.store.sweep(
                datetime.now(UTC), retention.days, int(retention.max_gb * 1e9), int(retention.min_free_gb * 1e9)
            )
            if self.dispatcher is not None:
                is_full = "the media folder exceeds its quota, or the disk is nearly full, with nothing left to delete"
                self.dispatcher.report("disk", is_full if swept.over_quota else "")
        except (ComemoryError, OSError) as error:
            self._on_reload(f"old events were not deleted: {error}")
        self.engine.event_writer.upload()

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Handle signals within the block: SIGTERM and SIGINT end the service, SIGHUP reloads its settings.

        A second signal does not interrupt an end that is under way. Only the main thread can handle signals; in other
        threads this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def end(number: int, frame: FrameType | None) -> None:
            self.end()

        def reload(number: int, frame: FrameType | None) -> None:
            self._reload_requested.set()

        handlers = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: reload}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _left(self, reserved_s: float = 0.0) -> float:
        """Seconds left of the shutdown budget, less `reserved_s` for what follows; the first call starts it."""
        self.end()
        return max(0.1, (self._deadline or 0.0) - reserved_s - time.monotonic())

    def _limit_the_end(self) -> None:
        """Let faulthandler's thread kill the process: it needs no lock, not even that of the interpreter."""
        try:
            with (self.settings.out / HANG_REPORT).open("a", encoding="utf-8") as file:
                report = os.dup(file.fileno())
        except OSError:
            report = sys.__stderr__.fileno() if sys.__stderr__ is not None else 2
        faulthandler.dump_traceback_later(HARD_END_S, exit=True, file=report)
        threading.Thread(target=self._announce_hard_end, name="hard-end", daemon=True).start()

    def _announce_hard_end(self) -> None:
        """Say what is left, unless the end comes before the process is killed."""
        if self._has_ended.wait(max(0.0, HARD_END_S - HARD_END_NOTE_S)):
            return
        engine = getattr(self, "engine", None)  # the end may be asked for during the start
        n_unstored = 0 if engine is None else engine.event_writer.n_unstored
        left = f"{n_unstored} changes wait in {self.settings.media} and are stored at the next start"
        self._on_reload(
            f"the service does not end: it is killed, and {self.settings.out / HANG_REPORT} says where it hangs; "
            + (left if n_unstored else "no change waits to be stored")
        )

    def _open_store(self, stack: ExitStack) -> EventStore | None:
        if not self.settings.store.enabled:
            return None
        from comemory.store.store import EventStore

        return stack.enter_context(
            EventStore.open(
                self.settings.store_url,
                self.settings.media,
                may_be_away=True,
                sites=self._sites,
                media_url=self.settings.store.media_url,
            )
        )

    def _open_alerts(self, stack: ExitStack) -> Dispatcher | None:
        if self.store is None:
            return None
        from comemory.alerts.dispatcher import Dispatcher

        sinks = self._open_sinks(self.settings.alerts)
        dispatcher = Dispatcher(self.store, sinks, self._announced(self.settings))
        dispatcher.on_command = self._commands.put
        dispatcher.start()
        stack.callback(lambda: dispatcher.stop(self._left()))
        return dispatcher


def camera_flags(flags: Sequence[str]) -> dict[str, dict[str, str]]:
    """Parse `NAME=URL` flags into camera settings.

    Raises:
        ConfigError: a flag is not such a pair, or two have the same name.

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
            raise ConfigError(f"two cameras have the name {name!r}: give each its own name")
        cameras[name] = {"url": absolute(url, Path.cwd())}
    return cameras
