"""The page in a real browser: what it shows, what it changes, and its accessibility."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from conftest import LONG, N_EVENTS, PASSWORD
from serving import Running, wait_for

from comemory.cli.serve import ACCESS_FILE

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

TIMEOUT_MS = 180_000
STATIC = Path(__file__).resolve().parents[2] / "src" / "comemory" / "server" / "static"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page; at the end nothing was complained of in its console."""
    context = browser.new_context(viewport={"width": 1366, "height": 820})
    context.set_default_timeout(TIMEOUT_MS)
    errors: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert [text for text in errors if "401" not in text] == []


@pytest.fixture(scope="package")
def complete_event(running: Running) -> dict[str, Any]:
    """An event that is over, with all its files."""
    address = f"{running.url}/api/v1/events?camera=gate&limit=200"

    def whole() -> list[dict[str, Any]]:
        events = httpx.get(address, timeout=60).json()["events"]
        return [one for one in events if one["end"] and all(one["media"].values())]

    wait_for(whole)
    return whole()[0]


def stored(running: Running, path: str) -> Any:
    return httpx.get(running.url + path, timeout=60).json()


class TestLive:
    def test_tiles_show_live_frames(self, running: Running, page: Page) -> None:
        page.goto(running.url)
        gate = page.get_by_role("article", name="gate")
        gate.get_by_text("Live", exact=True).wait_for()
        picture = gate.get_by_role("img", name="Newest picture of gate")
        page.wait_for_function("image => image.naturalWidth > 0", arg=picture.element_handle())
        shown = picture.get_attribute("src")
        page.wait_for_function("([image, shown]) => image.src !== shown", arg=[picture.element_handle(), shown])
        score = gate.get_by_label("Score of gate", exact=True)
        page.wait_for_function("score => Number(score.textContent) >= 0", arg=score.element_handle())
        yard = page.get_by_role("article", name="yard")
        yard.get_by_text("No picture").or_(yard.get_by_text("Connection refused")).first.wait_for()
        assert "hunter" not in page.content()

    def test_the_heat_map_can_be_switched_off(self, running: Running, page: Page) -> None:
        page.goto(running.url)
        heat = page.get_by_role("button", name="Heat map of gate")
        assert heat.get_attribute("aria-pressed") == "true"
        with page.expect_request(lambda request: "heat=false" in request.url):
            heat.click()
        assert heat.get_attribute("aria-pressed") == "false"

    def test_an_event_arrives_without_a_reload(self, running: Running, page: Page) -> None:
        page.goto(running.url)
        page.locator("#recent").wait_for()
        page.wait_for_load_state("load")
        page.evaluate("window.unloaded = false; addEventListener('beforeunload', () => { window.unloaded = true; })")
        rows = page.locator("a.row")
        page.wait_for_timeout(1000)
        before = {row.get_attribute("href") for row in rows.all()}
        wait_for(lambda: {row.get_attribute("href") for row in rows.all()} - before)
        assert page.evaluate("window.unloaded") is False
        rows.first.locator("img").wait_for()


