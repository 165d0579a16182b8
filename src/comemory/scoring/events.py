"""Scores to events."""

from __future__ import annotations

from collections.abc import Iterable

from comemory.scoring.config import DecisionSettings
from comemory.types import Event, Score

TICK_S = 1e-4
"""Gaps this much longer than `join_s` are as long: 10 frames at 10 a second are a second, whatever the clock began at."""


class EventFinder:
    """Scores of one source, in order, to events: up at the threshold, down at a share of it.

    Ours: what follows a high score at the next frame belongs to its event while it stays over the release; after low
    scores, or frames without any, a high score still does where no more than `join_s` lie between the two. Events with
    fewer high scores than `min_frames` are dropped after that.

    Args:
        source: name that the events carry.
        threshold: of the score's value.
        settings: `release`, `min_frames` and `join_s` are used.
    """

    def __init__(self, source: str, threshold: float, settings: DecisionSettings) -> None:
        self.source, self.threshold, self.settings = source, threshold, settings
        self._open: Event | None = None
        self._n_high = 0
        self._last_high: Score | None = None
        self._held = False

    @property
    def open(self) -> Event | None:
        """The event as far as it goes, long enough to count or not yet; None when there is none."""
        return self._open

    @property
    def active(self) -> bool:
        """Whether the last score pushed belongs to an event that is long enough to count."""
        return self._open is not None and self._n_high >= self.settings.min_frames and self._held

    @property
    def high(self) -> bool:
        """Whether the last score pushed is part of an event by itself, and does not only lie between two that are."""
        return self._held

    def push(self, score: Score) -> Event | None:
        """Take the next score; give the event that is over with it, if one is."""
        ended = None
        if self._last_high is not None:
            follows = self._held and score.index == self._last_high.index + 1
            if not follows and score.time_s - self._last_high.time_s > self.settings.join_s + TICK_S:
                ended = self.finish()
        release = min(self.threshold, self.threshold * self.settings.release)
        self._held = score.value >= (release if self._held else self.threshold)
        if self._held:
            self._grow(score)
        return ended

    def finish(self) -> Event | None:
        """End the open event, if there is one: the source is over."""
        event, n_high = self._open, self._n_high
        self._open, self._n_high, self._last_high, self._held = None, 0, None, False
        return event if event is not None and n_high >= self.settings.min_frames else None

    def run(self, scores: Iterable[Score]) -> Iterable[Event]:
        """All events of a source."""
        for score in scores:
            if (event := self.push(score)) is not None:
                yield event
        if (event := self.finish()) is not None:
            yield event

    def _grow(self, score: Score) -> None:
        self._last_high = score
        self._n_high += 1
        old = self._open
        if old is None or score.value > old.peak_score:
            start = (score.index, score.time_s) if old is None else (old.start_frame, old.start_s)
            peak_of = (score.index, score.time_s, score.value, score.box)
        else:
            start = (old.start_frame, old.start_s)
            peak_of = (old.peak_frame, old.peak_s, old.peak_score, old.box)
        self._open = Event(
            self.source, start[0], score.index, peak_of[0], start[1], score.time_s, peak_of[1], peak_of[2], peak_of[3]
        )
