"""The documentation agrees with the code: names, links, commands, settings, metrics; and the site builds without a warning."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from comemory.alerts import SINKS
from comemory.bundle import MANIFEST, OPTIONAL, REQUIRED
from comemory.cli import app
from comemory.config import build
from comemory.datasets import DATASETS, open_dataset
from comemory.datasets.recorded import RecordedDataset
from comemory.datasets.scene.settings import SceneSettings
from comemory.flow import FLOWS
from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.scoring import STATISTICS, ScoringSettings, parse_budget
from comemory.training.config import PRESETS, read_training_config

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "comemory"
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))]
GROUPS = ("data", "bench", "store")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def page_at(name: str) -> str:
    return text_of(DOCS / name)


def blocks(page: Path, language: str) -> Iterator[str]:
    """The fenced code blocks of a language."""
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text_of(page), re.MULTILINE | re.DOTALL):
        if match[1] == language:
            yield match[2]


def commands() -> list[tuple[str, str]]:
    """Every `comemory …` line in the pages' shell blocks, with the name of its page."""
    found = []
    for page in PAGES:
        for language in ("", "console", "sh", "bash"):
            lines = "".join(blocks(page, language)).replace("\\\n", " ").splitlines()
            found += [(name_of(page), line.removeprefix("$ ")) for line in lines if re.match(r"(\$ )?comemory ", line)]
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
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")


