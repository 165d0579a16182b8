"""The command that scores live cameras and serves the web page."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import LIVE, PlainCommand, app, exit_immediately, setting
from comemory.cli.live_options import LiveLog, LiveOptions, log_messages, with_live_options
from comemory.cli.options import console, error_console
from comemory.cli.terminal import count_of, print_line
from comemory.errors import ConfigError

if TYPE_CHECKING:
    from comemory.live.config import LiveSettings
    from comemory.server.auth import Auth

ACCESS_FILE, ENDED_FILE, AUDIT_FILE = "access.json", "ended.json", "audit.jsonl"


class RoleName(Enum):
    """`server.auth_file.ROLES`, named here so that a help needs no server."""

    viewer = "viewer"
    operator = "operator"
    admin = "admin"


@app.command(rich_help_panel=LIVE, cls=PlainCommand)
@with_live_options()
def serve(
    options: LiveOptions,
    host: Annotated[
        str | None,
        typer.Option(help=setting("comemory.live.config:WebSettings.host"), show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help=setting("comemory.live.config:WebSettings.port"), show_default="8710"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write the log as JSON lines.")] = False,
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Spread the cameras over the nodes of a Ray cluster: `auto` or `ray://HOST:PORT`. `local:N` runs N groups "
            "on this machine. They go on when this command ends.",
            show_default=False,
        ),
    ] = None,
    stop: Annotated[
        bool, typer.Option("--stop", help="End the cameras of `--cluster` on all nodes, and exit.")
    ] = False,
    set_password: Annotated[
        bool,
        typer.Option("--set-password", help="Set the password of the page: ask for it, store its hash, and exit."),
    ] = False,
    add_token: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Create a token for the API, print it, and exit.", show_default=False),
    ] = None,
    remove_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Remove a token, and exit.", show_default=False)
    ] = None,
    role: Annotated[
        RoleName, typer.Option(help="Role of the password or token that is set: what its owner may do.")
    ] = RoleName.admin,
) -> None:
    """Score cameras as `comemory watch` does, and serve a web page and an API.

    Example: `comemory serve --camera gate=rtsp://user:pass@host/stream --model models/gate --false-alarms 1/day`
    """
    if set_password or add_token is not None or remove_token is not None:
        _change_access(options.folder() / ACCESS_FILE, set_password, add_token, remove_token, role)
        return

    def read(config: Path | None = None) -> LiveSettings:
        live = options.read(config=config, may_be_empty=options.config is not None)
        given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        return live.model_copy(update={"web": live.web.model_copy(update=given)})

    if stop or cluster is not None:
        from comemory.cli.fleet import serve_fleet, stop_fleet

        if cluster is None:
            raise ConfigError("--stop ends the cameras of a cluster: give --cluster too")
        if stop:
            stop_fleet(read())
        else:
            serve_fleet(cluster, options.config, read, _open_auth, LiveLog(as_json))
        return
    _serve(options, read, LiveLog(as_json))


def _serve(options: LiveOptions, read: Callable[[Path | None], LiveSettings], log: LiveLog) -> None:
    from comemory.live.config.settings_file import SettingsFile
    from comemory.live.learning.progress import read_progress
    from comemory.live.learning.trainer import Trainer
    from comemory.live.service import Service
    from comemory.server.app import create_app
    from comemory.server.audit import AuditLog
    from comemory.server.serve import allowed_hosts, proxy_of, require_password, serving

    live = read(None)
    auth = _open_auth(live)
    require_password(live.web, auth.is_required)
    audit, trainer = AuditLog(live.out / AUDIT_FILE), Trainer(live.out, options.to_arguments())
    file = None if options.config is None else SettingsFile(options.config, read)
    with Service(
        live, lambda: read(None), lambda line: log.write("reload", line), ends_process=True, settings_file=file
    ) as service:
        page = create_app(
            service.engine,
            service.store,
            auth,
            hosts=allowed_hosts(live.web),
            learning=lambda: read_progress(live.out),
            proxy=proxy_of(live.web),
            audit=audit,
            service=service,
            trainer=trainer,
        )
        service.on_command = lambda command, error: audit.write(
            command.action, f"alerts.{command.sink}", "mqtt", command.camera, error or command.minutes
        )
        with serving(page, live.web, service.end) as address, log_messages(service, log):
            cameras = count_of(len(live.cameras), "camera")
            log.write("start", f"{cameras}, {count_of(service.engine.workers, 'worker')}")
            for note in service.engine.start_notes:
                log.write("start", note)
            print_line(console, f"the page is at {address}")
            sys.stdout.flush()
            try:
                service.run(until_finished=False)
            finally:
                trainer.close()
    log.write("stop", "stopped")
    exit_immediately()
    if service.n_unstored:
        raise typer.Exit(1)


def _open_auth(live: LiveSettings) -> Auth:
    from comemory.secret_values import resolve_secret
    from comemory.server.auth import Auth

    web = live.web
    return Auth(
        live.out / ACCESS_FILE,
        session_hours=web.session_hours,
        password=web.password and resolve_secret(web.password, "the page's password"),
        token=web.token and resolve_secret(web.token, "the API's token"),
        ended=live.out / ENDED_FILE,
        proxy_role=web.proxy_role,
    )


def _change_access(file: Path, password: bool, added: str | None, removed: str | None, role: RoleName) -> None:
    from comemory.server import auth_file as access_file

    known_role = next(known for known in access_file.ROLES if known == role.value)
    if password:
        access_file.set_password(file, _ask_password(), known_role)
        note = "; the page asks everybody for a password now, and only one of the role admin gives all rights"
        others = "" if known_role == "admin" else note
        print_line(
            console,
            f"stored the hash of the password in {file}; all users of the role {role.value} must log in again{others}",
        )
    if removed is not None:
        access_file.remove_token(file, removed)
        print_line(console, f"removed the token {removed}")
    if added is not None:
        token = access_file.add_token(file, added, known_role)
        print_line(error_console, f"stored the hash of the token in {file}; the token itself is shown only now:")
        print(token)
    print_line(error_console, "a running server uses this at once")


def _ask_password() -> str:
    """Read the password: twice from a terminal, once from a pipe."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        return sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError("the password on standard input is not in UTF-8") from None
