"""The tables of the page of results, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from comemory.research.reproduce.grid import TRAINING_VERSION, evaluation_version
from comemory.research.reproduce.scenes import SceneResults, chosen_on_the_others, chosen_with_all_labels, scene_results
from comemory.research.reproduce.statistics import Correlation, MeanAndSd, correlation, kendall, spearman, spread
from comemory.research.reproduce.summary import (
    HEADLINE,
    Summary,
    by_data,
    common_settings,
    number_paths,
    selected_variant,
)

COLUMNS = {
    "causal": HEADLINE,
    "paper protocol": "paper.auc_micro",
    "Eq. (16), causal": "thesis.auc_micro",
    "Eq. (16), paper protocol": "thesis.auc_micro_paper",
    "motion baseline": "motion_baseline.auc_micro",
}
NAMES = {
    "auc_micro": "AUC, micro",
    "auc_macro": "AUC, macro",
    "ap": "average precision",
    "eer": "equal error rate",
    "fpr95": "FPR at 95 % TPR",
    "pixel_auc": "AUC, pixel level",
    "rbdc": "RBDC",
    "tbdc": "TBDC",
    "false_alarms_per_hour": "false alarms per hour",
    "detection_delay_s": "detection delay, s",
    "detection_delay_in_view_s": "detection delay, anomaly began in view, s",
    "anomalies_in_view": "anomalies that began in view",
}
BUDGET_COLUMNS = {
    "threshold": "threshold",
    "false_alarms_per_hour": NAMES["false_alarms_per_hour"],
    "detection_delay_s": NAMES["detection_delay_s"],
    "detection_delay_in_view_s": "anomaly began in view, s",
    "missed_anomalies": "anomalies missed",
}
BUDGET_DIGITS = {
    "threshold": 2,
    "false_alarms_per_hour": 1,
    "detection_delay_s": 2,
    "detection_delay_in_view_s": 2,
    "missed_anomalies": 1,
}
"""Decimals of each column of budgets."""

COST_COLUMNS = (
    "trained parameters, thousands",
    "million MACs a clip",
    "network alone, ms",
    "frames per second",
    "training, minutes",
    "training, CPU minutes",
)
NOTHING = "–"
OLDER = "†"
"""Stands at variants that were evaluated by an earlier version, in a table that has others too."""


def variants_table(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return the AUC of every variant, a table for each data set: mean ± sd over the seeds; reported AUCs in a last column."""
    parts = []
    for summaries in by_data(listed).values():
        chosen = [summary for summary in summaries if variant in (None, summary.variant)]
        if not chosen:
            continue
        parts.append(f"**{chosen[0].data_title}**, micro AUC\n\n{_variants(chosen)}")
    parts.append(_shared_settings(listed))
    return "\n\n".join(part for part in parts if part)


def _variants(chosen: Sequence[Summary]) -> str:
    header = ["", "seeds", *COLUMNS]
    rows = []
    for summary in chosen:
        values = [
            spread_text(summary.spread_of(path), untrained=path.startswith("motion_baseline"))
            for path in COLUMNS.values()
        ]
        rows.append([_cell(summary.title) + _mark(summary, chosen), str(len(summary.rows)), *values])
    if any(summary.selection for summary in chosen):
        header.insert(2, f"selection ({chosen[0].newest['selection']})")
        for row, summary in zip(rows, chosen, strict=True):
            row.insert(2, spread_text(summary.selection))
    reported = [summary.newest["reported"] for summary in chosen]
    if source := next((value for value in reported if value), None):
        header.append(f"*reported by {source['by']}{', on ' + source['on'] if source['on'] else ''}*")
        for row, value in zip(rows, reported, strict=True):
            row.append(f"*{value['auc_micro']:.3f}*" if value else NOTHING)
    return markdown_table(header, rows)