class TestEvents:
    def test_the_player_plays_and_stores_the_verdict(
        self, running: Running, page: Page, complete_event: dict[str, Any]
    ) -> None:
        page.goto(f"{running.url}/#/events/{complete_event['id']}")
        player = page.get_by_role("dialog")
        video = player.locator("video")
        page.wait_for_function("video => video.readyState >= 2 && video.duration > 0.5", arg=video.element_handle())
        place = f"/api/v1/events/{complete_event['id']}"
        for name, verdict in (("Abnormal", "abnormal"), ("Normal", "normal")):
            player.get_by_role("button", name=name, exact=True).click()
            player.locator(f".verdict.{verdict}[aria-pressed=true]").wait_for()
            assert stored(running, place)["verdict"] == verdict
        page.keyboard.press("u")
        player.get_by_text("Was this normal?").wait_for()
        assert stored(running, place)["verdict"] is None
        player.get_by_role("button", name="Heat map").click()
        player.get_by_role("img", name="Peak of the event with its heat map").wait_for()
        page.keyboard.press("Escape")
        player.wait_for(state="detached")

    def test_they_are_listed_by_day_and_filtered(
        self, running: Running, page: Page, complete_event: dict[str, Any]
    ) -> None:
        page.goto(f"{running.url}/#/events")
        page.locator("a.card").first.wait_for()
        page.get_by_role("img", name="Timeline of the last 24 hours").wait_for()
        page.get_by_role("combobox", name="Camera").select_option("yard")
        page.get_by_text("No events in this period.").wait_for()

    def test_all_events_of_the_period_are_drawn_and_counted(self, full: Running, page: Page) -> None:
        page.goto(f"{full.url}/#/events")
        page.get_by_role("img", name=f"Timeline of the last 24 hours: {N_EVENTS} events").wait_for()
        assert page.locator(".tick-mark").count() == N_EVENTS
        assert page.locator("a.card").count() == 48
        of_day = Counter(datetime.fromisoformat(one["start"]).astimezone().date() for one in all_events(full))
        of_today = of_day[max(of_day)]
        shown = min(48, of_today)
        counted = f"{shown} of {of_today} events" if shown < of_today else f"{shown} event{'s' * (shown > 1)}"
        assert page.locator(".day h2 span").first.inner_text() == counted
        page.get_by_role("button", name="Older events").click()
        page.locator("a.card").nth(95).wait_for()
        page.get_by_role("combobox", name="Camera").select_option(LONG)
        page.get_by_role("img", name=f"{N_EVENTS // 2} events").wait_for()

    def test_one_steps_from_event_to_event(self, full: Running, page: Page) -> None:
        ids = all_ids(full)
        page.goto(f"{full.url}/#/events/{ids[300]}")
        page.get_by_role("dialog").wait_for()
        for key, place in (("ArrowLeft", 299), ("ArrowLeft", 298), ("ArrowRight", 299)):
            page.keyboard.press(key)
            page.wait_for_url(f"**/#/events/{ids[place]}")
            page.locator(f".player:has(video), .player:has-text({json.dumps('No image was stored')})").wait_for()

    def test_the_list_follows_verdicts_and_deletions(self, full: Running, page: Page, browser: Browser) -> None:
        other = browser.new_page()
        other.goto(f"{full.url}/#/events")
        page.goto(f"{full.url}/#/events")
        ids = all_ids(full)
        card = f'a.card[href="#/events/{ids[5]}"]'
        other.locator(card).wait_for()
        page.locator(card).click()
        page.get_by_role("dialog").get_by_role("button", name="Normal", exact=True).click()
        for one in (page, other):
            one.locator(f"{card} .mark.normal").wait_for(timeout=TIMEOUT_MS)
        page.keyboard.press("Escape")
        page.get_by_role("combobox", name="Verdict").select_option("none")
        page.get_by_role("img", name=f"{N_EVENTS - 1} events").wait_for()
        assert page.locator(card).count() == 0
        card = f'a.card[href="#/events/{ids[3]}"]'
        page.locator(card).click()
        page.get_by_role("dialog").wait_for()
        page.keyboard.press("a")
        page.locator(card).wait_for(state="detached", timeout=TIMEOUT_MS)
        page.keyboard.press("Escape")
        page.get_by_role("combobox", name="Verdict").select_option("")
        page.locator(f"{card} .mark.abnormal").wait_for()
        card = f'a.card[href="#/events/{ids[1]}"]'
        page.on("dialog", lambda asked: asked.accept())
        page.locator(card).click()
        page.get_by_role("button", name="Delete this event").click()
        page.get_by_role("dialog").wait_for(state="detached")
        for one in (page, other):
            one.locator(card).wait_for(state="detached", timeout=TIMEOUT_MS)
            one.get_by_role("img", name=f"{N_EVENTS - 1} events").wait_for()
        other.close()


