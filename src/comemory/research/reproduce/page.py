"""The page of results: a template of text whose `{{ block EXPERIMENT }}` lines are filled in from the table of rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from comemory.errors import ConfigError, SourceError, suggest
from comemory.files import require_writable_folder, write_text
from comemory.research.reproduce import tables
from comemory.research.reproduce.costs import rows_with_costs
from comemory.research.reproduce.experiment import Experiment
from comemory.research.reproduce.summary import Summary, summaries
from comemory.types import JSON

HEADER = (
    "<!-- Written by `comemory reproduce --render` from the table of rows: edit the template, not this page. -->\n\n"
)

TABLES: Mapping[str, Callable[[Sequence[Summary], str | None], str]] = {
    "table": tables.variants_table,
    "row": tables.row_table,
    "cost": tables.cost_table,
    "metrics": tables.metrics_table,
    "protocols": tables.protocol_tables,
    "budgets": tables.budgets_table,
    "ranks": tables.ranks_table,
    "perturbations": tables.perturbations_table,
    "scenes": tables.scenes_table,
    "provenance": tables.provenance,
}
"""The tables that a template may name, of an experiment and, where it is given, of one variant of it."""

PLOTS = ("plot", "plot-ranks")

_MARKED = re.compile(r"(<!-- rows: ([\w-]+) +([\w.-]+)/([\w.+-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
"""A block in a page that is otherwise written by hand."""

_BLOCK = re.compile(r"^\{\{ *([\w-]+)(?: +([\w.-]+)(?:/([\w.+-]+))?)? *\}\}$", re.MULTILINE)


def write_page(table: Path, page: Path, template: str, files: Mapping[str, str] | None = None) -> list[Path]:
    """Write the page and, in a folder beside it with its name, the plots.

    Args:
        table: file of the rows.
        page: Markdown file to write.
        template: text with blocks; see `read_template` and `experiment_template`.
        files: see `render_experiment`.

    Returns:
        The files written.

    Raises:
        ConfigError: the template or the table is not valid, or the page cannot be written.
        SourceError: a file cannot be read or written.
    """
    text, plots = render_experiment(rows_with_costs(table), template, page.stem, files)
    require_writable_folder(page.parent)
    written = []
    for name, plot in plots.items():
        require_writable_folder(page.with_suffix(""))
        written.append(page.with_suffix("") / name)
        write_text(written[-1], plot)
    write_text(page, text)
    return [page, *written]


def update_pages(table: Path, folder: Path) -> list[Path]:
    """Fill in the blocks between `<!-- rows: BLOCK EXPERIMENT/VARIANT -->` and `<!-- end -->` of the pages of a folder.

    Args:
        table: file of the rows.
        folder: of Markdown files; those without such a block are left alone.

    Returns:
        The files that changed.

    Raises:
        ConfigError: a page names a block that does not exist, or cannot be written.
        SourceError: a file cannot be read.
    """
    rows = rows_with_costs(table)
    written = []
    for page in sorted(folder.glob("*.md")):
        text = read_template(page)
        if (filled := fill_marked(rows, text)) != text:
            write_text(page, filled)
            written.append(page)
    return written


def fill_marked(rows: Sequence[JSON], text: str) -> str:
    """Return a page with its marked blocks filled in; see `update_pages`."""

    def fill(found: re.Match[str]) -> str:
        opening, block, experiment, variant, _, closing = found.groups()
        if block not in TABLES:
            raise ConfigError(f"a page names the block {block!r}: {suggest(block, TABLES)}")
        listed = [summary for summary in summaries(rows, experiment) if summary.variant == variant]
        table = TABLES[block](listed, variant) if listed else "*No row yet.*"
        return f"{opening}\n{table}\n\n{closing}"

    return _MARKED.sub(fill, text)


def read_template(path: Path) -> str:
    """Read the template of a page.

    Raises:
        ConfigError: it is not text. SourceError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot read the template {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"the template {path} is not UTF-8 text: {error}") from None


def experiment_template(name: str, experiment: Experiment) -> str:
    """Return a template for a page of one experiment: every table that its rows can fill.

    Args:
        name: of the experiment.
        experiment: as read from its file.
    """
    blocks = ["table", "plot", "metrics", "protocols", "budgets"]
    if len(experiment.data) > 2:
        blocks.insert(0, "scenes")
    if experiment.selection:
        blocks += ["ranks", "plot-ranks", "perturbations"]
    parts = [f"# {experiment.title}", experiment.description.strip()]
    return "\n\n".join([*parts, *(f"{{{{ {block} {name} }}}}" for block in (*blocks, "provenance"))])


def render_experiment(
    rows: Sequence[JSON], template: str, folder: str, files: Mapping[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """Return the page, and its plots as SVG by file name.

    Args:
        rows: of the table.
        template: text with blocks.
        folder: of the plots, as the page links to it.
        files: path of the file of an experiment that is not in `experiments/`, by its name: what a command takes for it.

    Raises:
        ConfigError: the template names a block that does not exist.
    """
    plots: dict[str, str] = {}

    def fill(found: re.Match[str]) -> str:
        block, experiment, variant = found[1], found[2] or "", found[3]
        if block not in TABLES and block not in PLOTS:
            raise ConfigError(f"the template names the block {block!r}: {suggest(block, [*TABLES, *PLOTS])}")
        given = (files or {}).get(experiment, experiment)
        listed = summaries(rows, experiment, given)
        if not listed:
            missing = f"*No rows yet: run `comemory reproduce {given}`.*"
            return missing if block in ("table", "ranks", "scenes") else ""
        if block in TABLES:
            return TABLES[block](listed, variant)
        return _plot(block, experiment, listed, folder, plots)

    text = _BLOCK.sub(fill, template)
    return HEADER + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", plots


def _plot(block: str, experiment: str, listed: Sequence[Summary], folder: str, plots: dict[str, str]) -> str:
    # Imported here, because a page without plots does not need matplotlib.
    from comemory.research.reproduce.plots import plot_ranks, plot_variants

    drawing = plot_variants(listed) if block == "plot" else plot_ranks(listed)
    if drawing is None:
        return ""
    name = f"{experiment}.svg" if block == "plot" else f"{experiment}-ranks.svg"
    plots[name] = drawing
    what = "variants" if block == "plot" else "selection score against test score"
    return f"![{listed[0].newest['title'].replace('`', '')}: {what}]({folder}/{name})"
