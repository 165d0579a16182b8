"""The written page: complete, self-contained, safe against any name, and accessible."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory import metrics
from comemory.errors import EvaluationError
from comemory.evaluation.report import ClipCurve, EvaluationReport, WorstFrame, write_report
from comemory.evaluation.report.page import render_report
from comemory.types import JSON, Event

VOID = {"br", "img", "meta"}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; alert(1); '",
    "</style></title></svg><iframe src=//evil>",
    "&lt;b&gt; &amp;",
    "javascript:alert(1)",
    "\udce9\x00\x1b[31m name",
    "\u202eltr\u202c",
    "x" * 3000,
    "",
]


class Page(HTMLParser):
    """The elements of a page, its text, and whether everything that opens also closes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def results(**causal: Any) -> JSON:
    known = {"auc_micro": 0.9, "auc_micro_ci95": [0.85, 0.94], "auc_macro": 0.88, "ap": 0.93, "eer": 0.16}
    known |= {"fpr95": 0.4, "pixel_auc": 0.7, "rbdc": 0.5, "tbdc": 0.6}
    known |= {"false_alarms_per_hour": 38.4, "detection_delay_s": 0.42}
    return {
        "dataset": "ped2",
        "n_videos": 12,
        "n_frames": 2010,
        "n_scored": 1962,
        "causal": known | causal,
        "paper": {"auc_micro": 0.91, "auc_macro": 0.92},
        "motion_baseline": {"auc_micro": 0.8},
        "frames_per_second": 31.7,
    }


def clip(name: str = "01", n: int = 60, **changes: Any) -> ClipCurve:
    generator = np.random.default_rng(n)
    labels = np.arange(n) >= n // 2
    score = generator.normal(size=n) + 2.0 * labels
    event = Event(name, n // 2, n - 1, n // 2, n / 20, (n - 1) / 10, n / 20, 3.0)
    known: dict[str, Any] = {
        "labels": labels,
        "motion_baseline": 50 * np.abs(score),
        "threshold": 1.5,
        "events": [event],
    }
    return ClipCurve(name, np.arange(n) / 10, score, **(known | changes))


def finding(kind: Any = "false alarm", video: str = "01", heat: bool = True) -> WorstFrame:
    picture = np.random.default_rng(0).integers(0, 255, (24, 36, 3), dtype=np.uint8)
    heat_map = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4) if heat else None
    return WorstFrame(kind, video, 1234, 75.25, 4.2, picture, heat_map)


def report(**changes: Any) -> EvaluationReport:
    curve = clip()
    roc = metrics.roc_curve(curve.score, curve.labels)
    known: dict[str, Any] = {
        "title": "A title",
        "dataset": "UCSD Ped2",
        "model": {"name": "comemory", "preset": "small", "seed": 0, "date": "2026-11-23", "bundle_hash": "9f2c"},
        "results": results(),
        "clips": [curve, clip("02", 40)],
        "findings": [finding(), finding("miss", "02", heat=False)],
        "model_roc": roc,
        "baseline_roc": roc,
        "notes": ["The first 4 frames have no score."],
    }
    return EvaluationReport(**(known | changes))


def test_the_page_shows_the_report() -> None:
    words = Page(render_report(report())).words
    for part in [
        "A title",
        "UCSD Ped2 · 12 clips · 2,010 frames · 1,962 of them scored",
        "comemory · small · seed 0 · 2026-11-23",
        "0.900",
        "95 %: 0.850–0.940",
        "model +0.100",
        "38.4",
        "0.42 s",
        "31.7",
        "a model below it has learned nothing useful",
        "The model is above the motion baseline, and so is its whole 95 % interval: AUC 0.900 against 0.800.",
        "Paper protocol",
        "frame 1,234 · 1:15.2",
        "score 4.20",
        "The first 4 frames have no score.",
        "bundle hash",
    ]:
        assert part in words, part
    assert "n/a" not in words
    assert "Why a metric is n/a" not in words


def test_the_page_asks_the_network_for_nothing() -> None:
    text = render_report(report())
    page = Page(text)
    assert not page.open
    addresses = [a[key] for _, a in page.elements for key in ("src", "href") if key in a]
    assert all(address and address.startswith(("data:image/jpeg;base64,", "#")) for address in addresses)
    assert not re.search(r"https?:|url\((?!#)|@import|fetch\(|XMLHttpRequest", text)
    assert not page.all("link")


