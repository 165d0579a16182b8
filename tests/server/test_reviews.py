"""Reviewing events by the API: many at once, notes, favourites, exports; and the activity of a camera."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest
from serving import Running, wait_for
from stored import make_event

from comemory.live.config import WebSettings, read_live
from comemory.live.engine import Engine
from comemory.server.app import create_app
from comemory.server.auth import Auth
from comemory.server.auth_file import Role, add_token
from comemory.server.serve import serving
from comemory.store.store import EventStore


class Page:
    """The API of an engine without cameras, by role; its store holds four events, the last one open."""

    def __init__(self, folder: Path, address: str, store: EventStore) -> None:
        self._file, self._address = folder / "access.json", address
        events = [make_event(datetime(2026, 3, 2, 12, k, tzinfo=UTC)) for k in range(4)]
        for event in events:
            store.begin(event)
        for event in events[:3]:
            store.end(replace(event, end=event.start + timedelta(seconds=5)))
        self.ids = [event.id for event in events]

    def caller(self, role: Role) -> httpx.Client:
        """A program with this role."""
        token = add_token(self._file, role, role)
        return httpx.Client(base_url=self._address, headers={"Authorization": f"Bearer {token}"}, timeout=60)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of its own."""
    live = read_live(None, {"model": "nowhere", "out": str(tmp_path / "live")})
    with EventStore.open(str(tmp_path / "events.db"), tmp_path / "media") as store:
        app = create_app(Engine(live, store), store, Auth(tmp_path / "access.json"))
        with serving(app, WebSettings(port=0)) as address:
            yield Page(tmp_path, address.rstrip("/"), store)


def results(answer: httpx.Response) -> dict[str, tuple[Any, Any]]:
    """Of a review: id to event and error."""
    assert answer.status_code == 200, answer.text
    return {one["id"]: (one["event"], one["error"]) for one in answer.json()["results"]}


class TestManyAtOnce:
    def test_each_event_has_its_result(self, page: Page) -> None:
        first, second, *_ = page.ids
        with page.caller("operator") as client:
            done = results(
                client.post("/api/v1/reviews", json={"ids": [first, "x", second, first], "action": "normal"})
            )
            assert list(done) == [first, "x", second]
            assert done["x"] == (None, "there is no such event")
            assert done[first][0]["verdict"] == done[second][0]["verdict"] == "normal"
            results(client.post("/api/v1/reviews", json={"ids": [first], "action": "clear"}))
            assert client.get(f"/api/v1/events/{first}").json()["verdict"] is None

    def test_deleting_needs_an_admin_and_leaves_open_events(self, page: Page) -> None:
        asked = {"ids": page.ids, "action": "delete"}
        with page.caller("operator") as client:
            assert client.post("/api/v1/reviews", json=asked).status_code == 403
        with page.caller("admin") as client:
            done = results(client.post("/api/v1/reviews", json=asked))
            assert [error for _, error in done.values()][:3] == [None] * 3
            assert "is still open" in done[page.ids[3]][1]
            assert [event["id"] for event in client.get("/api/v1/events").json()["events"]] == [page.ids[3]]

    @pytest.mark.parametrize("body", [{"ids": [], "action": "normal"}, {"ids": ["a"], "action": "x"}, {"ids": ["../"]}])
    def test_what_does_not_fit_is_refused(self, page: Page, body: dict[str, Any]) -> None:
        with page.caller("operator") as client:
            assert client.post("/api/v1/reviews", json=body).status_code == 422

    def test_a_viewer_changes_nothing(self, page: Page) -> None:
        with page.caller("viewer") as client:
            assert client.post("/api/v1/reviews", json={"ids": page.ids, "action": "normal"}).status_code == 403
            assert client.patch(f"/api/v1/events/{page.ids[0]}", json={"note": "x"}).status_code == 403


class TestNotes:
    def test_they_are_set_listed_and_removed(self, page: Page) -> None:
        place = f"/api/v1/events/{page.ids[0]}"
        with page.caller("operator") as client:
            assert client.patch(place, json={"note": "a fox", "favourite": True}).json()["note"] == "a fox"
            assert client.patch(place, json={"note": None}).json()["note"] == "a fox"
            (kept,) = client.get("/api/v1/events?favourite=true").json()["events"]
            assert (kept["id"], kept["favourite"]) == (page.ids[0], True)
            assert client.get("/api/v1/timeline?favourite=false").json()["total"] == 3
            assert client.patch(place, json={"note": ""}).json()["note"] is None
            assert client.patch(place, json={"note": "x" * 1001}).status_code == 422
            assert client.patch(place, json={"favourite": 0}).status_code == 422
            assert client.patch("/api/v1/events/x", json={"note": "y"}).status_code == 404
            results(client.post("/api/v1/reviews", json={"ids": [page.ids[0]], "action": "unfavourite"}))
            assert client.get("/api/v1/events?favourite=true").json()["events"] == []


@pytest.fixture(scope="module")
def event(running: Running) -> dict[str, Any]:
    """An event that is over, with all its files."""

    def whole() -> list[dict[str, Any]]:
        events = httpx.get(f"{running.url}/api/v1/events?camera=gate&limit=200", timeout=60).json()["events"]
        return [one for one in events if one["end"] and all(one["media"].values())]

    wait_for(whole)
    return whole()[0]


class TestFiles:
    def test_the_picture_is_cropped_to_the_outline(self, running: Running, event: dict[str, Any]) -> None:
        import cv2

        assert len(event["region"]) >= 3
        encoded = httpx.get(running.url + event["media"]["crop"], timeout=60).content
        crop = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)
        assert crop is not None
        assert crop.shape[1] < event["size"][1]

    def test_a_clip_is_exported_with_its_overlay(self, running: Running, event: dict[str, Any]) -> None:
        answer = httpx.get(f"{running.url}/api/v1/events/{event['id']}/export", timeout=120)
        assert answer.headers["content-type"] == "video/mp4"
        assert 'filename="gate_20' in answer.headers["content-disposition"]
        assert "_marked.mp4" in answer.headers["content-disposition"]
        with av.open(io.BytesIO(answer.content)) as container:
            assert container.streams.video[0].width == 720
            assert sum(1 for _ in container.decode(video=0)) > 5
        assert list((running.out / "media" / ".incoming").glob("export-*")) == []
        plain = httpx.get(f"{running.url}{event['media']['clip']}?download=true", timeout=60)
        assert 'filename="gate_20' in plain.headers["content-disposition"]
        assert httpx.get(f"{running.url}/api/v1/events/x/export", timeout=60).status_code == 404


class TestSystem:
    def test_it_says_what_the_machine_has_left(self, running: Running) -> None:
        found = httpx.get(f"{running.url}/api/v1/system", timeout=60).json()
        machine = found["machine"]
        assert 0 < machine["disk_free_bytes"] <= machine["disk_total_bytes"]
        assert 0 < machine["memory_available_bytes"] <= machine["memory_total_bytes"]
        assert machine["process_bytes"] > 10_000_000
        assert found["store_url"].startswith("sqlite:")

    def test_a_camera_without_recorded_hours_has_an_empty_week(self, running: Running) -> None:
        found = httpx.get(f"{running.url}/api/v1/cameras/yard/activity?weekday=0&hour=3", timeout=60).json()
        assert (found["hours"], found["week"], found["since"]) == (0, [], None)
        assert np.shape(found["moving"]) == (12, 16)
        assert httpx.get(f"{running.url}/api/v1/cameras/nobody/activity", timeout=60).status_code == 404
