"""What the live commands share: their options and their log."""

from __future__ import annotations

import inspect
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from comemory.cli.application import setting
from comemory.cli.options import ADVANCED, error_console
from comemory.cli.terminal import print_line
from comemory.errors import ConfigError, mask_password

if TYPE_CHECKING:
    from comemory.live.config import LiveSettings
    from comemory.live.service import Service


@dataclass(frozen=True)
class LiveOptions:
    """The options of a live command."""

    cameras: Annotated[
        list[str] | None,
        typer.Option("--camera", metavar="NAME=URL", help="A camera by name, or a file to play as one; repeatable."),
    ] = None
    model: Annotated[
        Path | None,
        typer.Option("--model", metavar="BUNDLE", help=setting("comemory.live.config:LiveSettings.model")),
    ] = None
    config: Annotated[
        Path | None, typer.Option("--config", metavar="FILE.toml", help="File with all settings of the live system.")
    ] = None
    false_alarms: Annotated[
        str | None,
        typer.Option(
            "--false-alarms",
            metavar="N/UNIT",
            help=setting("comemory.live.config:CameraSettings.false_alarms"),
            show_default=False,
        ),
    ] = None
    store: Annotated[
        str | None,
        typer.Option(
            "--store",
            metavar="URL",
            help=setting("comemory.live.config:StoreSettings.url", "`none` keeps events in `events.jsonl` only."),
            show_default="SQLite, events.db in the folder of --out",
            rich_help_panel=ADVANCED,
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FOLDER", help=setting("comemory.live.config:LiveSettings.out"), show_default="live"
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help=setting("comemory.live.config:LiveSettings.device"),
            show_default="CPU",
            rich_help_panel=ADVANCED,
        ),
    ] = None
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override one setting, such as health.stalled_s=10; repeatable."
        ),
    ] = None

    def read(
        self, runtime: str | None = None, config: Path | None = None, *, may_be_empty: bool = False
    ) -> LiveSettings:
        """The live settings: those of the file, with the options laid over them.

        Args:
            runtime: what executes the network.
            config: another file than that of `--config`.
            may_be_empty: whether no camera is allowed.

        Raises:
            ConfigError: a setting is not valid, or there is no camera.
        """
        from comemory.live.config import absolute_path, read_live
        from comemory.live.service import camera_flags

        given: dict[str, Any] = {"cameras": camera_flags(self.cameras or ())}
        if self.model is not None:
            given["model"] = absolute_path(self.model, Path.cwd())
        if self.out is not None:
            given["out"] = absolute_path(self.out, Path.cwd())
        if runtime is not None:
            given["runtime"] = runtime
        if self.device is not None:
            given["device"] = self.device
        if self.store is not None:
            given["store"] = {"enabled": False} if self.store == "none" else {"url": self.store}
        file = config or self.config
        read = read_live(file, given, self.settings or ())
        if not (read.cameras or may_be_empty):
            raise ConfigError("there is no camera: give --camera NAME=URL, or [cameras.NAME] in the file of --config")
        if self.false_alarms is not None:
            for name in read.cameras:
                given["cameras"].setdefault(name, {})["false_alarms"] = self.false_alarms
            read = read_live(file, given, self.settings or ())
        return read

    def to_arguments(self) -> list[str]:
        """The options with which `comemory learn` reads the same settings."""
        pairs: list[tuple[str, object]] = [("--camera", camera) for camera in self.cameras or ()]
        pairs += [("--model", self.model), ("--config", self.config), ("--out", self.out)]
        pairs += [("--set", setting) for setting in self.settings or ()]
        return [str(part) for flag, value in pairs if value is not None for part in (flag, value)]

    def folder(self) -> Path:
        """The output folder, for what needs no camera."""
        from comemory.live.config import read_live

        return self.out if self.out is not None else read_live(self.config, {}, self.settings or ()).out


def with_live_options(*left_out: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the parameter `options` of a command by the options of `LiveOptions`.

    Args:
        left_out: options that the command does not have.
    """
    hints = get_type_hints(LiveOptions, include_extras=True)
    shared = [
        inspect.Parameter(one.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=hints[one.name])
        for one in fields(LiveOptions)
        if one.name not in left_out
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)

        def call(**given: Any) -> None:
            options = LiveOptions(**{one.name: given.pop(one.name) for one in shared})
            with private_files():
                command(options=options, **given)

        parameters: list[inspect.Parameter] = []
        for one in signature.parameters.values():
            parameters += shared if one.name == "options" else [one]
        call.__name__, call.__doc__ = command.__name__, command.__doc__
        call.__annotations__ = {one.name: one.annotation for one in parameters}
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    return decorate


@contextmanager
def private_files() -> Iterator[None]:
    """Files written in the block are readable by their owner only: recordings, scores and settings show what a camera saw."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


class _LastResort(logging.Handler):
    """Writes the records that no other handler takes into the log; Python's own prints them as bare text."""

    def __init__(self, log: LiveLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry."""
        self._log.write(record.levelname.lower(), self.format(record))


class LiveLog:
    """The log of a live command, one line an entry on standard error, as text or as JSON.

    It also takes what loggers say, of this package and of others.

    Attributes:
        is_stuck: nothing reads the output any more, such as a full pipe; no more lines are written.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self.is_stuck = False
        logging.lastResort = _LastResort(self)

    def write(self, what: str, text: str, **more: Any) -> None:
        """Write one entry."""
        if self.is_stuck:
            return
        from datetime import UTC, datetime

        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = mask_password(text)
        if self.as_json:
            print(json.dumps({"time": at, "what": what, "text": text, **more}), file=sys.stderr, flush=True)
        else:
            print_line(error_console, f"{at[11:19]} {what:<6} {text}")

    def write_message(self, message: dict[str, Any]) -> None:
        """Write an entry for a message of the engine, if it belongs in a log."""
        camera = message.get("camera", "")
        if message["kind"] == "state":
            text = ": ".join(part for part in (camera, message["state"], message["message"]) if part)
            self.write("state", text, camera=camera, state=message["state"])
        elif message["kind"] == "event" and message["change"] != "update":
            event = message["event"]
            begun = message["change"] == "new"
            text = f"{camera}: {'event' if begun else 'over'}, peak score {event['peak_score']:.2f}"
            text += f", {event['label']}" if event.get("label") else ""
            self.write(
                "event", text, camera=camera, change=message["change"], id=event["id"], peak_score=event["peak_score"]
            )
        elif message["kind"] in ("drift", "model", "warning") and message["message"]:
            self.write(message["kind"], f"{camera}: {message['message']}" if camera else message["message"])


@contextmanager
def log_messages(service: Service, log: LiveLog) -> Iterator[None]:
    """Log the messages of the engine until the end of the block."""
    ended = threading.Event()

    def follow(messages: queue.Queue[dict[str, Any]]) -> None:
        while not (ended.is_set() and messages.empty()):
            try:
                log.write_message(messages.get(timeout=0.2))
            except queue.Empty:
                continue

    with service.engine.subscribe() as messages:
        thread = threading.Thread(target=follow, args=(messages,), name="log", daemon=True)
        thread.start()
        try:
            yield
        finally:
            service.stop_engine()
            ended.set()
            thread.join(0.3)
            log.is_stuck = thread.is_alive()


@contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """End a command on SIGTERM as on Ctrl-C, with its cleaning up."""

    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
