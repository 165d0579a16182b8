"""Watching cameras, with a page to look at."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import LIVE, app, exit_immediately
from comemory.cli.live_options import LiveLog, LiveOptions, log_messages, with_live_options
from comemory.cli.options import console, error_console
from comemory.cli.terminal import print_line
from comemory.errors import ConfigError

if TYPE_CHECKING:
    from comemory.live.config import LiveSettings
    from comemory.server.auth import Access

ACCESS_FILE, ENDED_FILE = "access.json", "ended.json"


@app.command(rich_help_panel=LIVE)
@with_live_options()
def serve(
    told: LiveOptions,
    host: Annotated[
        str | None,
        typer.Option(help="Where the page listens; beyond this machine it needs a password.", show_default="127.0.0.1"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Its port; 0 takes a free one.", show_default="8710")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Log JSON lines.")] = False,
    set_password: Annotated[
        bool, typer.Option("--set-password", help="Ask for the page's password, keep its hash in OUT, and leave.")
    ] = False,
    add_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print a new token for the API, and leave.", show_default=False)
    ] = None,
    remove_token: Annotated[
        str | None, typer.Option(metavar="NAME", help="Forget a token, and leave.", show_default=False)
    ] = None,
) -> None:
    """Watch cameras as `comemory watch` does, with a page to look at and an API.

    Example: `comemory serve --camera gate=rtsp://user:pass@host/stream --model models/gate --false-alarms 1/day`
    """
    if set_password or add_token is not None or remove_token is not None:
        _change_access(told.folder() / ACCESS_FILE, set_password, add_token, remove_token)
        return

    def read() -> LiveSettings:
        live = told.read()
        given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        return live.model_copy(update={"web": live.web.model_copy(update=given)})

    _serve(read(), read, LiveLog(as_json))


def _serve(live: LiveSettings, reread: Callable[[], LiveSettings], log: LiveLog) -> None:
    from comemory.live.learning.progress import learning
    from comemory.live.service import Service
    from comemory.server.app import create_app
    from comemory.server.serve import names_of, require_password, serving

    access = _open_access(live)
    require_password(live.web, access.required)
    with Service(live, reread, lambda line: log.write("reload", line), ends_process=True) as service:
        page = create_app(
            service.engine, service.store, access, hosts=names_of(live.web), learning=lambda: learning(live.out)
        )
        with serving(page, live.web, service.end) as address, log_messages(service, log):
            log.write("start", f"{len(live.cameras)} cameras, {service.engine.workers} workers")
            print_line(console, f"the page is at {address}")
            sys.stdout.flush()
            service.run(until_finished=False)
    log.write("stop", "stopped")
    exit_immediately()


def _open_access(live: LiveSettings) -> Access:
    from comemory.secret_values import reveal
    from comemory.server.auth import Access
    from comemory.server.auth_file import read_secrets

    web = live.web
    return Access(
        read_secrets(live.out / ACCESS_FILE),
        session_hours=web.session_hours,
        password=web.password and reveal(web.password, "the page's password"),
        token=web.token and reveal(web.token, "the API's token"),
        ended=live.out / ENDED_FILE,
    )


def _change_access(file: Path, password: bool, added: str | None, removed: str | None) -> None:
    from comemory.server import auth_file as access_file

    if password:
        access_file.set_password(file, _ask_password())
        print_line(console, f"the password's hash is kept in {file}; who was logged in must log in again")
    if removed is not None:
        access_file.remove_token(file, removed)
        print_line(console, f"the token {removed} is forgotten")
    if added is not None:
        token = access_file.add_token(file, added)
        print_line(error_console, f"its hash is kept in {file}; the token itself is shown this once:")
        print(token)
    print_line(error_console, "a server that runs takes this when it begins anew")


def _ask_password() -> str:
    """The password, twice from a terminal, once from a pipe."""
    if sys.stdin.isatty():
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    try:
        return sys.stdin.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError("the password on standard input is not text in UTF-8: give it so") from None
