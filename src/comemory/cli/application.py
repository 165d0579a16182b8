"""The application that the commands join, and how it is left."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from comemory.cli.options import error_console
from comemory.cli.terminal import print_line
from comemory.errors import ComemoryError, ConfigError, mask_password
from comemory.provenance import package_version

START, LIVE, MODELS, RESEARCH = "Footage", "Cameras", "Bundles", "Research"
"""Panels of the help."""

ORDER = ("demo", "train", "score", "doctor", "watch", "serve", "learn", "info", "export", "evaluate", "reproduce")
"""Commands in the order in which one comes to need them; others follow."""


class OrderedGroup(TyperGroup):
    """Commands in `ORDER`, however their modules are imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, for the help."""
        names = super().list_commands(ctx)
        return sorted(names, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))


app = typer.Typer(
    name="comemory",
    cls=OrderedGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

INTERRUPTED = 130
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_exit_now = threading.Event()

EXTRAS = {
    **dict.fromkeys(("sqlalchemy", "alembic", "paho", "tzdata"), "live"),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "argon2", "itsdangerous", "prometheus_client"), "web"),
    **dict.fromkeys(("torch", "lightning_fabric", "safetensors", "onnx", "onnxscript", "matplotlib"), "train"),
}
"""The extra that brings each optional package."""

ClickException: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer raises on a command line it cannot read; typer does not give it a public name."""


def _print_version(asked: bool) -> None:
    if asked:
        print(f"comemory {package_version('comemory') or 'unknown'}")
        raise typer.Exit()


@app.callback()
def comemory(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Learn what is normal in front of a fixed camera, and see what is not.

    Example: `comemory score models/gate gate.mp4 --video`
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 1 for what failed, 2 for what was asked wrongly."""
    _fill_closed_streams()
    given = sys.argv[1:] if arguments is None else list(arguments)
    code = _run(lambda: app(given, prog_name="comemory", standalone_mode=False))
    if arguments is None and _exit_now.is_set():
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def exit_immediately() -> None:
    """Let the process end as soon as the command has, for all that is to be kept is stored.

    A thread may still wait for a camera that sends nothing, and the libraries take seconds on a busy machine to give
    back, piece by piece, what the end of the process gives back at once.
    """
    _exit_now.set()


def _fill_closed_streams() -> None:
    """Put nothing in the place of a standard stream that is closed: the next file opened would stand there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _run(call: Callable[[], object]) -> int:
    """Call, say in one line what went wrong, and give the exit code."""
    try:
        code = call()
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            return _fail_to_print(error)
    except ComemoryError as error:
        return _print_error(str(error), 2 if isinstance(error, ConfigError) else 1)
    except ClickException as error:
        return _print_error(_usage_message(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return 1
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
            return _fail_to_print(error)
        package = (getattr(error, "name", None) or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and package in EXTRAS:
            return _print_error(
                f"this needs {package}, which is not installed: pip install 'comemory[{EXTRAS[package]}]'", 1
            )
        if os.environ.get("COMEMORY_DEBUG"):
            raise
        fault = " ".join(f"{type(error).__name__}: {error}".split())
        return _print_error(
            f"{fault}; this is a fault of comemory: set COMEMORY_DEBUG=1 to see where, and report it", 1
        )
    if code == INTERRUPTED:
        return _print_error("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _fail_to_print(error: OSError) -> int:
    _discard_output()
    return _print_error(f"cannot write to standard output or to a file: {error.strerror or error}", 1)


def _discard_output() -> None:
    """Let what is still to be printed go nowhere, so that the end of the process does not fail at it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(message: str, code: int) -> int:
    if message:
        print_line(error_console, f"error: {mask_password(message)}", style="red")
    return code


def _usage_message(error: Any) -> str:
    """What is wrong with the command line, in one line, and where the help is; nothing when that is the help itself."""
    said = " ".join(error.format_message().replace("Value error, ", "").split())
    context = getattr(error, "ctx", None)
    if not said or context is None:
        return said
    return f"{said[0].lower()}{said[1:].rstrip('.')}; see {context.command_path} --help"
