"""Servers and browsers that the tests of the page share."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from object_stores import bucket, s3_server  # noqa: F401
from services import postgres  # noqa: F401

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from serving import Running

PASSWORD = "correct horse battery"
TOKEN = "a-token-of-the-settings-with-forty-letters"


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server without a password, with one camera that lives and one that cannot be reached."""
    from serving import served

    with served(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(scope="package")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a password and a token."""
    from serving import IDLE_SCENE, served

    given = {"PAGE_PASSWORD": PASSWORD, "API_TOKEN": TOKEN}
    settings = ("--set", "web.password=env:PAGE_PASSWORD", "--set", "web.token=env:API_TOKEN")
    with served(tmp_path_factory.mktemp("locked"), *settings, environment=given, scene=IDLE_SCENE) as server:
        yield server


LONG = "a-camera-name-of-sixty-four-letters-by-the-north-eastern-gate-12"
N_EVENTS = 320


@pytest.fixture(scope="package")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose store holds an event of every fourth minute of the last hours, and whose cameras are all down."""
    import numpy as np
    from serving import served
    from stored import make_event

    from comemory.store.activity import COLUMNS, ROWS, HourOfActivity
    from comemory.store.store import EventStore

    folder = tmp_path_factory.mktemp("full")
    now = datetime.now(UTC)
    with EventStore.open(f"sqlite:///{folder}/live/events.db", folder / "live" / "media") as store:
        for k in range(N_EVENTS):
            event = make_event(now - timedelta(minutes=4 * (N_EVENTS - k)), camera=("yard", LONG)[k % 2], cells=None)
            store.begin(event)
            store.end(replace(event, end=event.start + timedelta(seconds=7)))
        for k in range(200):
            moving = np.zeros((ROWS, COLUMNS))
            moving[6, :] = 1000 + 10 * (k % 24)
            store.record_activity("yard", HourOfActivity(now - timedelta(hours=k + 1), 36_000, moving, 0.1 * moving))
    settings = ("--set", "cameras.gate.enabled=false", "--set", f"cameras.{LONG}.url=env:YARD_URL")
    with served(folder, *settings) as server:
        yield server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real Chromium without a window, or a skip that says why."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install '.[dev]'")
    path = os.environ.get("COMEMORY_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def axe() -> str:
    """The text of axe-core (MPL-2.0, for tests only), from the package that brings it, or a skip that says why."""
    package = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python: pip install '.[dev]'")
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
