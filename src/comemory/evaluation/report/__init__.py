"""One self-contained HTML page: how good a model is, and where it fails.

document.py  what a report is made of          metric_text.py  metrics: names, meanings, number formats
page.py      the page filled in and written    charts.py       its plots, inline SVG by matplotlib
images.py    its images, inline JPEG           page.html.j2    its Jinja template, with page.css and page.js
"""

from __future__ import annotations

import os

from comemory.evaluation.report.document import ClipCurve, EvaluationReport, FindingKind, WorstFrame

__all__ = ["ClipCurve", "EvaluationReport", "FindingKind", "WorstFrame", "write_report"]


def write_report(path: str | os.PathLike[str], report: EvaluationReport) -> None:
    """Write one HTML file that holds everything: images, plots, style. It asks the network for nothing.

    The file is complete or absent: it is written beside its place and then moved there. Missing folders are made.

    Args:
        path: of the file.
        report: what it says.

    Raises:
        EvaluationError: a metric is not a number, or the file cannot be written.
        ModuleNotFoundError: the extra `report` is not installed.
    """
    # Imported here, because an evaluation without a report needs neither Jinja nor matplotlib.
    from comemory.evaluation.report import page

    page.write(path, report)
