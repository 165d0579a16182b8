"""Which changes become alerts, in which order they are tried, and what is held."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from stored import NOON, Clock, make_event

from comemory.alerts.config import SinkSettings, read_alert
from comemory.errors import ConfigError
from comemory.store.outbox import Alert
from comemory.store.store import EventStore, StoredEvent

HOOK: Mapping[str, Any] = {"kind": "webhook", "url": "http://127.0.0.1:1/", "kinds": ["new", "update", "end", "state"]}

MAIL: Mapping[str, Any] = {"kind": "email", "host": "h", "sender": "a@x", "to": ["b@x"]}


def route(store: EventStore, **changes: Any) -> None:
    store.outbox.route({"hook": read_alert("hook", {**HOOK, **changes})})


def waiting(store: EventStore) -> list[Alert]:
    """All alerts in the order in which they are delivered."""
    found = []
    while (alert := store.outbox.claim("hook", store.clock() + timedelta(days=1))) is not None:
        store.outbox.delivered(alert, store.clock())
        found.append(alert)
    return found


def told(store: EventStore) -> list[tuple[str, str]]:
    return [(alert.kind, alert.camera) for alert in waiting(store)]


def run(store: EventStore, event: StoredEvent) -> None:
    """An event from its beginning to its end."""
    store.begin(event)
    store.end(replace(event, end=event.start + timedelta(seconds=5)))


class TestWhatIsTold:
    def test_before_and_after(self, store: EventStore) -> None:
        route(store, link="https://box/#{id}/{camera}")
        event = make_event()
        store.begin(event)
        higher = replace(event, peak_score=9.0)
        store.update(higher)
        ended = replace(higher, end=NOON + timedelta(seconds=9))
        store.end(ended)
        new, update, end = waiting(store)
        assert [alert.kind for alert in (new, update, end)] == ["new", "update", "end"]
        assert (new.payload["before"], new.payload["after"]) == (None, event.to_json())
        assert (update.payload["before"], update.payload["after"]) == (event.to_json(), higher.to_json())
        assert (end.payload["before"], end.payload["after"]) == (higher.to_json(), ended.to_json())
        assert new.payload["link"] == f"https://box/#{event.id}/gate"
        assert new.payload["time"] == "2026-03-02T12:00:00.000Z"
        assert len({alert.id for alert in (new, update, end)}) == 3
        assert new.payload["id"] == new.id

    def test_updates_that_wait_are_one(self, store: EventStore) -> None:
        route(store)
        event = make_event()
        store.begin(event)
        for score in (5.0, 6.0, 7.0):
            store.update(replace(event, peak_score=score))
        _, update = waiting(store)
        assert update.payload["before"]["peak_score"] == 4.5
        assert update.payload["after"]["peak_score"] == 7.0

    def test_suppressed_and_low_events_are_not_told_until_they_are_not(self, store: EventStore) -> None:
        route(store, min_score=5.0)
        event = make_event(suppressed=True)
        store.begin(event)
        seen = replace(event, suppressed=False)
        store.update(seen)
        assert told(store) == []
        store.update(replace(seen, peak_score=6.0))
        store.end(replace(seen, peak_score=6.0, end=NOON + timedelta(seconds=5)))
        assert told(store) == [("new", "gate"), ("end", "gate")]

    def test_kinds_and_cameras(self, store: EventStore) -> None:
        route(store, kinds=["end"], cameras=["gate"])
        run(store, make_event())
        run(store, make_event(camera="yard"))
        store.record_state("gate", "down")
        assert told(store) == [("end", "gate")]

    def test_a_missed_beginning_is_told_with_the_end(self, store: EventStore) -> None:
        route(store)
        store.end(make_event(end=NOON + timedelta(seconds=5)))
        assert told(store) == [("new", "gate"), ("end", "gate")]

    def test_an_end_after_a_crash_is_told_once(self, url: str, tmp_path: Any, clock: Clock) -> None:
        with EventStore.open(url, tmp_path / "media", clock=clock) as store:
            route(store)
            store.begin(make_event())
            store.begin(make_event(camera="yard", suppressed=True))
        with EventStore.open(url, tmp_path / "media", clock=clock) as store:
            route(store)
            assert store.tell_missed_ends() == 1
            assert store.tell_missed_ends() == 0
            assert told(store) == [("new", "gate"), ("end", "gate")]


class TestHeld:
    def test_cool_down_is_per_camera(self, store: EventStore, clock: Clock) -> None:
        route(store, cooldown_s=60, per_camera={"yard": {"cooldown_s": 0}})
        for camera in ("gate", "gate", "yard", "yard"):
            run(store, make_event(clock(), camera=camera))
            clock.pass_by(seconds=20)
        assert sorted(set(told(store))) == [("end", "gate"), ("end", "yard"), ("new", "gate"), ("new", "yard")]
        assert store.counts().alerts["hook"] == {"pending": 0, "delivered": 6, "failed": 0, "held": 1}
        clock.pass_by(seconds=41)
        run(store, make_event(clock()))
        assert told(store) == [("new", "gate"), ("end", "gate")]

    def test_quiet_hours_have_a_zone(self, store: EventStore, clock: Clock) -> None:
        route(store, quiet=["mon 12:00-14:00"], zone="Europe/Paris", per_camera={"yard": {"quiet": []}})
        run(store, make_event(NOON - timedelta(minutes=1)))
        run(store, make_event(NOON - timedelta(minutes=1), camera="yard"))
        assert told(store) == [("new", "yard"), ("end", "yard")]
        clock.pass_by(hours=1)
        run(store, make_event(NOON + timedelta(hours=1)))
        assert told(store) == [("new", "gate"), ("end", "gate")]


class TestStates:
    def test_a_state_that_is_over_soon_is_not_told(self, store: EventStore, clock: Clock) -> None:
        route(store, state_delay_s=15)
        store.record_state("gate", "live")
        assert told(store) == [("state", "gate")]
        store.record_state("gate", "stalled")
        store.record_state("gate", "connecting")
        clock.pass_by(seconds=10)
        store.record_state("gate", "live")
        assert told(store) == []
        store.record_state("gate", "stalled", "no frame for 10 s")
        store.record_state("gate", "down", "no answer")
        (alert,) = waiting(store)
        assert alert.payload["before"]["state"] == "live"
        assert (alert.payload["after"]["state"], alert.payload["after"]["message"]) == ("down", "no answer")


class TestOrder:
    def test_of_one_event_in_order_and_fresh_ones_first(self, store: EventStore, clock: Clock) -> None:
        route(store, retry_s=10, timeout_s=1)
        first = make_event()
        run(store, first)
        failing = store.outbox.claim("hook", clock())
        assert failing is not None
        store.outbox.failed(failing, "no answer", clock())
        assert store.outbox.claim("hook", clock()) is None
        due = store.outbox.next_due("hook")
        assert due is not None
        assert clock() + timedelta(seconds=5) <= due <= clock() + timedelta(seconds=10)
        clock.pass_by(seconds=60)
        second = make_event(clock())
        store.begin(second)
        order = [(alert.event_id, alert.kind, alert.attempts) for alert in waiting(store)]
        assert order == [(second.id, "new", 1), (first.id, "new", 2), (first.id, "end", 1)]

    def test_the_wait_doubles_to_its_limit(self, store: EventStore, clock: Clock) -> None:
        route(store, retry_s=1, retry_max_s=8, timeout_s=1, kinds=["new"])
        store.begin(make_event())
        waits = []
        for _ in range(6):
            alert = store.outbox.claim("hook", clock())
            assert alert is not None
            store.outbox.failed(alert, "no answer", clock())
            due = store.outbox.next_due("hook")
            assert due is not None
            waits.append((due - clock()).total_seconds())
            clock.now = due
        for wait, longest in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
            assert longest / 2 <= wait <= longest

    def test_a_claim_that_nobody_ends_comes_back(self, store: EventStore, clock: Clock) -> None:
        route(store, timeout_s=10, retry_s=1)
        store.begin(make_event())
        claimed = store.outbox.claim("hook", clock())
        assert store.outbox.claim("hook", clock.pass_by(seconds=10)) is None
        again = store.outbox.claim("hook", clock.pass_by(seconds=2))
        assert claimed is not None
        assert again is not None
        assert (again.id, again.attempts) == (claimed.id, 2)

    def test_an_old_alert_is_given_up(self, store: EventStore, clock: Clock) -> None:
        route(store, give_up_h=1, kinds=["new"])
        store.begin(make_event())
        alert = store.outbox.claim("hook", clock.pass_by(minutes=61))
        assert alert is not None
        assert store.outbox.failed(alert, "no answer", clock())
        assert store.outbox.next_due("hook") is None
        assert store.counts().alerts["hook"]["failed"] == 1

    def test_a_sink_that_is_gone_is_given_up(self, store: EventStore, clock: Clock) -> None:
        route(store)
        store.begin(make_event())
        store.outbox.route({"other": SinkSettings()})
        assert store.outbox.abandon_strangers(clock()) == 1
        assert store.counts().alerts == {
            "hook": {"pending": 0, "delivered": 0, "failed": 1, "held": 0},
            "other": {"pending": 0, "delivered": 0, "failed": 0, "held": 0},
        }

    def test_what_is_done_with_is_forgotten_after_a_week(self, store: EventStore, clock: Clock) -> None:
        route(store)
        run(store, make_event())
        assert len(told(store)) == 2
        store.begin(make_event(camera="yard"))
        store.sweep(clock.pass_by(days=8), None, None)
        assert store.counts().alerts["hook"] == {"pending": 1, "delivered": 0, "failed": 0, "held": 0}


class TestSettings:
    @pytest.mark.parametrize(
        ("values", "complaint"),
        [
            ({}, "has kind None: expected one of webhook, mqtt, email, command"),
            ({"kind": "pager"}, "has kind 'pager'"),
            ({"kind": "webhook"}, "'url' is missing"),
            ({**HOOK, "secrt": "x"}, "did you mean 'secret'"),
            ({**HOOK, "url": "ftp://host"}, "not of http or https"),
            ({**HOOK, "url": "https://host/a b"}, "spaces or control"),
            ({**HOOK, "url": "https://host:99999/"}, "cannot be read"),
            ({**HOOK, "quiet": ["later"]}, "cannot read the hours"),
            ({**HOOK, "zone": "Mars/Olympus"}, "no time zone"),
            ({**HOOK, "zone": "../../etc/passwd"}, "no time zone"),
            ({**HOOK, "per_camera": {"gate": {"quiet": ["x"]}}}, "cannot read the hours"),
            ({**HOOK, "cooldown_s": -1}, "greater than or equal to 0"),
            ({"kind": "command", "argv": []}, "at least 1 item"),
            ({"kind": "command", "argv": ["a\0b"]}, "without NUL"),
            ({"kind": "command", "argv": ["curl", "env:TOKEN"]}, "others could see it"),
            ({"kind": "mqtt", "host": "h", "prefix": "a/#"}, "pattern"),
            ({"kind": "email", "host": "h", "sender": "me", "to": ["you@x"]}, "no e-mail address"),
            ({"kind": "email", "host": "h", "sender": "me@x", "to": ["you@x\nBcc: z@x"]}, "no e-mail address"),
            ({**MAIL, "username": "u"}, "belong together"),
        ],
    )
    def test_what_does_not_fit_is_told_in_one_line(self, values: dict[str, Any], complaint: str) -> None:
        with pytest.raises(ConfigError) as failure:
            read_alert("desk", values)
        assert complaint in str(failure.value)
        assert str(failure.value).startswith("[alerts.desk]")
        assert "\n" not in str(failure.value)

    @pytest.mark.parametrize(
        "values",
        [
            {**HOOK, "url": "https://me:hunter2@host/"},
            {**HOOK, "url": ["https://host/hunter2"]},
            {**HOOK, "url": "ftp://host/hunter2"},
            {**HOOK, "secret": ["hunter2"]},
            {**HOOK, "headers": {"Authorization": ["hunter2"]}},
            {"kind": "mqtt", "host": "h", "password": {"is": "hunter2"}},
            {**MAIL, "username": "u", "password": "hunter2", "security": "none"},
        ],
    )
    def test_no_secret_is_shown(self, values: dict[str, Any]) -> None:
        with pytest.raises(ConfigError) as failure:
            read_alert("desk", values)
        assert "hunter2" not in str(failure.value)
        good = read_alert("desk", {**HOOK, "secret": "hunter2", "headers": {"A": "hunter2"}})
        assert "hunter2" not in repr(good)
