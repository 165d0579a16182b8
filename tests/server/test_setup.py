"""Setting the system up on the page of a running `comemory serve`: what is written, what starts, and what is refused."""

from __future__ import annotations

import json
import os
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from footage import save_video
from serving import IDLE_SCENE, Running, scene_video, served, wait_for
from stored import http_server

from comemory.datasets import open_dataset

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PASSWORD = "geheim-77"
NEW_URL = f"rtsp://admin:{PASSWORD}@127.0.0.1:9/live?token=hunter-88"
TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose settings the tests change."""
    with served(tmp_path_factory.mktemp("managed"), scene=IDLE_SCENE) as server:
        yield server


@pytest.fixture
def client(managed: Running) -> Iterator[httpx.Client]:
    """A program on the same machine that proves its changes."""
    with httpx.Client(base_url=f"{managed.url}/api/v1", timeout=60) as client:
        client.headers["X-CSRF-Token"] = client.get("/session").json()["csrf"]
        yield client


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page."""
    context = browser.new_context(viewport={"width": 1366, "height": 820})
    context.set_default_timeout(TIMEOUT_MS)
    yield context.new_page()
    context.close()


def settings_of(managed: Running) -> dict[str, Any]:
    return tomllib.loads((managed.out.parent / "live.toml").read_text())


def names(client: httpx.Client) -> list[str]:
    return [camera["name"] for camera in client.get("/cameras").json()]


class TestCameras:
    def test_one_is_added_changed_and_removed_without_a_restart(self, managed: Running, client: httpx.Client) -> None:
        video = str(scene_video(managed.out.parent))
        before = (managed.out.parent / "live.toml").read_text()
        added = client.post("/setup/cameras", json={"name": "door", "url": video, "loop": True, "fps": 5})
        assert (added.status_code, added.json()["url"], added.json()["in_file"]) == (201, video, True)
        assert settings_of(managed)["cameras"]["door"] == {"url": video, "loop": True, "fps": 5.0}
        assert (managed.out.parent / "live.toml.bak").read_text() == before
        wait_for(lambda: client.get("/cameras/door").json()["scored"] > 0)
        changed = client.patch("/setup/cameras/door", json={"fps": None, "hours": ["08:00-18:00"]})
        assert (changed.status_code, changed.json()["fps"]) == (200, None)
        assert settings_of(managed)["cameras"]["door"] == {"url": video, "loop": True, "hours": ["08:00-18:00"]}
        for budget in ("1/week", None):
            changed = client.patch("/setup/cameras/door", json={"unusual_times": budget})
            assert (changed.status_code, changed.json()["unusual_times"]) == (200, budget)
            assert settings_of(managed)["cameras"]["door"].get("unusual_times") == budget
        assert client.patch("/setup/cameras/door", json={"enabled": False}).status_code == 200
        assert names(client) == ["gate", "yard"]
        assert client.delete("/setup/cameras/door").status_code == 204
        assert client.delete("/setup/cameras/door").status_code == 404
        assert settings_of(managed) == tomllib.loads(before)

    def test_its_password_is_stored_and_never_returned(self, managed: Running, client: httpx.Client) -> None:
        file = managed.out.parent / "live.toml"
        shown = client.post("/setup/cameras", json={"name": "hall", "url": NEW_URL}).json()["url"]
        assert shown == "rtsp://admin:***@127.0.0.1:9/live?token=***"
        assert settings_of(managed)["cameras"]["hall"]["url"] == NEW_URL
        assert client.patch("/setup/cameras/hall", json={"url": shown, "transport": "udp"}).status_code == 200
        assert settings_of(managed)["cameras"]["hall"] == {"url": NEW_URL, "transport": "udp"}
        elsewhere = client.patch("/setup/cameras/hall", json={"url": shown.replace("127.0.0.1", "127.0.0.2")})
        assert (elsewhere.status_code, "enter the password" in elsewhere.json()["detail"]) == (400, True)
        tested = client.post("/setup/cameras/test", json={"url": shown, "name": "hall"})
        assert (tested.status_code, "refused" in tested.json()["detail"]) == (400, True)
        said = [client.get(path).text for path in ("/setup", "/cameras", "/system")] + [elsewhere.text, tested.text]
        said += [(managed.out.parent / "log").read_text(), (managed.out / "audit.jsonl").read_text()]
        assert not any(secret in text for text in said for secret in (PASSWORD, "hunter"))
        assert client.delete("/setup/cameras/hall").status_code == 204
        assert stat.S_IMODE(file.stat().st_mode) & 0o007 == 0
        assert stat.S_IMODE(file.with_name("live.toml.bak").stat().st_mode) == 0o600

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"url": "env:HOME"}, "in the settings file only"),
            ({"url": "file:///etc/passwd"}, "expected one of"),
            ({"url": "scene.mp4"}, "the absolute path"),
            ({"url": "rtsp://gate.lan/live", "model": "/nowhere"}, "not a bundle"),
            ({"url": "rtsp://gate.lan/live", "model": "nowhere"}, "absolute path"),
            ({"url": "rtsp://gate.lan/live", "hours": ["8 to 6"]}, "cannot read the hours"),
            ({"url": "rtsp://gate.lan/live", "false_alarms": "few"}, "false_alarms"),
            ({"url": "rtsp://gate.lan/live", "unusual_times": "few"}, "unusual_times"),
        ],
    )
    def test_what_cannot_be_used_is_refused_and_changes_nothing(
        self, managed: Running, client: httpx.Client, change: dict[str, Any], reason: str
    ) -> None:
        before = (managed.out.parent / "live.toml").read_bytes()
        refused = client.post("/setup/cameras", json={"name": "odd", **change})
        assert (refused.status_code, reason in refused.json()["detail"]) == (400, True), refused.text
        assert (managed.out.parent / "live.toml").read_bytes() == before
        assert not list(managed.out.parent.glob(".comemory-*"))

    def test_a_name_is_used_once(self, client: httpx.Client) -> None:
        assert client.post("/setup/cameras", json={"name": "gate", "url": NEW_URL}).status_code == 409

    def test_a_test_shows_a_picture(self, managed: Running, client: httpx.Client) -> None:
        found = client.post("/setup/cameras/test", json={"url": str(scene_video(managed.out.parent))}).json()
        assert (found["width"], found["height"], found["codec"]) == (360, 240, "h264")
        assert found["jpeg"].startswith("/9j/")

    def test_one_is_added_on_the_page_by_keyboard(self, managed: Running, page: Page, client: httpx.Client) -> None:
        page.goto(f"{managed.url}/#/setup")
        page.get_by_role("link", name="Add a camera").press("Enter")
        page.get_by_label("Name").fill("porch")
        page.get_by_label("Address").fill("rtsp://127.0.0.1:9/none")
        page.get_by_role("button", name="Test").press("Enter")
        page.get_by_text("Connection refused").wait_for()
        page.get_by_label("Address").fill(str(scene_video(managed.out.parent)))
        page.get_by_role("button", name="Test").press("Enter")
        page.get_by_text("360 × 240").wait_for()
        page.get_by_label("Address").press("Enter")
        page.get_by_role("link", name="Edit porch").wait_for()
        wait_for(lambda: "porch" in names(client))
        page.get_by_role("link", name="Edit porch").press("Enter")
        page.get_by_role("button", name="Remove", exact=True).press("Enter")
        page.get_by_role("button", name="Remove it?").press("Enter")
        page.get_by_role("link", name="Add a camera").wait_for()
        wait_for(lambda: "porch" not in names(client))


