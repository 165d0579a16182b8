"""The whole service while its database is away: it starts, alerts, shows the error, and stores everything later."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
from serving import CONFIG, scene_video, serve, wait_for
from stored import http_server

from comemory.cli.demo import shipped_bundle
from comemory.store.store import EventStore


def test_it_starts_and_alerts_and_stores_when_the_database_is_back(tmp_path: Path, postgres: Callable[[], str]) -> None:
    url = postgres()
    (socket_file,) = Path(url.partition("?host=")[2]).glob(".s.PGSQL.*[0-9]")
    hidden = socket_file.with_name("hidden")
    socket_file.rename(hidden)
    with http_server() as received:
        hook = f'alerts.desk={{"kind": "webhook", "url": "http://127.0.0.1:{received.port}/", "allow_private": true}}'
        try:
            running = serve(tmp_path, "--set", "store.url=env:STORE_URL", "--set", hook, environment={"STORE_URL": url})
            wait_for(lambda: any(payload["kind"] == "new" for payload in received.payloads))
            assert httpx.get(f"{running.url}/healthz", timeout=60).status_code == 200
            assert httpx.get(f"{running.url}/readyz", timeout=60).status_code == 503
            assert "cannot be opened" in httpx.get(f"{running.url}/api/v1/system", timeout=60).json()["store_error"]
            assert httpx.get(f"{running.url}/api/v1/events", timeout=60).status_code == 503
        finally:
            hidden.rename(socket_file)
        wait_for(lambda: httpx.get(f"{running.url}/readyz", timeout=60).status_code == 200)
        (event, *_) = (payload["after"]["id"] for payload in received.payloads if payload["kind"] == "new")
        wait_for(lambda: httpx.get(f"{running.url}/api/v1/events/{event}", timeout=60).status_code == 200)
        running.stop()
        assert running.process.returncode == 0


def test_a_stop_that_could_not_store_says_so_and_fails(tmp_path: Path, postgres: Callable[[], str]) -> None:
    url = postgres()
    (socket_file,) = Path(url.partition("?host=")[2]).glob(".s.PGSQL.*[0-9]")
    hidden = socket_file.with_name("hidden")
    config = tmp_path / "live.toml"
    text = CONFIG.format(model=shipped_bundle("synthetic-nano").resolve(), video=scene_video(tmp_path))
    config.write_text(f'{text}\n[store]\nurl = "{url}"\n', encoding="utf-8")
    command = [sys.executable, "-m", "comemory", "watch", "--config", str(config), "--out", str(tmp_path / "live")]
    command += ["--set", "cameras.yard.enabled=false"]
    socket_file.rename(hidden)
    try:
        with (tmp_path / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            lines = tmp_path / "live" / "events.jsonl"
            wait_for(lambda: lines.is_file() and '"change": "new"' in lines.read_text(encoding="utf-8"))
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 1
    finally:
        hidden.rename(socket_file)
    assert "could not be stored" in (tmp_path / "log").read_text(encoding="utf-8")
    with EventStore.open(url, tmp_path / "live" / "media") as store:
        assert store.page() == []
        store.replay()
        assert len(store.page()) >= 1
        assert store.counts().open == 0
