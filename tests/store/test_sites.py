"""One store over the media folders of several processes that share a database."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from stored import Clock, make_event

from comemory.store.sites import Sites
from comemory.store.store import EventStore


def test_a_store_with_sites_sees_and_changes_the_events_of_all(url: str, tmp_path: Path, clock: Clock) -> None:
    parent = tmp_path / "fleet"
    made = {}
    for node in ("a", "b"):
        with EventStore.open(url, parent / node / "media", clock=clock) as store:
            event = make_event(clock(), camera="gate")
            store.begin(event)
            store.end(replace(event, end=event.start + timedelta(seconds=5)))
            source = store.scratch / "picture.jpg"
            source.write_bytes(node.encode())
            store.attach(event.id, "thumbnail", source)
            store.record_state("gate", "live")
            made[node] = event.id
    with EventStore.open(url, tmp_path / "media", shared=True, clock=clock, sites=Sites(parent)) as page:
        assert {event.id for event in page.page()} == set(made.values())
        assert page.counts().events == len(page.states("gate")) == 2
        for node, id in made.items():
            found = page.file(id, "thumbnail")
            assert found is not None
            assert found.read_bytes() == node.encode()
        page.set_verdict(made["a"], "normal", "tester")
        (sidecar,) = (parent / "a" / "media").rglob(f"{made['a']}.json")
        assert json.loads(sidecar.read_text(encoding="utf-8"))["event"]["verdict"] == "normal"
        assert page.delete(made["b"])
        assert not list((parent / "b" / "media").rglob("*-thumbnail*"))
    with EventStore.open(url, parent / "b" / "media", clock=clock) as alone:
        assert alone.page() == []
        assert alone.compare().unknown == ()


@pytest.mark.parametrize("name", ["", "not a name"])
def test_a_folder_without_a_readable_name_is_left_out(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a" / "media"
    folder.mkdir(parents=True)
    (folder / ".site").write_text(name, encoding="ascii")
    sites = Sites(tmp_path)
    assert sites.folders() == {}
    assert sites.media("0" * 32) is None