class TestReview:
    def test_many_are_selected_and_judged_with_the_keyboard(self, full: Running, page: Page) -> None:
        ids = all_ids(full)
        page.goto(f"{full.url}/#/events")
        page.locator("a.card").nth(12).wait_for()
        for key in ("j", "j", "x", "j", "x"):
            page.keyboard.press(key)
        page.get_by_text("2 selected").wait_for()
        page.keyboard.press("2")
        page.get_by_text("2 events changed.").wait_for()
        assert [stored(full, f"/api/v1/events/{id}")["verdict"] for id in ids[1:3]] == ["abnormal"] * 2
        page.keyboard.press("3")
        page.locator(f'[data-event="{ids[2]}"] .mark').wait_for(state="detached")
        page.keyboard.press("?")
        page.get_by_role("dialog", name="Keys").get_by_text("previous event").wait_for()
        page.keyboard.press("Escape")

    def test_a_range_and_all_are_selected_with_the_mouse(self, full: Running, page: Page) -> None:
        ids = all_ids(full)
        page.goto(f"{full.url}/#/events")
        boxes = page.get_by_role("checkbox")
        boxes.nth(20).click()
        boxes.nth(24).click(modifiers=["Shift"])
        page.get_by_text("5 selected").wait_for()
        page.get_by_role("button", name="Favourite", exact=False).first.click()
        page.locator("a.card .star").nth(4).wait_for()
        page.get_by_role("combobox", name="Kept").select_option("true")
        page.get_by_role("img", name="Timeline of the last 24 hours: 5 events").wait_for()
        page.get_by_role("button", name="Select all shown").click()
        page.get_by_text("5 selected").wait_for()
        page.on("dialog", lambda asked: asked.accept())
        page.get_by_role("button", name="Delete").click()
        page.get_by_text("No events in this period.").wait_for()
        assert not set(ids[20:25]) & set(all_ids(full))

    def test_a_note_is_written_and_shown(self, full: Running, page: Page) -> None:
        id = all_ids(full)[30]
        page.goto(f"{full.url}/#/events/{id}")
        page.get_by_label("Note").fill("a fox, not a person")
        page.keyboard.press("Tab")
        page.get_by_text("Note saved.").wait_for()
        page.get_by_role("button", name="Close", exact=True).click()
        page.locator(f'[data-event="{id}"]').get_by_text("a fox, not a person").wait_for()

    def test_the_activity_is_drawn_and_an_hour_chosen(self, full: Running, page: Page) -> None:
        page.goto(f"{full.url}/#/cameras/yard/activity")
        page.locator(".heat-cell").nth(15).wait_for(state="attached")
        hour = page.get_by_role("button", name="Monday, 08:00 to 09:00")
        hour.click()
        page.locator(".said").get_by_text("Monday, 08:00 to 09:00").wait_for()
        assert page.get_by_role("button", pressed=True).count() == 2
        page.get_by_role("button", name="How fast").click()
        page.get_by_text("10 % of the width a second or faster").wait_for()

    @pytest.mark.parametrize("width", [360, 1280, 1600, 1920])
    def test_all_hours_of_the_week_are_in_sight(self, full: Running, page: Page, width: int) -> None:
        page.set_viewport_size({"width": width, "height": 820})
        page.goto(f"{full.url}/#/cameras/yard/activity")
        week = page.locator(".week-scroll")
        week.locator("table").wait_for()
        assert week.evaluate("week => week.scrollWidth <= week.clientWidth")


def all_events(running: Running) -> list[dict[str, Any]]:
    """What the timeline shows of them, newest first."""
    events: list[dict[str, Any]] = stored(running, "/api/v1/timeline")["events"]
    return events


def all_ids(running: Running) -> list[str]:
    """Of all events, newest first."""
    return [event["id"] for event in all_events(running)]


def wait_until_still(page: Page, selector: str) -> tuple[float, float]:
    """Wait until an element no longer moves, as it does while the page is still loading; its width and height."""
    before = None
    while (box := page.locator(selector).bounding_box()) is None or box != before:
        before = box
        page.wait_for_timeout(500)
    return box["width"], box["height"]


