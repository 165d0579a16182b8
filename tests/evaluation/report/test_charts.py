"""Plots show the numbers they are given."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from numpy.typing import NDArray

from comemory import metrics
from comemory.evaluation.report import ClipCurve
from comemory.evaluation.report.charts import MAX_POINTS, AxisRange, clip_chart, comparison_chart, roc_chart, thin_curve
from comemory.types import Event


def numbers(chart: Markup, name: str) -> list[float]:
    found = re.search(rf'data-{name}="([^"]*)"', chart)
    assert found is not None
    return [float(value) for value in found[1].split()]


def curve(chart: Markup, name: str) -> NDArray[np.float64]:
    """The points of a curve in the units of its data, read from the SVG as page.js does."""
    found = re.search(rf'<g class="{name}">\s*<path d="([^"]*)"', chart)
    assert found is not None
    points = np.array([float(v) for v in re.findall(r"-?[\d.]+(?:e-?\d+)?", found[1])]).reshape(-1, 2)
    left, top, right, bottom = numbers(chart, "box")
    (x0, x1), (y0, y1) = numbers(chart, "x"), numbers(chart, name)
    x = x0 + (points[:, 0] - left) / (right - left) * (x1 - x0)
    y = y0 + (bottom - points[:, 1]) / (bottom - top) * (y1 - y0)
    return np.stack([x, y], axis=1)


def n_bars(chart: Markup, name: str) -> int:
    return sum(group.count("<path") for group in re.findall(rf'<g class="{name}">(.*?)</g>', chart, re.DOTALL))


def event(first: int, last: int) -> Event:
    return Event("v", first, last, first, first / 10, last / 10, first / 10, 1.0)


def test_a_clip_is_drawn_where_its_numbers_are() -> None:
    score = np.array([0.0, 2.0, 1.0, 4.0, 0.5])
    labels = np.array([False, True, True, False, False])
    clip = ClipCurve("v", np.arange(5) / 10, score, labels, 10 * score, 1.5, [event(1, 1), event(3, 4)])
    chart = clip_chart(clip, AxisRange(0.0, 5.0), AxisRange(0.0, 50.0))
    np.testing.assert_allclose(curve(chart, "model"), np.stack([clip.time_s, score], axis=1), atol=1e-3)
    np.testing.assert_allclose(curve(chart, "baseline")[:, 1], 10 * score, atol=1e-2)
    assert (n_bars(chart, "alarm right"), n_bars(chart, "alarm wrong")) == (1, 1)
    assert 'class="threshold"' in chart
    assert "threshold 1.5, alarms: 2" in chart


def test_without_labels_no_alarm_is_called_false() -> None:
    clip = ClipCurve("v", np.arange(5) / 10, np.ones(5), threshold=0.5, events=[event(1, 2)])
    chart = clip_chart(clip, AxisRange(0.0, 1.0), None)
    assert (n_bars(chart, "alarm right"), n_bars(chart, "alarm wrong")) == (1, 0)


def test_a_name_in_a_description_is_escaped() -> None:
    chart = clip_chart(ClipCurve('"><b>', np.arange(3.0), np.ones(3)), AxisRange(0.0, 1.0), None)
    assert "<b>" not in chart


@given(st.integers(1, 5000), st.integers(0, 2**30))
@settings(deadline=None, max_examples=40)
def test_thinning_keeps_ends_order_and_extremes(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=n)
    stored = thin_curve(values)
    assert len(stored) <= MAX_POINTS + 2
    assert stored[0] == 0
    assert stored[-1] == n - 1
    assert np.all(np.diff(stored) > 0)
    assert values[stored].max() == values.max()
    assert values[stored].min() == values.min()


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (3.0, 3.0), (-1e50, -1e50), (-2.0, 5.0)])
def test_a_range_is_never_empty(low: float, high: float) -> None:
    found = AxisRange.with_margin(low, high, 0.05)
    assert found.low < low <= high < found.high


@pytest.mark.parametrize("n", [2, 50, 20_000])
def test_the_roc_curve_keeps_its_area_and_few_points(n: int) -> None:
    generator = np.random.default_rng(n)
    labels = np.arange(n) % 2 == 0
    scores = generator.normal(size=n) + labels
    drawn = curve(roc_chart(metrics.roc_curve(scores, labels), None), "model")
    np.testing.assert_allclose(drawn[[0, -1]], [[0, 0], [1, 1]], atol=1e-4)
    assert np.trapezoid(drawn[:, 1], drawn[:, 0]) == pytest.approx(metrics.auc(scores, labels), abs=2e-3)
    assert len(drawn) < 2000


def test_a_perfect_roc_curve_has_two_lines() -> None:
    perfect = metrics.roc_curve([0, 1, 2, 3], [False, False, True, True])
    np.testing.assert_allclose(curve(roc_chart(None, perfect), "baseline"), [[0, 0], [0, 1], [1, 1]], atol=1e-4)


@pytest.mark.parametrize(
    ("model", "interval", "baseline"), [(0.95, (0.9, 0.99), 0.97), (0.46, (0.31, 0.6), 0.2), (1.0, None, None)]
)
def test_the_comparison_states_its_numbers(model: float, interval: Any, baseline: float | None) -> None:
    chart = comparison_chart(model, interval, baseline)
    assert f"Micro AUC of the model {model:.3f}" in chart
    assert ("motion baseline" in chart) == (baseline is not None)


def test_colours_are_those_of_the_style_sheet() -> None:
    chart = comparison_chart(0.9, (0.8, 0.95), 0.7)
    assert "var(--model)" in chart
    assert not re.search("#[0-9a-f]{6}", chart)
