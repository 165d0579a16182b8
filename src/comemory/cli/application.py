"""The application that the commands are added to, its help, and its exit codes."""

from __future__ import annotations

import errno
import importlib
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from comemory.cli.options import error_console
from comemory.cli.terminal import print_line, replace_unencodable
from comemory.errors import ComemoryError, ConfigError, TemporaryError, install_hint, mask_password, plain_reason

START, LIVE, MODELS, RESEARCH = "Start here", "Live", "Models", "Research"
"""Panels of the commands in `comemory --help`, in the order in which a user needs them."""

ORDER = (
    *("demo", "data", "train", "score", "query"),
    *("doctor", "watch", "serve", "learn", "store"),
    *("info", "export"),
    *("evaluate", "reproduce", "bench"),
)
"""The commands in the order of the help, panel by panel."""

_SETTING = re.compile(r"setting:(?P<module>[\w.]+):(?P<path>[\w.]+)(?P<more>.*)", re.DOTALL)
_TYPE_NAMES = {"str": "TEXT", "int": "N", "float": "NUMBER", "path": "PATH"}


def setting(path: str, more: str = "") -> str:
    """The help text of an option that sets a field of the settings: the field's description, and `more` after it.

    The description is looked up when a help is shown, because importing the settings takes longer than printing a help.

    Args:
        path: `module:Class.field`, such as `comemory.live.config:WebSettings.port`.
        more: text after the description.
    """
    return f"setting:{path}{' ' if more else ''}{more}"


def resolve_help(text: str) -> str:
    """The help text that `setting` stands for; other texts unchanged."""
    found = _SETTING.fullmatch(text)
    if not found:
        return text
    owner, _, field = found["path"].rpartition(".")
    described = getattr(importlib.import_module(found["module"]), owner).model_fields[field].description
    return f"{described or ''}{found['more']}"


def _type_text(param: Any, context: Any) -> str:
    """The type of a parameter as the help shows it: nothing for an argument or a flag, a plain word for the rest."""
    if param.param_type_name == "argument" or getattr(param, "is_bool_flag", False):
        return ""
    if param.metavar is not None:
        return str(param.metavar)
    name = str(param.display_type(context)).strip("<>").removesuffix(" range")
    return _TYPE_NAMES.get(name, name)


class _PlainHelp:
    """Shows flags as flags and types as plain words, and takes help texts from the settings."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help page."""
        for param in self.get_params(ctx):  # type: ignore[attr-defined]
            text = _type_text(param, ctx)
            param.display_type_rich = lambda ctx, text=text: text
            param.help = resolve_help(getattr(param, "help", None) or "")
        super().format_help(ctx, formatter)  # type: ignore[misc]


class PlainCommand(_PlainHelp, TyperCommand):
    """A command with a readable help."""


class OrderedGroup(_PlainHelp, TyperGroup):
    """A group of commands that lists those of `ORDER` in that order, then the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, for the help."""
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
TEMPORARY = 75
"""Exit code of a failure that another try may not have: EX_TEMPFAIL of sysexits.h, which job schedulers know."""
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_exit_now = threading.Event()

EXTRAS = {
    **dict.fromkeys(("sqlalchemy", "alembic", "paho", "tzdata"), "live"),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "argon2", "itsdangerous", "prometheus_client"), "web"),
    **dict.fromkeys(("torch", "lightning_fabric", "safetensors", "onnx", "onnxscript"), "train"),
    **dict.fromkeys(("jinja2", "markupsafe", "matplotlib"), "report"),
}
"""The extra that installs each optional package."""

ClickException: type[Exception] = typer.BadParameter.__mro__[2]
"""What typer raises for a usage error; typer has no public name for it."""


def _print_version(wanted: bool) -> None:
    if wanted:
        from comemory.provenance import package_version

        print(f"comemory {package_version('comemory') or 'unknown'}")
        raise typer.Exit()


@app.callback()
def comemory(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Video anomaly detection for fixed cameras: learn what is normal, report what is not.

    Example: `comemory score models/gate gate.mp4 --video`
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 for success, 1 for a failure or bad input, 2 for a usage error.

    A setting that is not valid is a usage error. Where some of several inputs are bad, the rest is done, each bad one
    is named, and the exit code is 1. The code is 75 for a failure that may pass, such as an object store that does not
    answer: the same command may succeed later.
    """
    _fill_closed_streams()
    replace_unencodable()
    given = sys.argv[1:] if arguments is None else list(arguments)
    code = _run(lambda: app(given, prog_name="comemory", standalone_mode=False))
    if arguments is None and _exit_now.is_set():
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def exit_immediately() -> None:
    """Let the process end as soon as the command returns, without waiting for its threads.

    Call this when everything is stored. A thread may still wait for a camera that sends nothing, and the libraries take
    seconds on a busy machine to free what the end of the process frees at once.
    """
    _exit_now.set()


def _fill_closed_streams() -> None:
    """Replace each standard stream that is closed by /dev/null: otherwise the next file opened would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def _run(call: Callable[[], object]) -> int:
    """Call, print an error in one line, and return the exit code."""
    try:
        code = call()
        try:
            sys.stdout.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            return _output_failed(error)
    except ComemoryError as error:
        return _print_error(str(error), _code_of(error))
    except ClickException as error:
        return _print_error(_usage_message(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        _discard_output()
        return 1
    except Exception as error:  # a user never sees a traceback
        if os.environ.get("COMEMORY_DEBUG"):
            raise
        return _unexpected(error)
    if code == INTERRUPTED:
        return _print_error("interrupted", INTERRUPTED)
    return code if isinstance(code, int) else 0


def _code_of(error: ComemoryError) -> int:
    if isinstance(error, TemporaryError):
        return TEMPORARY
    return 2 if isinstance(error, ConfigError) else 1


def _unexpected(error: Exception) -> int:
    """Print an error that comemory did not raise itself, in one line, and return the exit code."""
    if isinstance(error, OSError) and error.errno in _NO_ROOM and error.filename is None:
        return _output_failed(error)
    package = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and package in EXTRAS:
        return _print_error(f"this needs {package}, which is not installed: {install_hint(EXTRAS[package])}", 1)
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return _print_error(f"{text}; this is a bug in comemory: set COMEMORY_DEBUG=1 for the traceback, and report it", 1)


def _output_failed(error: OSError) -> int:
    _discard_output()
    return _print_error(f"cannot write to standard output or to a file: {error.strerror or error}", 1)


def _discard_output() -> None:
    """Discard further output, so that flushing it at the end of the process does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(message: str, code: int) -> int:
    if message:
        print_line(error_console, f"error: {mask_password(message)}", style="red")
    return code


def _usage_message(error: Any) -> str:
    """What is wrong with the command line, in one line, and where the help is; empty where the help was printed."""
    message = plain_reason(error.format_message())
    context = getattr(error, "ctx", None)
    if not message or context is None:
        return message
    return f"{message[0].lower()}{message[1:].rstrip('.')}; see {context.command_path} --help"
