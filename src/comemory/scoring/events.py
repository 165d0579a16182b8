"""Scores to events."""

from __future__ import annotations

import math
from collections.abc import Iterable

from comemory.errors import ConfigError, short_repr
from comemory.scoring.config import ScoringSettings
from comemory.types import Event, Score, describe_value, is_number

TOLERANCE_S = 1e-4
"""Rounding that is forgiven in gaps: ten frames at 10 a second last a second, wherever the clock started."""


class EventFinder:
    """Finds events in the scores of one source, frame by frame, by two thresholds (hysteresis).

    Ours: an event starts when a score reaches the threshold, and goes on at every following frame whose score is above
    the release threshold. After lower scores, or frames without any, a score at the threshold still belongs to it if no
    more than `join_s` lie between. Events with fewer than `min_frames` frames that extend them are dropped at their end.

    Args:
        source: name that the events carry.
        threshold: of the score's value.
        settings: `release`, `min_frames` and `join_s` are used.

    Raises:
        ConfigError: the threshold is no number, which no score would reach, or the settings are none.
    """

    def __init__(self, source: str, threshold: float, settings: ScoringSettings) -> None:
        if not is_number(threshold) or math.isnan(threshold):
            raise ConfigError(
                f"threshold is {short_repr(threshold)}: expected a number, such as calibration.threshold('1/day')"
            )
        if not isinstance(settings, ScoringSettings):
            raise ConfigError(
                f"settings are {describe_value(settings)}: expected ScoringSettings, such as calibration.settings"
            )
        self.source, self.threshold, self.settings = source, threshold, settings
        self._open: Event | None = None
        self._n_above = 0
        self._last_above: Score | None = None
        self._is_above = False

    @property
    def open_event(self) -> Event | None:
        """The event so far, even while it is too short to count; None when there is none."""
        return self._open

    @property
    def is_confirmed(self) -> bool:
        """Whether the newest score belongs to an event that is long enough to count."""
        return self._open is not None and self._n_above >= self.settings.min_frames and self._is_above

    @property
    def extends_event(self) -> bool:
        """Whether the newest score is part of an event by itself, and not only between two that are."""
        return self._is_above

    def update(self, score: Score) -> Event | None:
        """Add the next score; return the event that ended with it, if one did."""
        ended = None
        if self._last_above is not None:
            follows = self._is_above and score.index == self._last_above.index + 1
            if not follows and score.time_s - self._last_above.time_s > self.settings.join_s + TOLERANCE_S:
                ended = self.finish()
        # A negative threshold times the release share would lie above the threshold itself.
        release = min(self.threshold, self.threshold * self.settings.release)
        self._is_above = score.value >= (release if self._is_above else self.threshold)
        if self._is_above:
            self._grow(score)
        return ended

    def finish(self) -> Event | None:
        """End the open event, if there is one: the source has ended."""
        event, n_above = self._open, self._n_above
        self._open, self._n_above, self._last_above, self._is_above = None, 0, None, False
        return event if event is not None and n_above >= self.settings.min_frames else None

    def run(self, scores: Iterable[Score]) -> Iterable[Event]:
        """All events of a source."""
        for score in scores:
            if (event := self.update(score)) is not None:
                yield event
        if (event := self.finish()) is not None:
            yield event

    def _grow(self, score: Score) -> None:
        self._last_above = score
        self._n_above += 1
        old = self._open
        start = (score.index, score.time_s) if old is None else (old.start_frame, old.start_s)
        if old is None or score.value > old.peak_score:
            peak = (score.index, score.time_s, score.value, score.box)
        else:
            peak = (old.peak_frame, old.peak_s, old.peak_score, old.box)
        self._open = Event(
            self.source, start[0], score.index, peak[0], start[1], score.time_s, peak[1], peak[2], peak[3]
        )
