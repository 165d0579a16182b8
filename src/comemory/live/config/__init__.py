"""The settings of a live system: cameras, store, alerts, page, retention, learning; from a TOML file or flags.

[cameras.gate]
url = "rtsp://user:pass@gate.lan/stream"        # or "env:GATE_URL"
model = "models/gate"
false_alarms = "1/day"

[alerts.desk]
kind = "webhook"
url = "https://desk.lan/hook"

camera.py     one camera                  groups.py  store, page, retention, events, labels, health, learning
live.py       all of it, and the file     overrides.py  what was set while the system ran
"""

from __future__ import annotations

from comemory.live.config.camera import CameraSettings, Point, Zone
from comemory.live.config.groups import (
    EventSettings,
    HealthSettings,
    LabelSettings,
    LearnSettings,
    RetentionSettings,
    StoreSettings,
    WebSettings,
)
from comemory.live.config.live import LiveSettings, absolute, absolute_path, read_live

__all__ = [
    "CameraSettings",
    "EventSettings",
    "HealthSettings",
    "LabelSettings",
    "LearnSettings",
    "LiveSettings",
    "Point",
    "RetentionSettings",
    "StoreSettings",
    "WebSettings",
    "Zone",
    "absolute",
    "absolute_path",
    "read_live",
]
