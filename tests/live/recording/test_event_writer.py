"""Writing events while a part of it fails: lines, rows, images and clips are independent of each other."""

from __future__ import annotations

import json
import math
import os
import resource
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from live.conftest import until
from live.test_live import BUDGET, lines
from stored import NOON, make_event

from comemory.errors import ConfigError, SourceError, StoreError
from comemory.live.config import LiveSettings
from comemory.live.engine import Engine
from comemory.live.learning.feedback import FeedbackStore
from comemory.live.recording import disk_writer, event_lines, event_writer
from comemory.live.recording.event_writer import EventWriter
from comemory.live.recording.task_queue import TaskQueue
from comemory.store.routing import Change, ChangeStamp


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """Limit the size of files: a write stops in the middle, as on a disk that fills up."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestLines:
    def test_line_that_cannot_be_written_is_reported_and_the_next_is_written(self, tmp_path: Path) -> None:
        reported: list[str] = []
        writer, event = EventWriter(tmp_path, None, reported.append), make_event()
        writer.write_event("new", replace(event, peak_score=math.nan))
        assert "cannot write" in writer.error
        writer.write_event("end", event)
        assert [line["id"] for line in lines(tmp_path, "end")] == [event.id]
        assert reported[-1] == ""

    def test_full_disk_leaves_no_partial_line(self, tmp_path: Path) -> None:
        reported: list[str] = []
        writer, path = EventWriter(tmp_path, None, reported.append), tmp_path / "events.jsonl"
        first, lost, last = make_event(), make_event(), make_event()
        writer.write_event("new", first)
        size = path.stat().st_size
        with full_disk(size + 40):
            writer.write_event("new", lost)
        assert path.stat().st_size == size
        assert "events.jsonl" in writer.error
        writer.write_event("new", last)
        assert [event["id"] for event in lines(tmp_path, "new")] == [first.id, last.id]
        assert reported == [reported[0], ""]

    def test_line_cut_by_a_crash_does_not_damage_the_next(self, tmp_path: Path) -> None:
        writer, path = EventWriter(tmp_path, None, pytest.fail), tmp_path / "events.jsonl"
        torn, whole = make_event(), make_event()
        writer.write_event("new", torn)
        writer.write_event("end", torn)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 30)
        writer.write_event("new", whole)
        assert [json.loads(line)["event"]["id"] for line in path.read_text().splitlines()[::2]] == [torn.id, whole.id]
        feedback = FeedbackStore(tmp_path, None)
        assert feedback.set_verdict(torn.id, "normal", "tester") == torn.camera
        assert feedback.set_verdict(whole.id, "normal", "tester") == whole.camera
        with pytest.raises(ConfigError, match="there is no event"):
            feedback.set_verdict(whole.id[:8], "normal", "tester")


def test_damaged_verdicts_are_not_overwritten(tmp_path: Path) -> None:
    writer, event = EventWriter(tmp_path, None, pytest.fail), make_event()
    writer.write_event("new", event)
    (tmp_path / "verdicts.json").write_text('{"half', encoding="utf-8")
    with pytest.raises(SourceError, match=r"verdicts\.json is damaged"):
        FeedbackStore(tmp_path, None).set_verdict(event.id, "normal", "tester")
    assert (tmp_path / "verdicts.json").read_text(encoding="utf-8") == '{"half'


def test_clip_of_a_deleted_event_is_deleted(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        writer, lost = EventWriter(tmp_path, store, pytest.fail), []
        writer.start()
        event = make_event()
        writer.write_event("new", event)
        writer.write_event("end", replace(event, end=NOON + timedelta(seconds=5)))
        until(lambda: (kept := store.get(event.id)) is not None and kept.end is not None)
        assert store.delete(event.id)
        clip = store.scratch / f"{event.id}.mp4"
        clip.write_bytes(b"footage")
        assert writer.attach(event.id, "clip", lambda: clip, lambda: lost.append(1))
        assert writer.stop(60)
        assert writer.error == ""
        assert lost == []
        assert list(store.scratch.iterdir()) == []


def test_a_change_is_in_the_write_ahead_file_before_anybody_can_see_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill in between loses nothing that was reported."""
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore
    from comemory.store.write_ahead import WriteAheadEntry, WriteAheadLog

    write, seen_before = WriteAheadLog.write, []

    def note(log: WriteAheadLog, entry: WriteAheadEntry) -> None:
        seen_before.append((tmp_path / "events.jsonl").exists())
        write(log, entry)

    monkeypatch.setattr(WriteAheadLog, "write", note)
    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        EventWriter(tmp_path, store, pytest.fail).write_event("new", make_event())
    assert seen_before == [False]
    assert (tmp_path / "events.jsonl").exists()


