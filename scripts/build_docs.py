"""Generate the reference pages from the code, and build the documentation site strictly.

    python scripts/build_docs.py [FOLDER]

The reference (`docs/reference/generated/`) has a page for every command, every setting, every registry and the Python API.
It is written into a copy of `docs/`, so nothing generated lies in the repository. The build fails on any warning: a dead
link, a missing page, a docstring that names a parameter that does not exist.
"""

from __future__ import annotations

import importlib
import inspect
import re
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

ROOT = Path(__file__).resolve().parents[1]

SETTINGS = {
    "Training": (
        "comemory.training.config:TrainingConfig",
        "`comemory train --config FILE.toml --set KEY=VALUE`",
        "train.epochs=10",
    ),
    "Live": (
        "comemory.live.config:LiveSettings",
        "`comemory watch`, `serve` and `learn`, `--config FILE.toml --set KEY=VALUE`",
        "health.stalled_s=10",
    ),
}
"""Title of a page of settings: the model, where its keys are used, and an example of one."""

API = {
    "Sources and frames": ("comemory.types", "comemory.video.source", "comemory.video.writer"),
    "Clips and optical flow": (
        "comemory.clips.config",
        "comemory.clips.preparation",
        "comemory.clips.builder",
        "comemory.flow",
    ),
    "Network": (
        "comemory.models.comemory",
        "comemory.models.memory",
        "comemory.models.layers",
        "comemory.models.losses",
        "comemory.models.evidence",
    ),
    "Scoring": (
        "comemory.scoring.channels",
        "comemory.scoring.spatial_baseline",
        "comemory.scoring.directional",
        "comemory.scoring.objects",
        "comemory.scoring.normal_objects",
        "comemory.scoring.weights",
        "comemory.scoring.tail",
        "comemory.scoring.calibration",
        "comemory.scoring.budgets",
        "comemory.scoring.scorer",
        "comemory.scoring.heatmap",
        "comemory.scoring.events",
    ),
    "Bundles": ("comemory.bundle.bundle", "comemory.bundle.writer", "comemory.bundle.precision"),
    "Training": ("comemory.training.train", "comemory.training.calibrate"),
    "Data sets": ("comemory.datasets",),
    "Metrics": (
        "comemory.metrics.frame",
        "comemory.metrics.alarm",
        "comemory.metrics.pixel",
        "comemory.metrics.region",
        "comemory.metrics.bootstrap",
        "comemory.metrics.normalise",
    ),
    "Evaluation": ("comemory.evaluation.evaluate", "comemory.evaluation.motion_baseline"),
    "Events and alerts": ("comemory.store.store", "comemory.store.event", "comemory.alerts.sink"),
    "Errors": ("comemory.errors",),
}
"""Title of a page of the Python API: the modules on it."""


def load(place: str) -> Any:
    """The object at `module:attribute`."""
    module, attribute = place.split(":")
    return getattr(importlib.import_module(module), attribute)


def one_line(text: str | None) -> str:
    """Text for a cell of a Markdown table."""
    return " ".join((text or "").split()).replace("|", "\\|")


# ---------------------------------------------------------------- commands


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the command line with its words, in the order of `--help`."""
    if hasattr(command, "commands"):
        for name in command.list_commands(None):
            yield from commands(command.commands[name], (*path, name))
    else:
        yield path, command


def command_page() -> str:
    """The page of all commands."""
    from comemory.cli import app
    from comemory.cli.application import resolve_help

    lines = [
        "# Command line",
        "",
        "Generated from `comemory --help`. Exit codes: 0 done, 1 failed (one line says why), 2 a usage error.",
        "",
    ]
    for path, command in commands(typer.main.get_command(app)):
        lines += [f"## comemory {' '.join(path)}", "", inspect.cleandoc(command.help or ""), ""]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [
            one for one in command.params if one.param_type_name == "option" and not getattr(one, "hidden", False)
        ]
        usage = " ".join(
            [*(f"{(one.metavar or one.name).strip('{}')}" for one in arguments), *(["[OPTIONS]"] if options else [])]
        )
        lines += ["```text", f"comemory {' '.join(path)} {usage}".rstrip(), "```", ""]
        if arguments:
            lines += ["| argument | description |", "|---|---|"]
            lines += [
                f"| `{(one.metavar or one.name).strip('{}')}` | {one_line(resolve_help(getattr(one, 'help', None) or ''))} |"
                for one in arguments
            ]
            lines += [""]
        for panel in dict.fromkeys(getattr(one, "rich_help_panel", None) for one in options):
            listed = [one for one in options if getattr(one, "rich_help_panel", None) == panel]
            lines += [*([f"**{panel}**", ""] if panel else []), "| option | default | description |", "|---|---|---|"]
            lines += [
                f"| {option_name(one)} | {option_default(one)} | {one_line(resolve_help(one.help or ''))} |"
                for one in listed
            ]
            lines += [""]
    return "\n".join(lines)


def option_name(option: Any) -> str:
    """The flags of an option and what it takes."""
    names = "`, `".join([*option.opts, *option.secondary_opts])
    takes = (
        "" if option.is_flag else f" {one_line(option.metavar or kind_of_option(option.type_descriptor.annotation))}"
    )
    return f"`{names}{takes}`"


def kind_of_option(kind: Any) -> str:
    """What an option takes, in one word."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "/".join(str(one.value) for one in kind)
    if get_origin(kind) is Literal:
        return "/".join(map(str, get_args(kind)))
    inner = [one for one in get_args(kind) if one is not type(None)]
    names = {str: "TEXT", int: "N", float: "NUMBER", Path: "PATH"}
    return kind_of_option(inner[0]) if inner else names.get(kind, getattr(kind, "__name__", str(kind)).upper())