def test_cameras_of_the_command_line_are_changed_there(tmp_path: Path) -> None:
    with (
        served(tmp_path, "--camera", "extra=/nowhere.mp4", "--set", "cameras.gate.fps=3") as server,
        httpx.Client(base_url=f"{server.url}/api/v1", timeout=60) as client,
    ):
        client.headers["X-CSRF-Token"] = client.get("/session").json()["csrf"]
        assert {one["name"]: one["in_file"] for one in client.get("/setup").json()["cameras"]}["extra"] is False
        for done in (
            client.patch("/setup/cameras/extra", json={"loop": True}),
            client.patch("/setup/cameras/gate", json={"fps": 7}),
            client.delete("/setup/cameras/extra"),
        ):
            assert (done.status_code, "command line" in done.json()["detail"]) == (400, True), done.text


def test_only_an_admin_may(tmp_path: Path) -> None:
    from test_roles import server, with_token

    from comemory.server.auth_file import add_token

    with server(tmp_path) as address:
        header = with_token(add_token(tmp_path / "live" / "access.json", "desk", "operator"))
        assert httpx.get(f"{address}/api/v1/setup", headers=header, timeout=60).status_code == 403
        test = {"url": "/dev/video0"}
        tested = httpx.post(f"{address}/api/v1/setup/cameras/test", json=test, headers=header, timeout=60)
        assert tested.status_code == 403


