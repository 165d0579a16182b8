"""Where alerts go: rules, the dispatcher and the kinds of sinks.

To add a kind of sink: one file with the class, its line in `SINKS`, and its settings in `config.py`. A sink is built from
its name and its settings, and has the methods of `sink.Sink`.

config.py    settings of each kind     rules.py    which changes a sink gets    dispatcher.py    outbox to sinks
hours.py     hours of the week         sink.py     what every sink is           addresses.py     private addresses refused
"""

from __future__ import annotations

from comemory.registry import Registry

SINKS = Registry(
    "sink",
    {
        "webhook": "comemory.alerts.webhook:Webhook",
        "mqtt": "comemory.alerts.mqtt:Mqtt",
        "apprise": "comemory.alerts.apprise:AppriseSink",
        "command": "comemory.alerts.command:Command",
    },
    extras={"mqtt": "live", "apprise": "alerts"},
)