def test_only_the_script_of_the_page_may_run() -> None:
    text = render_report(report())
    script = text.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for a in Page(text).all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_becomes_markup(name: str, tmp_path: Path) -> None:
    shown = report(
        title=name,
        dataset=name,
        model={name: name, "name": name},
        clips=[clip(name)],
        findings=[finding(video=name)],
        reasons={"rbdc": name},
        notes=[name],
        results=results(rbdc=None) | {"dataset": name},
        baseline_description=name,
    )
    write_report(tmp_path / "report.html", shown)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page, plain = Page(text), Page(render_report(report()))
    assert not page.open
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements} | {"footer", "ol", "sup", "a"}
    assert len(page.all("script")) == 1
    assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)


@given(st.text(max_size=60))
@settings(deadline=None, max_examples=25)
def test_names_are_shown_unchanged(name: str) -> None:
    page = Page(render_report(report(title=name, clips=[], findings=[])))
    assert len(page.all("script")) == 1
    kept = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", name)
    assert kept.split() == [] or " ".join(kept.split()) in page.words


def test_missing_metrics_are_explained() -> None:
    nothing = dict.fromkeys(results()["causal"])
    shown = report(
        results={
            "causal": nothing,
            "paper": {"eer": None},
            "motion_baseline": {"auc_micro": None},
            "frames_per_second": None,
        },
        reasons={
            "causal.rbdc": "The bundle gives no map.",
            "tbdc": "No tracks are known.",
            "paper.eer": "Not asked for.",
        },
        model_roc=None,
        baseline_roc=None,
    )
    page = Page(render_report(shown))
    assert "cannot be compared" in page.words
    for reason in ("The bundle gives no map.", "No tracks are known.", "Not asked for.", "Needs a timed run."):
        assert page.words.count(reason) == 1
    links = {a["href"] for a in page.all("a")}
    targets = {f"#{a['id']}" for a in page.all("li") if "id" in a}
    assert links == targets
    assert not re.search(r"\b(nan|None)\b", page.words.split("Results as JSON")[0])


def test_columns_mark_the_metrics_they_lack() -> None:
    page = Page(render_report(report(results={"causal": {"auc_micro": 0.9}})))
    assert page.words.count("–") >= 25
    assert "n/a" in page.words


def test_a_title_alone_makes_a_page() -> None:
    page = Page(render_report(EvaluationReport(title="Empty", dataset="none", model={}, results={})))
    assert not page.open
    assert "Empty" in page.words


@pytest.mark.parametrize(
    ("model", "interval", "baseline", "words"),
    [
        (0.7, [0.6, 0.78], 0.8, "The model is below the motion baseline: AUC 0.700 against 0.800"),
        (0.8, [0.7, 0.9], 0.8, "no better than the motion baseline"),
        (0.82, [0.75, 0.9], 0.8, "these videos do not settle it"),
        (0.9, None, 0.8, "There is no interval for it"),
        (0.9, [0.85, 0.95], None, "cannot be compared"),
        (0.46, [0.4, 0.5], 0.42, "these videos do not settle it"),
    ],
)
def test_the_verdict_follows_the_numbers(
    model: float, interval: list[float] | None, baseline: float | None, words: str
) -> None:
    shown = results(auc_micro=model, auc_micro_ci95=interval) | {"motion_baseline": {"auc_micro": baseline}}
    assert words in Page(render_report(report(results=shown))).words


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), "0.9", True, [0.9]])
def test_a_metric_that_is_not_a_number_is_refused(wrong: object) -> None:
    with pytest.raises(EvaluationError, match=r"metric causal\.ap is .*: expected a finite number or None"):
        render_report(report(results=results(ap=wrong)))


@pytest.mark.parametrize("wrong", [0.9, "ab", [0.1], [0.9, 0.1], [0.1, float("nan")], [None, 0.5]])
def test_a_malformed_interval_is_refused(wrong: object) -> None:
    with pytest.raises(EvaluationError):
        render_report(report(results=results(auc_micro_ci95=wrong)))


def test_numpy_numbers_are_numbers() -> None:
    shown = results(auc_micro=np.float64(0.9), ap=np.float32(0.5)) | {"n_frames": np.int64(2010)}
    page = Page(render_report(report(results=shown)))
    assert "2,010 frames" in page.words
    assert "0.500" in page.words


