"""Scores to events, against a slow and clear version."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scoring.samples import (
    scores,
)

from comemory.errors import ConfigError
from comemory.scoring import (
    EventFinder,
    ScoringSettings,
)
from comemory.scoring.events import TOLERANCE_S
from comemory.types import Event, Score


def slow_events(found: Sequence[Score], threshold: float, spec: ScoringSettings) -> list[tuple[int, int, int, float]]:
    """The oracle: mark the high scores, cut the marks where they are too far apart, drop what is short."""
    release = min(threshold, threshold * spec.release)
    high: list[Score] = []
    for i, score in enumerate(found):
        before = found[i - 1] if i else None
        held = before is not None and bool(high) and high[-1] is before
        if held and before is not None and score.index != before.index + 1:
            held = score.time_s - before.time_s <= spec.join_s + TOLERANCE_S
        if score.value >= (release if held else threshold):
            high.append(score)
    groups: list[list[Score]] = []
    for score in high:
        last = groups[-1][-1] if groups else None
        near = last is not None and (
            score.index == last.index + 1 or score.time_s - last.time_s <= spec.join_s + TOLERANCE_S
        )
        if near:
            groups[-1].append(score)
        else:
            groups.append([score])
    kept = [group for group in groups if len(group) >= spec.min_frames]
    peaks = [max(group, key=lambda score: score.value) for group in kept]
    return [(g[0].index, g[-1].index, p.index, p.value) for g, p in zip(kept, peaks, strict=True)]


def plain(events: Sequence[Event]) -> list[tuple[int, int, int, float]]:
    return [(e.start_frame, e.end_frame, e.peak_frame, e.peak_score) for e in events]


def spec_of(min_frames: int = 1, join_s: float = 0.0, release: float = 0.5) -> ScoringSettings:
    return ScoringSettings(min_frames=min_frames, join_s=join_s, release=release)


@st.composite
def score_series(draw: st.DrawFn) -> list[Score]:
    """Scores of a source whose frames may be missing here and there."""
    values = draw(st.lists(st.sampled_from([0.0, 0.4, 0.5, 0.9, 1.0, 1.5, 3.0]), max_size=40))
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 1, 1, 2, 5, 200]), min_size=len(values), max_size=len(values)))
    indices = list(itertools.accumulate(gaps))
    return [Score(i, i / 10, value, 0.0, 0.0, (i, 0, i + 1, 1)) for i, value in zip(indices, values, strict=True)]


SPECS = st.builds(
    spec_of,
    min_frames=st.integers(1, 4),
    join_s=st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    release=st.sampled_from([0.4, 0.5, 0.9, 1.0]),
)


class TestEvents:
    @settings(deadline=None, max_examples=300)
    @given(found=score_series(), spec=SPECS, threshold=st.sampled_from([0.0, 1.0, 1.2]))
    def test_events_equal_those_of_the_slow_version(
        self, found: list[Score], spec: ScoringSettings, threshold: float
    ) -> None:
        events = list(EventFinder("gate", threshold, spec).run(found))
        assert plain(events) == slow_events(found, threshold, spec)
        by_index = {score.index: score for score in found}
        for event in events:
            assert event.source == "gate"
            assert event.start_s == by_index[event.start_frame].time_s
            assert event.end_s == by_index[event.end_frame].time_s
            assert event.peak_s == by_index[event.peak_frame].time_s
            assert event.box == by_index[event.peak_frame].box

    @settings(deadline=None, max_examples=150)
    @given(found=score_series(), spec=SPECS, k=st.integers(0, 40))
    def test_the_first_k_scores_end_the_same_events(self, found: list[Score], spec: ScoringSettings, k: int) -> None:
        whole, part = EventFinder("", 1.0, spec), EventFinder("", 1.0, spec)
        ended = [whole.update(score) for score in found]
        assert [part.update(score) for score in found[:k]] == ended[:k]

    @settings(deadline=None, max_examples=150)
    @given(found=score_series(), spec=SPECS)
    def test_no_long_run_is_lost_and_no_events_overlap(self, found: list[Score], spec: ScoringSettings) -> None:
        events = list(EventFinder("", 1.0, spec).run(found))
        for before, after in itertools.pairwise(events):
            assert before.end_frame < after.start_frame
        covered = {i for event in events for i in range(event.start_frame, event.end_frame + 1)}
        run: list[Score] = []
        for score in found:
            follows = bool(run) and score.index == run[-1].index + 1
            run = [*(run if follows else []), score] if score.value >= 1.0 else []
            if len(run) >= spec.min_frames:
                assert {one.index for one in run} <= covered

    @settings(deadline=None, max_examples=100)
    @given(found=score_series(), spec=SPECS)
    def test_active_frames_belong_to_events(self, found: list[Score], spec: ScoringSettings) -> None:
        events = list(EventFinder("", 1.0, spec).run(found))
        inside = {i for event in events for i in range(event.start_frame, event.end_frame + 1)}
        finder = EventFinder("", 1.0, spec)
        for score in found:
            finder.update(score)
            if finder.extends_event:
                assert finder.open_event is not None
                assert finder.open_event.end_frame == score.index
            if finder.is_confirmed:
                assert finder.extends_event
                assert score.index in inside
                assert finder.open_event is not None
                assert finder.open_event.end_frame == score.index

    def test_both_ends_belong_to_the_event(self) -> None:
        (event,) = EventFinder("", 1.0, spec_of()).run(scores([0, 0, 1, 2, 1, 0]))
        assert (event.start_frame, event.end_frame, event.peak_frame) == (2, 4, 3)
        assert (event.start_s, event.end_s) == (2 / 25, 4 / 25)

    def test_it_starts_at_the_threshold_and_ends_below_the_release(self) -> None:
        (event,) = EventFinder("", 1.0, spec_of(release=0.5)).run(scores([0.9, 1.0, 0.6, 0.5, 0.49, 0.9]))
        assert (event.start_frame, event.end_frame) == (1, 3)

    def test_an_event_at_the_very_end_and_at_the_very_start(self) -> None:
        events = list(EventFinder("", 1.0, spec_of(min_frames=2)).run(scores([1, 1, 0, 0, 1, 1])))
        assert [(e.start_frame, e.end_frame) for e in events] == [(0, 1), (4, 5)]

    def test_short_events_are_dropped(self) -> None:
        assert not list(EventFinder("", 1.0, spec_of(min_frames=2)).run(scores([0, 1, 0, 0, 1])))

    def test_near_events_are_joined_and_distant_ones_are_not(self) -> None:
        near = [1, 1, 0, 0, 1, 1]
        assert len(list(EventFinder("", 1.0, spec_of(join_s=3 / 25)).run(scores(near)))) == 1
        assert len(list(EventFinder("", 1.0, spec_of(join_s=2 / 25)).run(scores(near)))) == 2

    def test_a_break_in_the_recording_ends_an_event(self) -> None:
        before = [Score(i, i / 25, 2.0, 0.0, 0.0) for i in range(5)]
        after = [Score(i, i / 25, 2.0, 0.0, 0.0) for i in range(90_000, 90_005)]
        events = list(EventFinder("", 1.0, spec_of(join_s=1.0)).run([*before, *after]))
        assert [(e.start_frame, e.end_frame) for e in events] == [(0, 4), (90_000, 90_004)]

    @pytest.mark.parametrize("start_s", [0.0, 0.1, 3.3, 1e5, 1_795_000_000.7])
    def test_the_clock_may_start_anywhere(self, start_s: float) -> None:
        """Ten frames at ten a second are 1.0000000000000002 s by some clocks."""
        values = [2, *[0] * 9, 2, 0, 0]
        for spec, expected in ((spec_of(join_s=1.0), 1), (spec_of(join_s=0.9), 2)):
            found = [Score(i, start_s + i / 10, value, 0.0, 0.0) for i, value in enumerate(values)]
            assert len(list(EventFinder("", 1.0, spec).run(found))) == expected

    def test_a_few_missing_frames_do_not_end_an_event(self) -> None:
        found = [score for score in scores([2] * 20) if score.index not in (7, 8, 9)]
        (event,) = EventFinder("", 1.0, spec_of(join_s=1.0)).run(found)
        assert (event.start_frame, event.end_frame) == (0, 19)

    def test_the_first_of_equal_peaks(self) -> None:
        (event,) = EventFinder("", 1.0, spec_of()).run(scores([1, 3, 2, 3]))
        assert event.peak_frame == 1

    def test_finish_returns_an_event_once(self) -> None:
        finder = EventFinder("", 1.0, spec_of())
        for score in scores([2, 2]):
            finder.update(score)
        assert finder.finish() is not None
        assert finder.finish() is None
        assert finder.open_event is None
        assert not finder.is_confirmed
        assert finder.update(Score(2, 0.08, 0.9, 0.0, 0.0)) is None
        assert finder.open_event is None, "after the end the threshold counts again, not the release"

    def test_nan_is_not_above_the_threshold(self) -> None:
        assert not list(EventFinder("", 1.0, spec_of()).run(scores([math.nan] * 5)))


@pytest.mark.parametrize("threshold", [math.nan, "1/h", None, True])
def test_a_threshold_that_no_score_can_reach_is_refused(threshold: Any) -> None:
    with pytest.raises(ConfigError, match=r"threshold is .*: expected a number, such as calibration\.threshold"):
        EventFinder("gate", threshold, ScoringSettings())


def test_settings_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="settings are a NoneType: expected ScoringSettings"):
        EventFinder("gate", 1.0, None)  # type: ignore[arg-type]
