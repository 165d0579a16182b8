"""A machine that is too slow for its cameras is a system alert."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from comemory.live.config import read_live
from comemory.live.service import Service


def test_overload_is_reported_and_its_end_too() -> None:
    service = Service(read_live(None, {"model": "nowhere"}))
    reports: list[tuple[str, str]] = []
    service.dispatcher = SimpleNamespace(report=lambda part, error: reports.append((part, error)))  # type: ignore[assignment]
    engine: Any = SimpleNamespace(overloaded=["gate", "yard"])
    service.engine = engine
    service._report_overload()
    engine.overloaded = []
    service._report_overload()
    assert reports == [
        ("overload", "this machine is too slow: frames of gate, yard are dropped unscored"),
        ("overload", ""),
    ]
