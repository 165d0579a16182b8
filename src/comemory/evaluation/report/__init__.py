"""One self-contained HTML page that says how good a model is, and where it fails."""

from __future__ import annotations

from comemory.evaluation.report.document import ClipCurve, Finding, Report
from comemory.evaluation.report.page import write_report

__all__ = ["ClipCurve", "Finding", "Report", "write_report"]
