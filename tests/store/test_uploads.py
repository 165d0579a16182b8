"""Media files in an object store: a real S3 server on the loopback, and both kinds of database."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from object_stores import MEDIA_URL, Bucket
from stored import Clock, make_event, picture

from comemory.errors import ConfigError, SourceError, StoreError, TemporaryError
from comemory.live.config import read_live
from comemory.store import objects
from comemory.store.objects import MediaObjects, is_missing
from comemory.store.sites import Sites, announce
from comemory.store.store import EventStore, StoredEvent


def open_store(url: str, folder: Path, clock: Clock, media_url: str | None = MEDIA_URL) -> EventStore:
    return EventStore.open(url, folder, clock=clock, media_url=media_url)


def add_event(store: EventStore, clock: Clock, camera: str = "gate", n_bytes: int = 100) -> StoredEvent:
    """An event that has ended, with a clip."""
    event = make_event(clock.advance(minutes=1), camera=camera)
    store.begin(event)
    store.end(replace(event, end=event.start + timedelta(seconds=5)))
    store.attach(event.id, "clip", picture(store, n_bytes, ".mp4"))
    found = store.get(event.id)
    assert found is not None
    return found


def upload_all(store: EventStore) -> None:
    assert store.uploads is not None
    for file in store.uploads.pending(1000):
        store.uploads.upload(file)
    for path in store.uploads.removals(1000):
        store.uploads.remove(path)


def read(store: EventStore, event: StoredEvent) -> bytes:
    found = store.media_file(event.id, "clip")
    assert found is not None
    content, size = store.open_object(found)
    with content:
        whole = content.read()
    assert len(whole) == size
    return whole


class TestUpload:
    def test_a_file_of_an_ended_event_is_uploaded_once(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
    ) -> None:
        with open_store(url, tmp_path / "media", clock) as store:
            event = add_event(store, clock)
            still_open = make_event(clock.advance(minutes=1))
            store.begin(still_open)
            store.attach(still_open.id, "thumbnail", picture(store))
            assert store.waiting_uploads() == (1, 100)
            upload_all(store)
            upload_all(store)
            assert bucket.objects() == {event.files["clip"]: b"x" * 100}
            assert (bucket.n_writes, store.waiting_uploads()) == (1, (0, 0))
            assert read(store, event) == b"x" * 100

    def test_what_waits_is_found_by_the_next_process(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
    ) -> None:
        with open_store(url, tmp_path / "media", clock, None) as store:
            events = [add_event(store, clock) for _ in range(3)]
            assert store.waiting_uploads() is None
        with open_store(url, tmp_path / "media", clock) as store:
            assert store.uploads is not None
            (first,) = store.uploads.pending(1)
            assert [file.event_id for file in store.uploads.pending(5, first)] == [one.id for one in events[1:]]
            upload_all(store)
        assert set(bucket.objects()) == {one.files["clip"] for one in events}

    def test_a_store_that_is_away_takes_nothing_and_loses_nothing(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
    ) -> None:
        with open_store(url, tmp_path / "media", clock) as store:
            event = add_event(store, clock)
            bucket.set_away(True)
            with pytest.raises(SourceError, match=r"cannot write s3://media/site-1/gate/") as caught:
                upload_all(store)
            assert "secret" not in str(caught.value)
            assert store.waiting_uploads() == (1, 100)
            assert store.file(event.id, "clip") is not None
            bucket.set_away(False)
            upload_all(store)
            assert list(bucket.objects()) == [event.files["clip"]]

    def test_a_file_that_is_replaced_during_its_upload_is_uploaded_again(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with open_store(url, tmp_path / "media", clock) as store:
            event = add_event(store, clock)
            assert store.uploads is not None
            (file,) = store.uploads.pending(9)
            upload = MediaObjects.upload

            def replaced_meanwhile(target: MediaObjects, source: Path, path: str) -> None:
                upload(target, source, path)
                store.attach(event.id, "clip", picture(store, 7, ".mp4"))

            monkeypatch.setattr(MediaObjects, "upload", replaced_meanwhile)
            store.uploads.upload(file)
            monkeypatch.undo()
            assert store.waiting_uploads() == (1, 7)

    def test_an_event_that_is_deleted_during_an_upload_leaves_no_object(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with open_store(url, tmp_path / "media", clock) as store:
            event = add_event(store, clock)
            assert store.uploads is not None
            (file,) = store.uploads.pending(9)
            upload = MediaObjects.upload

            def deleted_meanwhile(target: MediaObjects, source: Path, path: str) -> None:
                upload(target, source, path)
                store.delete(event.id)
                assert store.uploads is not None
                store.uploads.remove(path)
                upload(target, tmp_path / "events", path)

            (tmp_path / "events").write_bytes(b"late")
            with monkeypatch.context() as patch:
                patch.setattr(MediaObjects, "upload", deleted_meanwhile)
                store.uploads.upload(file)
            assert list(bucket.objects()) == [event.files["clip"]]
            upload_all(store)
            assert bucket.objects() == {}


class TestRetention:
    def test_the_objects_of_deleted_events_are_deleted(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
    ) -> None:
        with open_store(url, tmp_path / "media", clock) as store:
            old, deleted, kept = (add_event(store, clock) for _ in range(3))
            upload_all(store)
            store.annotate(kept.id, favourite=True)
            bucket.set_away(True)
            assert store.delete(deleted.id)
            clock.advance(days=31)
            assert store.sweep(clock(), 30, None).events == 1
            assert store.get(old.id) is None
            assert store.uploads is not None
            with pytest.raises(SourceError, match="cannot delete"):
                upload_all(store)
            bucket.set_away(False)
            upload_all(store)
            assert list(bucket.objects()) == [kept.files["clip"]]
            assert store.uploads.removals(9) == []

    def test_copies_leave_the_disk_first_and_the_objects_stay(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
    ) -> None:
        with open_store(url, tmp_path / "media", clock) as store:
            uploaded = [add_event(store, clock) for _ in range(3)]
            upload_all(store)
            waiting = [add_event(store, clock) for _ in range(2)]
            swept = store.sweep(clock(), None, 320)
            assert (swept.events, swept.bytes_freed, swept.over_quota) == (0, 200, False)
            here = [store.file(one.id, "clip") is not None for one in (*uploaded, *waiting)]
            assert here == [False, False, True, True, True]
            assert not store.compare()
            assert read(store, uploaded[0]) == b"x" * 100
            swept = store.sweep(clock(), None, 150)
            assert (swept.events, swept.over_quota) == (1, False)
            assert store.get(waiting[0].id) is None, "the quota holds for what waits too"
            assert len(bucket.objects()) == 3


class TestRepair:
    def test_a_lost_database_finds_the_objects_again(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
    ) -> None:
        with open_store(url, tmp_path / "media", clock) as store:
            event = add_event(store, clock)
            upload_all(store)
            store.sweep(clock(), None, 0)
        with open_store(str(tmp_path / "new.db"), tmp_path / "media", clock) as store:
            assert (store.adopt().events, store.waiting_uploads()) == (1, (0, 0))
            assert read(store, event) == b"x" * 100
            assert not store.compare()

    def test_a_backup_leaves_objects_where_they_are(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
    ) -> None:
        with open_store(url, tmp_path / "media", clock) as store:
            event = add_event(store, clock)
            upload_all(store)
            store.sweep(clock(), None, 0)
            add_event(store, clock)
            copied = store.back_up(tmp_path / "backup")
            assert (copied.events, copied.files, copied.missing, copied.in_object_store) == (2, 1, 0, 1)
        with open_store(str(tmp_path / "new.db"), tmp_path / "copy", clock) as store:
            restored = store.restore(tmp_path / "backup")
            assert (restored.files, restored.missing, restored.in_object_store) == (1, 0, 1)
            assert read(store, event) == b"x" * 100


class TestSites:
    def test_a_page_reads_what_nodes_have_on_disks_of_their_own(
        self,
        url: str,
        tmp_path: Path,
        clock: Clock,
        bucket: Bucket,
    ) -> None:
        shared, disk = tmp_path / "fleet", tmp_path / "disk"
        for node in ("a", "b"):
            (shared / node).mkdir(parents=True)
        with open_store(url, disk / "a", clock) as store:
            announce(shared / "a", store.site, store.media)
            first, second = add_event(store, clock), add_event(store, clock)
            assert store.uploads is not None
            store.uploads.upload(store.uploads.pending(1)[0])
        disk.rename(tmp_path / "disk of another machine")
        with EventStore.open(
            url, tmp_path / "page", shared=True, clock=clock, sites=Sites(shared), media_url=MEDIA_URL
        ) as page:
            assert {one.id for one in page.page()} == {first.id, second.id}
            assert read(page, first) == b"x" * 100
            with pytest.raises(StoreError, match="not uploaded yet"):
                read(page, second)
            page.set_verdict(first.id, "normal", "tester")
            assert page.delete(first.id)
            assert not disk.exists()
            assert not list((tmp_path / "page").rglob("*.json")), "a sidecar lies beside its files only"
        with EventStore.open(url, disk / "b", clock=clock, sites=Sites(shared), media_url=MEDIA_URL) as other:
            upload_all(other)
        assert bucket.objects() == {}, "any node deletes the objects of a lost one"


class TestNames:
    def test_hostile_names_of_cameras_stay_below_the_url(self, tmp_path: Path, clock: Clock, bucket: Bucket) -> None:
        names = ["../../etc", "a/b?versionId=1", "gate#1", "*", "Côté 7", "%2e%2e%2f", "s3://x/y"]
        with open_store(str(tmp_path / "events.db"), tmp_path / "media", clock) as store:
            events = [add_event(store, clock, camera) for camera in names]
            upload_all(store)
            assert set(bucket.objects()) == {event.files["clip"] for event in events}
            for event in events:
                assert read(store, event) == b"x" * 100
                store.delete(event.id)
            upload_all(store)
            assert bucket.objects() == {}

    def test_a_store_that_does_not_answer_is_not_asked_by_each_reader(
        self, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = MediaObjects(MEDIA_URL)
        bucket.set_away(True)
        for reason in ("gate/a.mp4: ", "did not answer a moment ago"):
            with pytest.raises(TemporaryError, match=reason):
                store.open("gate/a.mp4")
        monkeypatch.setattr(objects, "AWAY_S", 0.0)
        other = MediaObjects(MEDIA_URL)
        with pytest.raises(TemporaryError):
            other.open("gate/a.mp4")
        bucket.set_away(False)
        with pytest.raises(SourceError, match="not found"):
            other.open("gate/a.mp4")

    @pytest.mark.parametrize("path", ["../other/a.mp4", "/etc/passwd", ""])
    def test_a_path_that_leads_out_is_refused(self, bucket: Bucket, tmp_path: Path, path: str) -> None:
        store = MediaObjects(MEDIA_URL)
        for act in (store.open, store.size, store.delete):
            with pytest.raises(StoreError, match="not the path of a media file"):
                act(path)

    def test_what_is_not_there_is_told_from_a_store_that_is_away(self, bucket: Bucket) -> None:
        store = MediaObjects(MEDIA_URL)
        with pytest.raises(SourceError, match="not found") as caught:
            store.open("gate/none.mp4")
        assert is_missing(caught.value)
        assert store.size("gate/none.mp4") is None
        bucket.set_away(True)
        with pytest.raises(SourceError) as caught:
            store.size("gate/none.mp4")
        assert not is_missing(caught.value)

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("/srv/media", "expected the URL of an object store, such as s3://bucket/prefix, not '/srv/media'"),
            ("file:///srv/media", "expected the URL of an object store"),
            ("https://bucket/x", "expected the URL of an object store"),
            ("s3://", "expected the URL of an object store"),
            ("s3://bucket/../x", "expected the URL of an object store"),
            ("s3://bucket/a?b=c", "expected the URL of an object store"),
            ("s3://key:secret@bucket/x", "without user and password: the credentials come from the environment"),
        ],
    )
    def test_a_url_that_is_none_of_an_object_store(self, url: str, reason: str) -> None:
        with pytest.raises(ConfigError, match=reason) as caught:
            read_live(None, {"store": {"media_url": url}})
        assert "store.media_url" in str(caught.value)
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_it_needs_the_database(self) -> None:
        with pytest.raises(ConfigError, match="media_url needs the database"):
            read_live(None, {"store": {"media_url": MEDIA_URL, "enabled": False}})
