"""Commands that watch cameras."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from comemory.cli.application import app, leave_at_once
from comemory.cli.options import Json, RuntimeName, console, errors, print_json
from comemory.errors import mask_password
from comemory.screen import print_line

if TYPE_CHECKING:
    from comemory.stream.service import Service
    from comemory.stream.settings import LiveSettings

Cameras = Annotated[
    list[str] | None,
    typer.Option("--camera", metavar="NAME=URL", help="A camera, or a file as if it were one; repeatable."),
]
Config = Annotated[Path | None, typer.Option("--config", metavar="FILE.toml", help="Everything live in one file.")]
Model = Annotated[Path | None, typer.Option("--model", help="Bundle of the cameras that name none.")]
Alarms = Annotated[
    str | None,
    typer.Option(
        "--false-alarms", metavar="N/UNIT", help="False alarms to be expected of each camera.", show_default="1/day"
    ),
]
Store = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="URL", help="Where events are kept.", show_default="sqlite, in OUT; `none` for files alone"
    ),
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder of everything that is written.", show_default="live")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, such as health.stalled_s=10; repeatable."),
]


def live_settings(
    config: Path | None,
    cameras: Sequence[str] | None,
    model: Path | None,
    false_alarms: str | None,
    store: str | None,
    out: Path | None,
    settings: Sequence[str] | None,
    runtime: str | None = None,
) -> LiveSettings:
    """The settings that the options of a live command come to.

    Raises:
        ConfigError: they do not fit.
    """
    from comemory.errors import ConfigError
    from comemory.stream.service import camera_flags
    from comemory.stream.settings import read_live

    given: dict[str, Any] = {"cameras": camera_flags(cameras or ())}
    if model is not None:
        given["model"] = str(model.absolute())
    if out is not None:
        given["out"] = str(out.absolute())
    if runtime is not None:
        given["runtime"] = runtime
    if store is not None:
        given["store"] = {"enabled": False} if store == "none" else {"url": store}
    read = read_live(config, given, settings or ())
    if not read.cameras:
        raise ConfigError("there is no camera: give --camera NAME=URL, or [cameras.NAME] in the file of --config")
    if false_alarms is not None:
        override = {"cameras": {name: {"false_alarms": false_alarms} for name in read.cameras}}
        read = read_live(config, _merged(given, override), settings or ())
    return read


@app.command()
def watch(
    cameras: Cameras = None,
    model: Model = None,
    config: Config = None,
    false_alarms: Alarms = None,
    store: Store = None,
    out: Out = None,
    settings: Settings = None,
    runtime: Annotated[
        RuntimeName | None, typer.Option(help="What executes the network.", show_default="openvino")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, metavar="SECONDS", help="Stop after that time.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Log JSON lines.")] = False,
) -> None:
    """Watch cameras until SIGTERM or Ctrl-C: events go to `events.jsonl`, the store and the alerts.

    SIGHUP reads the file of `--config` again. Files as if live end it when all of them are over.

    Example: `comemory watch --camera gate=rtsp://gate.lan/stream --model models/gate --false-alarms 1/day`
    """
    from comemory.stream.service import Service

    def read() -> LiveSettings:
        return live_settings(config, cameras, model, false_alarms, store, out, settings, runtime and runtime.value)

    log = Log(as_json)
    with Service(read(), read, lambda line: log.line("reload", line)) as service, logged(service, log):
        log.line("start", f"{len(service.engine.settings.cameras)} cameras, {service.engine.workers} workers")
        service.run(seconds)
    log.line("stop", "stopped")
    leave_at_once()


class Log:
    """What happens, line by line on stderr: for people, or as JSON."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def line(self, what: str, text: str, **more: Any) -> None:
        """One line."""
        from datetime import UTC, datetime

        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        text = mask_password(text)
        if self.as_json:
            print(json.dumps({"time": at, "what": what, "text": text, **more}), file=sys.stderr, flush=True)
        else:
            print_line(errors, f"{at[11:19]} {what:<6} {text}")

    def message(self, message: dict[str, Any]) -> None:
        """One message of the engine, where it is one for a log."""
        camera = message.get("camera", "")
        if message["kind"] == "state":
            self.line(
                "state",
                f"{camera}: {message['state']} {message['message']}".rstrip(),
                camera=camera,
                state=message["state"],
            )
        elif message["kind"] == "event" and message["change"] != "update":
            event = message["event"]
            begun = message["change"] == "new"
            text = f"{camera}: {'event' if begun else 'over'}, peak score {event['peak_score']:.2f}"
            self.line(
                "event", text, camera=camera, change=message["change"], id=event["id"], peak_score=event["peak_score"]
            )
        elif message["kind"] in ("drift", "trouble") and message["message"]:
            self.line(message["kind"], f"{camera}: {message['message']}" if camera else message["message"])


