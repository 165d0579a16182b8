"""The AUC under every protocol, as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comemory.evaluation.report.document import Report
from comemory.evaluation.report.markup import Markup, tag
from comemory.evaluation.report.tables import as_rate, number_at, records_at

WORDS = {
    "model": "Model",
    "thesis": "Score of the thesis",
    "control": "Control",
    "raw": "as it is",
    "offline_max": "each clip by its maximum",
    "offline_min_max": "each clip from 0 to 1",
    "none": "No smoothing",
    "causal": "Causal smoothing",
    "offline_gaussian": "Offline smoothing",
}
"""What the names of the records mean; a name that is not here is shown as it is."""


def matrix(report: Report) -> Markup | None:
    """Micro and macro AUC of every score under every protocol; None when the figures hold none.

    Raises:
        EvaluationError: the records are not as `evaluate --json` writes them.
    """
    records = records_at(report.figures, "protocols")
    if not records:
        return None
    smoothings = list(dict.fromkeys(str(record.get("smoothing")) for record in records))
    rows: dict[tuple[str, str], dict[str, Markup]] = {}
    for record in records:
        row = rows.setdefault((str(record.get("score")), str(record.get("normalisation"))), {})
        row[str(record.get("smoothing"))] = _cell(record)
    head = tag("tr", tag("th", "Score", scope="col"), *[tag("th", _word(name), scope="col") for name in smoothings])
    body = [
        tag(
            "tr",
            tag("th", _word(score), tag("span", _word(how), class_="meaning"), scope="row"),
            *[row.get(smoothing) or tag("td", "–", class_="none") for smoothing in smoothings],
        )
        for (score, how), row in rows.items()
    ]
    words = (
        "The same scores under the habits of published protocols, so that a reader sees what each is worth. Whatever "
        "scales a clip by itself or smooths offline has seen the whole clip first, which no live system can; the causal "
        "smoothing is the past half of the offline kernel. The first cell is the causal AUC of this report."
    )
    return table_section("What protocols are worth", words, "AUC, micro / macro, of all frames.", head, body)


def table_section(title: str, words: str, caption: str, head: Markup, body: Sequence[Markup]) -> Markup:
    """A section that is one table, with words before it."""
    table = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
    return tag("section", tag("h2", title), tag("p", words, class_="small"), tag("div", table, class_="scroll"))


def _cell(record: Mapping[str, Any]) -> Markup:
    both = [number_at(dict(record), key) for key in ("auc_micro", "auc_macro")]
    if all(value is None for value in both):
        return tag("td", "–", class_="none")
    return tag("td", " / ".join("–" if value is None else as_rate(value) for value in both))


def _word(name: str) -> str:
    return WORDS.get(name, name)
