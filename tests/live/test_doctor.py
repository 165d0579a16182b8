"""`comemory doctor` only checks: it makes nothing, and every failure has one hint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from object_stores import MEDIA_URL, Bucket

from comemory.live.config import LiveSettings, read_live
from comemory.live.doctor import Check, run_checks

pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
Live = Callable[..., LiveSettings]
SMALL = {"retention": {"max_gb": 0.001}}


def checks(settings: LiveSettings) -> dict[str, Check]:
    return {check.name: check for check in run_checks(settings)}


def listed(folder: Path) -> list[tuple[str, bytes]]:
    paths = sorted(path for path in folder.rglob("*"))
    return [(str(path), path.read_bytes() if path.is_file() else b"") for path in paths]


def test_a_new_folder_is_checked_and_not_made(tmp_path: Path) -> None:
    found = checks(read_live(None, {"out": str(tmp_path / "new" / "live"), **SMALL}))
    assert (found["disk"].ok, found["store"].ok) == (True, True)
    assert found["store"].found == f"sqlite:///{tmp_path}/new/live/events.db: made at the first start"
    assert not list(tmp_path.iterdir())


def test_a_store_stays_as_it_is(tmp_path: Path) -> None:
    from sqlalchemy import create_engine, text

    from comemory.store.store import EventStore

    settings = read_live(None, {"out": str(tmp_path), **SMALL})
    with EventStore.open(settings.store_url, settings.media):
        assert checks(settings)["store"].found.endswith("events.db: 0 events")
    before = listed(tmp_path)
    assert checks(settings)["store"].ok
    assert listed(tmp_path) == before
    engine = create_engine(f"sqlite:///{tmp_path}/events.db")
    with engine.begin() as connection:
        connection.execute(text("UPDATE comemory_version SET version_num = '9999'"))
    engine.dispose()
    before = listed(tmp_path)
    found = checks(settings)["store"]
    assert found.ok is False
    assert "has schema 9999, which this comemory does not know" in found.found
    assert listed(tmp_path) == before


@pytest.mark.parametrize("content", [b"", b"no database" * 500])
def test_a_file_that_is_no_store_is_not_changed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "events.db").write_bytes(content)
    assert checks(read_live(None, {"out": str(tmp_path), **SMALL}))["store"].ok is not bool(content)
    assert listed(tmp_path) == [(str(tmp_path / "events.db"), content)]


def test_a_failure_has_one_hint(tmp_path: Path, clips: list[Path], live: Live) -> None:
    file = tmp_path / "afile"
    file.touch()
    found = checks(read_live(None, {"out": str(file)}))
    assert found["disk"] == Check("disk", False, f"cannot write into {file}: it is a file", "choose a folder")
    what = f"cannot write into {file}/media: {file} is a file"
    assert found["store"] == Check("store", False, what, "choose a folder")
    found = checks(live({"gate": {"url": "env:NO_SUCH"}}, precision="bf16"))
    bundle = next(check for name, check in found.items() if name.startswith("model"))
    assert "--precision auto" in bundle.hint
    assert "--precision auto" not in bundle.found
    assert found["camera gate"] == Check(
        "camera gate",
        False,
        "the url of a camera is 'env:NO_SUCH', and the environment variable 'NO_SUCH' is not set",
        "set that variable before starting",
    )


def test_an_object_store_is_tried_out(tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"out": str(tmp_path), "store": {"media_url": MEDIA_URL}, **SMALL}
    found = checks(read_live(None, values))["object store"]
    assert (found.ok, found.found) == (True, f"{MEDIA_URL}: a test object was written, read and deleted")
    assert bucket.objects() == {}
    values["store"] = {"media_url": "s3://nowhere/x"}
    found = checks(read_live(None, values))["object store"]
    assert found.ok is False
    assert found.found.startswith("cannot write s3://nowhere/x/.comemory-")
    assert found.hint == "check store.media_url, and the credentials and the address in the environment"
    bucket.set_away(True)
    values["store"] = {"media_url": MEDIA_URL}
    found = checks(read_live(None, values))["object store"]
    assert found.ok is False
    assert "secret" not in found.found
    assert "\n" not in found.found


def test_without_an_object_store_none_is_checked(tmp_path: Path) -> None:
    assert "object store" not in checks(read_live(None, {"out": str(tmp_path), **SMALL}))