@contextmanager
def logged(service: Service, log: Log) -> Iterator[None]:
    """Log what the engine tells, until the end of the block."""
    import queue

    ended = threading.Event()

    def follow(messages: Any) -> None:
        while not (ended.is_set() and messages.empty()):
            try:
                log.message(messages.get(timeout=0.2))
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


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _merged(merged.get(key) or {}, value) if isinstance(value, dict) else value
    return merged


@app.command()
def learn(
    camera: Annotated[str, typer.Argument(help="Name of the camera.", show_default=False)],
    cameras: Cameras = None,
    model: Model = None,
    config: Config = None,
    out: Out = None,
    settings: Settings = None,
    how_long: Annotated[str, typer.Option("--for", metavar="TIME", help="How long to record: 24h, 90m, 600s.")] = "24h",
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Keep the network and fit its calibration alone: minutes, not hours.")
    ] = False,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Go back to the bundle before, and record nothing.")
    ] = False,
) -> None:
    """Learn what is ordinary for a camera from the camera itself, and go over to it.

    Records samples, trains beside everything else at the lowest priority, and puts the new bundle in force; a running
    `comemory watch` or `serve` of the same folder goes over to it without a gap.

    Example: `comemory learn gate --config live.toml --for 24h`
    """
    from datetime import UTC, datetime

    from comemory.stream.learn import Recorder, recalibrated, train_apart
    from comemory.stream.models import CameraModels
    from comemory.stream.progress import Progress
    from comemory.train.recipe import read_recipe

    read = live_settings(config, cameras, model, None, None, out, settings)
    models, log = CameraModels(read, camera), Log(False)
    if rollback:
        log.line("learn", f"{camera} is back at {models.roll_back()}")
        return
    read = read.model_copy(
        update={"cameras": {camera: read.cameras[camera].model_copy(update={"model": models.current})}}
    )
    recorder = Recorder(read, camera, models.folder / "recorded" / "training")
    seconds = _seconds(how_long)
    with Progress(models.folder, camera) as progress:
        log.line("learn", f"{camera}: recording for {how_long}")
        progress.tell("recording", f"ordinary hours, {how_long}", seconds=seconds)
        data = recorder.run(seconds, lambda text: log.line("learn", text))
        place = models.folder / "models" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
        stage = "calibrating" if recalibrate else "training"
        log.line("learn", f"{camera}: {recorder.n_frames} frames recorded, {stage}")
        epochs = None if recalibrate else read_recipe(read.learn.preset).train.epochs
        run = place.with_name(f"{place.name}.run")
        progress.tell(stage, f"on {recorder.n_frames} frames", run=run, epochs=epochs)
        if recalibrate:
            made = recalibrated(models.current, data, place)
        else:
            told = read.learn
            made = train_apart(data.parent, place, told.preset, told.cpu_share, lambda text: log.line("learn", text))
        models.put(made)
    log.line("learn", f"{camera} goes over to {made}; comemory learn {camera} --rollback goes back")


@app.command()
def doctor(
    cameras: Cameras = None,
    model: Model = None,
    config: Config = None,
    store: Store = None,
    out: Out = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Check cameras, models, processor, disk, store, time and port, and say the cure of what is not well.

    Example: `comemory doctor --config live.toml`
    """
    from dataclasses import asdict

    from comemory.stream.doctor import examine

    checks = []
    for check in examine(live_settings(config, cameras, model, None, store, out, settings)):
        checks.append(check)
        if not as_json:
            sign = {True: "well", False: "ill ", None: "?   "}[check.well]
            print_line(console, f"{sign}  {check.what}: {check.found}" + (f"; {check.cure}" if check.cure else ""))
    if as_json:
        print_json([asdict(check) for check in checks])
    if any(check.well is False for check in checks):
        raise typer.Exit(1)


def _seconds(text: str) -> float:
    from comemory.errors import ConfigError

    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.replace(".", "", 1).isdigit() or not float(number) > 0:
        raise ConfigError(f"cannot read the time {text!r}: expected such as 24h, 90m or 600s")
    return float(number) * units[unit]