def audited(managed: Running, action: str) -> list[dict[str, Any]]:
    lines = (managed.out / "audit.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if entry["action"] == action]


def test_changes_are_in_the_audit_log(managed: Running, client: httpx.Client) -> None:
    client.post("/setup/cameras", json={"name": "attic", "url": "rtsp://127.0.0.1:9/x"})
    client.delete("/setup/cameras/attic")
    assert audited(managed, "camera added")[-1]["target"] == "attic"
    assert audited(managed, "camera removed")[-1]["target"] == "attic"


class TestAlerts:
    def test_one_is_added_tested_changed_and_removed(self, managed: Running, client: httpx.Client) -> None:
        with http_server() as hook, http_server() as other:
            secrets = {"url": f"http://127.0.0.1:{hook.port}/hook/{PASSWORD}", "secret": "hunter-99"}
            added = client.post(
                "/setup/alerts", json={"name": "desk", "kind": "webhook", "allow_private": True, **secrets}
            )
            assert (added.status_code, added.json()["target"]) == (201, "http://127.0.0.1"), added.text
            assert added.json()["stored"] == ["url", "secret"]
            assert client.post("/setup/alerts/desk/test").status_code == 204
            assert "test" in [payload["kind"] for payload in hook.payloads]
            assert set(hook.paths) == {f"/hook/{PASSWORD}"}
            changed = client.patch("/setup/alerts/desk", json={"cameras": ["gate"], "quiet_hours": ["01:00-02:00"]})
            assert (changed.status_code, changed.json()["cameras"]) == (200, ["gate"])
            assert settings_of(managed)["alerts"]["desk"] == {
                "kind": "webhook",
                "allow_private": True,
                **secrets,
                "cameras": ["gate"],
                "quiet_hours": ["01:00-02:00"],
            }
            client.patch("/setup/alerts/desk", json={"url": f"http://127.0.0.1:{other.port}/"})
            assert client.post("/setup/alerts/desk/test").status_code == 204
            assert "test" in [payload["kind"] for payload in other.payloads]
        refused = client.post("/setup/alerts/desk/test")
        assert (refused.status_code, "did not arrive" in refused.json()["detail"]) == (409, True)
        said = [client.get("/setup/alerts").text, (managed.out / "audit.jsonl").read_text(), added.text, refused.text]
        assert not any(secret in text for text in said for secret in (PASSWORD, "hunter-99"))
        assert client.delete("/setup/alerts/desk").status_code == 204
        assert client.get("/setup/alerts").json() == []
        assert "alerts" not in settings_of(managed)

    @pytest.mark.parametrize(
        ("alert", "status"),
        [
            ({"kind": "webhook", "url": "ftp://desk.lan/"}, 400),
            ({"kind": "webhook", "url": "env:HOME"}, 400),
            ({"kind": "webhook"}, 400),
            ({"kind": "mqtt", "host": "x", "cameras": ["nobody"]}, 400),
            ({"kind": "apprise", "url": "nothing://at-all"}, 400),
            ({"kind": "command", "argv": ["/bin/true"]}, 422),
        ],
    )
    def test_what_cannot_be_used_is_refused(self, client: httpx.Client, alert: dict[str, Any], status: int) -> None:
        assert client.post("/setup/alerts", json={"name": "odd", **alert}).status_code == status
        assert client.get("/setup/alerts").json() == []

    def test_one_is_added_on_the_page(self, managed: Running, page: Page, client: httpx.Client) -> None:
        with http_server() as hook:
            page.goto(f"{managed.url}/#/setup")
            page.get_by_role("link", name="Add an alert").press("Enter")
            page.get_by_label("Name", exact=True).fill("page")
            page.get_by_label("URL").fill(f"http://127.0.0.1:{hook.port}/x")
            page.get_by_label("private network").check()
            page.get_by_role("button", name="Save and send a test").press("Enter")
            page.get_by_text("the test alert has arrived").wait_for()
            assert "test" in [payload["kind"] for payload in hook.payloads]
            page.get_by_role("button", name="Send a test to page").press("Enter")
            page.get_by_text("The test alert has arrived.", exact=True).wait_for()
        assert client.delete("/setup/alerts/page").status_code == 204


class TestPauses:
    def test_an_operator_pauses_and_snoozes_on_the_page(
        self, managed: Running, page: Page, client: httpx.Client
    ) -> None:
        page.goto(managed.url)
        page.get_by_role("button", name="Snooze the alerts of gate for an hour").press("Enter")
        page.get_by_role("article", name="gate").get_by_text("Alerts are snoozed until").wait_for()
        page.goto(f"{managed.url}/#/cameras/gate")
        page.get_by_role("button", name="Send alerts again").press("Enter")
        page.get_by_role("button", name="Pause", exact=True).press("Enter")
        page.get_by_text("Not watched: paused by page").wait_for()
        gate = client.get("/cameras/gate").json()
        assert (gate["state"], gate["paused_until"], gate["snoozed_until"]) == ("paused", None, None)
        assert client.get("/cameras/gate/picture").status_code == 204
        page.get_by_role("button", name="Resume").press("Enter")
        wait_for(lambda: client.get("/cameras/gate").json()["state"] == "live")
        assert {"pause", "resume", "snooze", "snooze ended"} <= {
            json.loads(line)["action"] for line in (managed.out / "audit.jsonl").read_text().splitlines()
        }

    def test_times_are_refused_that_are_none(self, client: httpx.Client) -> None:
        assert client.put("/cameras/gate/snooze", json={"minutes": 0}).status_code == 422
        assert client.put("/cameras/nobody/pause", json={"minutes": None}).status_code == 404


@pytest.mark.parametrize("view", ["#/setup", "#/setup/cameras", "#/setup/cameras/gate", "#/setup/alerts"])
def test_axe_finds_nothing_and_a_phone_needs_no_sideways_scrolling(
    managed: Running, page: Page, axe: str, view: str
) -> None:
    from test_page import violations

    page.goto(f"{managed.url}/{view}")
    page.locator("main h2, form label").first.wait_for()
    assert violations(page, axe) == []
    page.emulate_media(color_scheme="dark")
    assert violations(page, axe) == []
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def is_running(process: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


QUICK_TRAINING = (
    "learn.preset=motion",
    "learn.cpu_share=0.95",
    'learn.settings=["clips.height=32","clips.width=48"]',
)


def test_a_training_is_started_and_watched_on_the_page(tmp_path: Path, page: Page) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    footage = tmp_path / "normal"
    walkway = open_dataset("synthetic:seed=9,frames=250,training=1,testing=1,size=96x144").training()[0].source
    save_video(footage / "gate.mp4", [frame.image for frame in walkway])  # type: ignore[union-attr]
    settings = [part for one in QUICK_TRAINING for part in ("--set", one)]
    with (
        served(tmp_path, *settings) as server,
        httpx.Client(base_url=f"{server.url}/api/v1", timeout=60) as client,
    ):
        client.headers["X-CSRF-Token"] = client.get("/session").json()["csrf"]
        for wanted, reason in (
            ({"source": "recorded"}, "nothing was recorded"),
            ({"source": "folder", "folder": "normal"}, "absolute path"),
            ({"source": "folder", "folder": str(tmp_path / "nowhere")}, "no folder"),
            ({"source": "folder", "folder": str(server.out)}, "no video"),
            ({"source": "record"}, "how long"),
        ):
            refused = client.post("/cameras/gate/training", json=wanted)
            assert (refused.status_code, reason in refused.json()["detail"]) == (400, True), refused.text
        before = client.get("/cameras/gate").json()["model_sha256"]
        page.goto(f"{server.url}/#/cameras/gate")
        page.get_by_label("For how long").select_option("60")
        page.get_by_role("button", name="Start a training").press("Enter")
        stop = page.get_by_role("button", name="Stop", exact=True)
        stop.wait_for()
        second = client.post("/cameras/yard/training", json={"source": "folder", "folder": str(footage)})
        assert (second.status_code, "a training is running, of gate" in second.text) == (400, True), second.text
        (training,) = client.get("/system").json()["learning"]
        process = json.loads((server.out / "cameras" / "gate" / "learning.json").read_text())["process"]
        assert (training["running"], os.getpriority(os.PRIO_PROCESS, process)) == (True, 15)
        assert process != server.process.pid
        stop.press("Enter")
        wait_for(lambda: not client.get("/system").json()["learning"][0]["running"])
        assert client.delete("/cameras/gate/training").status_code == 400
        page.get_by_label("Train on").select_option("folder")
        page.get_by_label("Folder").fill(str(footage))
        page.get_by_role("button", name="Start a training").press("Enter")
        wait_for(lambda: client.get("/system").json()["learning"][0]["stage"] == "done", timeout_s=900)
        wait_for(lambda: client.get("/cameras/gate").json()["model_sha256"] != before)
        assert client.post("/cameras/gate/training", json={"source": "record", "minutes": 60}).status_code == 202
        process = json.loads((server.out / "cameras" / "gate" / "learning.json").read_text())["process"]
    wait_for(lambda: not is_running(process), 60)
