"""What a live system is told: cameras, store, alerts, page, retention, learning. One TOML, or flags.

[cameras.gate]
url = "rtsp://user:pass@gate.lan/stream"        # or "env:GATE_URL"
model = "models/gate"
false_alarms = "1/day"

[alerts.desk]
kind = "webhook"
url = "https://desk.lan/hook"

camera.py  one camera    groups.py  store, page, retention, health, …    live.py  all of it, and the file
"""

from __future__ import annotations

from comemory.live.config.camera import CameraSettings, Point, Zone
from comemory.live.config.groups import (
    DriftSettings,
    EventSettings,
    HealthSettings,
    LearnSettings,
    RetentionSettings,
    StoreSettings,
    WebSettings,
)
from comemory.live.config.live import LiveSettings, absolute, read_live

__all__ = [
    "CameraSettings",
    "DriftSettings",
    "EventSettings",
    "HealthSettings",
    "LearnSettings",
    "LiveSettings",
    "Point",
    "RetentionSettings",
    "StoreSettings",
    "WebSettings",
    "Zone",
    "absolute",
    "read_live",
]
