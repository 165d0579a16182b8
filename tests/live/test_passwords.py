"""Cameras whose passwords have characters that mean something in a URL: they log in, and no part of them is shown."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import cv2
import pytest
from live.conftest import until
from moving_disc import disc_images
from stored import free_port, http_server

from comemory.cli.live_options import LiveLog, log_messages
from comemory.errors import mask_password
from comemory.live.config import LiveSettings, WebSettings
from comemory.live.contract import CameraState
from comemory.live.engine import Engine
from comemory.live.learning.progress import LearningProgress
from comemory.live.service import Service

pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
httpx = pytest.importorskip("httpx", reason="needs comemory[web]")
pytest.importorskip("fastapi", reason="needs comemory[web]")
from comemory.server.app import create_app  # noqa: E402
from comemory.server.auth import Auth  # noqa: E402
from comemory.server.auth_file import Credentials  # noqa: E402
from comemory.server.serve import serving  # noqa: E402

Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]
ENDLESS = ("/api/v1/stream", "/api/v1/cameras/{name}/video")
UGLY = (
    "Tr0ub4@dor",
    "Tr0ub4/dor",
    "Tr0ub4@dor/3xQ",
    "Ab[Secret7]x",
    "Geh#eim99",
    "Geh?eim99",
    "Geh:eim:99",
    "Geh%eim99",
    "Geh%zzeim",
    "Geh%41eim",
    "gqs perrt99",
    "Schlüssel99",
    "пароль1234",
    "密码密码9999",
    "a&b=c&d=Geheim",
    "Geh\\eim99",
    'Geh"eim99',
    "Geh'eim99",
    "Geh{eim}^99",
    "@@//::[]Geheim",
)


@contextmanager
def protected_camera(password: str) -> Iterator[str]:
    """The address (host and path) of an MJPEG camera that demands a password."""
    jpegs = [cv2.imencode(".jpg", image)[1].tobytes() for image in disc_images(20, 96, 144)]
    right = "Basic " + base64.b64encode(f"admin:{password}".encode()).decode()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Authorization") != right:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            for k in range(10**6):
                jpeg = jpegs[k % len(jpegs)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    self.wfile.write(head.encode() + jpeg + b"\r\n")
                except OSError:
                    return
                time.sleep(0.1)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}/video"
        server.shutdown()


def parts_of(password: str) -> list[str]:
    """Parts of a password that would give it away: those between the characters that URLs are cut at."""
    for mark in "@/[]#?:%& ={}^\"'\\":
        password = password.replace(mark, "\n")
    return [part for part in password.split("\n") if len(part) >= 3]


def everything_shown(service: Service) -> Iterator[str]:
    """Every answer of the page and the API that shows cameras, as text."""
    app = create_app(service.engine, service.store, Auth(Credentials(key="k" * 40)), service=service)
    paths = [path for path, methods in app.openapi()["paths"].items() if "get" in methods and path not in ENDLESS]
    with serving(app, WebSettings(port=0)) as address, httpx.Client(base_url=address, timeout=60) as page:
        for path in ("/", *paths):
            names = list(service.settings.cameras) if "{name}" in path else [""]
            for name in names if "{id}" not in path else []:
                answer = page.get(path.replace("{name}", name))
                assert answer.status_code in (200, 204, 404), path
                yield f"{dict(answer.headers)} {answer.text}"


def test_no_part_of_a_password_leaves_the_system(live: Live, capsys: pytest.CaptureFixture[str]) -> None:
    """In cameras that refuse it, and in cameras that are away: log, page, API, alerts and all files."""
    with protected_camera("another one") as address, http_server() as desk:
        cameras = {f"http{k}": {"url": f"http://admin:{one}@{address}"} for k, one in enumerate(UGLY)}
        away = f"127.0.0.1:{free_port()}/live"
        cameras |= {f"rtsp{k}": {"url": f"rtsp://admin:{one}@{away}"} for k, one in enumerate(UGLY)}
        sink = {"kind": "webhook", "url": f"http://127.0.0.1:{desk.port}/", "allow_private": True, "state_delay_s": 0}
        settings = live(cameras, alerts={"desk": sink})
        with Service(settings) as service, log_messages(service, LiveLog(as_json=True)):
            engine = service.engine
            until(lambda: all(status.state is CameraState.DOWN for status in engine.status()))
            until(lambda: {one["camera"] for one in desk.payloads if one["kind"] == "state"} == cameras.keys())
            messages = {status.name: status.message for status in engine.status()}
            shown = list(everything_shown(service))
            LearningProgress(settings.out, "http0").begin_stage("recording", mask_password(messages["http0"]))
            shown += [repr(engine.status()), json.dumps(str(settings)), json.dumps(desk.payloads)]
        shown.append("".join(capsys.readouterr()))
    refused = "Server returned 401 Unauthorized (authorization failed)"
    for name, message in messages.items():
        where = (
            f"http://admin:***@{address}: {refused}"
            if name[0] == "h"
            else f"rtsp://admin:***@{away}: Connection refused"
        )
        assert message == where, "all of the password is hidden, and nothing else"
    assert len([line for line in shown[-1].splitlines() if '"what": "state"' in line]) >= len(cameras)
    files = {path: path.read_bytes() for path in settings.out.rglob("*") if path.is_file()}
    assert {"events.db", "events.jsonl", "learning.json"} <= {path.name for path in files}
    text = "\n".join([*shown, *(content.decode("utf-8", "replace") for content in files.values())])
    assert {one: [part for part in parts_of(one) if part in text] for one in UGLY} == {one: [] for one in UGLY}
    for one in UGLY:
        assert mask_password(f"HTTP error for {one} at host") == "HTTP error for *** at host"


def test_cameras_with_ugly_passwords_log_in(live: Live, engines: Engines) -> None:
    """All as they are, apart from one that looks like a percent-encoded letter, which has to be encoded by hand."""
    with ExitStack() as servers:
        addresses = {one: servers.enter_context(protected_camera(one)) for one in UGLY if one != "Geh%41eim"}
        cameras = {
            f"c{k}": {"url": f"http://admin:{one}@{address}"} for k, (one, address) in enumerate(addresses.items())
        }
        engine = engines(live(cameras))
        until(lambda: all(status.state is not CameraState.CONNECTING for status in engine.status()))
        states = {status.name: status.state for status in engine.status()}
        assert states == dict.fromkeys(cameras, CameraState.LIVE), [status.message for status in engine.status()]
        engine.stop()