def option_default(option: Any) -> str:
    """The default of an option as `--help` shows it."""
    if isinstance(option.show_default, str):
        return option.show_default
    default = option.default() if callable(option.default) else option.default
    if option.required:
        return "required"
    return "" if default in (None, False, (), []) else f"`{getattr(default, 'value', default)}`"


# ---------------------------------------------------------------- settings


def is_model(kind: Any) -> bool:
    """Whether a type is a group of settings."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def kind_of(annotation: Any) -> str:
    """A type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(inner[0])
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in inner)
    if origin in (Union, types.UnionType):
        return " or ".join("nothing" if one is type(None) else kind_of(one) for one in inner)
    if origin in (tuple, list):
        return f"list of {kind_of(inner[0])}"
    if origin in (dict, Mapping):
        return f"table of {kind_of(inner[1])}"
    names = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def limits_of(field: Any) -> str:
    """The limits of a field, such as `at least 1`."""
    words = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "multiple of"}
    found = [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in words.items()
        if getattr(rule, name, None) is not None
    ]
    return ", ".join(found)


def groups_in(annotation: Any) -> Iterator[tuple[str, type[BaseModel]]]:
    """The groups of settings in a type, with what stands between their keys and the field's."""
    if is_model(annotation):
        yield "", annotation
    elif get_origin(annotation) in (dict, Mapping):
        for _, model in groups_in(get_args(annotation)[1]):
            yield ".NAME", model
    elif get_origin(annotation) in (tuple, list, Union, types.UnionType):
        for one in get_args(annotation):
            for _, model in groups_in(one):
                yield "[]" if get_origin(annotation) in (tuple, list) else "", model


def tables_of(model: type[BaseModel], key: str) -> Iterator[str]:
    """The tables of a group of settings and the groups inside it."""
    plain = {name: field for name, field in model.model_fields.items() if not list(groups_in(field.annotation))}
    if plain:
        yield f"## `{key}`\n" if key else "## Top level\n"
        if model.__doc__:
            yield inspect.cleandoc(model.__doc__).split("\nAttributes:")[0].strip() + "\n"
        yield "| key | type | default | description |\n|---|---|---|---|"
        for name, field in plain.items():
            yield setting_row(name, field, field.description)
        yield ""
    for name, field in model.model_fields.items():
        for between, inner in groups_in(field.annotation):
            yield from tables_of(inner, f"{key}.{name}{between}" if key else f"{name}{between}")


def setting_row(name: str, field: Any, description: str | None) -> str:
    """The row of a setting."""
    default = "required" if field.is_required() else default_of(field)
    kind = kind_of(field.annotation) + (f"; {limits_of(field)}" if limits_of(field) else "")
    return f"| `{name}` | {one_line(kind)} | {default} | {one_line(description)} |"


def default_of(field: Any) -> str:
    """The default of a field as TOML would have it."""
    default = field.get_default(call_default_factory=True)
    if default is None or default is PydanticUndefined:
        return "–"
    if default == {}:
        return "empty"
    if isinstance(default, tuple | list):
        return ", ".join(f"`{one}`" for one in default) or "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def settings_page(title: str, place: str, used: str, example: str) -> str:
    """A page of settings."""
    how = f"With `--set` a key follows the name of its group: `{example}`."
    head = f"# {title} settings\n\nGenerated from the code. Used by {used}. `–` means not set. {how}"
    lines = [head, "", *tables_of(load(place), "")]
    if title == "Training":
        lines += network_tables()
    if title == "Live":
        lines += sink_tables()
    return "\n".join(lines)


def sink_tables() -> Iterator[str]:
    """The settings of each kind of alert sink, without those that it shares with all kinds."""
    from comemory.alerts import SINKS
    from comemory.alerts.config import SinkSettings, sink_settings_class

    for kind in SINKS:
        sink = sink_settings_class(kind)
        yield f'## `alerts.NAME` with `kind = "{kind}"`\n'
        yield f"{inspect.cleandoc(sink.__doc__ or '')}\n"
        yield "| key | type | default | description |\n|---|---|---|---|"
        for name, field in sink.model_fields.items():
            shared = SinkSettings.model_fields.get(name)
            if name != "kind" and (shared is None or default_of(shared) != default_of(field)):
                description = field.description if shared is None else shared.description
                yield setting_row(name, field, description)
        yield ""


