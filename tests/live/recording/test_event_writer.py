"""Writing events while a part of it fails: lines, rows, images and clips are independent of each other."""

from __future__ import annotations

import json
import math
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from live.conftest import until
from live.test_live import BUDGET, lines
from stored import NOON, make_event

from comemory.errors import ConfigError, SourceError, StoreError
from comemory.live.config import LiveSettings
from comemory.live.engine import Engine
from comemory.live.learning.feedback import FeedbackStore
from comemory.live.recording.event_writer import EventWriter


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
    from comemory.store.write_ahead import Entry, WriteAheadLog

    append, seen_before = WriteAheadLog.append, []

    def note(log: WriteAheadLog, entry: Entry) -> None:
        seen_before.append((tmp_path / "events.jsonl").exists())
        append(log, entry)

    monkeypatch.setattr(WriteAheadLog, "append", note)
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
        until(lambda: not made.exists())
        time.sleep(0.05)

    writer.start()
    attach("thumbnail", 1)
    first = writer.error
    assert first
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