def test_the_json_on_the_page_can_be_read_back() -> None:
    text = render_report(report(results=results() | {"dataset": "</pre><b>"}))
    inside = text.split("<pre>")[1].split("</pre>")[0]
    assert json.loads(Page(f"<p>{inside}</p>").words)["dataset"] == "</pre><b>"


def test_the_page_is_accessible_and_fits_a_phone() -> None:
    page = Page(render_report(report()))
    assert page.all("html")[0]["lang"] == "en"
    assert any("width=device-width" in (a.get("content") or "") for a in page.all("meta"))
    assert all(a.get("alt") for a in page.all("img"))
    assert all(a.get("role") == "img" and a.get("aria-label") for a in page.all("svg"))
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    assert len(page.all("caption")) == 1
    assert len(page.all("h1")) == 1


def test_the_style_covers_dark_print_and_small_screens() -> None:
    style = render_report(report()).split("<style>")[1].split("</style>")[0]
    for query in ("prefers-color-scheme: dark", "@media print", "max-width"):
        assert query in style
    assert style.count("{") == style.count("}")


def test_every_class_on_the_page_is_in_the_style() -> None:
    page = Page(render_report(report(results=results(rbdc=None))))
    style = render_report(report()).split("<style>")[1].split("</style>")[0]
    used = {name for _, a in page.elements for name in (a.get("class") or "").split()}
    curves = {"model", "baseline", "threshold", "alarm", "right", "wrong"}
    plain = curves | {"clip", "better", "worse", "unsure", "lead", "value"}
    assert {name for name in used if f".{name}" not in style} <= plain


def test_galleries_show_both_kinds_and_state_when_empty() -> None:
    page = Page(render_report(report()))
    alts = [a["alt"] for a in page.all("img")]
    assert [alt.split(":")[0] for alt in alts if alt] == ["Image", "Heat map", "Image"]
    assert "None to show" in Page(render_report(report(findings=[]))).words
    assert "the heat map, where" not in Page(render_report(report(findings=[finding(heat=False)]))).words


def test_clips_show_their_auc_or_why_there_is_none() -> None:
    n = 20
    shown = [
        clip("a", n),
        clip("b", n, labels=np.ones(n, bool)),
        clip("c", n, labels=np.zeros(n, bool)),
        clip("d", n, labels=None, motion_baseline=None, threshold=None, events=()),
        ClipCurve("e", np.zeros(0), np.zeros(0)),
        ClipCurve("f", np.zeros(1), np.zeros(1), threshold=0.0),
    ]
    words = Page(render_report(report(clips=shown))).words
    for part in ("AUC 0.", "all frames abnormal", "all frames normal", "not labelled", "No frame of this clip"):
        assert part in words


def test_clips_share_an_axis_unless_one_is_much_higher() -> None:
    assert "All clips share one score axis" in Page(render_report(report())).words
    tower = clip("tower", 50)
    tower = replace(tower, score=tower.score * 100)
    shown = [clip(str(i), 40 + i) for i in range(5)]
    assert "each has its own" in Page(render_report(report(clips=[*shown, tower]))).words


def test_a_report_is_written_completely_and_replaced(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "report.html"
    write_report(target, report(title="first"))
    write_report(str(target), report(title="second"))
    assert "second" in target.read_text(encoding="utf-8")
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]


def test_a_refused_report_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    write_report(target, report(title="kept"))
    with pytest.raises(EvaluationError):
        write_report(target, report(results=results(ap=float("nan"))))
    assert "kept" in target.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [target]


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for target in (tmp_path / "file" / "report.html", tmp_path / "folder", tmp_path / ("n" * 300), Path("a\0b")):
        with pytest.raises(EvaluationError, match="cannot write the report") as caught:
            write_report(target, report(clips=[], findings=[]))
        assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_reports_of_long_videos_stay_small(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report(clips=[clip("long", 200_000)], findings=[]))
    assert (tmp_path / "report.html").stat().st_size < 160_000


def records(**changes: Any) -> list[JSON]:
    known = [
        {"score": score, "normalisation": how, "smoothing": smoothing, "auc_micro": 0.9876, "auc_macro": None}
        for score in ("model", "motion_baseline")
        for how in ("raw", "offline_max")
        for smoothing in ("none", "offline_gaussian")
    ]
    known[0] |= changes
    return known