def test_clip_of_an_event_that_waits_to_be_stored_is_left(tmp_path: Path) -> None:
    """A stop on a full disk: the event is in the write-ahead file, and the next start stores it with its clip."""
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        writer, event = EventWriter(tmp_path, store, lambda error: None), make_event()
        writer.write_event("new", event)  # the thread does not run: nothing is stored
        clip = store.scratch / f"{event.id}.mp4"
        clip.write_bytes(b"footage")
        with pytest.raises(StoreError, match="no event"):
            writer._store_file(event.id, "clip", clip, "clips")
        assert clip.read_bytes() == b"footage"


def test_error_is_reported_until_the_same_destination_works_again(tmp_path: Path) -> None:
    """Images and clips cannot be written while lines still can."""
    reported: list[str] = []
    lost: list[str] = []
    writer, event = EventWriter(tmp_path, None, reported.append), make_event()
    blocked = tmp_path / "media"
    blocked.write_text("in the way")

    def attach(kind: str, number: int) -> None:
        made = tmp_path / f"{number}.jpg"
        made.write_bytes(b"x")
        writer.attach(event.id, kind, lambda: made, lambda: lost.append(kind))  # type: ignore[arg-type]
        until(lambda: writer._tasks.n_waiting == 0)
        time.sleep(0.05)

    writer.start()
    attach("thumbnail", 1)
    first = writer.error
    assert first.startswith(f"cannot move {tmp_path / '1.jpg'} to ")
    assert (tmp_path / "1.jpg").exists(), "a file that cannot be moved stays where it is"
    writer.report("clips", "no clip")
    writer.write_event("new", event)
    writer.report("store", "away")
    assert writer.error == f"{first}; no clip; away"
    writer.report("store", "")
    blocked.unlink()
    attach("heat", 2)
    assert writer.error == "no clip"
    attach("clip", 3)
    assert writer.error == ""
    assert lost == ["thumbnail"]
    assert reported == [first, f"{first}; no clip", f"{first}; no clip; away", f"{first}; no clip", "no clip", ""]
    assert writer.stop(60)


