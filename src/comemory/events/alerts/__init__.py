"""Where alerts go. To add a sink: one file, one entry here, its settings in `settings.py`.

A sink is built from its name and its settings, and has `start`, `deliver` and `close`: see `sink.Sink`.
"""

from __future__ import annotations

from comemory.tables import Table

SINKS = Table(
    "sink",
    {
        "webhook": "comemory.events.alerts.webhook:Webhook",
        "mqtt": "comemory.events.alerts.mqtt:Mqtt",
        "email": "comemory.events.alerts.mail:Email",
        "command": "comemory.events.alerts.command:Command",
    },
    extras={"mqtt": "live"},
)
