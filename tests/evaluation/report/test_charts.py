"""Charts draw the numbers they are given."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from comemory import metrics
from comemory.evaluation.report import ClipCurve
from comemory.evaluation.report.charts import (
    HEIGHT,
    MOST_POINTS,
    WIDTH,
    Span,
    against_chart,
    clip_chart,
    roc_chart,
    thinned,
    ticks,
)
from comemory.evaluation.report.markup import Markup
from comemory.types import Event


def points(chart: Markup, css: str) -> NDArray[np.float64]:
    found = re.search(rf'<polyline points="([^"]*)" class="{css}"', chart)
    assert found is not None
    return np.array([[float(v) for v in point.split(",")] for point in found.group(1).split()])


def bands(chart: Markup, css: str) -> list[tuple[float, float]]:
    found = re.findall(rf'<rect x="([^"]*)" y="[^"]*" width="([^"]*)" height="[^"]*" class="{css}"', chart)
    return [(float(x), float(x) + float(width)) for x, width in found]


def event(first: int, last: int) -> Event:
    return Event("v", first, last, first, first / 10, last / 10, first / 10, 1.0)


def test_a_clip_is_drawn_where_its_numbers_are() -> None:
    score = np.array([0.0, 2.0, 1.0, 4.0, 0.5])
    labels = np.array([False, True, True, False, False])
    clip = ClipCurve("v", np.arange(5) / 10, score, labels, 10 * score, 1.5, [event(1, 1), event(3, 4)])
    chart = clip_chart(clip, Span(0.0, 5.0), Span(0.0, 50.0))
    drawn = points(chart, "model")
    np.testing.assert_allclose(drawn[:, 0] / WIDTH * 0.4, clip.time_s, atol=1e-4)
    np.testing.assert_allclose((1 - drawn[:, 1] / HEIGHT) * 5, score, atol=1e-3)
    np.testing.assert_allclose(points(chart, "control"), drawn)
    assert bands(chart, "truth") == [(250.0, 750.0)]
    assert bands(chart, "alarm right") == [(250.0, 500.0)]
    assert bands(chart, "alarm wrong") == [(750.0, 1000.0)]
    assert re.search(r'class="threshold"', chart)
    assert "threshold 1.5, alarms: 2" in chart


def test_without_labels_no_alarm_is_called_false() -> None:
    clip = ClipCurve("v", np.arange(5) / 10, np.ones(5), threshold=0.5, events=[event(1, 2)])
    chart = clip_chart(clip, Span(0.0, 1.0), None)
    assert bands(chart, "truth") == []
    assert len(bands(chart, "alarm right")) == 1


def test_an_event_beyond_the_scored_frames_stays_inside() -> None:
    clip = ClipCurve("v", np.arange(5) / 10, np.ones(5), threshold=0.5, events=[event(2, 90)])
    assert bands(clip_chart(clip, Span(0.0, 1.0), None), "alarm right") == [(500.0, 1000.0)]


@given(st.integers(1, 5000), st.integers(0, 2**30))
@settings(deadline=None, max_examples=40)
def test_thinning_keeps_ends_order_and_extremes(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=n)
    kept = thinned(values)
    assert len(kept) <= MOST_POINTS + 2
    assert kept[0] == 0
    assert kept[-1] == n - 1
    assert np.all(np.diff(kept) > 0)
    assert values[kept].max() == values.max()
    assert values[kept].min() == values.min()


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 8))
@settings(deadline=None, max_examples=150)
def test_ticks_are_few_round_and_inside(low: float, width: float, n_most: int) -> None:
    span = Span(low, low + width)
    marks = ticks(span, n_most)
    assert len(marks) <= n_most + 1
    room = 1e-6 * (span.high - span.low) + 1e-9 * abs(span.high)
    assert all(span.low - room <= mark <= span.high + room for mark in marks)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (3.0, 3.0), (-1e50, -1e50), (-2.0, 5.0)])
def test_a_span_is_never_empty(low: float, high: float) -> None:
    span = Span.around(low, high, 0.05)
    assert span.low < low <= high < span.high
    assert ticks(span)


@pytest.mark.parametrize("n", [2, 50, 20_000])
def test_the_roc_curve_keeps_its_area_and_few_points(n: int) -> None:
    generator = np.random.default_rng(n)
    labels = np.arange(n) % 2 == 0
    scores = generator.normal(size=n) + labels
    curve = metrics.roc_curve(scores, labels)
    drawn = points(roc_chart(curve, None), "model") / WIDTH
    assert drawn[0].tolist() == [0.0, 1.0]
    assert drawn[-1].tolist() == [1.0, 0.0]
    assert np.trapezoid(1 - drawn[:, 1], drawn[:, 0]) == pytest.approx(metrics.auc(scores, labels), abs=2e-3)
    assert len(drawn) < 2000


def test_a_perfect_roc_curve_is_two_lines() -> None:
    curve = metrics.roc_curve([0, 1, 2, 3], [False, False, True, True])
    assert points(roc_chart(None, curve), "control").tolist() == [[0.0, 1000.0], [0.0, 0.0], [1000.0, 0.0]]


def test_the_comparison_axis_holds_every_mark() -> None:
    for model, interval, control in ((0.95, (0.9, 0.99), 0.97), (0.46, (0.31, 0.6), 0.2), (1.0, None, None)):
        chart = against_chart(model, interval, control)
        places = [float(v) for v in re.findall(r"left:(-?[\d.]+)%", chart)]
        assert all(0 <= place <= 100 for place in places)
        assert f"{model:.3f}" in chart
