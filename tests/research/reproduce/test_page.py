"""The page of results comes from the table of rows only, and the shipped one is up to date."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from research.reproduce import made

from comemory.errors import ConfigError, SourceError
from comemory.models import MODELS
from comemory.research.reproduce.costs import network_settings_key, rows_with_costs
from comemory.research.reproduce.experiment import read_experiment
from comemory.research.reproduce.grid import TRAINING_VERSION
from comemory.research.reproduce.page import (
    PLOTS,
    TABLES,
    experiment_template,
    fill_marked,
    read_template,
    render_experiment,
    update_pages,
    write_page,
)
from comemory.research.reproduce.rows import read_rows
from comemory.research.reproduce.summary import selected_variant, summaries
from comemory.training.config import PRESETS

REPORTED = {"auc_micro": 0.997, "by": "the thesis", "on": None}
TEMPLATE = made.ROOT / "experiments" / "results.md.in"


def rendered(rows: list[dict[str, Any]], *blocks: str) -> str:
    return render_experiment(rows, "\n\n".join(f"{{{{ {block} }}}}" for block in blocks), "results")[0]


def variants(n_variants: int, **more: Any) -> list[dict[str, Any]]:
    """Rows of variants whose selection score ranks them as the test does, two seeds each."""
    return [
        made.row(
            f"v{number}",
            seed,
            0.9 + 0.01 * number + 0.001 * seed,
            order=[0, number],
            selection="pseudo",
            further={"pseudo": made.results(0.7 + 0.02 * number)},
            **more,
        )
        for number in range(n_variants)
        for seed in range(2)
    ]


def test_a_table_has_means_over_seeds_the_baseline_and_reported_results() -> None:
    rows = [made.row("with", seed, auc, reported=REPORTED) for seed, auc in enumerate((0.97, 0.98, 0.99))]
    rows.append(made.row("without", 0, 0.96, order=[0, 1]))
    text = rendered(rows, "table tiny")
    assert "**Synthetic scene**, micro AUC" in text
    assert "| motion baseline | *reported by the thesis* |" in text
    assert (
        "| with | 3 | 0.9800 ± 0.0100 | 0.9700 ± 0.0100 | 0.9600 ± 0.0100 | 0.9500 ± 0.0100 | 0.9000 | *0.997* |"
        in text
    )
    assert "| without | 1 | 0.9600 | 0.9500 | 0.9400 | 0.9300 | 0.9000 | – |" in text
    assert "All variants: preset `nano` with `train.epochs=1`." in text


def test_results_reported_on_other_data_say_so() -> None:
    reported = {**REPORTED, "on": "the whole of Avenue"}
    assert "*reported by the thesis, on the whole of Avenue*" in rendered([made.row(reported=reported)], "table tiny")


def test_data_sets_have_tables_of_their_own() -> None:
    rows = [made.row(data="avenue", data_title="Avenue subset", order=[1, 0]), made.row()]
    text = rendered(rows, "table tiny")
    assert text.index("**Synthetic scene**") < text.index("**Avenue subset**")


def test_rows_of_older_settings_are_left_out() -> None:
    old = [made.row(seed=seed, auc=0.5, group="old") for seed in range(3)]
    new = [made.row(seed=seed, auc=0.9, group="new") for seed in range(2)]
    (summary,) = summaries([*old, *new], "tiny")
    assert [row["group"] for row in summary.rows] == ["new", "new"]
    (summary,) = summaries([*new, *old], "tiny")
    assert len(summary.rows) == 3


def test_rows_of_an_earlier_version_are_counted() -> None:
    rows = [made.row(seed=0), made.row(seed=1, versions={"training": 1, "evaluation": 1})]
    assert "1 of them by an earlier version of the evaluation" in rendered(rows, "provenance tiny")
    assert "1 rows are of networks of an earlier version of the training" in rendered(rows, "provenance tiny")
    assert "earlier version" not in rendered(rows[:1], "provenance tiny")


def test_variants_of_an_earlier_version_are_marked_beside_others() -> None:
    old = made.row("old", versions={"training": TRAINING_VERSION, "evaluation": made.EVALUATION_VERSION - 1})
    mixed = rendered([old, made.row("new", order=[0, 1])], "table tiny")
    assert "| old † | 1 |" in mixed
    assert "| new | 1 |" in mixed
    assert "| old † |" in rendered([old, made.row("new", order=[0, 1])], "cost tiny")
    assert "version of the evaluation, marked †." in rendered([old, made.row("new", order=[0, 1])], "provenance tiny")
    assert "†" not in rendered([old], "table tiny")


def test_the_preset_is_that_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [made.row()]
    assert "All variants: preset `nano` with `train.epochs=1`." in rendered(rows, "table tiny")
    monkeypatch.setitem(PRESETS["nano"]["train"], "lr", 1e-4)
    assert "All variants: preset `nano` with `train.epochs=1`, `train.lr=0.002`." in rendered(rows, "table tiny")


def test_rows_of_other_experiments_are_left_out() -> None:
    assert summaries([made.row(experiment="other")], "tiny") == []


def test_metrics_of_a_variant_are_shown_under_both_protocols() -> None:
    text = rendered([made.row(seed=seed, auc=0.9 + seed / 100) for seed in range(2)], "metrics tiny/default")
    assert "2 videos, 52 of 60 frames scored" in text
    assert "| AUC, micro | 0.9050 ± 0.0071 | 0.8950 ± 0.0071 |" in text
    assert "| average precision | 0.9500 ± 0.0000 | 0.9400 ± 0.0000 |" in text
    assert "| anomalies missed, seed by seed | 1, 1 | – |" in text
    assert "0.850 to 0.900, 0.860 to 0.910" in text
    assert "RBDC" not in text


def test_a_protocol_matrix_has_its_smoothings_as_columns() -> None:
    protocols = [
        {"score": "model", "normalisation": normalisation, "smoothing": smoothing, "auc_micro": 0.9, "auc_macro": macro}
        for normalisation in ("raw", "offline_max")
        for smoothing, macro in (("none", None), ("causal", 0.95))
    ]
    rows = [made.row(seed=seed, results=made.results(0.9, protocols=protocols)) for seed in range(2)]
    text = rendered(rows, "protocols tiny/default")
    assert "| | none | causal |" in text
    assert "| model, offline max, AUC, micro | 0.9000 ± 0.0000 | 0.9000 ± 0.0000 |" in text
    assert "| model, raw, AUC, macro | – | 0.9500 ± 0.0000 |" in text
    assert rendered([made.row()], "protocols tiny/default").count("|") == 0


def test_the_cost_of_each_variant_is_shown_and_older_rows_have_none() -> None:
    cost = {"parameters": 246_000, "frozen_parameters": 0, "macs": 279_400_000, "cpu_ms": 3.14}
    results = made.results(0.9, frames_per_second=71.6)
    training = {**made.row()["training"], "cpu_s": 900.0}
    rows = [made.row("new", cost=cost, results=results, training=training), made.row("old", results=results)]
    lines = [line for line in rendered(rows, "cost tiny").splitlines() if line.startswith("| ")]
    assert lines[1:] == ["| new | 246 | 279 | 3.1 | 72 | 30.0 | 15.0 |", "| old | – | – | – | 72 | 30.0 | – |"]


def test_costs_that_were_measured_by_turns_stand_beside_the_rows_of_their_settings(tmp_path: Path) -> None:
    table = made.write_rows(tmp_path / "rows.jsonl", [made.row("one"), made.row("two", config={"model": "comemory"})])
    cost = {"parameters": 1000, "frozen_parameters": 0, "macs": 2_000_000, "cpu_ms": 3.14}
    known = {"any": {"settings": network_settings_key(made.row()["config"]), **cost}}
    (tmp_path / "tiny-costs.json").write_text(json.dumps({"networks": known}))
    lines = rendered(rows_with_costs(table), "cost tiny").splitlines()
    assert lines[-2:] == ["| one | 1 | 2 | 3.1 | – | 30.0 | – |", "| two | – | – | – | – | 30.0 | – |"]
    (tmp_path / "tiny-costs.json").write_text('{"networks": [1]}')
    with pytest.raises(ConfigError, match=r"tiny-costs\.json is not a file of costs"):
        rows_with_costs(table)


def test_budgets_have_a_row_each() -> None:
    def at(seed: int) -> list[dict[str, Any]]:
        alarms = {"false_alarms_per_hour": 10.0 * seed, "missed_anomalies": seed, "detection_delay_s": 0.5}
        return [
            {"false_alarm_budget": budget, "threshold": threshold, **alarms, "detection_delay_in_view_s": in_view}
            for budget, threshold, in_view in (("1/day", 5.25, None), ("1/h", 3.75, 2.0))
        ]

    rows = [made.row(seed=seed, results=made.results(0.9, budgets=at(seed))) for seed in range(2)]
    text = rendered(rows, "budgets tiny/default")
    assert "| `1/day` | 5.25 ± 0.00 | 5.0 ± 7.1 | 0.50 ± 0.00 | – | 0.5 ± 0.7 |" in text
    assert "| `1/h` | 3.75 ± 0.00 | 5.0 ± 7.1 | 0.50 ± 0.00 | 2.00 ± 0.00 | 0.5 ± 0.7 |" in text
    assert rendered([made.row()], "budgets tiny/default").count("|") == 0


def test_ranks_show_how_well_the_selection_score_selects() -> None:
    text = rendered(variants(6), "ranks tiny")
    assert "| Synthetic scene | 6 | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) | v5 | 0.9505 | 0.9505 |" in text
    assert "Selected over all data sets, by the mean of the selection scores: **v5**." in text
    assert "No variant has a selection score" in rendered([made.row()], "ranks tiny")


def test_each_perturbation_is_ranked_by_its_own_videos() -> None:
    rows = variants(6)
    for row in rows:
        height = row["order"][1] / 10
        videos = {"fast-01": height, "fast-02": height + 0.1, "frozen-01": 0.9 - height, "normal-01": None}
        row["further"]["pseudo"]["per_video"] = [{"name": k, "auc_against_all": v} for k, v in videos.items()]
    text = rendered(rows, "perturbations tiny/v2")
    assert "| | AUC of v2 | Spearman | Kendall |" in text
    assert "| `fast` | 0.2500 ± 0.0000 | 1.00 (1.00 to 1.00) | 1.00 (1.00 to 1.00) |" in text
    assert "| `frozen` | 0.7000 ± 0.0000 | -1.00 (-1.00 to -1.00) | -1.00 (-1.00 to -1.00) |" in text
    assert "normal" not in text
    assert "|" not in rendered(variants(3), "perturbations tiny"), "rows of an earlier evaluation lack these metrics"


def test_the_selected_variant_has_a_score_on_every_data_set() -> None:
    rows = [*variants(3), *variants(2, data="avenue")]
    assert selected_variant(summaries(rows, "tiny")) == "v1"
    assert selected_variant(summaries([made.row()], "tiny")) is None
    assert "v1" in rendered([*variants(3), *variants(2, data="avenue")], "metrics tiny")


def test_the_provenance_names_command_commit_hardware_and_time() -> None:
    rows = [made.row(seed=0), made.row(seed=1, training={**made.row()["training"], "dirty": True, "gpu": "Some GPU"})]
    text = rendered(rows, "provenance tiny")
    assert "`comemory reproduce tiny --seeds 2`" in text
    assert "commits 0123456789ab, 0123456789ab with changes" in text
    assert "Some CPU, 1 thread; Some CPU, 1 thread, Some GPU" in text
    assert "2 networks trained in 1.0 h, epochs 1" in text


def test_the_provenance_names_the_file_of_an_own_experiment() -> None:
    text, _ = render_experiment([made.row()], "{{ provenance tiny }}", "page", {"tiny": "mine/tiny.toml"})
    assert "`comemory reproduce mine/tiny.toml --seeds 1`" in text
    text, _ = render_experiment([], "{{ table tiny }}", "page", {"tiny": "mine/tiny.toml"})
    assert "run `comemory reproduce mine/tiny.toml`" in text


def test_a_network_that_two_runs_share_counts_once() -> None:
    assert "1 networks trained in 0.5 h" in rendered(
        [made.row("a", network="n"), made.row("b", network="n")], "provenance tiny"
    )


def test_an_experiment_without_rows_names_the_command() -> None:
    assert "*No rows yet: run `comemory reproduce tiny`.*" in rendered([], "table tiny", "plot tiny", "provenance tiny")


def test_an_unknown_block_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean 'table'"):
        rendered([], "tabel tiny")


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    table = made.write_rows(tmp_path / "rows.jsonl", variants(4))
    template = tmp_path / "page.md.in"
    template.write_text("# Page\n\n{{ plot tiny }}\n\n{{ plot-ranks tiny }}\n\n{{ table tiny }}\n")
    first, second = (write_page(table, tmp_path / name / "page.md", template.read_text()) for name in ("one", "two"))
    assert [path.name for path in first] == ["page.md", "tiny.svg", "tiny-ranks.svg"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert "(page/tiny.svg)" in first[0].read_text()
    assert all(b"<svg" in path.read_bytes() for path in first[1:])
    assert all(len(path.read_bytes()) < 100_000 for path in first)


def test_a_missing_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot read the template"):
        read_template(tmp_path / "none.md.in")


def test_the_shipped_page_equals_that_of_the_shipped_rows() -> None:
    page = made.ROOT / "docs" / "results.md"
    rows = rows_with_costs(made.ROOT / "docs" / "results" / "rows.jsonl")
    text, plots = render_experiment(rows, TEMPLATE.read_text(encoding="utf-8"), page.stem)
    assert page.read_text(encoding="utf-8") == text, "run: comemory reproduce --render"
    shipped = {path.name: path.read_text(encoding="utf-8") for path in (page.parent / page.stem).glob("*.svg")}
    assert sorted(shipped) == sorted(plots), "run: comemory reproduce --render"
    assert shipped == plots, "run: comemory reproduce --render"


RIVALS = sorted(path for path in (made.ROOT / "docs/explanation/rivals").glob("*.md") if path.stem != "index")


@pytest.mark.parametrize("page", RIVALS, ids=lambda path: path.stem)
def test_the_page_of_a_network_has_its_row_a_figure_and_what_differs(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    rows = read_rows(made.ROOT / "docs" / "results" / "rows.jsonl")
    assert fill_marked(rows, text) == text, "run: comemory reproduce --render"
    assert re.findall(r"rows: row comparison/(\S+) ", text) == re.findall(r"--set model=(\S+) ", text)
    assert "\n```text\n" in text
    assert "\n## What differs from the publication\n\n| published | here | why |\n" in text


def test_every_network_has_a_page() -> None:
    told = [name for page in RIVALS for name in re.findall(r"--set model=(\S+) ", page.read_text(encoding="utf-8"))]
    assert sorted(told) == sorted(MODELS.keys() - {"comemory", "motion-baseline"})


def test_a_page_written_by_hand_is_filled_between_its_marks(tmp_path: Path) -> None:
    older = {"training": TRAINING_VERSION, "evaluation": made.EVALUATION_VERSION - 1}
    rows = [
        made.row(reported=REPORTED),
        made.row(data="avenue", data_title="Avenue subset", order=[1, 0], versions=older),
    ]
    table = made.write_rows(tmp_path / "rows.jsonl", rows)
    page = tmp_path / "page.md"
    page.write_text("Before.\n<!-- rows: row tiny/default -->\nold\n<!-- end -->\nAfter.\n")
    (tmp_path / "other.md").write_text("{{ table tiny }}\n")
    assert update_pages(table, tmp_path) == [page]
    text = page.read_text()
    assert text.startswith("Before.\n<!-- rows: row tiny/default -->\n\n| micro AUC |")
    assert "\n| Synthetic scene | 1 | 0.9500 | 0.9400 | 0.9000 | *0.997 (the thesis)* |\n" in text
    assert f"| Avenue subset, by version {made.EVALUATION_VERSION - 1} of the evaluation | 1 |" in text
    assert text.endswith("\n\n<!-- end -->\nAfter.\n")
    assert update_pages(table, tmp_path) == []
    assert "*No row yet.*" in fill_marked(rows, "<!-- rows: row tiny/none -->\n<!-- end -->\n")
    with pytest.raises(ConfigError, match="a page names the block 'rwo': did you mean 'row'"):
        fill_marked(rows, "<!-- rows: rwo tiny/default -->\n<!-- end -->\n")


def test_the_text_of_the_shipped_page_holds_no_results() -> None:
    words = re.sub(r"\{\{.*?\}\}|\]\([^)]*\)|`[^`]*`", "", TEMPLATE.read_text(encoding="utf-8"))
    assert re.findall(r"\d\.\d+|\d+ ?%", words) == []


def test_every_block_is_documented() -> None:
    page = (made.ROOT / "docs" / "how-to" / "reproduce.md").read_text(encoding="utf-8")
    assert [block for block in (*TABLES, *PLOTS) if f"`{{{{ {block} NAME" not in page] == []


def test_an_experiment_has_a_page_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(made.TINY, encoding="utf-8")
    template = experiment_template("tiny", read_experiment(path))
    text = render_experiment([made.row()], template, "page")[0]
    assert "# Tiny" in text
    assert "**Synthetic scene**, micro AUC" in text
    assert "(page/tiny.svg)" in text
    assert "No rows yet" not in text


class TestScenes:
    """The variant of each scene is chosen on all the others; a row chosen with all labels stands beside it."""

    AUCS: ClassVar = {"ped2": (0.98, 0.97), "ped1": (0.80, 0.90), "avenue": (0.90, 0.70), "syn": (0.90, 0.80)}

    def rows(self) -> list[dict[str, Any]]:
        return [
            made.row(
                f"v{k}",
                0,
                auc,
                data=scene,
                data_title=scene.title(),
                order=[number, k],
                datasets=dict.fromkeys(("train", "test"), f"{'synthetic:seed=1' if scene == 'syn' else scene}:x"),
            )
            for number, (scene, aucs) in enumerate(self.AUCS.items())
            for k, auc in enumerate(aucs)
        ]

    def test_each_scene_has_the_variant_that_is_best_on_all_others(self) -> None:
        text = rendered(self.rows(), "scenes tiny")
        assert "| | Ped2 | Ped1 | Avenue | Syn | mean of recorded | worst of recorded |" in text
        assert "| chosen with all labels: v0 | 0.9800 | 0.8000 | 0.9000 | 0.9000 | 0.8933 | 0.8000 |" in text
        assert "| **each scene by the variant chosen on all others** | 0.9800 | 0.8000 | 0.9000 | 0.9000 |" in text
        better = [row for row in self.rows() if row["data"] != "ped1" or row["variant"] == "v0"]
        better.append({**next(r for r in self.rows() if (r["data"], r["variant"]) == ("ped1", "v1"))})
        better[-1]["results"] = made.results(0.99)
        text = rendered(better, "scenes tiny")
        assert (
            "| **each scene by the variant chosen on all others** | 0.9800 | 0.8000 | 0.7000 | 0.9000 | 0.8267 |"
            in text
        )
        assert "Chosen on all others, for Ped2: v0; Ped1: v0; Avenue: v1; Syn: v0." in text

    def test_the_baseline_and_the_thesis_stand_beside(self) -> None:
        text = rendered(self.rows(), "scenes tiny")
        assert "| motion baseline | 0.9000 | 0.9000 | 0.9000 | 0.9000 | 0.9000 | 0.9000 |" in text
        assert "| Eq. (16) | 0.9600 | 0.7800 | 0.8800 | 0.8800 | 0.8733 | 0.7800 |" in text

    def test_a_variant_that_lacks_a_scene_is_named_and_left_out(self) -> None:
        rows = [row for row in self.rows() if (row["data"], row["variant"]) != ("syn", "v1")]
        text = rendered(rows, "scenes tiny")
        assert "Not run on every scene, and so not in the table: v1." in text
        assert "| v1 |" not in text