def network_tables() -> Iterator[str]:
    """The settings of the network of each model."""
    from comemory.models import MODELS
    from comemory.training.config import model_settings_class

    for model in MODELS:
        yield f"## `network` of the model `{model}`\n"
        yield from list(tables_of(model_settings_class(model), "network"))[1:]


# ---------------------------------------------------------------- registries and API


def registry_page() -> str:
    """What can be named: models, data sets, flows, runtimes, alert sinks, score channels, presets."""
    from comemory.alerts import SINKS
    from comemory.datasets import DATASETS
    from comemory.flow import FLOWS
    from comemory.models import MODELS
    from comemory.runtimes import RUNTIMES
    from comemory.scoring import STATISTICS
    from comemory.training.config import PRESETS

    lines = [
        "# Names",
        "",
        "What a command line, a config file or a bundle may name. To add one: one file and one line.",
        "",
    ]
    registries: dict[str, Mapping[str, Any]] = {
        "Data sets": DATASETS,
        "Optical flow": FLOWS,
        "Models": MODELS,
        "Runtimes": RUNTIMES,
        "Alert sinks": SINKS,
    }
    for title, registry in registries.items():
        lines += [f"## {title}", "", "| name | what |", "|---|---|"]
        for name in registry:
            lines.append(f"| `{name}` | {one_line(first_sentence(load(str(registry[name]))))} |")
        lines.append("")
    lines += [
        "## Score channels",
        "",
        "`STATISTIC:PATCH`, with the side of the patch in pixels.",
        "",
        "| statistic | what |",
        "|---|---|",
    ]
    lines += [f"| `{name}` | {one_line(str(what))} |" for name, what in STATISTICS.items()]
    lines += ["", "## Training presets", "", ", ".join(f"`{name}`" for name in PRESETS), ""]
    return "\n".join(lines)


def first_sentence(thing: Any) -> str:
    """The first sentence of a docstring."""
    return re.split(r"(?<=\.)\s", inspect.cleandoc(thing.__doc__ or ""))[0]


def api_page(title: str, modules: tuple[str, ...]) -> str:
    """A page of the Python API, from the docstrings."""
    return f"# {title}\n\n" + "\n\n".join(f"::: {module}" for module in modules) + "\n"


def public_page() -> str:
    """The names that `from comemory import …` gives."""
    import comemory

    lines = [
        "# from comemory import …",
        "",
        "The stable names. They are loaded when they are first used, so `import comemory` is light.",
        "",
    ]
    for name in comemory.__all__:
        thing = getattr(comemory, name)
        lines += [f"::: {thing.__module__}.{name}", ""]
    return "\n".join(lines)


def generate(folder: Path) -> dict[str, Path]:
    """Write every generated page into `folder`; gives title and path in the order of the navigation."""
    pages = {"Command line": ("cli.md", command_page())}
    for title, settings in SETTINGS.items():
        pages[f"{title} settings"] = (f"settings-{title.lower()}.md", settings_page(title, *settings))
    pages["Names"] = ("names.md", registry_page())
    pages["from comemory import …"] = ("python.md", public_page())
    for title, modules in API.items():
        pages[title] = (f"api-{title.lower().replace(' ', '-')}.md", api_page(title, modules))
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for title, (name, text) in pages.items():
        written[title] = folder / name
        written[title].write_text(text.rstrip() + "\n", encoding="utf-8")
    return written


def build(site: Path) -> list[str]:
    """Build the site; gives the warnings, none where all is well."""
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        shutil.copytree(ROOT / "docs", work / "docs")
        shutil.copy(ROOT / "CHANGELOG.md", work / "docs" / "changelog.md")
        generate(work / "docs" / "reference" / "generated")
        config = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").replace("paths: [src]", f"paths: [{ROOT / 'src'}]")
        config = config.replace("[scripts/doctests_as_code.py]", f"[{ROOT / 'scripts' / 'doctests_as_code.py'}]")
        (work / "mkdocs.yml").write_text(config, encoding="utf-8")
        tool = Path(sys.executable).with_name("zensical")
        done = subprocess.run([tool, "build", "--strict"], cwd=work, capture_output=True, text=True, check=False)
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
        warnings = [
            line
            for line in said.splitlines()
            if re.match(r"(\d+)?griffe:|Warning:|Error:|[1-9]\d* issues? found", line)
        ]
        if done.returncode or warnings:
            return [said]
        shutil.rmtree(site, ignore_errors=True)
        shutil.move(str(work / "site"), site)
    return []


def main() -> int:
    """Build into the folder that the command line names."""
    site = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    if warnings := build(site.resolve()):
        print("\n".join(warnings), file=sys.stderr)
        return 1
    print(f"{site}/index.html")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
