"""Commands that watch cameras."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import LIVE, app, exit_immediately
from comemory.cli.live_options import LiveLog, LiveOptions, interrupted_by_sigterm, log_messages, with_live_options
from comemory.cli.options import Json, RuntimeName, console, print_json
from comemory.cli.terminal import print_line

if TYPE_CHECKING:
    from comemory.live.config import LiveSettings


@app.command(rich_help_panel=LIVE)
@with_live_options()
def watch(
    told: LiveOptions,
    runtime: Annotated[
        RuntimeName | None, typer.Option(help="What executes the network.", show_default="openvino")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, metavar="SECONDS", help="Stop after that time.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Log JSON lines.")] = False,
) -> None:
    """Watch cameras until SIGTERM or Ctrl-C: events go to `events.jsonl`, the store and the alerts.

    SIGHUP reads the file of `--config` again. Files as if live end it when all of them are over, with exit code 1 where
    one could not be read to its end.

    Example: `comemory watch --camera gate=rtsp://gate.lan/stream --model models/gate --false-alarms 1/day`
    """
    from comemory.live.service import Service

    def read() -> LiveSettings:
        return told.read(runtime and runtime.value)

    log = LiveLog(as_json)
    watching = Service(read(), read, lambda line: log.write("reload", line), ends_process=True)
    with watching as service, log_messages(service, log):
        log.write("start", f"{len(service.engine.settings.cameras)} cameras, {service.engine.workers} workers")
        service.run(seconds)
        failed = service.engine.failed if service.engine.finished else []
    log.write("stop", f"could not be read and scored to the end: {', '.join(failed)}" if failed else "stopped")
    exit_immediately()
    if failed:
        raise typer.Exit(1)


@app.command(rich_help_panel=LIVE)
@with_live_options("false_alarms", "store")
def learn(
    camera: Annotated[str, typer.Argument(help="Name of the camera.", show_default=False)],
    told: LiveOptions,
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
    from comemory.bundle import open_bundle
    from comemory.live.learning.learn import learned
    from comemory.live.learning.models import CameraModels
    from comemory.live.learning.progress import Progress

    read = told.read()
    models, log = CameraModels(read, camera), LiveLog(False)
    if rollback:
        log.write("learn", f"{camera} is back at {models.roll_back()}")
        return
    seconds = _parse_duration(how_long)
    one = read.cameras[camera].model_copy(update={"model": models.current})
    read = read.model_copy(update={"cameras": {camera: one}})
    with interrupted_by_sigterm(), Progress(models.folder, camera) as progress:
        log.write("learn", f"{camera}: recording for {how_long}")
        made = learned(
            read,
            camera,
            seconds,
            recalibrate=recalibrate,
            progress=progress,
            say=lambda text: log.write("learn", f"{camera}: {text}"),
        )
        models.put(made)
    if caution := open_bundle(made).calibration.caution:
        log.write("learn", f"{camera}: {caution}")
    log.write("learn", f"{camera} goes over to {made}; comemory learn {camera} --rollback goes back")


@app.command(rich_help_panel=LIVE)
@with_live_options("false_alarms")
def doctor(told: LiveOptions, as_json: Json = False) -> None:
    """Check cameras, models, processor, disk, store, time and port, and say the cure of what is not well.

    Example: `comemory doctor --config live.toml`
    """
    from dataclasses import asdict

    from comemory.live.doctor import examine

    checks = []
    for check in examine(told.read()):
        checks.append(check)
        if not as_json:
            sign = {True: "well", False: "ill ", None: "?   "}[check.well]
            print_line(console, f"{sign}  {check.what}: {check.found}" + (f"; {check.cure}" if check.cure else ""))
    if as_json:
        print_json([asdict(check) for check in checks])
    if any(check.well is False for check in checks):
        raise typer.Exit(1)


def _parse_duration(text: str) -> float:
    from comemory.errors import ConfigError

    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = text[:-1], text[-1:]
    is_number = number.isascii() and number.replace(".", "", 1).isdigit()
    if unit not in units or not is_number or not 0 < float(number) < math.inf:
        raise ConfigError(f"cannot read the time {text!r}: expected such as 24h, 90m or 600s")
    return float(number) * units[unit]
