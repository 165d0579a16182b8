"""Commands that score live cameras."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import LIVE, PlainCommand, app, exit_immediately, setting
from comemory.cli.live_options import LiveLog, LiveOptions, interrupted_by_sigterm, log_messages, with_live_options
from comemory.cli.options import ADVANCED, Json, console, print_json
from comemory.cli.terminal import count_of, print_line
from comemory.errors import ConfigError

if TYPE_CHECKING:
    from comemory.live.config import LiveSettings


@app.command(rich_help_panel=LIVE, cls=PlainCommand)
@with_live_options()
def watch(
    options: LiveOptions,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=setting("comemory.live.config:LiveSettings.runtime"),
            show_default="openvino",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--for", min=0.1, metavar="SECONDS", help="Stop after this time.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the log as JSON lines.")] = False,
) -> None:
    """Score cameras until Ctrl-C or SIGTERM; events go to `events.jsonl`, the event store and the alerts.

    SIGHUP makes it read the file of `--config` again. If all cameras are files, it stops at the end of the last one, with
    exit code 1 if one could not be read to its end.

    Example: `comemory watch --camera gate=rtsp://gate.lan/stream --model models/gate --false-alarms 1/day`
    """
    from comemory.live.service import Service

    def read() -> LiveSettings:
        return options.read(runtime)

    log = LiveLog(as_json)
    with (
        Service(read(), read, lambda line: log.write("reload", line), ends_process=True) as service,
        log_messages(service, log),
    ):
        cameras = count_of(len(service.engine.settings.cameras), "camera")
        log.write("start", f"{cameras}, {count_of(service.engine.workers, 'worker')}")
        for note in service.engine.start_notes:
            log.write("start", note)
        service.run(seconds)
        failed = service.engine.failed if service.engine.finished else []
    log.write("stop", f"not read and scored to the end: {', '.join(failed)}" if failed else "stopped")
    exit_immediately()
    if failed or service.n_unstored:
        raise typer.Exit(1)


@app.command(rich_help_panel=LIVE, cls=PlainCommand)
@with_live_options("false_alarms", "store", "device")
def learn(
    camera: Annotated[str, typer.Argument(metavar="CAMERA", help="Name of the camera.", show_default=False)],
    options: LiveOptions,
    how_long: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long to record, such as 24h, 90m or 600s.")
    ] = "24h",
    recalibrate: Annotated[
        bool,
        typer.Option("--recalibrate", help="Fit the calibration only and keep the network: minutes in place of hours."),
    ] = False,
    footage: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FOLDER",
            help="Train on the normal videos of a folder; record nothing.",
            show_default=False,
        ),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Return to the previous bundle; record nothing.")
    ] = False,
) -> None:
    """Train a model for a camera on its own video, and switch the camera to it.

    Records samples, trains at the lowest priority, and activates the new bundle. A running `comemory watch` or `serve`
    with the same output folder switches to it without a gap.

    Example: `comemory learn gate --config live.toml --for 24h`
    """
    from comemory.bundle import open_bundle
    from comemory.files import require_writable_folder
    from comemory.live.learning.learn import learn as learn_camera
    from comemory.live.learning.models import CameraModels
    from comemory.live.learning.progress import LearningProgress

    settings = options.read()
    require_writable_folder(settings.out)
    models, log = CameraModels(settings, camera), LiveLog(False)
    if rollback:
        log.write("learn", f"{camera} returns to {models.roll_back()}")
        return
    if footage is not None and recalibrate:
        raise ConfigError("--from trains a network: leave --recalibrate out")
    seconds = _parse_duration(how_long)
    own = settings.cameras[camera].model_copy(update={"model": models.current})
    settings = settings.model_copy(update={"cameras": {camera: own}})
    with interrupted_by_sigterm(), LearningProgress(models.folder, camera) as progress:
        log.write("learn", f"{camera}: {f'recording for {how_long}' if footage is None else f'training on {footage}'}")
        made = learn_camera(
            settings,
            camera,
            seconds,
            recalibrate=recalibrate,
            progress=progress,
            say=lambda text: log.write("learn", f"{camera}: {text}"),
            footage=footage,
        )
        models.activate(made)
    if caution := open_bundle(made).calibration.small_sample_note:
        log.write("learn", f"{camera}: {caution}")
    log.write(
        "learn", f"{camera} switches to {made}; comemory learn {camera} --rollback returns to the previous bundle"
    )


@app.command(rich_help_panel=LIVE, cls=PlainCommand)
@with_live_options("false_alarms")
def doctor(options: LiveOptions, as_json: Json = False) -> None:
    """Check cameras, models, processor, disk, event store, clock and port, with a hint for each problem.

    Example: `comemory doctor --config live.toml`
    """
    from dataclasses import asdict

    from comemory.live.doctor import run_checks

    checks = []
    for check in run_checks(options.read()):
        checks.append(check)
        if not as_json:
            sign = {True: "ok  ", False: "FAIL", None: "?   "}[check.ok]
            print_line(console, f"{sign}  {check.name}: {check.found}" + (f"; {check.hint}" if check.hint else ""))
    if as_json:
        print_json([asdict(check) for check in checks])
    if any(check.ok is False for check in checks):
        raise typer.Exit(1)


def _parse_duration(text: str) -> float:

    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = text[:-1], text[-1:]
    is_number = number.isascii() and number.replace(".", "", 1).isdigit()
    if unit not in units or not is_number or not 0 < float(number) < math.inf:
        raise ConfigError(f"cannot read the time {text!r}: expected a number and a unit, such as 24h, 90m or 600s")
    return float(number) * units[unit]
