"""Where alerts go. To add a sink: one file, one entry here, its settings in `config_model.py`.

A sink is built from its name and its settings, and has `start`, `deliver` and `close`: see `sink.Sink`.
"""

from __future__ import annotations

from comemory.registry import Table

SINKS = Table(
    "sink",
    {
        "webhook": "comemory.alerts.webhook:Webhook",
        "mqtt": "comemory.alerts.mqtt:Mqtt",
        "email": "comemory.alerts.mail:Email",
        "command": "comemory.alerts.command:Command",
    },
    extras={"mqtt": "live"},
)
