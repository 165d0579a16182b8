"""The documentation speaks of what is there: functions, links, options, settings, statistics, members."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from comemory.bundle import MANIFEST, OPTIONAL, REQUIRED
from comemory.cli import app
from comemory.datasets import DATASETS, open_dataset
from comemory.datasets.recorded import RecordedDataset
from comemory.datasets.scene.settings import SceneSettings
from comemory.flow import FLOWS
from comemory.runtimes import RUNTIMES
from comemory.scoring import STATISTICS, DecisionSettings, parse_budget
from comemory.training.config import PRESETS, read_recipe

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "comemory"
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted(ROOT.glob("*.md"))]
GROUPS = ("data", "bench")
LONGEST = 120


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced code blocks of a language."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL):
        if match[1] == language:
            yield match[2]


def commands() -> list[tuple[str, str]]:
    """Every `comemory …` line of the pages' shell blocks, with the name of its page."""
    found = []
    for page in PAGES:
        for language in ("", "console", "sh", "bash"):
            lines = "".join(blocks(page, language)).replace("\\\n", " ").splitlines()
            found += [(page.name, line.removeprefix("$ ")) for line in lines if re.match(r"(\$ )?comemory ", line)]
    return found


@cache
def help_of(*command: str) -> str:
    done = CliRunner().invoke(app, [*command, "--help"])
    assert done.exit_code == 0, f"comemory {' '.join(command)} --help fails: {done.output}"
    return done.output


def split(line: str) -> tuple[tuple[str, ...], list[str]]:
    """The command of a line, and its arguments."""
    words = shlex.split(line, comments=True)[1:]
    n_words = 2 if words and words[0] in GROUPS else 1
    return tuple(words[:n_words]), words[n_words:]


def resolve(name: str) -> Any:
    """What a dotted name in comemory stands for."""
    parts = name.split(".")
    for n_parts in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:n_parts]))
        except ModuleNotFoundError as error:
            if name.startswith(f"{error.name}.") or name == error.name:
                continue
            raise
        for attribute in parts[n_parts:]:
            found = getattr(found, attribute)
        return found
    raise AssertionError(f"no module in {name}")


def dotted_names(page: Path) -> list[str]:
    return sorted(set(re.findall(r"`(comemory(?:\.\w+)+)", text_of(page))))