def as_if(page: Page, camera: str, **values: object) -> None:
    """Let the page believe that a camera's status has other values, until the next status."""
    page.evaluate(
        """async ([name, values]) => {
            const live = await import("/live.js");
            Object.assign(live.known.cameras.get(name), values);
            live.notifyAll({ kind: "status" });
        }""",
        [camera, values],
    )


class TestCamera:
    def test_a_degraded_one_is_not_called_live(self, running: Running, page: Page) -> None:
        page.goto(running.url)
        gate = page.get_by_role("article", name="gate")
        gate.get_by_text("frames/s scored").wait_for()
        said = []
        for state in ("degraded", "live"):
            as_if(page, "gate", state=state)
            said.append(gate.locator(".metrics").inner_text())
        assert "degraded for" in said[0]
        assert "live for" not in said[0]
        assert "live for" in said[1]

    def test_one_that_does_not_exist_is_one_line(self, running: Running, page: Page) -> None:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{running.url}/#/cameras/nosuch")
        page.get_by_text("There is no camera nosuch.").wait_for()
        page.wait_for_timeout(1500)
        assert page.locator("main button, main input").count() == 0
        assert [url for url in asked if "nosuch" in url.split("#")[0]] == []
        page.get_by_role("main").get_by_role("link", name="All cameras").click()
        page.get_by_role("article", name="gate").wait_for()

    def test_its_frames_add_up_and_its_numbers_have_words(self, running: Running, page: Page) -> None:
        page.goto(f"{running.url}/#/cameras/gate")
        page.locator(".facts").first.wait_for()
        frames = {
            "frames": 5482,
            "scored": 3293,
            "dropped": 1217,
            "not_due": 0,
            "filling": 972,
            "faulty": 0,
            "damaged": 0,
        }
        as_if(page, "gate", **frames, waiting=0, lost=3, attempts=1, reconnects=0)
        said = page.locator(".facts").first.inner_text()
        assert "5,482 received: 3,293 scored, 1,217 dropped, 972 while a clip began; 3 lost on the way" in said
        assert "1 attempt, 0 reconnections" in said

    def test_a_password_is_spoken_of_only_where_the_address_has_one(self, running: Running, page: Page) -> None:
        page.goto(f"{running.url}/#/setup/cameras/gate")
        page.get_by_label("Address").wait_for()
        assert page.get_by_text("stands for the password").count() == 0


class TestZones:
    def test_one_is_drawn_with_the_mouse_and_removed(self, running: Running, page: Page) -> None:
        page.goto(f"{running.url}/#/cameras/gate")
        page.get_by_role("button", name="Draw a zone").click()
        page.wait_for_function("[...document.images].some((image) => image.naturalWidth > 0)")
        for x, y, then in (
            (0.1, 0.1, "1 point."),
            (0.3, 0.1, "2 points."),
            (0.3, 0.3, "3 points."),
            (0.1, 0.1, "Zone 1, 3 corners"),
        ):
            width, height = wait_until_still(page, "svg.editor")
            page.locator("svg.editor").click(position={"x": x * width, "y": y * height})
            page.get_by_text(then).wait_for()
        (zone,) = stored(running, "/api/v1/cameras/gate")["zones"]
        assert [
            [pytest.approx(value, abs=0.02) for value in point] for point in ((0.1, 0.1), (0.3, 0.1), (0.3, 0.3))
        ] == zone
        page.get_by_role("button", name="Remove zone 1").click()
        page.get_by_text("Zone 1, 3 corners").wait_for(state="detached")
        assert stored(running, "/api/v1/cameras/gate")["zones"] == []

    def test_one_is_drawn_with_the_keyboard(self, running: Running, page: Page) -> None:
        page.goto(f"{running.url}/#/cameras/gate")
        page.get_by_role("button", name="Draw a zone").press("Enter")
        editor = page.locator("svg.editor")
        for key in (
            "Enter",
            "Shift+ArrowRight",
            "Shift+ArrowRight",
            "Enter",
            "Shift+ArrowDown",
            "ArrowDown",
            "Enter",
            "c",
        ):
            editor.press(key)
        page.get_by_text("Zone 1, 3 corners").wait_for()
        (zone,) = stored(running, "/api/v1/cameras/gate")["zones"]
        assert zone == [[0.5, 0.5], [0.6, 0.5], [0.6, 0.56]]
        page.get_by_role("button", name="Remove zone 1").click()
        wait_for(lambda: stored(running, "/api/v1/cameras/gate")["zones"] == [])

    def test_drawing_can_be_cancelled(self, running: Running, page: Page) -> None:
        page.goto(f"{running.url}/#/cameras/gate")
        page.get_by_role("button", name="Draw a zone").click()
        page.locator("svg.editor").press("Enter")
        page.get_by_text("1 point.").wait_for()
        page.locator("svg.editor").press("Escape")
        page.get_by_role("button", name="Draw a zone").wait_for()
        assert stored(running, "/api/v1/cameras/gate")["zones"] == []


