"""Movement at a place and a time of the week when it is usually empty: what is usual, the limit, and events of a real camera."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from footage import save_video
from live.conftest import until
from moving_disc import disc_images
from numpy.typing import NDArray

from comemory.errors import ConfigError
from comemory.live.config import LiveSettings
from comemory.live.engine import Engine
from comemory.live.scoring.unusual_times import LABEL, MIN_DAYS, N_FRAMES, UnusualTimes
from comemory.store.activity import COLUMNS, ROWS, HourOfActivity
from comemory.store.store import EventStore

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
PATH, LAWN = (6, 8), (2, 2)
FRAMES = 36_000


def at(cell: tuple[int, int]) -> NDArray[np.bool_]:
    moves = np.zeros((ROWS, COLUMNS), np.bool_)
    moves[cell] = True
    return moves


def weeks(n_days: int, lawn: Callable[[datetime], float] = lambda hour: 0.0) -> Iterator[HourOfActivity]:
    """Days on which the path is used from 7 to 19, and the lawn as told."""
    for k in range(24 * n_days):
        hour = MONDAY + timedelta(hours=k)
        moving = np.zeros((ROWS, COLUMNS))
        moving[PATH] = 3000 if 7 <= hour.hour < 19 else 0
        moving[LAWN] = lawn(hour)
        yield HourOfActivity(hour, FRAMES, moving, moving)


def excess(usual: UnusualTimes, moment: datetime, cell: tuple[int, int], n_frames: int = N_FRAMES) -> float | None:
    usual.reset()
    found = None
    for k in range(n_frames):
        found = usual.step(moment.timestamp() + k / 10, at(cell))
    return None if found is None else found.excess


class TestUsual:
    @pytest.fixture(scope="class")
    @classmethod
    def usual(cls) -> UnusualTimes:
        return UnusualTimes(list(weeks(28)), "1/week", UTC)

    def test_the_path_by_day_is_usual_and_by_night_it_is_not(self, usual: UnusualTimes) -> None:
        assert usual.note == ""
        noon, night = MONDAY + timedelta(days=28, hours=12), MONDAY + timedelta(days=28, hours=2)
        assert (by_day := excess(usual, noon, PATH)) is not None
        assert by_day < 0
        assert (by_night := excess(usual, night, PATH)) is not None
        assert by_night >= 0

    def test_beside_the_path_counts_as_it_and_an_hour_before_is_less_unusual(self, usual: UnusualTimes) -> None:
        found = {
            (hour, cell): excess(usual, MONDAY + timedelta(days=28, hours=hour), cell) or 0.0
            for hour, cell in (
                (12, PATH),
                (12, (PATH[0] + 1, PATH[1] - 1)),
                (7, PATH),
                (18, PATH),
                (6, PATH),
                (4, PATH),
            )
        }
        night, before = found.pop((4, PATH)), found.pop((6, PATH))
        assert max(found.values()) < 0
        assert max(found.values()) < before < night

    def test_the_lawn_is_never_usual_and_its_cells_are_named(self, usual: UnusualTimes) -> None:
        usual.reset()
        moves = at(LAWN) | at(PATH)
        found = [usual.step((MONDAY + timedelta(days=28, hours=12)).timestamp(), moves) for _ in range(N_FRAMES)][-1]
        assert found is not None
        assert found.excess >= 0
        assert (found.cells == at(LAWN)).all(), "not the path, on which somebody walks as usual"

    def test_a_flicker_does_not_count(self, usual: UnusualTimes) -> None:
        assert excess(usual, MONDAY + timedelta(days=28, hours=2), PATH, N_FRAMES - 1) is None
        usual.reset()
        night, empty = (MONDAY + timedelta(days=28, hours=2)).timestamp(), np.zeros((ROWS, COLUMNS), np.bool_)
        seen = [usual.step(night, at(PATH) if k % 2 else empty) for k in range(20)]
        assert seen == [None] * 20

    def test_weekdays_differ_where_there_are_enough_of_them(self) -> None:
        """The lawn is mown each Wednesday at ten."""
        usual = UnusualTimes(
            list(weeks(28, lambda hour: 2000.0 * (hour.weekday() == 2 and hour.hour == 10))), "1/week", UTC
        )
        wednesday = excess(usual, MONDAY + timedelta(days=30, hours=10), LAWN)
        thursday = excess(usual, MONDAY + timedelta(days=31, hours=10), LAWN)
        assert wednesday is not None
        assert thursday is not None
        assert wednesday < thursday


class TestLimit:
    def test_too_few_days_are_said(self) -> None:
        few = UnusualTimes(list(weeks(MIN_DAYS - 1)), "1/week", UTC)
        assert few.note == "unusual times: 4 days of activity are needed, 2 are recorded"
        assert excess(few, MONDAY + timedelta(days=2, hours=2), PATH) is None
        assert UnusualTimes([], "1/week", UTC).note.endswith("0 are recorded")

    def test_a_budget_that_the_days_cannot_hold_gives_no_event_and_is_said(self) -> None:
        usual = UnusualTimes(list(weeks(8, lambda hour: 20.0 * (hour.hour == 3))), "0.0001/week", UTC)
        assert usual.note == "unusual times: no event yet, because 0.0001/week needs about 70000 days of activity"
        assert (found := excess(usual, MONDAY + timedelta(days=9, hours=15), LAWN)) is not None
        assert found < 0

    def test_a_bad_budget_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="false-alarm budget"):
            UnusualTimes([], "often", UTC)

    @pytest.mark.parametrize(
        ("budget", "n_visits"), [("1/day", 0.5), ("1/week", 0.5), ("1/week", 0.05), ("1/week", 0.0)]
    )
    def test_new_days_with_rare_visits_hold_the_budget(self, budget: str, n_visits: float) -> None:
        """Somebody crosses a random place at a random hour so many times a day, as often in new weeks as in the old.

        Where such visits are more frequent than the budget allows, none is an event, and that is said.
        """
        rng = np.random.default_rng(0)

        def visited(n_days: int) -> list[HourOfActivity]:
            hours = list(weeks(n_days))
            for one in hours:
                if rng.random() < n_visits / 24:
                    one.moving[tuple(rng.integers((ROWS, COLUMNS)))] += rng.integers(10, 400)
            return hours

        usual, n_alarms = UnusualTimes(visited(56), budget, UTC), 0
        new = visited(280)
        for one in new:
            rarity = usual._rarity(one.hour + timedelta(days=56))
            assert rarity is not None
            n_alarms += bool((rarity[one.moving >= N_FRAMES] >= usual.limit).any())
        allowed = {"1/day": 1.0, "1/week": 1 / 7}[budget]
        assert n_alarms / 280 <= 1.5 * allowed
        assert ("see more than" in usual.note) == (n_visits > allowed)
        if n_visits <= allowed:
            assert n_alarms >= 0.5 * n_visits * 280


def test_a_camera_whose_place_is_usually_empty_now_raises_an_event(
    live: Callable[..., LiveSettings], engines: Callable[..., Engine], tmp_path: Path
) -> None:
    """A disc moves, which the model may find normal. Four weeks of an empty scene are in the store."""
    clip = save_video(tmp_path / "night.mp4", 4 * disc_images(150, 240, 360))
    settings = live({"gate": {"url": str(clip), "loop": True, "false_alarms": "1e-6/week", "unusual_times": "1/week"}})
    now = datetime.now(UTC)
    with EventStore.open(settings.store_url, settings.media) as store:
        for k in range(1, 24 * 28):
            nothing = np.zeros((ROWS, COLUMNS))
            hour = now - timedelta(hours=k)
            if hour.date() != now.date():
                store.record_activity("gate", HourOfActivity(hour, FRAMES, nothing, nothing))
        engine = engines(settings, store=store)
        until(lambda: store.page(camera="gate"))
        (event, *_) = store.page(camera="gate")
        assert event.label == LABEL
        assert event.peak_score >= event.threshold
        assert event.box is not None
        left, top, right, bottom = event.box
        assert 0 <= left < right <= 360
        assert 0 <= top < bottom <= 240
        engine.stop()
