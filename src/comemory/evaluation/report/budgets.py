"""What other false-alarm budgets would make of the alarms, as one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comemory.evaluation.report.document import Report
from comemory.evaluation.report.markup import Markup, tag
from comemory.evaluation.report.matrix import table_section
from comemory.evaluation.report.tables import as_count, as_number, as_seconds, number_at, records_at

COLUMNS = {
    "threshold": ("Threshold", as_number),
    "false_alarms_per_hour": ("False alarms per hour", as_number),
    "detection_delay_s": ("Delay", as_seconds),
    "detection_delay_in_view_s": ("Delay of what began in view", as_seconds),
    "missed_anomalies": ("Anomalies missed", as_count),
}


def budgets(report: Report) -> Markup | None:
    """False alarms, delays and misses at each budget; None when the figures hold none.

    Raises:
        EvaluationError: the records are not as `evaluate --json` writes them.
    """
    records = records_at(report.figures, "budgets")
    if not records:
        return None
    head = tag("tr", tag("th", "Budget", scope="col"), *[tag("th", name, scope="col") for name, _ in COLUMNS.values()])
    body = [
        tag(
            "tr",
            tag("th", str(record.get("false_alarm_budget")), scope="row"),
            *[_cell(record, key) for key in COLUMNS],
        )
        for record in records
    ]
    words = (
        "A threshold is what ordinary video of the training passes as often as the budget allows; the larger the budget, the "
        "earlier an alarm and the more of them are false. Delays are medians over the anomalies that were detected."
    )
    return table_section("What a budget costs", words, "Alarms at each budget.", head, body)


def _cell(record: Mapping[str, Any], key: str) -> Markup:
    value = number_at(dict(record), key)
    if value is None:
        return tag("td", "–", class_="none")
    return tag("td", COLUMNS[key][1](value))
