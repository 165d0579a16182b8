"""What is written of events while something of it cannot be: lines, rows, pictures and clips each for itself."""

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

from comemory.errors import ConfigError, SourceError
from comemory.live.config import LiveSettings
from comemory.live.engine import Engine
from comemory.live.learning.feedback import FeedbackStore
from comemory.live.recording.event_writer import EventWriter


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """No file takes more than so many bytes; what fits is written, as on a disk that fills."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


class TestLines:
    def test_one_that_cannot_be_written_is_told_and_the_next_one_is(self, tmp_path: Path) -> None:
        told: list[str] = []
        journal, event = EventWriter(tmp_path, None, told.append), make_event()
        journal.write_event("new", replace(event, peak_score=math.nan))
        assert "cannot write" in journal.error
        journal.write_event("end", event)
        assert [line["id"] for line in lines(tmp_path, "end")] == [event.id]
        assert told[-1] == ""

    def test_a_full_disk_tears_none(self, tmp_path: Path) -> None:
        told: list[str] = []
        journal, path = EventWriter(tmp_path, None, told.append), tmp_path / "events.jsonl"
        first, lost, last = make_event(), make_event(), make_event()
        journal.write_event("new", first)
        size = path.stat().st_size
        with full_disk(size + 40):
            journal.write_event("new", lost)
        assert path.stat().st_size == size
        assert "events.jsonl" in journal.error
        journal.write_event("new", last)
        assert [event["id"] for event in lines(tmp_path, "new")] == [first.id, last.id]
        assert told == [told[0], ""]

    def test_one_that_a_kill_has_torn_takes_no_other_with_it(self, tmp_path: Path) -> None:
        journal, path = EventWriter(tmp_path, None, pytest.fail), tmp_path / "events.jsonl"
        torn, whole = make_event(), make_event()
        journal.write_event("new", torn)
        journal.write_event("end", torn)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 30)
        journal.write_event("new", whole)
        assert [json.loads(line)["event"]["id"] for line in path.read_text().splitlines()[::2]] == [torn.id, whole.id]
        lessons = FeedbackStore(tmp_path, None)
        assert lessons.set_verdict(torn.id, "normal", "tester") == torn.camera
        assert lessons.set_verdict(whole.id, "normal", "tester") == whole.camera
        with pytest.raises(ConfigError, match="there is no event"):
            lessons.set_verdict(whole.id[:8], "normal", "tester")


def test_verdicts_that_cannot_be_read_are_not_written_over(tmp_path: Path) -> None:
    journal, event = EventWriter(tmp_path, None, pytest.fail), make_event()
    journal.write_event("new", event)
    (tmp_path / "verdicts.json").write_text('{"half', encoding="utf-8")
    with pytest.raises(SourceError, match=r"verdicts\.json is damaged"):
        FeedbackStore(tmp_path, None).set_verdict(event.id, "normal", "tester")
    assert (tmp_path / "verdicts.json").read_text(encoding="utf-8") == '{"half'


def test_the_clip_of_an_event_that_was_deleted_is_thrown_away(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        journal, lost = EventWriter(tmp_path, store, pytest.fail), []
        journal.start()
        event = make_event()
        journal.write_event("new", event)
        journal.write_event("end", replace(event, end=NOON + timedelta(seconds=5)))
        until(lambda: (kept := store.get(event.id)) is not None and kept.end is not None)
        assert store.delete(event.id)
        clip = store.scratch / f"{event.id}.mp4"
        clip.write_bytes(b"footage")
        assert journal.attach(event.id, "clip", lambda: clip, lambda: lost.append(1))
        assert journal.stop(5)
        assert journal.error == ""
        assert lost == []
        assert list(store.scratch.iterdir()) == []


def test_what_fails_is_told_until_its_own_kind_works_again(tmp_path: Path) -> None:
    """Pictures and clips in files, beside lines that go on."""
    told: list[str] = []
    lost: list[str] = []
    journal, event = EventWriter(tmp_path, None, told.append), make_event()
    blocked = tmp_path / "media"
    blocked.write_text("in the way")

    def attach(kind: str, number: int) -> None:
        made = tmp_path / f"{number}.jpg"
        made.write_bytes(b"x")
        journal.attach(event.id, kind, lambda: made, lambda: lost.append(kind))  # type: ignore[arg-type]
        until(lambda: not made.exists())
        time.sleep(0.05)

    journal.start()
    attach("thumbnail", 1)
    first = journal.error
    assert first
    journal.report("clips", "no clip")
    journal.write_event("new", event)
    journal.report("store", "away")
    assert journal.error == f"{first}; no clip; away"
    journal.report("store", "")
    blocked.unlink()
    attach("heat", 2)
    assert journal.error == "no clip"
    attach("clip", 3)
    assert journal.error == ""
    assert lost == ["thumbnail"]
    assert told == [first, f"{first}; no clip", f"{first}; no clip; away", f"{first}; no clip", "no clip", ""]
    assert journal.stop(5)


def test_a_camera_says_that_its_pictures_and_clips_are_not_kept(
    clips: list[Path], live: Callable[..., LiveSettings], engines: Callable[..., Engine]
) -> None:
    settings = live({"gate": {"url": str(clips[0]), "realtime": False, "false_alarms": BUDGET}})
    settings.out.mkdir(parents=True)
    (settings.out / "media").write_text("in the way")
    engine = engines(settings)
    assert engine.wait(60)
    engine.stop()
    events = lines(settings.out, "end")
    assert events
    assert engine.metrics().recording_errors["gate"] >= 3 * len(events)
    assert "cannot write the clip" in engine.event_writer.error
    assert engine.event_writer.error.count(";") == 1


def test_what_the_store_will_never_take_keeps_nothing_else_waiting(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    told: list[str] = []
    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        journal = EventWriter(tmp_path, store, told.append)
        journal.start()
        journal.write_scores("gate", NOON, [math.nan] * 12, "m")
        journal.write_event("update", replace(make_event(), peak_score=10**400))  # type: ignore[arg-type]
        journal.write_state("yard", "down", "cable cut")
        assert journal.stop(10)
        assert [state.camera for state in store.states()] == ["yard"]
    assert "must be finite numbers" in told[0]
    assert journal.error == ""


def test_what_a_locked_store_refuses_is_taken_later_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    monkeypatch.setattr("comemory.store.database.BUSY_S", 0.2)
    told: list[str] = []
    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        journal = EventWriter(tmp_path, store, told.append)
        with closing(sqlite3.connect(tmp_path / "events.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            journal.start()
            journal.write_state("yard", "down", "cable cut")
            journal.write_state("yard", "live", "")
            until(lambda: "locked" in journal.error)
            other.execute("ROLLBACK")
        until(lambda: len(store.states()) == 2)
        assert journal.stop(10)
    assert journal.error == ""
