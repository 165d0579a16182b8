"""The nodes view of a fleet in a real browser: two groups on this machine, of which one stops to answer and comes back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from serving import UNREACHABLE, scene_video, wait_for
from test_page import page, violations  # noqa: F401

from comemory.cli.demo import shipped_bundle
from comemory.cluster.fleet_claim import running_pid

if TYPE_CHECKING:
    from playwright.sync_api import Page

CONFIG = """
model = "{model}"
workers = 1
[store]
url = "{url}"
[web]
port = 0
"""
CAMERA = '[cameras.{name}]\nurl = "{video}"\nloop = true\nfps = 1\n'
SERVE = "from comemory.cluster import placement; placement.SETTLE_S = 3.0; from comemory.cli import main; main()"
"""The command with a shorter time until cameras return."""
NODES = ("local-1", "local-2")


@pytest.fixture
def fleet(tmp_path: Path, postgres: Callable[[], str]) -> Iterator[tuple[str, Path]]:
    """Address of the page and output folder of a fleet; its groups are gone at the end."""
    config, out, log = tmp_path / "live.toml", tmp_path / "out", tmp_path / "log"
    text = CONFIG.format(model=shipped_bundle("synthetic-nano").resolve(), url=postgres())
    video = scene_video(tmp_path)
    text += "".join(CAMERA.format(name=name, video=video) for name in ("gate", "yard", "dock"))
    config.write_text(text + f'[cameras.roof]\nurl = "{UNREACHABLE}"\n', encoding="utf-8")
    command = [sys.executable, "-c", SERVE, "serve", "--config", str(config), "--out", str(out), "--cluster", "local:2"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:

        def url() -> str | None:
            assert process.poll() is None, log.read_text()
            found = re.search(r"the page is at (http\S+)/", log.read_text())
            return found[1] if found else None

        wait_for(url)
        yield str(url()), out
    finally:
        process.kill()
        process.wait()
        for node in NODES:
            with suppress(ProcessLookupError):
                if (pid := running_pid(out, node)) is not None:
                    os.kill(pid, signal.SIGKILL)


def test_a_node_that_stops_to_answer_is_lost_until_it_is_back(
    fleet: tuple[str, Path],
    page: Page,  # noqa: F811
    axe: str,
) -> None:
    url, out = fleet
    page.goto(f"{url}/#/nodes")
    cards = {node: page.get_by_role("region", name=node) for node in NODES}
    page.get_by_role("status").get_by_text("2 nodes: 2 up. 4 cameras placed.").wait_for()
    for card in cards.values():
        card.get_by_text("Up", exact=True).wait_for()
        card.get_by_text("load").wait_for()
    for name in ("gate", "yard", "dock"):
        page.get_by_role("listitem").filter(has_text=name).get_by_text("Live", exact=True).wait_for()
    assert violations(page, axe) == []

    pid = running_pid(out, "local-1")
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    cards["local-1"].get_by_text("Lost", exact=True).wait_for()
    cards["local-1"].get_by_text("It watches no camera.").wait_for()
    page.get_by_role("status").get_by_text("2 nodes: 1 up, 1 lost. 4 cameras placed.").wait_for()
    for name in ("gate", "yard", "dock"):
        cards["local-2"].get_by_role("listitem").filter(has_text=name).get_by_text("Live", exact=True).wait_for()
    assert [row.split("\n")[0] for row in cards["local-2"].get_by_role("listitem").all_inner_texts()] == [
        *("dock", "gate", "roof", "yard")
    ]
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.emulate_media(color_scheme="dark")
    assert violations(page, axe) == []

    os.kill(pid, signal.SIGCONT)
    page.get_by_role("status").get_by_text("2 nodes: 2 up. 4 cameras placed.").wait_for()
    cards["local-1"].get_by_role("listitem").first.wait_for()
    assert running_pid(out, "local-1") == pid, "the same process went on"
