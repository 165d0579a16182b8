"""The uploads of the event writer: while the object store is away, after a kill, and after a deletion."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from live.conftest import until
from object_stores import MEDIA_URL, Bucket
from stored import make_event, picture

from comemory.live.recording import media_uploader
from comemory.live.recording.event_writer import EventWriter
from comemory.store.store import EventStore


@contextmanager
def writing(folder: Path) -> Iterator[tuple[EventWriter, EventStore, list[str]]]:
    """A writer that runs, its store, and the errors that it reports."""
    reported: list[str] = []
    with EventStore.open(str(folder / "events.db"), folder / "media", media_url=MEDIA_URL) as store:
        writer = EventWriter(folder, store, reported.append)
        writer.start()
        yield writer, store, reported
        assert writer.stop(20)


def write_event(writer: EventWriter, store: EventStore) -> str:
    """Write an event that ends, with a clip; its id."""
    event = make_event(datetime.now(UTC))
    writer.write_event("new", event)
    writer.write_event("end", replace(event, end=event.start + timedelta(seconds=5)))
    writer.attach_clip(event.id, picture(store, suffix=".mp4"))
    return event.id


def test_files_wait_for_a_store_that_is_away_and_recording_goes_on(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_uploader, "FIRST_RETRY_S", 0.05)
    monkeypatch.setattr(media_uploader, "MAX_RETRY_S", 0.1)
    bucket.set_away(True)
    with writing(tmp_path) as (writer, store, reported):
        first = write_event(writer, store)
        until(lambda: bool(reported))
        assert reported[0].startswith("cannot write s3://media/site-1/gate/")
        assert reported[0].endswith(": images and clips wait on the disk")
        assert "secret" not in reported[0]
        second = write_event(writer, store)
        until(lambda: store.waiting_uploads() == (2, 200))
        bucket.set_away(False)
        until(lambda: store.waiting_uploads() == (0, 0))
        until(lambda: writer.error == "")
        assert reported[-1] == ""
        assert {Path(path).name[:36] for path in bucket.objects()} == {first, second}
        store.delete(first)
        writer.upload()
        until(lambda: len(bucket.objects()) == 1)


def test_credentials_that_are_missing_are_one_line(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    with writing(tmp_path) as (writer, store, reported):
        write_event(writer, store)
        until(lambda: bool(reported))
        assert "Unable to locate credentials" in reported[0]
        assert "\n" not in reported[0]
        assert store.waiting_uploads() == (1, 100)


KILLED = """
import sys, time
from pathlib import Path
sys.path[:0] = {path!r}
from live.recording.test_media_uploader import write_event, writing
with writing(Path({folder!r})) as (writer, store, reported):
    id = write_event(writer, store)
    while not reported:
        time.sleep(0.02)
    print(id, flush=True)
    time.sleep(600)
"""


def test_a_process_that_is_killed_between_event_and_upload_loses_nothing(tmp_path: Path, bucket: Bucket) -> None:
    bucket.set_away(True)
    code = textwrap.dedent(KILLED.format(path=sys.path, folder=str(tmp_path)))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        id = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
    assert id, "the process ended by itself"
    assert bucket.objects() == {}
    bucket.set_away(False)
    with writing(tmp_path) as (_, store, _):
        until(lambda: store.waiting_uploads() == (0, 0))
        event = store.get(id)
        assert event is not None
        assert list(bucket.objects()) == [event.files["clip"]]
