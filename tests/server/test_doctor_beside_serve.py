"""`comemory doctor` at the port of the page: free, taken by comemory's own server, or by another program."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from serving import Running, free_port

from comemory.live.config import LiveSettings, read_live
from comemory.live.doctor import Check, run_checks
from comemory.store.media import MediaFolder
from server.test_serving import https  # noqa: F401


def settings_of(out: Path, port: int, **web: object) -> LiveSettings:
    return read_live(None, {"out": str(out), "web": {"port": port, **web}, "retention": {"max_gb": 0.001}})


def port_check(settings: LiveSettings) -> Check:
    return next(check for check in run_checks(settings) if check.name == "port")


def test_it_passes_beside_the_serve_of_the_same_settings(running: Running, tmp_path: Path) -> None:
    found = {check.name: check for check in run_checks(settings_of(running.out, running.port))}
    assert (found["port"].ok, found["port"].found) == (
        True,
        f"127.0.0.1:{running.port}: comemory serve is running and answers there",
    )
    assert found["store"].ok
    assert found["store"].found.endswith(" events")
    found["port"] = port_check(settings_of(tmp_path, running.port))
    assert found["port"].ok is False
    assert "another output folder" in found["port"].found
    assert port_check(settings_of(running.out, free_port())).found.endswith("is free")


def test_a_page_with_a_certificate_is_recognised(tmp_path: Path, https: tuple[str, int]) -> None:  # noqa: F811
    web = {"certificate": str(tmp_path / "certificate.pem"), "key": str(tmp_path / "key.pem")}
    settings = settings_of(tmp_path / "live", https[1], **web)
    assert port_check(settings).ok is False, "no process owns the media folder"
    media = MediaFolder(settings.media, shared=False)
    assert port_check(settings).ok
    media.close()
    assert port_check(settings).ok is False


class Other(BaseHTTPRequestHandler):
    """A program that answers every path as many health endpoints do."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_another_program_at_the_port_is_a_failure(tmp_path: Path) -> None:
    with HTTPServer(("127.0.0.1", 0), Other) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        found = port_check(settings_of(tmp_path, other.server_port))
        other.shutdown()
    assert (found.ok, found.found) == (False, f"127.0.0.1:{other.server_port}: Address already in use")
    assert "web.port" in found.hint
