"""The pages of events and alerts name what is there."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest

from comemory.alerts import SINKS
from comemory.alerts.config import (
    CommandSettings,
    EmailSettings,
    MqttSettings,
    SinkSettings,
    WebhookSettings,
    read_alert,
)
from comemory.alerts.webhook import sign
from comemory.store.database import VERSION_TABLE
from comemory.store.schema import metadata
from comemory.store.store import EventStore

DOCS = Path(__file__).resolve().parents[2] / "docs"
ALERTS, EVENTS = ((DOCS / name).read_text(encoding="utf-8") for name in ("alerts.md", "events.md"))


def test_the_example_is_one_of_each_kind() -> None:
    (block,) = re.findall(r"^```ini\n(.*?)^```$", ALERTS, re.MULTILINE | re.DOTALL)
    sinks = tomllib.loads(block)["alerts"]
    assert sorted(values["kind"] for values in sinks.values()) == sorted(SINKS)
    for name, values in sinks.items():
        read_alert(name, values)


@pytest.mark.parametrize("model", [SinkSettings, WebhookSettings, MqttSettings, EmailSettings, CommandSettings])
def test_every_setting_is_named(model: type[SinkSettings]) -> None:
    assert [name for name in model.model_fields if f"`{name}`" not in ALERTS and name != "kind"] == []


def test_defaults_are_those_of_the_code() -> None:
    for name in ("cooldown_s", "delay_s", "state_delay_s", "timeout_s", "give_up_h"):
        (shown,) = re.findall(rf"^\| `{name}` \| ([\d.]+) \|", ALERTS, re.MULTILINE)
        assert float(shown) == SinkSettings.model_fields[name].default


def test_headers_are_named() -> None:
    assert [name for name in sign(b"key", "1", b"", 1) if f"`{name}`" not in ALERTS] == []


def test_tables_are_named() -> None:
    assert [name for name in (*metadata.tables, VERSION_TABLE) if f"| `{name}` |" not in EVENTS] == []


def test_methods_are_named() -> None:
    public = [name for name, _ in inspect.getmembers(EventStore, inspect.isfunction) if not name.startswith("_")]
    assert [
        name for name in public if f"`{name}`" not in EVENTS and name not in ("close", "recover", "tell_missed_ends")
    ] == []
