"""The store in SQLite and PostgreSQL: events, pages, verdicts, files, retention, recovery."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import NOON, Clock, make_event, picture

from comemory.errors import StoreError
from comemory.live.learning.feedback import FeedbackStore
from comemory.store.store import EventStore, StoredEvent, SweepResult, VerdictChange, new_id


class TestEvents:
    def test_an_event_is_read_as_it_was_stored(self, store: EventStore) -> None:
        event = make_event()
        store.begin(event)
        assert store.get(event.id) == event
        higher = replace(event, peak=event.peak + timedelta(seconds=3), peak_score=9.75, box=None, cells=None)
        store.update(higher)
        assert store.get(event.id) == higher
        ended = replace(higher, end=NOON + timedelta(seconds=9), suppressed=True)
        store.end(ended)
        assert store.get(event.id) == ended
        assert store.get(new_id()) is None

    def test_times_keep_their_microseconds_and_are_in_utc(self, store: EventStore) -> None:
        east = timezone(timedelta(hours=5, minutes=30))
        event = make_event(datetime(2026, 5, 6, 7, 8, 9, 123457, tzinfo=east))
        store.begin(event)
        found = store.get(event.id)
        assert found == event
        assert found is not None
        assert found.start.tzinfo is UTC
        assert found.start.microsecond == 123457

    def test_a_time_without_a_zone_is_refused(self) -> None:
        with pytest.raises(StoreError, match="has no time zone"):
            make_event(datetime(2026, 1, 1))

    def test_the_engine_does_not_change_verdict_and_files(self, store: EventStore) -> None:
        event = make_event()
        store.begin(replace(event, verdict="normal", files={"clip": "../../etc/passwd"}))
        store.attach(event.id, "thumbnail", picture(store))
        store.set_verdict(event.id, "abnormal", "me")
        store.end(replace(event, end=NOON + timedelta(seconds=2)))
        found = store.get(event.id)
        assert found is not None
        assert found.verdict == "abnormal"
        assert list(found.files) == ["thumbnail"]

    def test_an_event_whose_start_was_missed_is_stored_at_its_end(self, store: EventStore) -> None:
        event = make_event(end=NOON + timedelta(seconds=5))
        store.end(event)
        assert store.get(event.id) == event

    def test_an_ended_event_has_an_end_and_is_never_open_again(self, store: EventStore) -> None:
        event = make_event()
        with pytest.raises(StoreError, match="has no end"):
            store.end(event)
        store.end(replace(event, end=NOON + timedelta(seconds=5)))
        with pytest.raises(StoreError, match="cannot be open again"):
            store.update(event)

    @given(
        score=st.floats(allow_nan=False, allow_infinity=False),
        cells=st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20).map(tuple),
        camera=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=30),
        box=st.none() | st.tuples(*[st.integers(-10, 5000)] * 4),
    )
    @settings(max_examples=25, deadline=None)
    def test_json_round_trip(
        self, score: float, cells: tuple[float, ...] | None, camera: str, box: tuple[int, int, int, int] | None
    ) -> None:
        event = make_event(peak_score=score, cells=cells, camera=camera, box=box)
        assert StoredEvent.from_json(event.to_json()) == event

    @pytest.mark.parametrize("values", [{}, {"id": "1"}, {**make_event().to_json(), "start": 5}, {"start": None}])
    def test_json_that_is_no_event_is_refused(self, values: dict[str, object]) -> None:
        with pytest.raises(StoreError, match="not the JSON of an event"):
            StoredEvent.from_json(values)

    @given(st.lists(st.datetimes(datetime(1980, 1, 1), datetime(2200, 1, 1)), max_size=20))
    def test_ids_are_unique_and_sort_by_time(self, moments: list[datetime]) -> None:
        aware = [moment.replace(tzinfo=UTC, microsecond=0) for moment in moments]
        ids = {new_id(moment): moment for moment in aware}
        assert len(ids) == len(aware)
        assert [ids[id] for id in sorted(ids)] == sorted(aware)

    def test_ids_of_many_threads_are_unique(self) -> None:
        found: list[str] = []
        threads = [threading.Thread(target=lambda: found.extend(new_id() for _ in range(500))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 2000


class TestPages:
    def test_pages_are_newest_first(self, store: EventStore) -> None:
        events = [make_event(NOON + timedelta(minutes=k)) for k in range(7)]
        for event in events:
            store.begin(event)
        first = store.page(limit=3)
        assert first == events[:3:-1]
        assert store.page(limit=3, before=first[-1].id) == events[3:0:-1]
        assert store.page(limit=3, before=events[0].id) == []
        assert store.page(limit=3, after=events[2].id) == events[3:6]
        assert store.page(limit=3, after=events[2].id, before=events[4].id) == events[3:4]

    def test_summaries_are_the_newest_with_the_number_of_all(self, store: EventStore) -> None:
        events = [make_event(NOON + timedelta(minutes=k), camera=("gate", "yard")[k % 2]) for k in range(6)]
        for event in events:
            store.begin(event)
        store.set_verdict(events[3].id, "normal", "desk")
        marks, total = store.summaries(limit=2)
        assert ([mark.id for mark in marks], total) == ([events[5].id, events[4].id], 6)
        marks, total = store.summaries(camera="yard", since=NOON + timedelta(minutes=2))
        assert ([(mark.id, mark.verdict) for mark in marks], total) == (
            [(events[5].id, None), (events[3].id, "normal")],
            2,
        )
        assert marks[0].start == events[5].start
        assert store.summaries(verdict="none")[1] == 5
        for limit in (0, 5001):
            with pytest.raises(StoreError, match="limit of a timeline"):
                store.summaries(limit=limit)

    def test_filters(self, store: EventStore) -> None:
        gate = make_event()
        yard = make_event(NOON + timedelta(hours=1), camera="yard", suppressed=True)
        for event in (gate, yard):
            store.begin(event)
        store.set_verdict(gate.id, "normal", "me")
        ids = {event.id for event in store.page(camera="yard")}
        assert ids == {yard.id}
        assert [e.id for e in store.page(since=NOON + timedelta(hours=1))] == [yard.id]
        assert [e.id for e in store.page(until=NOON + timedelta(hours=1))] == [gate.id]
        assert [e.id for e in store.page(verdict="normal")] == [gate.id]
        assert [e.id for e in store.page(verdict="none")] == [yard.id]
        assert [e.id for e in store.page(verdict="abnormal")] == []
        assert [e.id for e in store.page(suppressed=True)] == [yard.id]
        assert [e.id for e in store.page(suppressed=False)] == [gate.id]

    @pytest.mark.parametrize("limit", [0, -1, 501])
    def test_the_limit_is_limited(self, file_store: EventStore, limit: int) -> None:
        with pytest.raises(StoreError, match="expected 1 to 500"):
            file_store.page(limit=limit)


class TestVerdicts:
    def test_history_and_undo(self, store: EventStore, clock: Clock) -> None:
        event = make_event()
        store.begin(event)
        assert store.undo_verdict(event.id, "me").verdict is None
        assert store.set_verdict(event.id, "normal", "ann").verdict == "normal"
        later = clock.advance(minutes=1)
        assert store.set_verdict(event.id, "abnormal", "bob").verdict == "abnormal"
        assert store.undo_verdict(event.id, "bob").verdict == "normal"
        assert store.set_verdict(event.id, None, "ann").verdict is None
        assert store.undo_verdict(event.id, "ann").verdict == "normal"
        assert store.undo_verdict(event.id, "ann").verdict is None
        assert store.verdicts(event.id) == [
            VerdictChange("normal", "ann", NOON, True),
            VerdictChange("abnormal", "bob", later, True),
            VerdictChange(None, "ann", later, True),
        ]

    def test_unknown_verdicts_and_events_are_refused(self, file_store: EventStore) -> None:
        event = make_event()
        file_store.begin(event)
        with pytest.raises(StoreError, match="unknown verdict"):
            file_store.set_verdict(event.id, "fine", "me")  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="there is no event"):
            file_store.set_verdict("' OR 1=1 --", "normal", "me")
        with pytest.raises(StoreError, match="there is no event"):
            file_store.undo_verdict("x" * 10_000, "me")
        assert file_store.set_verdict(event.id, "normal", "x" * 10_000).verdict == "normal"


class TestFiles:
    def test_an_attached_file_is_moved_in_and_replaces_one_of_its_kind(self, store: EventStore) -> None:
        event = make_event(camera="../gate / ü")
        store.begin(event)
        source = picture(store, 10)
        path = store.attach(event.id, "thumbnail", source)
        assert not source.exists()
        assert store.file(event.id, "thumbnail") == store.media / path
        assert path == f"___gate____/2026-03-02/{event.id}-thumbnail.jpg"
        png = store.attach(event.id, "thumbnail", picture(store, 20, ".PNG"))
        assert not (store.media / path).exists()
        assert png.endswith("-thumbnail.png")
        assert store.counts().bytes == 20
        assert store.file(event.id, "clip") is None

    def test_from_another_disk(self, file_store: EventStore) -> None:
        memory = Path("/dev/shm")
        if not memory.is_dir() or memory.stat().st_dev == file_store.media.stat().st_dev:
            pytest.skip("needs /dev/shm on a file system of its own")
        event = make_event()
        file_store.begin(event)
        source = memory / f"comemory-{new_id()}.mp4"
        source.write_bytes(b"clip")
        path = file_store.attach(event.id, "clip", source)
        assert (file_store.media / path).read_bytes() == b"clip"
        assert not source.exists()

    def test_attaching_fails_with_the_reason(self, file_store: EventStore, tmp_path: Path) -> None:
        event = make_event()
        source = picture(file_store)
        with pytest.raises(StoreError, match="there is no event"):
            file_store.attach(event.id, "thumbnail", source)
        assert source.exists()
        file_store.begin(event)
        with pytest.raises(StoreError, match="unknown kind of file"):
            file_store.attach(event.id, "../x", source)  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="No such file"):
            file_store.attach(event.id, "thumbnail", tmp_path / "none.jpg")
        assert file_store.error is not None
        file_store.attach(event.id, "thumbnail", source)
        assert file_store.error is None

    def test_a_link_out_of_the_folder_is_not_followed(self, file_store: EventStore, tmp_path: Path) -> None:
        event = make_event()
        file_store.begin(event)
        path = file_store.media / file_store.attach(event.id, "thumbnail", picture(file_store))
        secret = tmp_path / "secret"
        secret.write_text("secret", encoding="utf-8")
        path.unlink()
        path.symlink_to(secret)
        assert file_store.file(event.id, "thumbnail") is None

    def test_deleting_removes_files_and_verdicts(self, store: EventStore) -> None:
        event = make_event()
        store.begin(event)
        path = store.media / store.attach(event.id, "clip", picture(store))
        store.set_verdict(event.id, "normal", "me")
        with pytest.raises(StoreError, match="still open"):
            store.delete(event.id)
        store.end(replace(event, end=NOON + timedelta(seconds=5)))
        assert store.delete(event.id)
        assert not store.delete(event.id)
        assert not path.parent.parent.exists()
        assert store.verdicts(event.id) == []


def ended(store: EventStore, start: datetime, n_bytes: int = 0) -> StoredEvent:
    """Store an event that is over, with a file when it is to have bytes."""
    event = make_event(start, end=start + timedelta(seconds=5))
    store.end(event)
    if n_bytes:
        store.attach(event.id, "clip", picture(store, n_bytes))
    return event


class TestSweep:
    def test_old_events_are_deleted(self, store: EventStore, clock: Clock) -> None:
        old, new = ended(store, NOON - timedelta(days=31), 100), ended(store, NOON - timedelta(days=29), 100)
        with_verdict = ended(store, NOON - timedelta(days=40), 50)
        store.set_verdict(with_verdict.id, "normal", "me")
        still_open = make_event(NOON - timedelta(days=50))
        store.begin(still_open)
        for days in (31, 29):
            store.record_scores("gate", NOON - timedelta(days=days), [1.0])
            store.record_state("gate", f"state {days}", at=NOON - timedelta(days=days))
        swept = store.sweep(clock(), 30, None)
        assert swept == SweepResult(events=1, files=2, bytes_freed=150)
        assert store.get(old.id) is None
        assert {event.id for event in store.page()} == {new.id, with_verdict.id, still_open.id}
        found = store.get(with_verdict.id)
        assert found is not None
        assert (found.verdict, found.cells, dict(found.files)) == ("normal", (0.5, 0.25), {})
        assert store.score_summary("gate", NOON - timedelta(days=60)).minutes == 1
        assert [change.state for change in store.states("gate")] == ["state 29"]

    def test_the_quota_deletes_the_oldest_first(self, store: EventStore, clock: Clock) -> None:
        events = [ended(store, NOON + timedelta(minutes=k), 100) for k in range(5)]
        swept = store.sweep(clock(), None, 250)
        assert swept == SweepResult(events=3, files=3, bytes_freed=300)
        assert [event.id for event in store.page()] == [event.id for event in events[:2:-1]]
        assert store.sweep(clock(), None, 250) == SweepResult()

    def test_a_full_disk_deletes_until_nothing_is_left(self, store: EventStore, clock: Clock) -> None:
        ended(store, NOON, 100)
        fileless = ended(store, NOON)
        swept = store.sweep(clock(), None, None, min_free_bytes=1 << 60)
        assert swept == SweepResult(events=1, files=1, bytes_freed=100, over_quota=True)
        assert [event.id for event in store.page()] == [fileless.id]

    def test_a_file_that_was_never_attached_is_set_aside_after_a_week(self, file_store: EventStore) -> None:
        now = datetime.now(UTC)
        for days, name in ((8, "left.mp4"), (6, "waits.mp4")):
            path = file_store.scratch / name
            path.write_bytes(b"12345")
            os.utime(path, (now.timestamp() - days * 86400,) * 2)
        assert file_store.sweep(now, 30, None) == SweepResult(quarantined=1)
        assert [path.name for path in file_store.scratch.iterdir()] == ["waits.mp4"]
        assert [path.name for path in (file_store.media / ".quarantine").rglob("*.mp4")] == ["left.mp4"]

    def test_events_left_open_are_ended_at_the_next_start_only(self, url: str, tmp_path: Path, clock: Clock) -> None:
        with EventStore.open(url, tmp_path / "media", clock=clock) as store:
            event = make_event()
            store.begin(event)
            clock.advance(seconds=7)
            store.update(event)
            assert store.sweep(clock(), 30, None).closed == 0
        clock.advance(hours=1)
        with EventStore.open(url, tmp_path / "media", clock=clock) as store:
            found = store.get(event.id)
            assert found is not None
            assert found.end == NOON + timedelta(seconds=7)

    def test_another_folder_of_the_same_database_is_left_alone(self, url: str, tmp_path: Path, clock: Clock) -> None:
        with EventStore.open(url, tmp_path / "one", clock=clock) as one:
            event = make_event()
            one.begin(event)
            with EventStore.open(url, tmp_path / "two", clock=clock) as two:
                assert two.sweep(NOON + timedelta(days=99), 1, 0).events == 0
                assert two.page() == []
                assert two.summaries() == ([], 0)
                assert (two.counts().events, two.counts().cameras) == (0, {})
                found = two.get(event.id)
                assert found is not None
                assert found.end is None

    def test_cameras_of_one_name_at_two_folders_share_nothing(self, url: str, tmp_path: Path, clock: Clock) -> None:
        with (
            EventStore.open(url, tmp_path / "one", clock=clock) as one,
            EventStore.open(url, tmp_path / "two", clock=clock) as two,
        ):
            for store, score in ((one, 1.0), (two, 2.0)):
                store.record_scores("gate", NOON, [score] * 6, "model")
                store.record_state("gate", "live", str(score))
                store.record_state("gate", "down", str(score))
            event = ended(one, NOON)
            one.set_verdict(event.id, "normal", "me")
            assert FeedbackStore(tmp_path, one).normal_signatures("gate") == [event.cells]
            assert FeedbackStore(tmp_path, two).normal_signatures("gate") == []
            since = NOON - timedelta(days=1)
            assert [store.score_summary("gate", since).maxima[0] for store in (one, two)] == [1.0, 2.0]
            two.sweep(NOON + timedelta(days=99), 1, None)
            assert [store.score_summary("gate", since).minutes for store in (one, two)] == [1, 0]
            assert [[state.message for state in store.states()] for store in (one, two)] == [["1.0", "1.0"], ["2.0"]]
            assert one.counts().normal == 1


class TestOpening:
    def test_one_owner_at_a_time(self, tmp_path: Path, clock: Clock) -> None:
        url = str(tmp_path / "events.db")
        with EventStore.open(url, tmp_path / "media") as store:
            event = make_event()
            store.begin(event)
            with pytest.raises(StoreError, match="in use by another comemory"):
                EventStore.open(url, tmp_path / "media")
            with EventStore.open(url, tmp_path / "media", shared=True) as guest:
                found = guest.get(event.id)
                assert found is not None
                assert found.end is None
                with pytest.raises(StoreError, match="is shared"):
                    guest.sweep(clock(), 1, None)
        EventStore.open(url, tmp_path / "media").close()

    def test_many_threads_write_at_once(self, store: EventStore) -> None:
        failures: list[BaseException] = []

        def work(camera: str) -> None:
            try:
                for k in range(15):
                    event = make_event(NOON + timedelta(seconds=k), camera=camera)
                    store.begin(event)
                    store.attach(event.id, "thumbnail", picture(store))
                    store.end(replace(event, end=NOON + timedelta(minutes=1)))
                    store.page(limit=5)
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=work, args=(f"camera {k}",)) for k in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counts = store.counts()
        assert failures == []
        assert (counts.events, counts.files, counts.open) == (90, 90, 0)
        assert set(counts.cameras.values()) == {15}

    def test_no_torch_and_no_network_runtime(self) -> None:
        code = (
            "import sys, comemory.store.store, comemory.alerts.dispatcher, comemory.alerts.mqtt\n"
            "print([n for n in ('torch', 'openvino', 'cv2', 'av') if n in sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
        assert done.stdout.strip() == "[]", done.stderr


def test_counts(store: EventStore) -> None:
    first, second = ended(store, NOON, 30), make_event(camera="yard", suppressed=True)
    store.begin(second)
    store.set_verdict(first.id, "abnormal", "me")
    counts = store.counts()
    assert (counts.events, counts.open, counts.suppressed, counts.normal, counts.abnormal) == (2, 1, 1, 0, 1)
    assert (counts.files, counts.bytes, dict(counts.cameras)) == (1, 30, {"gate": 1, "yard": 1})
    assert counts.free_bytes is not None
    assert counts.to_json()["events"] == 2


def test_states(store: EventStore, clock: Clock) -> None:
    for state in ("connecting", "live", "live", "stalled"):
        store.record_state("gate", state, None if state == "live" else "why")
        clock.advance(seconds=1)
    store.record_state("yard", "down")
    assert [(c.state, c.message) for c in store.states("gate")] == [
        ("stalled", "why"),
        ("live", None),
        ("connecting", "why"),
    ]
    assert [c.camera for c in store.states(limit=1)] == ["yard"]
    assert [c.state for c in store.states("gate", since=NOON + timedelta(seconds=2))] == ["stalled"]
    assert store.states("gate")[0].to_json()["at"] == "2026-03-02T12:00:03.000Z"