def at_budgets(**changes: Any) -> list[JSON]:
    known = [
        {"false_alarm_budget": budget, "threshold": threshold, "false_alarms_per_hour": alarms, "missed_anomalies": 2}
        | {"detection_delay_s": 1.25, "detection_delay_in_view_s": None}
        for budget, threshold, alarms in (("1/day", 5.16, 0.0), ("1/h", 3.78, 31.7))
    ]
    known[0] |= changes
    return known


def test_budgets_have_a_row_each() -> None:
    words = Page(
        render_report(report(results=results() | {"budgets": at_budgets(detection_delay_in_view_s=2.5)}))
    ).words
    for part in (
        "Alarms at other false-alarm budgets",
        "1/day",
        "5.16",
        "0.00",
        "1/h",
        "3.78",
        "31.7",
        "1.25 s",
        "2.50 s",
    ):
        assert part in words, part
    assert "Alarms at other false-alarm budgets" not in Page(render_report(report())).words


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_of_a_budget_becomes_markup(name: str) -> None:
    page = Page(render_report(report(results=results() | {"budgets": at_budgets(false_alarm_budget=name)})))
    plain = Page(render_report(report(results=results() | {"budgets": at_budgets(false_alarm_budget="a")})))
    assert not page.open
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]


@pytest.mark.parametrize("wrong", ["all", [1], {"1/h": 1}, [{"threshold": "high"}], [{"threshold": float("nan")}]])
def test_malformed_budgets_are_refused(wrong: Any) -> None:
    with pytest.raises(EvaluationError, match="expected"):
        render_report(report(results=results() | {"budgets": wrong}))


def test_the_matrix_of_protocols_has_a_row_for_each_score_and_normalisation() -> None:
    words = Page(
        render_report(report(results=results() | {"protocols": records(auc_micro=0.4321, auc_macro=0.5)}))
    ).words
    for part in (
        "The same scores under other protocols",
        "0.432 / 0.500",
        "0.988 / –",
        "each clip divided by its maximum",
        "Offline smoothing",
    ):
        assert part in words, part
    assert words.count("0.988 / –") == 7
    assert "The same scores under other protocols" not in Page(render_report(report())).words


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_no_name_in_the_matrix_becomes_markup(name: str) -> None:
    hostile = records(score=name, normalisation=name, smoothing=name)
    page = Page(render_report(report(results=results() | {"protocols": hostile})))
    plain = Page(
        render_report(report(results=results() | {"protocols": records(score="a", normalisation="b", smoothing="c")}))
    )
    assert not page.open
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]


@pytest.mark.parametrize(
    "wrong", ["all", [1], {"score": "model"}, [{"auc_micro": "high"}], [{"auc_micro": float("nan")}]]
)
def test_a_malformed_matrix_is_refused(wrong: Any) -> None:
    with pytest.raises(EvaluationError, match="expected"):
        render_report(report(results=results() | {"protocols": wrong}))


def test_galleries_say_when_no_alarm_was_false_and_none_was_missed() -> None:
    quiet = Page(render_report(report(results=results() | {"threshold": 9.0}, findings=[finding()]))).words
    assert "None is above the threshold, so none raised an alarm." in quiet
    assert "below the threshold" in quiet
    loud = Page(
        render_report(report(results=results() | {"threshold": 1.0}, findings=[finding(), finding("miss")]))
    ).words
    assert "none raised an alarm" not in loud
    assert "None is below the threshold, so none was missed." in loud


def test_the_true_outline_is_drawn_into_a_miss() -> None:
    mask = np.zeros((24, 36), np.bool_)
    mask[8:16, 10:20] = True
    plain, outlined = (report(findings=[replace(finding("miss"), mask=m)]) for m in (None, mask))
    assert "The outline is that of the labelled anomaly." in Page(render_report(outlined)).words
    assert Page(render_report(plain)).all("img")[0]["src"] != Page(render_report(outlined)).all("img")[0]["src"]


def test_identifiers_are_unique() -> None:
    identifiers = re.findall(r'\sid="([^"]*)"', render_report(report(clips=[clip(str(i), 40 + i) for i in range(4)])))
    assert len(identifiers) == len(set(identifiers))


def test_an_evaluation_without_a_report_needs_no_plotting_packages() -> None:
    code = (
        "import sys\n"
        "for name in ('matplotlib', 'jinja2', 'markupsafe'): sys.modules[name] = None\n"
        "import comemory.evaluation.evaluate, comemory.evaluation.report\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