@cache
def builder() -> ModuleType:
    """`scripts/build_docs.py` as a module."""
    place = importlib.util.spec_from_file_location("build_docs", ROOT / "scripts" / "build_docs.py")
    assert place is not None
    assert place.loader is not None
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The generated reference pages, by title."""
    pages: dict[str, Path] = builder().generate(tmp_path_factory.mktemp("generated"))
    return pages


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_dotted_name_exists(page: Path) -> None:
    names = dotted_names(page)
    if any(name.startswith("comemory.models") for name in names):
        pytest.importorskip("torch", reason="needs the train extra to import comemory.models")
    for name in names:
        resolve(name)


def test_paper_has_every_equation_with_its_function() -> None:
    rows = re.findall(r"^\| (\d+) \|.*\| (`comemory[^|]*) \|$", page_at("explanation/paper.md"), re.MULTILINE)
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


@pytest.mark.parametrize("mark", [r"\bDeviation:", r"\bOurs:"])
def test_paper_lists_every_mark_in_a_docstring(mark: str) -> None:
    named = dotted_names(DOCS / "explanation" / "paper.md")
    names = marked(mark)
    assert names
    assert [name for name in names if name not in named] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path, generated: dict[str, Path]) -> None:
    made = {path.name for path in generated.values()}
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if linked.parent == DOCS / "reference" / "generated":
            assert linked.name in made, f"{name_of(page)} links to {target}, which is not generated"
            continue
        assert linked.exists(), f"{name_of(page)} links to {target}, which does not exist"
        if anchor and linked.suffix == ".md":
            titles = re.findall(r"^#+ (.+)$", text_of(linked), re.MULTILINE)
            assert anchor in map(heading, titles), f"{name_of(page)} links to {target}, which has no such heading"


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


def test_settings_in_examples_exist() -> None:
    lines = [line for _, line in commands() if line.startswith("comemory train")]
    assert lines
    for line in lines:
        preset, settings = settings_of(line)
        read_training_config(preset, settings=settings)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_inline_settings_exist(page: Path) -> None:
    for setting in re.findall(r"`--set ([^`]+)`", text_of(page)):
        if setting != "KEY=VALUE":
            read_training_config(settings=shlex.split(setting))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_code_blocks_are_valid(page: Path, tmp_path: Path) -> None:
    for block in blocks(page, "toml"):
        tomllib.loads(block)
        (tmp_path / "config.toml").write_text(block, encoding="utf-8")
        read_training_config(file=tmp_path / "config.toml")
    for block in blocks(page, "json"):
        json.loads(block)
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("comemory"):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def all_commands() -> list[tuple[str, ...]]:
    import typer

    return [path for path, _ in builder().commands(typer.main.get_command(app))]


@pytest.mark.parametrize("command", all_commands(), ids=" ".join)
def test_every_command_is_in_the_reference_with_every_option(
    command: tuple[str, ...], generated: dict[str, Path]
) -> None:
    page = text_of(generated["Command line"])
    section = page.partition(f"## comemory {' '.join(command)}\n")[2].partition("\n## ")[0]
    options = set(re.findall(r"--[a-z][a-z-]*", help_of(*command).partition("Options")[2])) - {"--help"}
    assert [option for option in options if f"`{option}" not in section] == []


@pytest.mark.parametrize("command", all_commands(), ids=" ".join)
def test_every_command_has_a_how_to(command: tuple[str, ...]) -> None:
    guides = "".join(text_of(page) for page in (DOCS / "how-to").glob("*.md"))
    assert f"comemory {' '.join(command)}" in guides


def test_every_setting_has_a_description(generated: dict[str, Path]) -> None:
    for title in ("Training settings", "Live settings"):
        empty = re.findall(r"^\| `([\w.\[\]]+)` \|.*\|  \|$", text_of(generated[title]), re.MULTILINE)
        assert empty == [], f"{title}: no description"


def test_every_kind_of_sink_has_its_settings_in_the_reference(generated: dict[str, Path]) -> None:
    page = text_of(generated["Live settings"])
    assert [kind for kind in SINKS if f'with `kind = "{kind}"`' not in page] == []


def test_every_page_is_in_the_navigation(generated: dict[str, Path]) -> None:
    listed = set(re.findall(r": (\S+\.md)$", text_of(ROOT / "mkdocs.yml"), re.MULTILINE))
    written = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    assert listed == {*written, *(f"reference/generated/{path.name}" for path in generated.values()), "changelog.md"}


def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="needs the docs extra: pip install '.[docs]'")
    site = tmp_path / "site"
    assert builder().build(site) == []
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]* src=\"(https?:[^\"]+)|<link[^>]*href=\"(https?:[^\"]+)", text_of(page)
        )
        assert not loaded, f"{page.relative_to(site)} loads {loaded}"


def test_registries_are_documented() -> None:
    data_sets, train = page_at("how-to/data-sets.md"), page_at("how-to/train.md")
    assert [kind for kind in DATASETS if f"`{kind}`" not in data_sets] == []
    assert [name for name in FLOWS if f"`{name}`" not in train] == []
    assert [name for name in PRESETS if f"`{name}`" not in train] == []
    assert [name for name in SceneSettings.__dataclass_fields__ if f"`{name}`" not in data_sets] == []


def test_published_counts_are_those_of_the_code() -> None:
    page = page_at("how-to/data-sets.md")
    for kind, place in DATASETS.items():
        module, name = place.split(":")
        known = getattr(importlib.import_module(module), name)
        if not issubclass(known, RecordedDataset) or not known.published:
            continue
        row = next(line for line in page.splitlines() if re.match(r"\| `[\w`, -]*\|", line) and f"`{kind}`" in line)
        counts = [int(cell.replace(",", "")) for cell in re.findall(r"[\d,]+(?= \|)", row)]
        assert counts == list(known.published.values())


def test_the_documented_model_is_the_tested_example() -> None:
    example = text_of(ROOT / "examples" / "extend" / "add_a_model.py")
    assert example in "".join(blocks(DOCS / "how-to" / "extend.md", "python"))


def with_named_cameras(values: dict[str, Any]) -> dict[str, Any]:
    """Live settings of an example, with the model and the cameras that it takes for granted."""
    cameras = values.setdefault("cameras", {})
    for sink in values.get("alerts", {}).values():
        for name in (*sink.get("cameras", ()), *sink.get("per_camera", ())):
            cameras.setdefault(name, {"url": "gate.mp4"})
    return {"model": "models/gate", **values}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_live_settings_in_examples_exist(page: Path) -> None:
    for block in blocks(page, "ini"):
        build(LiveSettings, with_named_cameras(tomllib.loads(block)))


def test_camera_states_are_documented() -> None:
    page = page_at("how-to/cameras.md")
    assert [state.value for state in CameraState if f"| `{state.value}` |" not in page] == []


def test_synthetic_examples_can_be_opened() -> None:
    found = {spec for page in PAGES for spec in re.findall(r"synthetic:[\w=,+.]+", text_of(page))}
    assert found
    for spec in found:
        open_dataset(spec.rstrip("."))


def test_scoring_page_agrees_with_the_code() -> None:
    page, defaults = page_at("explanation/scoring.md"), ScoringSettings()
    for channel in (*defaults.motion, *defaults.appearance, *STATISTICS):
        assert f"`{channel}`" in page
    for name in ("release", "join_s", "min_frames"):
        assert f"| `scoring.{name}` | {getattr(defaults, name)} |" in page
    stated = set(re.findall(r"`scoring\.(\w+)", page))
    assert stated <= set(ScoringSettings.model_fields)


def test_bundle_page_lists_every_file() -> None:
    page = page_at("reference/bundle.md")
    assert [name for name in (MANIFEST, *REQUIRED, *OPTIONAL) if f"`{name}`" not in page] == []


def test_evaluation_page_defines_every_metric() -> None:
    from comemory.evaluation.results import BUDGETS, compute_results

    page = page_at("explanation/evaluation.md")
    made = compute_results([], "none", ("causal",), dict.fromkeys(BUDGETS, 1.0), "1/h")
    keys = {*made, *made["causal"]} - {"dataset"}
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_name_no_path_of_a_machine(page: Path) -> None:
    assert re.findall(r"/(?:work|tmp|home|root)/\w+|\.\./shared", text_of(page)) == []
