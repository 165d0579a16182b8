"""Commands on the event store: check it, adopt files that it does not know, back it up, restore a backup."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import LIVE, OrderedGroup, PlainCommand, app, setting
from comemory.cli.live_options import private_files
from comemory.cli.options import Json, console, print_json, report_problems
from comemory.cli.terminal import count_of, print_line
from comemory.errors import ConfigError, SourceError
from comemory.files import read_json_list, read_json_object, refuse_url, write_bytes, write_text

if TYPE_CHECKING:
    from comemory.store.store import EventStore

Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FOLDER", help=setting("comemory.live.config:LiveSettings.out"), show_default="live"),
]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.toml", help="File with the settings of the live system.")
]
Url = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="URL",
        help=setting("comemory.live.config:StoreSettings.url"),
        show_default="SQLite, events.db in the folder of --out",
    ),
]
_SHOWN = 10
_SERVICE, _CAMERAS, _MODELS = "service", "cameras", "models"
BESIDE = ("access.json", "ended.json", "audit.jsonl", "overrides.json", "pauses.json", "verdicts.json")
"""Files of the service beside the database: passwords, tokens and ended sessions, who did what, zones, budgets, pauses."""

store_app = typer.Typer(
    cls=OrderedGroup,
    help="Check, back up and repair the event store.\n\nExample: `comemory store check --out live`",
    no_args_is_help=True,
)
app.add_typer(store_app, name="store", rich_help_panel=LIVE)


@store_app.command("check", cls=PlainCommand)
def check(out: Out = None, config: Config = None, url: Url = None, as_json: Json = False) -> None:
    """Compare the database with the media folder, and name the files that are only in one of them. Changes nothing.

    The service may run meanwhile. The exit code is 1 if there is a difference.

    Example: `comemory store check --out live`
    """
    with _open(out, config, url, shared=True) as store:
        counts, mismatch, damage = store.counts(), store.compare(), store.check_database()
        aside = [str(path.relative_to(store.media)) for path in store.quarantined()]
    problems = [f"the database is damaged: {line}" for line in damage]
    problems += _named("file without an event", mismatch.unknown)
    problems += _named("file that is missing", [f"{id} {kind}" for id, kind in mismatch.missing])
    problems += _named("file in the quarantine", aside)
    if as_json:
        print_json(
            {
                "events": counts.events,
                "files": counts.files,
                "bytes": counts.bytes,
                "unknown": list(mismatch.unknown),
                "missing": [list(pair) for pair in mismatch.missing],
                "quarantined": aside,
                "damage": damage,
            }
        )
    else:
        print_line(console, f"{counts.events} events with {counts.files} files in {store.url} and {store.media}")
        if mismatch.unknown or aside:
            print_line(console, "comemory store adopt adds files with a sidecar to the database")
    report_problems(problems)


@store_app.command("adopt", cls=PlainCommand)
def adopt(out: Out = None, config: Config = None, url: Url = None, as_json: Json = False) -> None:
    """Add files that the database does not know, and those in the quarantine, to it, from the sidecar of each event.

    Stop the service first.

    Example: `comemory store adopt --out live`
    """
    with _open(out, config, url) as store:
        adopted = store.adopt()
    if as_json:
        print_json({"events": adopted.events, "files": adopted.files, "left": list(adopted.left)})
    else:
        print_line(console, f"{adopted.events} events and {adopted.files} files were added to {store.url}")
    report_problems(_named("file without a sidecar, left where it is", adopted.left))


@store_app.command("backup", cls=PlainCommand)
def backup(
    target: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.", show_default=False)],
    out: Out = None,
    config: Config = None,
    url: Url = None,
) -> None:
    """Copy all events and their files into a new folder, with settings, passwords, zones and models. The service may run.

    Example: `comemory store backup /backup/2026-11-28 --out live`
    """
    refuse_url(target)
    with _open(out, config, url, shared=True) as store:
        copied = store.back_up(target)
        _copy_beside(_out(out, config), target / _SERVICE)
        _copy_models(_out(out, config), target / _SERVICE)
        if config is not None:
            write_bytes(target / _SERVICE / "live.toml", _read(config), private=True)
    print_line(
        console, f"{copied.events} events and {copied.files} files ({copied.bytes / 1e6:.1f} MB) are in {target}"
    )
    if copied.in_object_store:
        print_line(console, f"{count_of(copied.in_object_store, 'file')} are in the object store only, and stay there")
    report_problems([f"{copied.missing} files were missing and are not in the backup"] if copied.missing else [])


@store_app.command("restore", cls=PlainCommand)
def restore(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="A backup.", show_default=False)],
    out: Out = None,
    config: Config = None,
    url: Url = None,
) -> None:
    """Copy a backup into an empty store, of any kind of database, and its passwords and zones where there are none yet.

    Example: `comemory store restore /backup/2026-11-28 --out live`
    """
    with _open(out, config, url) as store:
        copied = store.restore(source)
        left = _copy_beside(source / _SERVICE, _out(out, config))
        _copy_models(source / _SERVICE, _out(out, config))
    print_line(console, f"{copied.events} events and {copied.files} files were restored into {store.url}")
    problems = [f"{path} was there before, and is not replaced" for path in left]
    problems += _find_models(_out(out, config))
    report_problems(problems + ([f"{copied.missing} files are not in the backup"] if copied.missing else []))


def _out(out: Path | None, config: Path | None) -> Path:
    """The output folder."""
    from comemory.live.config import read_live

    return read_live(config, {} if out is None else {"out": str(out)}).out


def _copy_beside(source: Path, target: Path) -> list[Path]:
    """Copy the files of the service that lie beside the database, readable by their owner alone; those that were there.

    Raises:
        SourceError: one cannot be read or written.
    """
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    left: list[Path] = []
    for name in BESIDE:
        path = target / name
        if not (source / name).exists():
            continue
        content = _read(source / name)
        if not path.exists():
            write_bytes(path, content, private=True)
        elif path.read_bytes() != content:
            left.append(path)
    return left


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror or error}") from None


def _copy_models(source: Path, target: Path) -> None:
    """Copy the bundles that were trained for the cameras, and their order, where there are none yet.

    Raises:
        SourceError: one cannot be read or written.
    """
    import shutil

    for order in sorted(source.glob(f"{_CAMERAS}/*/models.json")):
        camera = target / _CAMERAS / order.parent.name
        if (camera / order.name).exists():
            continue
        try:
            for bundle in sorted(order.parent.glob(f"{_MODELS}/*/manifest.json")):
                shutil.copytree(bundle.parent, camera / _MODELS / bundle.parent.name, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise SourceError(f"cannot copy the models of {order.parent.name}: {error}") from None
        write_bytes(camera / order.name, _read(order))


def _find_models(out: Path) -> list[str]:
    """Let restored cameras use their restored models; where one was not restored, that of the settings.

    Paths of models are absolute. Those of another output folder become those of this one.
    """
    from comemory.live.config.overrides import Overrides

    problems = []
    for camera, values in read_json_object(out / "overrides.json").items():
        change = values.get("model") if isinstance(values, dict) else None
        if not isinstance(change, dict) or change.get("now") is None:
            continue
        now, folder = Path(change["now"]), out.absolute() / _CAMERAS / camera
        found = folder / _MODELS / now.name
        if now != found and now.parts[-4:] == found.parts[-4:] and found.exists():
            order = [str(folder / _MODELS / Path(path).name) for path in read_json_list(folder / "models.json")]
            write_text(folder / "models.json", json.dumps(order, indent=1) + "\n")
            Overrides(out).set(camera, "model", change.get("was"), str(found))
        elif not now.exists():
            Overrides(out).forget(camera, ["model"])
            problems.append(f"the model {change['now']} of {camera} is not here: the one of the settings is used")
    return problems


@contextmanager
def _open(out: Path | None, config: Path | None, url: str | None, *, shared: bool = False) -> Iterator[EventStore]:
    """Open the store that the settings name; with `shared`, a running service may have it open too."""
    from comemory.live.config import read_live
    from comemory.store.store import EventStore

    values = {"out": None if out is None else str(out), "store": {"url": url} if url else None}
    live = read_live(config, {key: value for key, value in values.items() if value is not None})
    if shared and not live.media.is_dir():
        raise ConfigError(f"there is no store in {live.out}: {live.media} is not a folder; set --out or --config")
    with (
        private_files(),
        EventStore.open(live.store_url, live.media, shared=shared, media_url=live.store.media_url) as store,
    ):
        yield store


def _named(what: str, names: tuple[str, ...] | list[str]) -> list[str]:
    """One problem a name, and one for the number of the rest."""
    rest = len(names) - _SHOWN
    return [f"{what}: {name}" for name in names[:_SHOWN]] + ([f"{what}: {rest} more"] if rest > 0 else [])