class TestSensitivity:
    def test_it_is_set_with_the_keyboard_and_says_what_it_means(self, running: Running, page: Page) -> None:
        page.goto(f"{running.url}/#/cameras/yard")
        slider = page.get_by_role("slider")
        page.wait_for_function("slider => Number(slider.max) > 5", arg=slider.element_handle())
        assert "at this setting" in str(slider.get_attribute("aria-valuetext"))
        slider.press("Home")
        page.get_by_text("Budget 1 per week").wait_for()
        page.get_by_role("button", name="Apply").click()
        wait_for(lambda: stored(running, "/api/v1/cameras/yard")["false_alarms"] == "1/week")

    def test_it_says_when_nothing_is_recorded(self, running: Running, page: Page) -> None:
        page.goto(f"{running.url}/#/cameras/yard")
        page.get_by_text("No whole minute of scores is stored yet.").wait_for()


LOOK = "only to look at it"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, str]]:
    """A server that only viewers may log in to, and an event of it."""
    from serving import IDLE_SCENE, served
    from stored import make_event

    from comemory.server.auth_file import set_password
    from comemory.store.store import EventStore

    folder = tmp_path_factory.mktemp("watched")
    event = make_event(datetime.now(UTC), camera="gate", cells=None)
    with EventStore.open(f"sqlite:///{folder}/live/events.db", folder / "live" / "media") as store:
        store.begin(event)
        store.end(replace(event, end=event.start))
    set_password(folder / "live" / ACCESS_FILE, LOOK, "viewer")
    with served(folder, scene=IDLE_SCENE) as server:
        yield server, event.id


class TestViewer:
    def log_in(self, page: Page, url: str) -> None:
        page.goto(url)
        page.get_by_label("Password").fill(LOOK)
        page.keyboard.press("Enter")
        page.get_by_role("link", name="Events", exact=True).wait_for()

    def test_a_camera_has_no_controls_that_would_be_refused(self, watched: tuple[Running, str], page: Page) -> None:
        server, _ = watched
        self.log_in(page, f"{server.url}/#/cameras/gate")
        page.get_by_role("heading", name="Ignored zones").wait_for()
        assert page.get_by_role("slider").is_disabled()
        as_if(page, "gate", state="moved", zones=[[[0, 0], [1, 0], [1, 1]]])
        for name in ("Draw a zone", "Apply", "Use this view as the reference", "Pause", "Snooze", "Start a training"):
            assert page.get_by_role("button", name=name).count() == 0, name

    def test_nor_has_an_event(self, watched: tuple[Running, str], page: Page) -> None:
        server, event = watched
        self.log_in(page, f"{server.url}/#/events/{event}")
        player = page.get_by_role("dialog")
        player.get_by_text("Not reviewed.").wait_for()
        for key in ("n", "a", "f", "u"):
            page.keyboard.press(key)
        assert not player.get_by_label("Note").is_editable()
        for name in ("Normal", "Abnormal", "Undo", "Delete this event", "Favourite: retention keeps it"):
            assert player.get_by_role("button", name=name).count() == 0, name
        player.get_by_role("button", name="Close").click()
        page.locator("a.card").first.wait_for()
        assert page.get_by_role("checkbox").count() == 0
        assert page.get_by_role("button", name="Select all shown").count() == 0


