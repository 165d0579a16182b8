"""Notes, favourites and the activity by hour: stored, kept by retention, carried by backups and adoption."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from stored import NOON, make_event, picture

from comemory.errors import StoreError
from comemory.store.activity import COLUMNS, ROWS, ActivitySummary, HourOfActivity
from comemory.store.store import EventStore, StoredEvent

OUTLINE = ((10, 20), (50, 20), (50, 80))


def ended(store: EventStore, **changes: object) -> StoredEvent:
    """A stored event that is over, with a thumbnail."""
    event = make_event(**changes)  # type: ignore[arg-type]
    store.begin(event)
    store.end(replace(event, end=event.start + timedelta(seconds=9)))
    store.attach(event.id, "thumbnail", picture(store))
    return event


def part(minute: int, moving: float, speed: float, hour: int = 0) -> HourOfActivity:
    """A part of an hour in which one cell moved."""
    counts, speeds = np.zeros((ROWS, COLUMNS)), np.zeros((ROWS, COLUMNS))
    counts[3, 4], speeds[3, 4] = moving, speed
    return HourOfActivity(NOON + timedelta(hours=hour, minutes=minute), 100, counts, speeds)


class TestNotes:
    def test_a_note_and_a_favourite_are_set_and_removed(self, store: EventStore) -> None:
        event = ended(store, region=OUTLINE)
        noted = store.annotate(event.id, note="  a fox \n", favourite=True)
        assert (noted.note, noted.favourite, noted.region) == ("a fox", True, OUTLINE)
        assert store.annotate(event.id, favourite=False).note == "a fox"
        assert store.annotate(event.id, note=" ").note is None
        with pytest.raises(StoreError, match="no event"):
            store.annotate("x", note="y")

    def test_the_engine_does_not_overwrite_them(self, store: EventStore) -> None:
        event = ended(store)
        store.annotate(event.id, note="a fox", favourite=True)
        store.end(replace(event, end=NOON + timedelta(minutes=1)))
        found = store.get(event.id)
        assert found is not None
        assert (found.note, found.favourite) == ("a fox", True)

    def test_favourites_are_listed(self, store: EventStore) -> None:
        first, second = ended(store), ended(store)
        store.annotate(first.id, favourite=True)
        assert [event.id for event in store.page(favourite=True)] == [first.id]
        marks, total = store.summaries(favourite=False)
        assert ([mark.id for mark in marks], total) == ([second.id], 1)


class TestRetention:
    def test_a_favourite_outlives_its_age_and_the_quota(self, store: EventStore) -> None:
        kept, other = ended(store), ended(store)
        store.annotate(kept.id, favourite=True)
        swept = store.sweep(NOON + timedelta(days=99), days=1, max_bytes=0)
        assert (swept.events, swept.over_quota) == (1, True)
        assert store.get(other.id) is None
        assert store.file(kept.id, "thumbnail") is not None

    def test_activity_is_deleted_by_age(self, store: EventStore) -> None:
        store.record_activity("gate", part(0, 10, 1))
        store.sweep(NOON + timedelta(hours=12), days=1, max_bytes=None)
        assert len(store.activity("gate", NOON)) == 1
        store.sweep(NOON + timedelta(days=2), days=1, max_bytes=None)
        assert store.activity("gate", NOON) == []


class TestCopies:
    def test_a_backup_carries_them(self, store: EventStore, tmp_path: Path) -> None:
        event = ended(store, region=OUTLINE)
        store.annotate(event.id, note="a fox", favourite=True)
        store.record_activity("gate", part(0, 10, 1))
        store.back_up(tmp_path / "copy")
        with EventStore.open(f"sqlite:///{tmp_path}/other.db", tmp_path / "other") as other:
            other.restore(tmp_path / "copy")
            found = other.get(event.id)
            assert found is not None
            assert (found.note, found.favourite, found.region) == ("a fox", True, OUTLINE)
            assert other.activity("gate", NOON)[0].frames == 100

    def test_a_backup_of_an_earlier_version_is_restored(self, store: EventStore, tmp_path: Path) -> None:
        event = ended(store)
        store.back_up(tmp_path / "copy")
        head = json.loads((tmp_path / "copy" / "store.json").read_text())
        del head["rows"]["activity"]
        (tmp_path / "copy" / "store.json").write_text(json.dumps(head))
        (tmp_path / "copy" / "activity.jsonl").unlink()
        rows = [json.loads(line) for line in (tmp_path / "copy" / "events.jsonl").read_text().splitlines()]
        older = [{key: row[key] for key in row if key not in ("note", "favourite", "region", "label")} for row in rows]
        (tmp_path / "copy" / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in older))
        with EventStore.open(f"sqlite:///{tmp_path}/other.db", tmp_path / "other") as other:
            other.restore(tmp_path / "copy")
            found = other.get(event.id)
            assert found is not None
            assert (found.note, found.favourite) == (None, False)

    def test_adoption_carries_them(self, tmp_path: Path) -> None:
        with EventStore.open(f"sqlite:///{tmp_path}/a.db", tmp_path / "media") as store:
            event = ended(store, region=OUTLINE)
            store.annotate(event.id, note="a fox", favourite=True)
        with EventStore.open(f"sqlite:///{tmp_path}/b.db", tmp_path / "media") as store:
            store.adopt()
            found = store.get(event.id)
            assert found is not None
            assert (found.note, found.favourite, found.region) == ("a fox", True, OUTLINE)


class TestActivity:
    def test_the_parts_of_an_hour_add_up(self, store: EventStore) -> None:
        store.record_activity("gate", part(0, 10, 2.0))
        store.record_activity("gate", part(30, 30, 6.0))
        store.record_activity("gate", part(0, 50, 5.0, hour=1))
        store.record_activity("yard", part(0, 1, 1.0))
        first, second = store.activity("gate", NOON)
        assert (first.hour, first.frames, first.moving[3, 4]) == (NOON, 200, 40)
        assert second.speed[3, 4] == 5.0

    def test_it_is_summarised_by_hour_of_the_week_in_local_time(self) -> None:
        hours = [part(0, 10, 2.0), part(0, 30, 9.0, hour=7 * 24), part(0, 0, 0, hour=1)]
        summary = ActivitySummary(hours, timezone(timedelta(hours=2)))
        noon, after = summary.week()
        assert (noon.weekday, noon.hour, noon.days, noon.frames) == (0, 14, 2, 200)
        assert noon.moving == pytest.approx(40 / 200 / (ROWS * COLUMNS))
        assert noon.speed == pytest.approx(11 / 40)
        assert after.speed is None
        moving, speed = summary.grid(0, 14)
        assert moving[3, 4] == pytest.approx(0.2)
        assert np.isnan(speed[0, 0])
        assert ActivitySummary([], UTC).week() == []

    def test_other_numbers_are_refused(self, store: EventStore) -> None:
        wrong = HourOfActivity(NOON, 1, np.zeros((2, 2)), np.zeros((2, 2)))
        with pytest.raises(StoreError, match="12 x 16 cells"):
            store.record_activity("gate", wrong)
