"""The page reads media from the object store: whole, in parts, missing, and while the store is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from object_stores import MEDIA_URL, Bucket
from serving import IDLE_SCENE, served
from stored import make_event

from comemory.store.store import EventStore

CONTENT = bytes(range(256)) * 4000
"""About a megabyte: more than one part that is read ahead."""


@contextmanager
def page(folder: Path, bucket: Bucket) -> Iterator[tuple[httpx.Client, list[str]]]:
    """A client of a service whose events have a clip in the object store only; and their ids."""
    ids = []
    with EventStore.open(f"{folder}/live/events.db", folder / "live" / "media", media_url=MEDIA_URL) as store:
        for minutes in (20, 10):
            event = make_event(datetime.now(UTC) - timedelta(minutes=minutes), camera="gate")
            store.begin(event)
            store.end(replace(event, end=event.start + timedelta(seconds=7)))
            clip = store.scratch / "clip.mp4"
            clip.write_bytes(CONTENT)
            store.attach(event.id, "clip", clip)
            ids.append(event.id)
        assert store.uploads is not None
        for file in store.uploads.pending(9):
            store.uploads.upload(file)
        store.sweep(datetime.now(UTC), None, 0)
        assert store.file(ids[0], "clip") is None
    settings = ("--set", f"store.media_url={MEDIA_URL}")
    with (
        served(folder, *settings, environment=bucket.environment, scene=IDLE_SCENE) as running,
        httpx.Client(base_url=running.url, timeout=60) as client,
    ):
        yield client, ids


def test_clips_are_read_from_the_object_store(tmp_path: Path, bucket: Bucket) -> None:
    with page(tmp_path, bucket) as (client, (gone, id)):
        url = f"/api/v1/events/{id}/clip"
        whole = client.get(url)
        assert (whole.status_code, whole.content) == (200, CONTENT)
        assert (whole.headers["content-type"], whole.headers["accept-ranges"]) == ("video/mp4", "bytes")
        for asked, first, end in (("100-199", 100, 200), (f"{len(CONTENT) - 5}-", -5, None), ("-7", -7, None)):
            part = client.get(url, headers={"Range": f"bytes={asked}"})
            assert (part.status_code, part.content) == (206, CONTENT[first:end])
        assert part.headers["content-range"] == f"bytes {len(CONTENT) - 7}-{len(CONTENT) - 1}/{len(CONTENT)}"
        outside = client.get(url, headers={"Range": f"bytes={len(CONTENT)}-"})
        assert (outside.status_code, outside.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
        several = client.get(url, headers={"Range": "bytes=0-1,4-5"})
        assert (several.status_code, len(several.content)) == (200, len(CONTENT))
        named = client.get(url, params={"download": True}, headers={"Range": "bytes=0-0"})
        assert named.headers["content-disposition"].startswith("attachment; filename*=utf-8''gate_2")
        assert "comemory_uploads_waiting 0.0" in client.get("/metrics").text
        assert client.get(f"/api/v1/events/{id}/heat").json() == {"detail": "this event has no heat"}
        bucket.delete(f"{gone}-clip.mp4")
        missing = client.get(f"/api/v1/events/{gone}/clip")
        assert (missing.status_code, missing.json()["detail"]) == (
            404,
            "the clip of this event is no longer in the object store",
        )
        bucket.set_away(True)
        for path in (url, f"/api/v1/events/{id}/export"):
            away = client.get(path)
            assert away.status_code == 503
            assert away.json()["detail"].startswith("cannot read s3://media/site-1/gate/")
            assert "secret" not in away.text
        assert client.get("/readyz").status_code == 200, "events are seen and recorded without the object store"