class TestLogin:
    def test_a_password_is_asked_for(self, locked: Running, page: Page) -> None:
        page.goto(locked.url)
        page.get_by_label("Password").fill("a wrong password")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("alert").get_by_text("the password is wrong").wait_for()
        page.get_by_label("Password").fill(PASSWORD)
        page.keyboard.press("Enter")
        page.get_by_role("article", name="gate").wait_for()
        page.get_by_role("button", name="Log out").click()
        page.get_by_label("Password").wait_for()
        assert [cookie["name"] for cookie in page.context.cookies()] == ["comemory_device"]


VIEWS = {"live": "", "events": "#/events", "camera": "#/cameras/gate", "system": "#/system"}


class TestAccessibility:
    @pytest.mark.parametrize("view", VIEWS)
    def test_a_phone_needs_no_sideways_scrolling(
        self, running: Running, page: Page, complete_event: dict[str, Any], view: str
    ) -> None:
        page.set_viewport_size({"width": 360, "height": 740})
        page.goto(f"{running.url}/{VIEWS[view]}")
        page.get_by_role("heading", name="gate").or_(page.locator("a.card")).or_(
            page.locator("table a")
        ).first.wait_for()
        assert widest(page) <= 360

    @pytest.mark.parametrize("view", ["", "#/events", f"#/cameras/{LONG}", "#/events/{event}"])
    def test_nor_do_the_longest_names(self, full: Running, page: Page, view: str) -> None:
        page.set_viewport_size({"width": 360, "height": 740})
        page.goto(f"{full.url}/{view.format(event=all_ids(full)[0])}")
        page.locator(f"text={LONG}").first.wait_for(state="attached")
        page.wait_for_timeout(500)
        assert widest(page) <= 360

    @pytest.mark.parametrize(("view", "above"), [("#/cameras/yard", "main"), ("#/events/{event}", ".player-body")])
    def test_on_a_phone_notices_cover_nothing(self, full: Running, page: Page, view: str, above: str) -> None:
        page.set_viewport_size({"width": 360, "height": 740})
        page.goto(f"{full.url}/{view.format(event=all_ids(full)[0])}")
        page.locator(above).wait_for()
        page.locator(".facts dd").first.wait_for()
        page.evaluate("import('/dom.js').then((dom) => dom.notify('Event at yard, score 7.0', 'alarm', '#/events'))")
        notice, content = page.locator(".notice").bounding_box(), page.locator(above).bounding_box()
        assert notice is not None
        assert content is not None
        assert content["y"] + content["height"] <= notice["y"]
        assert notice["y"] + notice["height"] <= 740
        page.locator(above).evaluate("place => place.scrollTo(0, place.scrollHeight)")
        page.get_by_role("link", name="Download the picture").or_(page.get_by_text("Model").last).first.wait_for()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_axe_finds_nothing_in_the_activity_of_a_camera(
        self, full: Running, page: Page, axe: str, scheme: Any
    ) -> None:
        page.set_viewport_size({"width": 360, "height": 740})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.goto(f"{full.url}/#/cameras/yard/activity")
        page.locator(".heat-cell").first.wait_for(state="attached")
        assert widest(page) <= 360
        assert violations(page, axe) == []

    @pytest.mark.parametrize("width", [360, 700, 1366])
    def test_the_timeline_is_drawn_to_scale_and_its_labels_stand_apart(
        self, full: Running, page: Page, width: int
    ) -> None:
        page.set_viewport_size({"width": width, "height": 740})
        page.goto(f"{full.url}/#/events")
        page.locator("a.card").first.wait_for()
        drawn = page.locator("svg.timeline")
        wait_for(lambda: abs(drawn.evaluate("drawn => drawn.getScreenCTM().a") - 1) < 0.02, 10)
        places = [label.bounding_box() for label in drawn.locator("text.tick").all()]
        ends = [(place["x"], place["x"] + place["width"]) for place in places if place is not None]
        assert all(end < start for (_, end), (start, _) in pairwise(ends))

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("view", [*VIEWS, "player"])
    def test_axe_finds_nothing(
        self, running: Running, page: Page, axe: str, complete_event: dict[str, Any], view: str, scheme: Any
    ) -> None:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.goto(f"{running.url}/{VIEWS.get(view, '#/events/' + complete_event['id'])}")
        ready = {
            "live": "article",
            "events": "a.card",
            "camera": ".said strong",
            "player": "dialog .facts dd",
            "system": "table a",
        }
        page.locator(ready[view]).first.wait_for()
        assert violations(page, axe) == []

    def test_axe_finds_nothing_at_the_login(self, locked: Running, page: Page, axe: str) -> None:
        page.goto(locked.url)
        page.get_by_label("Password").wait_for()
        assert violations(page, axe) == []

    def test_the_theme_is_remembered(self, running: Running, page: Page) -> None:
        page.goto(running.url)
        page.get_by_role("button", name="Theme of the system").click()
        page.get_by_role("button", name="Light theme").click()
        page.reload()
        page.get_by_role("button", name="Dark theme").wait_for()
        assert page.evaluate("getComputedStyle(document.body).colorScheme") == "dark"