class Observed:
    """What alerts are told."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.reports: list[str] = []

    def observe(self, change: Change) -> None:
        self.changes.append(change)

    def mark_stored(self, change_id: str) -> None:
        pass

    def report(self, part: str, error: str) -> None:
        self.reports.append(error)

    def set_pauses(self, paused: object, snoozed: object) -> None:
        pass


def test_a_disk_that_hangs_stops_neither_scoring_nor_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store import write_ahead
    from comemory.store.store import EventStore

    monkeypatch.setattr(disk_writer, "WAIT_S", 0.05)
    goes_on, alerts, event = threading.Event(), Observed(), make_event()
    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        writer = EventWriter(tmp_path, store, lambda error: None, alerts)
        writer.start()
        with monkeypatch.context() as hung:
            hung.setattr(write_ahead.os, "fdatasync", lambda file: goes_on.wait(60))
            writer.write_event("new", event)
            writer.write_event("end", replace(event, end=NOON + timedelta(seconds=5)))
            assert [change.kind for change in alerts.changes] == ["new", "end"]
            assert "does not answer" in alerts.reports[0]
            assert not (tmp_path / "events.jsonl").exists(), "the write is under way"
            goes_on.set()
            until(lambda: writer.error == "")
        assert alerts.reports[-1] == ""
        assert [(line["change"], line["event"]["id"]) for line in all_lines(tmp_path)] == [
            ("new", event.id),
            ("end", event.id),
        ]
        until(lambda: (kept := store.get(event.id)) is not None and kept.end is not None)
        assert writer.stop(60)
        assert writer.n_unstored == 0


def test_a_change_that_the_disk_has_not_taken_is_no_change_that_the_next_start_stores_again(tmp_path: Path) -> None:
    """The database was quicker than the disk: the entry is not written any more, and the file starts again."""
    from comemory.store.write_ahead import WriteAheadEntry, WriteAheadLog

    log = WriteAheadLog(tmp_path / "ahead", 1 << 14)
    stored, waits = (WriteAheadEntry("new", make_event(), ChangeStamp()) for _ in range(2))
    log.add(stored)
    log.remove(stored)
    log.write(stored)
    log.append(waits)
    log.close()
    assert [entry.stamp for entry in WriteAheadLog(tmp_path / "ahead", 1 << 14).left_over] == [waits.stamp]


def all_lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]


class TestFullQueue:
    """The store is away for so long that no more writes find a place."""

    @pytest.fixture
    def writer(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EventWriter]:
        pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
        from comemory.store.store import EventStore

        monkeypatch.setattr("comemory.store.database.BUSY_S", 0.1)
        monkeypatch.setattr(event_writer, "FIRST_RETRY_S", 0.02)
        with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
            writer = EventWriter(tmp_path, store, lambda error: None)
            writer._tasks = TaskQueue("event-writer", 6)
            yield writer
            writer.stop(60)

    @pytest.fixture
    def away(self, writer: EventWriter, tmp_path: Path) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(tmp_path / "events.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writer.start()
            writer.write_state("gate", "live", "")
            until(lambda: "locked" in writer.error)
            yield other

    def test_scores_give_way_to_events(self, writer: EventWriter, away: sqlite3.Connection) -> None:
        store, event = writer.store, make_event()
        assert store is not None
        for k in range(9):
            writer.write_scores("gate", NOON + timedelta(minutes=k), [1.0] * 12, "m")
        assert writer.n_dropped == 6
        writer.write_event("new", event)
        path = store.scratch / f"{event.id}.mp4"
        path.write_bytes(b"footage")
        assert writer.attach(event.id, "clip", lambda: path)
        away.execute("ROLLBACK")
        until(lambda: store.file(event.id, "clip") is not None)
        assert store.score_summary("gate", NOON).minutes == 3

    def test_changes_without_a_place_are_stored_in_order_when_the_store_is_back(
        self, writer: EventWriter, away: sqlite3.Connection
    ) -> None:
        store = writer.store
        assert store is not None
        events = [make_event(NOON + timedelta(seconds=k)) for k in range(5)]
        for event in events:
            writer.write_event("new", event)
            writer.write_event("end", replace(event, end=event.start + timedelta(seconds=3)))
        assert "changes wait in the write-ahead file" in writer.error
        away.execute("ROLLBACK")
        until(lambda: writer.n_unstored == 0)
        assert writer.error == ""
        assert all((found := store.get(event.id)) is not None and found.end is not None for event in events)
        late = make_event(NOON + timedelta(hours=1))
        writer.write_event("new", late)
        until(lambda: store.get(late.id) is not None)

    def test_a_clip_without_a_place_stays_and_is_attached_at_the_next_start(
        self, writer: EventWriter, away: sqlite3.Connection, tmp_path: Path
    ) -> None:
        from comemory.store.store import EventStore

        store, event = writer.store, make_event()
        assert store is not None
        lost: list[int] = []
        writer.write_event("new", event)
        while writer.attach(event.id, "heat", lambda: tmp_path / "none"):
            pass
        path = store.scratch / f"{event.id}.mp4"
        path.write_bytes(b"footage")
        writer.attach_clip(event.id, path, lambda: lost.append(1))
        assert f"the clip stays in {path}" in writer.error
        assert lost == [1]
        away.execute("ROLLBACK")
        assert writer.stop(60)
        store.close()
        os.utime(path, (1, 1))
        with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as again:
            found = again.file(event.id, "clip")
            assert found is not None
            assert found.read_bytes() == b"footage"


def line_of(time: datetime, text: str = "") -> dict[str, Any]:
    return {"change": "state", "time": time.isoformat().replace("+00:00", "Z"), "camera": "gate", "message": text}


class TestExpiredLines:
    def test_old_lines_leave_the_file_and_unknown_ones_stay(self, tmp_path: Path) -> None:
        writer, now = EventWriter(tmp_path, None, pytest.fail), datetime.now(UTC)
        path = tmp_path / "events.jsonl"
        old, new = line_of(now - timedelta(days=40)), line_of(now - timedelta(days=20))
        texts = [json.dumps(one) for one in (old, new, old)]
        path.write_text("\n".join(["not ours", texts[0], texts[1], texts[2][:60], texts[2]]) + "\n")
        path.chmod(0o640)
        writer.expire_lines(now - timedelta(days=30))
        assert path.read_text().splitlines() == ["not ours", texts[1], texts[2][:60]]
        assert path.stat().st_mode & 0o777 == 0o640
        writer.write_state("gate", "live", "")
        assert all_lines_after(path, 3) == ["live"]
        assert [one.name for one in tmp_path.iterdir()] == ["events.jsonl"]

    def test_lines_that_are_added_meanwhile_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_lines, "_is_due", lambda *_: True)
        writer, now = EventWriter(tmp_path, None, pytest.fail), datetime.now(UTC)
        for _ in range(300):
            writer._lines.append(line_of(now - timedelta(days=40), "x" * 500))

        def add() -> None:
            for k in range(300):
                writer.write_state("gate", str(k), "")

        adding = threading.Thread(target=add)
        adding.start()
        while adding.is_alive():
            writer.expire_lines(now - timedelta(days=30))
            writer._lines.append(line_of(now - timedelta(days=40)))
        adding.join()
        writer.expire_lines(now - timedelta(days=30))
        assert [line["state"] for line in all_lines(tmp_path)] == [str(k) for k in range(300)]

    def test_a_large_file_is_rewritten_once_a_day(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(event_lines, "SMALL_BYTES", 100)
        writer, now = EventWriter(tmp_path, None, pytest.fail), datetime.now(UTC)
        for hours in (20, 10, 0):
            writer._lines.append(line_of(now - timedelta(hours=hours)))
        writer.expire_lines(now - timedelta(hours=15))
        assert len(all_lines(tmp_path)) == 3
        writer._lines.append(line_of(now - timedelta(hours=50)))
        writer.expire_lines(now + timedelta(hours=5))
        assert len(all_lines(tmp_path)) == 0

    def test_no_file(self, tmp_path: Path) -> None:
        EventWriter(tmp_path, None, pytest.fail).expire_lines(NOON)
        assert list(tmp_path.iterdir()) == []


def all_lines_after(path: Path, n: int) -> list[str]:
    return [json.loads(line)["state"] for line in path.read_text().splitlines()[n:]]


def test_images_and_clips_that_cannot_be_written_are_counted(
    clips: list[Path], live: Callable[..., LiveSettings], engines: Callable[..., Engine]
) -> None:
    settings = live({"gate": {"url": str(clips[0]), "realtime": False, "false_alarms": BUDGET}})
    settings.out.mkdir(parents=True)
    (settings.out / "media").write_text("in the way")
    engine = engines(settings)
    assert engine.wait(180)
    engine.stop()
    events = lines(settings.out, "end")
    assert events
    assert engine.metrics().recording_errors["gate"] >= 3 * len(events)
    assert "cannot write the clip" in engine.event_writer.error
    assert engine.event_writer.error.count(";") == 1


def test_invalid_write_does_not_block_the_next(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    reported: list[str] = []
    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        writer = EventWriter(tmp_path, store, reported.append)
        writer.start()
        writer.write_scores("gate", NOON, [math.nan] * 12, "m")
        writer.write_event("update", replace(make_event(), peak_score=10**400))  # type: ignore[arg-type]
        writer.write_state("yard", "down", "cable cut")
        assert writer.stop(60)
        assert [state.camera for state in store.states()] == ["yard"]
    assert "must be finite numbers" in reported[0]
    assert writer.error == ""


def test_writes_to_a_locked_store_are_retried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    monkeypatch.setattr("comemory.store.database.BUSY_S", 0.2)
    reported: list[str] = []
    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        writer = EventWriter(tmp_path, store, reported.append)
        with closing(sqlite3.connect(tmp_path / "events.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            writer.start()
            writer.write_state("yard", "down", "cable cut")
            writer.write_state("yard", "live", "")
            until(lambda: "locked" in writer.error)
            other.execute("ROLLBACK")
        until(lambda: len(store.states()) == 2)
        assert writer.stop(60)
    assert writer.error == ""
