"""The page of results: a template of words whose `{{ block EXPERIMENT }}` lines are filled from the table of rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from comemory.errors import ConfigError, SourceError, nearest
from comemory.files import require_folder, write_text
from comemory.research.reproduce import tables as blocks
from comemory.research.reproduce.rows import read_rows
from comemory.research.reproduce.summary import Summary, summaries
from comemory.types import JSON

HEAD = (
    "<!-- Written by `comemory reproduce --render` from the table of rows: change the template, not this page. -->\n\n"
)

BLOCKS: Mapping[str, Callable[[Sequence[Summary], str | None], str]] = {
    "table": blocks.variants_table,
    "figures": blocks.figures_table,
    "matrix": blocks.protocol_matrix,
    "budgets": blocks.budgets_table,
    "ranks": blocks.ranks_table,
    "kinds": blocks.kinds_table,
    "origin": blocks.origin,
}
"""What a template may ask for, of an experiment and, where it is given, of one variant of it."""

PLOTS = ("plot", "plot-ranks")

_ASKED = re.compile(r"^\{\{ *([\w-]+)(?: +([\w.-]+)(?:/([\w.+-]+))?)? *\}\}$", re.MULTILINE)


def write_page(table: Path, page: Path, template: Path) -> list[Path]:
    """Write the page and, in a folder beside it of its name, its plots.

    Returns:
        What was written.

    Raises:
        ConfigError: the template or the table is not what it should be, or the place cannot be written.
        SourceError: a file cannot be read or written.
    """
    text, plots = render(read_rows(table), _read(template), page.stem)
    require_folder(page.parent)
    written = []
    for name, plot in plots.items():
        require_folder(page.with_suffix(""))
        written.append(page.with_suffix("") / name)
        write_text(written[-1], plot)
    write_text(page, text)
    return [page, *written]


def render(rows: Sequence[JSON], template: str, folder: str) -> tuple[str, dict[str, str]]:
    """The page, and its plots as SVG by file name.

    Args:
        folder: of the plots, as the page links to it.

    Raises:
        ConfigError: the template asks for a block that there is not.
    """
    plots: dict[str, str] = {}

    def fill(asked: re.Match[str]) -> str:
        block, experiment, variant = asked[1], asked[2] or "", asked[3]
        if block not in BLOCKS and block not in PLOTS:
            raise ConfigError(f"the template asks for the block {block!r}: {nearest(block, [*BLOCKS, *PLOTS])}")
        listed = summaries(rows, experiment)
        if not listed:
            return f"*No row yet: `comemory reproduce {experiment}` makes them.*" if block in ("table", "ranks") else ""
        if block in BLOCKS:
            return BLOCKS[block](listed, variant)
        return _plot(block, experiment, listed, folder, plots)

    text = _ASKED.sub(fill, template)
    return HEAD + re.sub(r"\n{3,}", "\n\n", text).strip() + "\n", plots


def _plot(block: str, experiment: str, listed: Sequence[Summary], folder: str, plots: dict[str, str]) -> str:
    from comemory.research.reproduce.plots import plot_ranks, plot_variants

    drawn = plot_variants(listed) if block == "plot" else plot_ranks(listed)
    if drawn is None:
        return ""
    name = f"{experiment}.svg" if block == "plot" else f"{experiment}-ranks.svg"
    plots[name] = drawn
    what = "variants" if block == "plot" else "selection score against test score"
    return f"![{listed[0].newest['title'].replace('`', '')}: {what}]({folder}/{name})"


def _read(template: Path) -> str:
    try:
        return template.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"cannot read the template {template}: {error.strerror or error}") from None
    except ValueError as error:
        raise ConfigError(f"the template {template} is no UTF-8 text: {error}") from None