def test_the_system_tells_of_the_quarantine_until_when_it_is_stored(running: Running, page: Page) -> None:
    quarantine = running.out / "media" / ".quarantine" / "gate" / "2026-03-02"
    quarantine.mkdir(parents=True, mode=0o700)
    aside = quarantine / "a-clip.mp4"
    aside.write_bytes(bytes(3000))
    aside.chmod(0o600)
    try:
        found = httpx.get(f"{running.url}/api/v1/system", timeout=60).json()["quarantine"]
        assert (found["files"], found["bytes"]) == (1, 3000)
        left = datetime.fromisoformat(found["deleted_from"]) - datetime.now(UTC)
        assert timedelta(days=29) < left <= timedelta(days=30)
        assert "comemory_quarantine_files 1.0" in httpx.get(f"{running.url}/metrics", timeout=60).text
        page.goto(f"{running.url}/#/system")
        page.get_by_text("1 media file belongs to no event").wait_for()
    finally:
        shutil.rmtree(running.out / "media" / ".quarantine")


def widest(page: Page) -> int:
    """The width of what the page would scroll to, also inside the parts that scroll by themselves on a phone."""
    parts = "[document.documentElement, ...document.querySelectorAll('main, .player-body')]"
    return int(page.evaluate(f"Math.max(...{parts}.map((part) => part.scrollWidth))"))


def violations(page: Page, axe: str) -> list[str]:
    """What axe-core objects to, one line each."""
    page.evaluate(axe)
    found = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then((result) => JSON.stringify(result.violations))"
    )
    return [f"{one['id']}: {node['html'][:160]}" for one in json.loads(found) for node in one["nodes"]]


class TestFiles:
    def test_nothing_comes_from_elsewhere_and_nothing_is_markup_in_a_string(self) -> None:
        for path in STATIC.iterdir():
            text = path.read_text(encoding="utf-8")
            text = text.replace("http://www.w3.org/2000/svg", "")
            assert "http://" not in text, path.name
            assert "https://" not in text, path.name
            assert "innerHTML" not in text, path.name
            assert " style=" not in text, path.name

    def test_every_module_is_there(self) -> None:
        import re

        for path in STATIC.glob("*.js"):
            for name in re.findall(r'from "\./([\w.]+)"', path.read_text(encoding="utf-8")):
                assert (STATIC / name).is_file(), f"{path.name} imports {name}"