def heading(title: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_exists(page: Path) -> None:
    names = dotted_names(page)
    if any("science" in name for name in names):
        pytest.importorskip("torch", reason="needs the train extra to import comemory.models")
    for name in names:
        resolve(name)


def test_paper_has_every_equation_with_its_function() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (`comemory[^|]*) \|$", text_of(DOCS / "paper.md"), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 21))


def marked(mark: str) -> list[str]:
    """The modules, or the functions and classes in them, whose docstrings carry a mark."""
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        module = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        tree = ast.parse(text_of(path))
        named: list[tuple[str, ast.AST]] = [(module, tree)]
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                named.append((f"{module}.{node.name}", node))
            if isinstance(node, ast.ClassDef):
                methods = [inner for inner in node.body if isinstance(inner, ast.FunctionDef)]
                named += [(f"{module}.{node.name}.{method.name}", method) for method in methods]
        found += [name for name, node in named if re.search(mark, ast.get_docstring(node) or "")]  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("mark", [r"\bDeviation\b", r"\bOurs\b"])
def test_paper_lists_every_mark_in_a_docstring(mark: str) -> None:
    named = dotted_names(DOCS / "paper.md")
    names = marked(mark)
    assert names
    assert [name for name in names if name not in named] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}, which is not there"
        if anchor and linked.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", text_of(linked), re.MULTILINE)
            assert anchor in map(heading, titles), f"{page.name} links to {target}, which has no such heading"


@pytest.mark.parametrize(("page", "line"), commands())
def test_commands_parse(page: str, line: str) -> None:
    command, arguments = split(line)
    if not command or command[0].startswith("-"):
        assert all(option in help_of() for option in command), f"{page}: {line}"
        return
    known = set(re.findall(r"--[a-z][a-z-]*", help_of(*command)))
    for place, word in enumerate(arguments):
        if word.startswith("--"):
            assert word.partition("=")[0] in known, f"{page}: {line}: {command[-1]} has no {word}"
        following = arguments[place + 1] if place + 1 < len(arguments) else ""
        if word == "--false-alarms":
            parse_budget(following)
        if word == "--data" or command == ("data", "check"):
            kind = (following if word == "--data" else arguments[0]).partition(":")[0]
            assert kind in DATASETS, f"{page}: {line}: no data set {kind}"


def settings_of(line: str) -> tuple[str, list[str]]:
    _, arguments = split(line)
    pairs = list(pairwise(arguments))
    preset = next((value for option, value in pairs if option == "--preset"), "small")
    return preset, [value for option, value in pairs if option == "--set"]


def test_settings_in_examples_are_settings() -> None:
    lines = [line for _, line in commands() if line.startswith("comemory train")]
    assert lines
    for line in lines:
        preset, settings = settings_of(line)
        read_recipe(preset, settings=settings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_inline_settings_are_settings(page: Path) -> None:
    for setting in re.findall(r"`--set ([^`]+)`", text_of(page)):
        if setting != "KEY=VALUE":
            read_recipe(settings=shlex.split(setting))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_are_what_they_say(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block)
        (tmp_path / "config.toml").write_text(block, encoding="utf-8")
        read_recipe(file=tmp_path / "config.toml")
    for block in blocks(page, "json"):
        json.loads(block)
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


@pytest.mark.parametrize(
    "verb",
    [
        "train",
        "score",
        "evaluate",
        "export",
        "info",
        "data",
        "bench",
        "demo",
        "reproduce",
        "watch",
        "learn",
        "doctor",
        "serve",
    ],
)
def test_every_verb_has_its_page_with_every_option(verb: str) -> None:
    page = text_of(DOCS / f"{verb}.md")
    inner = [(verb, name) for name in re.findall(r"^## comemory \w+ (\w+)$", page, re.MULTILINE)] or [(verb,)]
    for command in inner:
        options = set(re.findall(r"--[a-z][a-z-]*", help_of(*command).partition("Options")[2])) - {"--help"}
        assert [option for option in options if f"`{option}" not in page and f", `{option}" not in page] == []


def test_groups_have_all_their_commands() -> None:
    for group in GROUPS:
        listed = re.findall(r"^│ (\w+)", help_of(group).partition("Commands")[2], re.MULTILINE)
        assert listed
        for name in listed:
            assert f"## comemory {group} {name}\n" in text_of(DOCS / f"{group}.md")


def test_tables_of_strings_are_documented() -> None:
    data_sets, train = text_of(DOCS / "data-sets.md"), text_of(DOCS / "train.md")
    assert [kind for kind in DATASETS if f"`{kind}`" not in data_sets] == []
    assert [name for name in FLOWS if f"`{name}`" not in train] == []
    assert [name for name in PRESETS if f"`{name}`" not in train] == []
    assert [name for name in RUNTIMES if f"`{name}`" not in text_of(DOCS / "score.md")] == []
    assert [name for name in SceneSettings.__dataclass_fields__ if f"`{name}`" not in data_sets] == []


def test_published_counts_are_those_of_the_code() -> None:
    page = text_of(DOCS / "data-sets.md")
    for kind, place in DATASETS.items():
        module, name = place.split(":")
        known = getattr(importlib.import_module(module), name)
        if not issubclass(known, RecordedDataset) or not known.published:
            continue
        row = next(line for line in page.splitlines() if re.match(r"\| `[\w`, -]*\|", line) and f"`{kind}`" in line)
        counts = [int(cell.replace(",", "")) for cell in re.findall(r"[\d,]+(?= \|)", row)]
        assert counts == list(known.published.values())


def test_synthetic_examples_can_be_opened() -> None:
    found = {spec for page in PAGES for spec in re.findall(r"synthetic:[\w=,+.]+", text_of(page))}
    assert found
    for spec in found:
        open_dataset(spec.rstrip("."))


def test_decision_is_that_of_the_code() -> None:
    page, defaults = text_of(DOCS / "decision.md"), DecisionSettings()
    for channel in (*defaults.motion, *defaults.appearance, *STATISTICS):
        assert f"`{channel}`" in page
    for name in ("release", "join_s", "min_frames"):
        assert f"| `decision.{name}` | {getattr(defaults, name)} |" in page
    stated = set(re.findall(r"`decision\.(\w+)", page))
    assert stated <= set(DecisionSettings.model_fields)


def test_bundle_lists_every_member() -> None:
    page = text_of(DOCS / "bundle.md")
    assert [name for name in (MANIFEST, *REQUIRED, *OPTIONAL) if f"`{name}`" not in page] == []


def test_evaluation_defines_every_figure() -> None:
    from comemory.evaluation.results import BUDGETS, figures

    page = text_of(DOCS / "evaluation.md")
    made = figures([], "none", ("causal",), dict.fromkeys(BUDGETS, 1.0), "1/h")
    keys = {*made, *made["causal"]} - {"dataset"}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_are_short_and_speak_of_the_project_alone(page: Path) -> None:
    text = text_of(page)
    if page.name not in {"results.md", "CHANGELOG.md"}:
        assert len(text.splitlines()) <= LONGEST
    assert re.findall(r"/(?:work|tmp|home|root)/\w+", text) == []
