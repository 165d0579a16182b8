"""Where alerts go: rules, the dispatcher and the kinds of sinks.

To add a kind of sink: one file with the class and its settings, and its line in `SINKS`. A sink is built from its name and
its settings, has the methods of `sink.Sink`, and names the class of its settings as `Settings`.

config.py    settings of the sinks     rules.py    which changes a sink gets    dispatcher.py    outbox to sinks
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
