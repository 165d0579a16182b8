"""What a start finds and leaves: no file is deleted because the database does not know it; adoption, backup, restore."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from stored import NOON, Clock, make_event, picture

from comemory.bundle import open_bundle
from comemory.cli import main
from comemory.errors import StoreError
from comemory.live.config import read_live
from comemory.live.config.overrides import Overrides
from comemory.live.learning.models import CameraModels
from comemory.server import auth_file
from comemory.store.event import new_id
from comemory.store.media import Quarantined
from comemory.store.retention import MAX_RECONCILED, QUARANTINE_AGE
from comemory.store.routing import ChangeStamp
from comemory.store.store import EventStore, StoredEvent
from comemory.store.write_ahead import WriteAheadEntry

N_EVENTS = MAX_RECONCILED + 10


def filled(url: str, media: Path, n_events: int = N_EVENTS) -> list[StoredEvent]:
    """Events with a clip each, in a store that is closed again."""
    with EventStore.open(url, media) as store:
        events = [make_event(NOON + timedelta(minutes=k)) for k in range(n_events)]
        for event in events:
            store.begin(event)
            store.attach(event.id, "clip", picture(store, 10, ".mp4"))
            store.end(replace(event, end=event.start + timedelta(seconds=5)))
        store.set_verdict(events[0].id, "normal", "me")
    return events


def clips(media: Path) -> set[str]:
    """The clips in the media folder, without the quarantine."""
    return {path.name for path in media.glob("[!.]*/*/*.mp4")}


class TestNothingIsDeleted:
    @pytest.mark.parametrize("change", ["another database", "no database", "an empty database", "an older backup"])
    def test_files_of_another_database_stay(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, change: str
    ) -> None:
        media, url = tmp_path / "media", str(tmp_path / "events.db")
        if change == "an older backup":
            filled(url, media, 2)
            shutil.copy(url, tmp_path / "backup.db")
        filled(url, media)
        before = clips(media)
        if change == "another database":
            url = str(tmp_path / "other.db")
        elif change == "an older backup":
            shutil.copy(tmp_path / "backup.db", url)
            for rest in tmp_path.glob("events.db-*"):
                rest.unlink()
        else:
            for path in tmp_path.glob("events.db*"):
                path.unlink()
            if change == "an empty database":
                Path(url).touch()
        with EventStore.open(url, media) as store:
            assert clips(media) == before
            assert f"{2 * N_EVENTS} media files have no event" in str(store.warning)
            store.sweep(datetime.now(UTC), 365, None)
            assert clips(media) == before
        assert "nothing was changed" in caplog.text

    def test_a_copy_without_the_name_of_the_folder_is_the_same_folder(self, tmp_path: Path) -> None:
        media, url = tmp_path / "media", str(tmp_path / "events.db")
        events = filled(url, media)
        (media / ".site").unlink()
        with EventStore.open(url, media) as store:
            assert store.warning is None
            assert store.counts().files == len(events)

    def test_a_media_folder_that_is_away_loses_no_row(self, tmp_path: Path) -> None:
        media, url = tmp_path / "media", str(tmp_path / "events.db")
        events = filled(url, media)
        shutil.move(media, tmp_path / "away")
        media.mkdir()
        shutil.copy(tmp_path / "away" / ".site", media)
        with EventStore.open(url, media) as store:
            assert f"{len(events)} files of its events are not in" in str(store.warning)
            assert store.counts().files == len(events)

    def test_a_few_unknown_files_are_set_aside_for_a_month(
        self, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        media, url = tmp_path / "media", str(tmp_path / "events.db")
        filled(url, media, 3)
        unknown = next(media.glob("gate/*/*.mp4")).with_name(f"{new_id()}-clip.mp4")
        unknown.write_bytes(b"12345")
        long_ago = (datetime.now(UTC) - 2 * QUARANTINE_AGE).timestamp()
        os.utime(unknown, (long_ago, long_ago))
        holiday = media / "holiday.jpg"
        holiday.write_bytes(b"mine")
        with EventStore.open(url, media) as store:
            aside = media / ".quarantine" / unknown.relative_to(media)
            assert (unknown.exists(), aside.read_bytes(), holiday.exists()) == (False, b"12345", True)
            assert store.quarantined() == [aside]
            assert "moved to" in caplog.text
            now = datetime.now(UTC)
            assert aside.stat().st_mtime > now.timestamp() - 3600, "its age begins with its arrival"
            found = store.sum_of_quarantine()
            assert (found.files, found.bytes) == (1, 5)
            assert found.oldest is not None
            assert abs(found.oldest - now) < timedelta(hours=1)
            store.sweep(now + QUARANTINE_AGE - timedelta(hours=1), None, None)
            assert aside.exists()
            store.sweep(now + QUARANTINE_AGE + timedelta(hours=1), None, None)
            assert not aside.exists()
            assert store.sum_of_quarantine() == Quarantined()

    def test_a_clip_that_a_crash_interrupted_is_attached(self, tmp_path: Path) -> None:
        media, url = tmp_path / "media", str(tmp_path / "events.db")
        with EventStore.open(url, media) as store:
            event = make_event()
            store.begin(event)
            for name, content in ((f"{event.id}.mp4", b"footage"), ("other.part", b"rest")):
                (store.scratch / name).write_bytes(content)
                os.utime(store.scratch / name, (1, 1))
        with EventStore.open(url, media) as store:
            found = store.file(event.id, "clip")
            assert found is not None
            assert found.read_bytes() == b"footage"
            assert [path.name for path in store.quarantined()] == ["other.part"]

    def test_a_clip_of_an_event_that_waits_in_the_write_ahead_file_is_attached(self, tmp_path: Path) -> None:
        """The process was killed while the database was away: its event is stored by the next one, and only then known."""
        media, url, event = tmp_path / "media", str(tmp_path / "events.db"), make_event()
        with EventStore.open(url, media) as store:
            assert store.write_ahead is not None
            store.write_ahead.append(WriteAheadEntry("new", event, ChangeStamp()))
            clip = store.scratch / f"{event.id}.mp4"
            clip.write_bytes(b"footage")
            os.utime(clip, (1, 1))
        with EventStore.open(url, media) as store:
            assert clip.exists(), "its event is not stored yet"
            store.replay()
            found = store.file(event.id, "clip")
            assert found is not None
            assert found.read_bytes() == b"footage"
            assert store.quarantined() == []

    def test_a_file_that_a_crash_left_at_its_place_without_a_row_is_attached(self, tmp_path: Path) -> None:
        media, url = tmp_path / "media", str(tmp_path / "events.db")
        event = filled(url, media, 1)[0]
        with closing(sqlite3.connect(url)) as database, database:
            database.execute("DELETE FROM files")
        with EventStore.open(url, media) as store:
            assert store.file(event.id, "clip") is not None
            assert store.quarantined() == []
            assert not store.compare()

    def test_a_file_that_the_database_does_not_take_stays_where_it_was(self, tmp_path: Path) -> None:
        with EventStore.open(str(tmp_path / "events.db"), tmp_path / "media") as store:
            event = make_event()
            store.begin(event)
            clip = picture(store, 10, ".mp4")
            with closing(sqlite3.connect(tmp_path / "events.db")) as other:
                other.execute("CREATE TRIGGER refuse BEFORE INSERT ON files BEGIN SELECT RAISE(ABORT, 'no'); END")
                with pytest.raises(StoreError):
                    store.attach(event.id, "clip", clip)
                assert clip.stat().st_size == 10
                other.execute("DROP TRIGGER refuse")
            store.attach(event.id, "clip", clip)
            assert store.file(event.id, "clip") is not None

    def test_files_are_for_their_owner_alone(self, tmp_path: Path) -> None:
        before = os.umask(0o022)
        try:
            filled(str(tmp_path / "live" / "events.db"), tmp_path / "live" / "media", 2)
        finally:
            os.umask(before)
        paths = [path for path in (tmp_path / "live").rglob("*") if path.name not in (".lock", ".site")]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in paths}
        assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
        assert len(modes) > 8


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["store", *map(str, arguments)])
    assert isinstance(left.value.code, int)
    return left.value.code


class TestCommands:
    def test_adopt_brings_all_events_back(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        live = tmp_path / "live"
        events = filled(str(live / "events.db"), live / "media")
        with EventStore.open(str(live / "events.db"), live / "media") as store:
            before = store.page(limit=500)
        for path in live.glob("events.db*"):
            path.unlink()
        assert run("check", "--out", live, "--json") == 1
        assert len(json.loads(capsys.readouterr().out)["unknown"]) == 2 * len(events)
        assert run("adopt", "--out", live) == 0
        assert f"{len(events)} events and {len(events)} files were added" in capsys.readouterr().out
        with EventStore.open(str(live / "events.db"), live / "media") as store:
            assert store.warning is None
            assert store.page(limit=500) == before
        assert run("check", "--out", live) == 0

    def test_adopt_takes_the_quarantine_back_and_names_what_has_no_sidecar(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        live = tmp_path / "live"
        url, media = str(live / "events.db"), live / "media"
        events = filled(url, media, 3)
        for path in live.glob("events.db*"):
            path.unlink()
        next(media.glob(f"gate/*/{events[2].id}.json")).unlink()
        EventStore.open(url, media).close()
        assert clips(media) == set()
        assert run("adopt", "--out", live) == 1
        output = capsys.readouterr()
        assert f"{events[2].id}-clip.mp4" in output.out + output.err
        with EventStore.open(url, media) as store:
            assert [event.id for event in store.page()] == [events[1].id, events[0].id]
            assert all(store.file(event.id, "clip") for event in events[:2])

    def test_a_backup_is_restored_into_any_database(
        self, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        live, backup = tmp_path / "live", tmp_path / "backup"
        filled(str(live / "events.db"), live / "media")
        with EventStore.open(str(live / "events.db"), live / "media") as store:
            store.record_scores("gate", NOON, [1.0, 2.5], "m")
            store.record_state("gate", "live")
            assert run("backup", backup, "--out", live) == 0, "a backup is made while the service runs"
            before = (store.page(limit=500), store.verdicts(store.page()[-1].id), store.states())
            assert run("backup", backup, "--out", live) == 1
        assert "is not empty" in capsys.readouterr().err
        assert run("restore", backup, "--out", tmp_path / "new", "--store", url) == 0
        with EventStore.open(url, tmp_path / "new" / "media") as store:
            assert (store.page(limit=500), store.verdicts(store.page()[-1].id), store.states()) == before
            assert store.compare().unknown == ()
            assert store.score_summary("gate", NOON - timedelta(days=1)).maxima.tolist() == [1.0, 2.5]
        assert run("restore", backup, "--out", tmp_path / "new", "--store", url) == 1
        assert "restore into an empty one" in capsys.readouterr().err

    def test_settings_and_models_of_cameras_are_restored_into_another_folder(self, tmp_path: Path) -> None:
        shipped = Path(__file__).resolve().parents[2] / "models" / "synthetic-nano"
        live, backup, new, config = (tmp_path / name for name in ("live", "backup", "new", "live.toml"))
        config.write_text(f'model = "{shipped}"\nout = "live"\n[cameras.gate]\nurl = "rtsp://me:secret@camera/"\n')
        filled(str(live / "events.db"), live / "media", 2)
        trained = [live / "cameras" / "gate" / "models" / name for name in ("first", "second")]
        models = CameraModels(read_live(config), "gate")
        for bundle in trained:
            shutil.copytree(shipped, bundle)
            models.activate(bundle)
        assert run("backup", backup, "--config", config) == 0
        copy = backup / "service" / "live.toml"
        assert (copy.read_bytes(), stat.S_IMODE(copy.stat().st_mode)) == (config.read_bytes(), 0o600)
        restored = tmp_path / "restored.toml"
        restored.write_text(copy.read_text().replace('out = "live"', 'out = "new"'))
        assert run("restore", backup, "--config", restored) == 0
        models = CameraModels(read_live(restored), "gate")
        assert models.current == new / "cameras" / "gate" / "models" / "second", "although the old one is still there"
        shutil.rmtree(live)
        assert open_bundle(models.current).digest == open_bundle(shipped).digest
        assert models.roll_back() == models.current == new / "cameras" / "gate" / "models" / "first"

    def test_a_backup_has_what_lies_beside_the_database(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """The write-ahead file, SQLite's own log, the quarantine, sidecars, passwords, zones: as a live folder has them."""
        live, backup, new = (tmp_path / name for name in ("live", "backup", "new"))
        events = filled(str(live / "events.db"), live / "media", 3)
        auth_file.set_password(live / "access.json", "correct horse")
        Overrides(live).set("gate", "false_alarms", None, "2/day")
        Overrides(live).set("gate", "model", None, str(tmp_path / "gone"))
        with EventStore.open(str(live / "events.db"), live / "media") as store:
            assert store.write_ahead is not None
            waiting = make_event(NOON + timedelta(hours=1))
            store.write_ahead.append(WriteAheadEntry("new", waiting, ChangeStamp()))
            store.begin(in_log := make_event(NOON + timedelta(hours=2)))
            assert (live / "events.db-wal").stat().st_size > 0
            aside = store.media / ".quarantine" / "gate" / "day" / f"{new_id()}-clip.mp4"
            aside.parent.mkdir(parents=True)
            aside.write_bytes(b"unknown")
            assert run("backup", backup, "--out", live) == 0
        new.mkdir()
        (new / "events.db-wal").write_bytes(b"of another database")
        assert run("restore", backup, "--out", new) == 1
        assert f"the model {tmp_path / 'gone'} of gate is not here" in capsys.readouterr().err
        with EventStore.open(str(new / "events.db"), new / "media") as store:
            assert {event.id for event in store.page()} == {event.id for event in (*events, waiting, in_log)}
            assert [event for event in store.page() if event.end is None] == []
            assert [path.read_bytes() for path in store.quarantined()] == [b"unknown"]
            assert len(store.write_ahead or ()) == 0
            sidecars = {path.stem for path in (new / "media").glob("[!.]*/*/*.json")}
            assert sidecars == {event.id for event in events}
        assert auth_file.load_credentials(new / "access.json") == auth_file.load_credentials(live / "access.json")
        assert json.loads((new / "overrides.json").read_text())["gate"].keys() == {"false_alarms"}
        for path in new.glob("events.db*"):
            path.unlink()
        assert run("adopt", "--out", new) == 1, "the file in the quarantine has no sidecar"
        assert f"{len(events)} events and {len(events)} files were added" in capsys.readouterr().out

    def test_what_is_no_backup_is_refused(self, tmp_path: Path) -> None:
        with EventStore.open(str(tmp_path / "events.db"), tmp_path / "media") as store:
            with pytest.raises(StoreError, match="is not a backup"):
                store.restore(tmp_path)
            (tmp_path / "b").mkdir()
            store.back_up(tmp_path / "b")
            (tmp_path / "b" / "events.jsonl").write_text('{"id": 1}\n', encoding="utf-8")
            with pytest.raises(StoreError, match=r"damaged row in events\.jsonl"):
                store.restore(tmp_path / "b")
