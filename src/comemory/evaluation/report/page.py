"""The page itself: the sections under one head, written as one file."""

from __future__ import annotations

import base64
import hashlib
import os
from importlib.resources import files
from pathlib import Path

from comemory.errors import EvaluationError, SourceError
from comemory.evaluation.report.budgets import budgets
from comemory.evaluation.report.document import Report
from comemory.evaluation.report.markup import Markup, joined, tag
from comemory.evaluation.report.matrix import matrix
from comemory.evaluation.report.sections import (
    against,
    cards,
    curves,
    footnotes,
    gallery,
    header,
    protocols,
    provenance,
)
from comemory.evaluation.report.tables import Footnotes
from comemory.files import write_text


def write_report(path: str | os.PathLike[str], report: Report) -> None:
    """Write one HTML file that holds everything: pictures, charts, style. It asks the network for nothing.

    The file appears whole or not at all: it is written beside its place and then moved there. Missing folders are made.

    Raises:
        EvaluationError: a figure is not a number, or the file cannot be written.
    """
    target, page = Path(path), rendered(report)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, page)
    except (OSError, ValueError, SourceError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix(f"cannot write {target}: ")
        raise EvaluationError(
            f"cannot write the report {target}: {reason}; choose a path that can be written"
        ) from None


def rendered(report: Report) -> str:
    """The whole page as text.

    Raises:
        EvaluationError: a figure is neither a finite number nor None.
    """
    notes = Footnotes(report.reasons)
    body = joined(
        tag("header", header(report), cards(report, notes)),
        tag(
            "main",
            against(report, notes),
            protocols(report, notes),
            matrix(report),
            budgets(report),
            curves(report),
            gallery(report, "false alarm"),
            gallery(report, "miss"),
            provenance(report),
        ),
        footnotes(notes),
    )
    script = _asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=Markup(policy)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", report.title),
        tag("style", Markup(_asset("page.css"))),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', body, tag('script', Markup(script))), lang='en')}\n"


def _asset(name: str) -> str:
    return files("comemory.evaluation.report").joinpath(name).read_text(encoding="utf-8")
