"""A fleet with real PostgreSQL, whose nodes keep media on a disk of their own and upload them to a real S3 server."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from object_stores import MEDIA_URL, Bucket
from services import postgres  # noqa: F401
from stored import http_server, wait_until

from comemory.cli.demo import shipped_bundle
from comemory.cluster.fleet import require_fleet_settings
from comemory.cluster.fleet_claim import running_pid
from comemory.errors import ConfigError
from comemory.live.config import read_live

NODE = "local-1"
LIMIT_S = 240.0
CONFIG = """
model = "{model}"
workers = 1
[store]
url = "{url}"
media = "{media}"
media_url = "{media_url}"
[web]
port = 0
[events]
pre_capture_s = 0
post_capture_s = 0
[alerts.hook]
kind = "webhook"
url = "{hook}"
allow_private = true
kinds = ["system"]
[cameras.gate]
url = "{video}"
loop = true
fps = 2
false_alarms = "1/min"
"""


class Page:
    """`comemory serve --cluster local:1` that runs, and what its API says."""

    def __init__(self, log: Path) -> None:
        self._log = log

    @property
    def url(self) -> str:
        found = re.search(r"the page is at (http\S+)/", self._log.read_text(encoding="utf-8"))
        return found[1] if found else ""

    def read(self, path: str, **headers: str) -> bytes:
        request = urllib.request.Request(f"{self.url}{path}", headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())

    def waiting(self) -> int:
        """Files that wait for their upload, as the metrics say."""
        found = re.search(r"^comemory_uploads_waiting (\S+)", self.read("/metrics").decode(), re.MULTILINE)
        return int(float(found[1])) if found else 0

    def ended(self) -> list[Any]:
        """Events that have ended, with a clip."""
        events = json.loads(self.read("/api/v1/events?limit=200"))["events"]
        return [event for event in events if event["end"] and event["media"]["clip"]]


@contextmanager
def serving(folder: Path, bucket: Bucket, *more: str) -> Iterator[Page]:
    """The page of a fleet; its group goes on when it ends."""
    log = folder / "page.log"
    command = [sys.executable, "-m", "comemory", "serve", "--config", str(folder / "live.toml")]
    command += ["--out", str(folder / "out"), "--cluster", "local:1", *more]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env={**os.environ, **bucket.environment}, stdout=output, stderr=output)
    page = Page(log)
    try:
        wait_until(lambda: page.url or process.poll() is not None, LIMIT_S)
        assert page.url, log.read_text(encoding="utf-8")
        yield page
    finally:
        process.kill()
        process.wait(20)


def kill_group(folder: Path) -> None:
    if (pid := running_pid(folder / "out", NODE)) is not None:
        os.kill(pid, signal.SIGKILL)


def test_media_survive_a_kill_and_an_outage_and_are_read_from_any_machine(
    tmp_path: Path,
    bucket: Bucket,
    postgres: Callable[[], str],  # noqa: F811
) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "server"))
    from serving import scene_video

    disk = tmp_path / "disk"
    bucket.set_away(True)
    with http_server() as received:
        values = {"url": postgres(), "media": disk, "media_url": MEDIA_URL, "video": scene_video(tmp_path)}
        hook, model = f"http://127.0.0.1:{received.port}/", shipped_bundle("synthetic-nano").resolve()
        (tmp_path / "live.toml").write_text(CONFIG.format(model=model, hook=hook, **values), encoding="utf-8")
        try:
            with serving(tmp_path, bucket) as page:
                wait_until(lambda: page.ended() and page.waiting(), LIMIT_S)
                wait_until(lambda: any("wait on the disk" in str(one) for one in received.payloads), LIMIT_S)
                kill_group(tmp_path)
                assert bucket.objects() == {}
                first = page.ended()[-1]
                bucket.set_away(False)
                wait_until(lambda: f"{first['id']}-clip" in " ".join(bucket.objects()), LIMIT_S)
                log = (tmp_path / "out" / "fleet" / NODE / "group.log").read_text(encoding="utf-8")
                assert "secret-of-tests" not in log + str(received.payloads)
            kill_group(tmp_path)
            shutil.move(disk / NODE, tmp_path / "lost")
            with serving(tmp_path, bucket, "--set", "cameras.gate.enabled=false") as page:
                clip = page.read(first["media"]["clip"])
                assert clip == next(
                    content for path, content in bucket.objects().items() if first["id"] + "-clip" in path
                )
                assert page.read(first["media"]["clip"], Range="bytes=100-199") == clip[100:200]
                assert page.read(f"/api/v1/events/{first['id']}/export")[4:8] == b"ftyp"
        finally:
            kill_group(tmp_path)


def test_a_folder_of_media_needs_an_object_store() -> None:
    store = {"url": "postgresql+psycopg://me@db/events", "media": "/var/lib/media"}
    with pytest.raises(ConfigError, match=r"or set store\.media_url to an object store where all nodes find them"):
        require_fleet_settings(read_live(None, {"store": store}))
    require_fleet_settings(read_live(None, {"store": {**store, "media_url": MEDIA_URL}}))