def row_table(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return the row of one variant of every data set, for the page of that variant.

    What was reported for another data set than the one measured is named with it.
    """
    rows = []
    for summary in _chosen(listed, variant):
        reported = summary.newest["reported"]
        on = f", on {reported['on']}" if reported and reported["on"] else ""
        older = f", by version {min(row['versions']['evaluation'] for row in summary.rows)} of the evaluation"
        rows.append(
            [
                _cell(summary.data_title) + (older if _is_older(summary) else ""),
                str(len(summary.rows)),
                *(spread_text(summary.spread_of(COLUMNS[name])) for name in ("causal", "paper protocol")),
                spread_text(summary.spread_of(COLUMNS["motion baseline"]), untrained=True),
                f"*{reported['auc_micro']:.3f} ({reported['by']}{on})*" if reported else NOTHING,
            ]
        )
    return markdown_table(
        ["micro AUC", "seeds", "causal", "paper protocol", "motion baseline beside it", "*reported*"], rows
    )


def cost_table(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return size, operations, speed and training time of every variant, a table for each data set.

    Rows of an earlier version lack size and operations, unless a file of costs has them; see `reproduce.costs`.
    """
    parts = []
    for summaries in by_data(listed).values():
        chosen = [summary for summary in summaries if variant in (None, summary.variant)]
        rows = [[_cell(summary.title) + _mark(summary, chosen), *_cost(summary)] for summary in chosen]
        if rows:
            parts.append(f"**{summaries[0].data_title}**\n\n{markdown_table(['', *COST_COLUMNS], rows)}")
    return "\n\n".join(parts)


def _cost(summary: Summary) -> list[str]:
    cost = summary.newest.get("cost") or {}
    sizes = [
        f"{cost[key] / unit:.{digits}f}" if key in cost else NOTHING
        for key, unit, digits in (("parameters", 1e3, 0), ("macs", 1e6, 0), ("cpu_ms", 1, 1))
    ]
    speeds = [value for row in summary.rows if (value := row["results"].get("frames_per_second")) is not None]
    minutes = [
        [row["training"][name] / 60 for row in summary.rows if name in row["training"]] for name in ("wall_s", "cpu_s")
    ]
    times = [
        f"{sum(values) / len(values):.{digits}f}" if values else NOTHING
        for values, digits in ((speeds, 0), *((part, 1) for part in minutes))
    ]
    return [*sizes, *times]


def _mark(summary: Summary, beside: Sequence[Summary]) -> str:
    """A mark on a variant of an earlier version of the evaluation, where others of the table are of the present one."""
    is_mixed = len({_is_older(other) for other in beside}) > 1
    return f" {OLDER}" if is_mixed and _is_older(summary) else ""


def _is_older(summary: Summary) -> bool:
    return any(_is_of_earlier_version(row) for row in summary.rows)


def _is_of_earlier_version(row: Mapping[str, Any]) -> bool:
    return bool(row["versions"]["evaluation"] < evaluation_version(row["config"]))


def _shared_settings(listed: Sequence[Summary]) -> str:
    """The settings that all variants share, beside their preset."""
    common = common_settings(listed)
    preset = listed[0].newest["preset"]
    settings = ", ".join(f"`{key}={value}`" for key, value in common.items())
    return f"All variants: preset `{preset}`{' with ' + settings if settings else ''}."


def metrics_table(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return every metric of one variant under both protocols.

    Args:
        listed: the variants of an experiment.
        variant: which; None: the one with the best selection score, else the first.
    """
    parts = []
    for summary in _chosen(listed, variant):
        newest = summary.newest["results"]
        columns = [name for name in ("causal", "paper") if newest.get(name)]
        keys = list(dict.fromkeys(key for name in columns for key in number_paths(newest[name])))
        rows = [[NAMES.get(key, key), *(spread_text(summary.spread_of(f"{c}.{key}")) for c in columns)] for key in keys]
        missed = [str(row["results"]["missed_anomalies"]) for row in summary.rows]
        rows.append(["anomalies missed, seed by seed", ", ".join(missed), *[NOTHING] * (len(columns) - 1)])
        rows.append(["95 % interval over videos, seed by seed", *(_intervals(summary, name) for name in columns)])
        videos = f"{newest['n_videos']} videos, {newest['n_scored']} of {newest['n_frames']} frames scored"
        header = ["", *({"causal": "causal", "paper": "paper protocol"}[name] for name in columns)]
        budget = f"events and alarms at the threshold for `{newest['false_alarm_budget']}`"
        title = f"**{summary.data_title}**, {summary.title}: {videos}; {budget}"
        parts.append(f"{title}\n\n{markdown_table(header, rows)}")
    return "\n\n".join(parts)


def _intervals(summary: Summary, column: str) -> str:
    intervals = [(row["results"].get(column) or {}).get("auc_micro_ci95") for row in summary.rows]
    return ", ".join(
        f"{low:.3f} to {high:.3f}" if pair else NOTHING for pair in intervals for low, high in [pair or (0, 0)]
    )


def protocol_tables(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return what each normalisation and smoothing does to the AUC of one variant; see `metrics_table` for which."""
    parts = []
    for summary in _chosen(listed, variant):
        seeds = [_protocols(row["results"].get("protocols") or ()) for row in summary.rows]
        columns = list(dict.fromkeys(smoothing for seed in seeds for _, smoothing in seed))
        leading = list(dict.fromkeys(row for seed in seeds for row, _ in seed))
        rows = []
        for lead in leading:
            spreads = [spread([seed[lead, column] for seed in seeds if (lead, column) in seed]) for column in columns]
            rows.append([", ".join(map(_plain, lead)), *map(spread_text, spreads)])
        if rows:
            header = ["", *map(_plain, columns)]
            parts.append(f"**{summary.data_title}**, {summary.title}\n\n{markdown_table(header, rows)}")
    return "\n\n".join(parts)


def _protocols(records: Sequence[Mapping[str, Any]]) -> dict[tuple[tuple[str, ...], str], float]:
    """The AUCs of a protocol matrix by score, normalisation and average, and by smoothing."""
    return {
        ((record["score"], record["normalisation"], NAMES.get(key, key)), record["smoothing"]): float(value)
        for record in records
        for key, value in record.items()
        if isinstance(value, (int, float))
    }


def budgets_table(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return the alarms of one variant at each false-alarm budget; see `metrics_table` for which."""
    parts = []
    for summary in _chosen(listed, variant):
        seeds = [
            {one["false_alarm_budget"]: one for one in row["results"].get("budgets") or ()} for row in summary.rows
        ]
        rows = []
        for budget in dict.fromkeys(name for seed in seeds for name in seed):
            at = [seed[budget] for seed in seeds if budget in seed]
            cells = []
            for key, digits in BUDGET_DIGITS.items():
                found = spread([one[key] for one in at if one[key] is not None])
                cells.append(spread_text(found, digits=digits))
            rows.append([f"`{budget}`", *cells])
        if rows:
            header = ["", *BUDGET_COLUMNS.values()]
            parts.append(f"**{summary.data_title}**, {summary.title}\n\n{markdown_table(header, rows)}")
    return "\n\n".join(parts)


def ranks_table(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return how well the selection score ranks the variants, compared with the test, and what selecting by it costs."""
    rows = [row for group in by_data(listed).values() if (row := _ranks(group)) is not None]
    if not rows:
        return "*No variant has a selection score yet.*"
    header = ["", "variants", "Spearman", "Kendall", "selected without test labels", "its test AUC", "best test AUC"]
    name = selected_variant(listed)
    title = next((summary.title for summary in listed if summary.variant == name), None)
    sentence = f"Selected over all data sets, by the mean of the selection scores: **{title}**." if title else ""
    return f"{markdown_table(header, rows)}\n\n{sentence}".strip()


def _ranks(group: Sequence[Summary]) -> list[str] | None:
    pairs = [
        (summary, chosen.mean, of.mean)
        for summary in group
        if (chosen := summary.selection) and (of := summary.spread_of(HEADLINE))
    ]
    if not pairs:
        return None
    own, test = [score for _, score, _ in pairs], [score for _, _, score in pairs]
    best, _, its_test = max(pairs, key=lambda pair: pair[1])
    return [
        best.data_title,
        str(len(pairs)),
        _correlation(correlation(spearman, own, test)),
        _correlation(correlation(kendall, own, test)),
        _cell(best.title),
        f"{its_test:.4f}",
        f"{max(test):.4f}",
    ]


def perturbations_table(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return how well each kind of pseudo-anomaly ranks the variants, compared with the test, and its AUC in one variant."""
    parts = []
    for group in by_data(listed).values():
        pairs = [
            (summary.selection_by_perturbation(), of.mean) for summary in group if (of := summary.spread_of(HEADLINE))
        ]
        shown = next((s for s in group if s.variant == variant), group[0])
        rows = []
        for kind, own in shown.selection_by_perturbation().items():
            both = [(kinds[kind].mean, test) for kinds, test in pairs if kind in kinds]
            scores, tests = [score for score, _ in both], [test for _, test in both]
            ranked = (correlation(spearman, scores, tests), correlation(kendall, scores, tests))
            rows.append([f"`{kind}`", spread_text(own), *map(_correlation, ranked)])
        if rows:
            header = ["", f"AUC of {shown.title}", "Spearman", "Kendall"]
            parts.append(f"**{group[0].data_title}**, {len(pairs)} variants\n\n{markdown_table(header, rows)}")
    return "\n\n".join(parts)


def provenance(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return command, dates, commits, hardware and time of an experiment's rows."""
    rows = [row for summary in listed for row in summary.rows]
    networks = {row["network"]: row["training"] for row in rows}
    hours = sum(training["wall_s"] for training in networks.values()) / 3600
    evaluated = sum(row["evaluation"]["wall_s"] for row in rows) / 3600
    dates = sorted({str(row["date"])[:10] for row in rows})
    epochs = sorted({training["epochs"] for training in networks.values() if training["epochs"]})
    made = [part for row in rows for part in (row["training"], row["evaluation"])]
    lines = [
        f"`comemory reproduce {listed[0].experiment} --seeds {max(len(summary.rows) for summary in listed)}`",
        f"{_range(dates)}; commits {', '.join(_commits(made))}",
        "; ".join(dict.fromkeys(_machine(part) for part in made)),
        f"{len(networks)} networks trained in {hours:.1f} h, epochs {_range(map(str, epochs))}",
        f"{len(rows)} evaluations in {evaluated:.1f} h",
    ]
    if older := sum(map(_is_of_earlier_version, rows)):
        marked = f", marked {OLDER}" if older < len(rows) else ""
        lines.append(f"{older} of them by an earlier version of the evaluation{marked}")
    if older := sum(row["versions"]["training"] < TRAINING_VERSION for row in rows):
        lines.append(f"{older} rows are of networks of an earlier version of the training")
    if any(len({row["training"]["data_sha256"] for row in summary.rows}) > 1 for summary in listed):
        lines.append("The training video was not the same for all rows of a variant")
    if problems := sum(len(row["problems"]) for row in rows):
        lines.append(f"{problems} problems with single videos, named in the rows")
    return f"*{'. '.join(lines)}.*"


def scenes_table(listed: Sequence[Summary], variant: str | None = None) -> str:
    """Return the AUC of every variant on every scene, and what leaving each scene out of the choice gives."""
    found = scene_results(listed)
    if not found.aucs:
        return "*No variant has been run on every scene yet.*"
    header = ["", *found.scenes.values(), "mean of recorded", "worst of recorded"]
    rows = [_scene_row(title, values, found) for title, values in found.beside.items()]
    rows += [_scene_row(_cell(found.titles[name]), values, found) for name, values in found.aucs.items()]
    lines = []
    if len(found.aucs) > 1:
        best = chosen_with_all_labels(found.aucs)
        rows.append(_scene_row(f"chosen with all labels: {_cell(found.titles[best])}", found.aucs[best], found))
        choices = {scene: chosen_on_the_others(found.aucs, scene) for scene in found.scenes}
        held_out = {scene: found.aucs[name][scene] for scene, name in choices.items()}
        rows.append(_scene_row("**each scene by the variant chosen on all others**", held_out, found))
        chosen = [f"{found.scenes[scene]}: {_cell(found.titles[name])}" for scene, name in choices.items()]
        lines.append(f"Chosen on all others, for {'; '.join(chosen)}.")
    lines.insert(0, markdown_table(header, rows))
    if found.missing:
        names = ", ".join(_cell(found.titles[name]) for name in found.missing)
        lines.append(f"Not run on every scene, and so not in the table: {names}.")
    return "\n\n".join(lines)


def _scene_row(title: str, values: Mapping[str, float], found: SceneResults) -> list[str]:
    recorded = [values[name] for name in found.recorded if name in values]
    cells = [f"{values[name]:.4f}" if name in values else NOTHING for name in found.scenes]
    if len(recorded) < len(found.recorded) or not recorded:
        return [title, *cells, NOTHING, NOTHING]
    return [title, *cells, f"{sum(recorded) / len(recorded):.4f}", f"{min(recorded):.4f}"]


def _commits(made: Iterable[Mapping[str, Any]]) -> list[str]:
    commits = dict.fromkeys((part["commit"], bool(part["dirty"])) for part in made)
    return [f"{commit or 'unknown'}{' with changes' if dirty else ''}" for commit, dirty in commits]


def _machine(part: Mapping[str, Any]) -> str:
    hardware = part["hardware"]
    gpu = f", {part['gpu']}" if part.get("gpu") else ""
    threads = hardware["threads"]
    return f"{hardware['cpu'] or 'unknown CPU'}, {threads or 'all'} thread{'' if threads == 1 else 's'}{gpu}"


def _chosen(listed: Sequence[Summary], variant: str | None) -> list[Summary]:
    name = variant or selected_variant(listed) or listed[0].variant
    return [summary for summary in listed if summary.variant == name]


def spread_text(value: MeanAndSd | None, *, untrained: bool = False, digits: int | None = None) -> str:
    """Return a mean as the page shows it, with its standard deviation if training could cause one.

    Args:
        value: over the seeds.
        untrained: the value does not depend on a training.
        digits: decimals; by default 4 for what is at most 1, else 2.

    >>> spread_text(MeanAndSd(0.98391, 0.0012, 3)), spread_text(MeanAndSd(0.98391, None, 1)), spread_text(None)
    ('0.9839 ± 0.0012', '0.9839', '–')
    """
    if value is None:
        return NOTHING
    if digits is None:
        digits = 4 if abs(value.mean) <= 1 else 2
    alone = value.sd is None or (untrained and value.sd == 0)
    return f"{value.mean:.{digits}f}" + ("" if alone else f" ± {value.sd:.{digits}f}")


def _correlation(found: Correlation | None) -> str:
    if found is None:
        return NOTHING
    interval = "" if found.low is None or found.high is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.value:.2f}{interval}"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; the cells are Markdown already.

    >>> print(markdown_table(["", "a"], [["b", "1"]]))
    | | a |
    |---|---|
    | b | 1 |
    """
    lines = ["| " + " | ".join(cells) + " |" for cells in (header, *rows)]
    lines.insert(1, "|" + "---|" * len(header))
    return "\n".join(line.replace("|  |", "| |") for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(text: str) -> str:
    return _cell(text.replace("_", " "))


def _range(values: Iterable[str]) -> str:
    listed = list(values)
    if not listed:
        return NOTHING
    return listed[0] if len(listed) == 1 else f"{listed[0]} to {listed[-1]}"
