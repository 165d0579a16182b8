"""Which changes become alerts, in which order they are delivered, and which are muted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from stored import NOON, Clock, make_event

from comemory.alerts.config import SinkSettings, parse_sink_settings
from comemory.alerts.rules import SinkRules
from comemory.errors import ConfigError
from comemory.store.outbox import Alert
from comemory.store.store import EventStore, StoredEvent

HOOK: Mapping[str, Any] = {"kind": "webhook", "url": "http://127.0.0.1:1/", "kinds": ["new", "update", "end", "state"]}

MAIL: Mapping[str, Any] = {"kind": "apprise", "url": "mailto://me:hunter2@host?to=a@x"}


def set_route(store: EventStore, **changes: Any) -> None:
    store.outbox.set_routes({"hook": SinkRules(parse_sink_settings("hook", {**HOOK, **changes}))})


def waiting(store: EventStore) -> list[Alert]:
    """All alerts in the order in which they are delivered."""
    found = []
    while (alert := store.outbox.claim("hook", store.clock() + timedelta(days=1))) is not None:
        store.outbox.mark_delivered(alert, store.clock())
        found.append(alert)
    return found


def sent(store: EventStore) -> list[tuple[str, str]]:
    return [(alert.kind, alert.camera) for alert in waiting(store)]


def start_and_end(store: EventStore, event: StoredEvent) -> None:
    """Store an event that starts and ends."""
    store.begin(event)
    store.end(replace(event, end=event.start + timedelta(seconds=5)))


class TestWhichAlerts:
    def test_alerts_hold_the_event_before_and_after(self, store: EventStore) -> None:
        set_route(store, link="https://box/#{id}/{camera}")
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

    def test_waiting_updates_are_merged(self, store: EventStore) -> None:
        set_route(store)
        event = make_event()
        store.begin(event)
        for score in (5.0, 6.0, 7.0):
            store.update(replace(event, peak_score=score))
        _, update = waiting(store)
        assert update.payload["before"]["peak_score"] == 4.5
        assert update.payload["after"]["peak_score"] == 7.0

    def test_a_suppressed_or_low_event_is_sent_once_it_is_neither(self, store: EventStore) -> None:
        set_route(store, min_score=5.0)
        event = make_event(suppressed=True)
        store.begin(event)
        seen = replace(event, suppressed=False)
        store.update(seen)
        assert sent(store) == []
        store.update(replace(seen, peak_score=6.0))
        store.end(replace(seen, peak_score=6.0, end=NOON + timedelta(seconds=5)))
        assert sent(store) == [("new", "gate"), ("end", "gate")]

    def test_only_the_kinds_and_cameras_of_the_settings_are_sent(self, store: EventStore) -> None:
        set_route(store, kinds=["end"], cameras=["gate"])
        start_and_end(store, make_event())
        start_and_end(store, make_event(camera="yard"))
        store.record_state("gate", "down")
        assert sent(store) == [("end", "gate")]

    def test_a_missed_start_is_sent_with_the_end(self, store: EventStore) -> None:
        set_route(store)
        store.end(make_event(end=NOON + timedelta(seconds=5)))
        assert sent(store) == [("new", "gate"), ("end", "gate")]

    def test_the_end_of_an_event_that_a_crash_left_open_is_sent_once(
        self, url: str, tmp_path: Any, clock: Clock
    ) -> None:
        with EventStore.open(url, tmp_path / "media", clock=clock) as store:
            set_route(store)
            store.begin(make_event())
            store.begin(make_event(camera="yard", suppressed=True))
        with EventStore.open(url, tmp_path / "media", clock=clock) as store:
            set_route(store)
            assert store.queue_missed_ends() == 1
            assert store.queue_missed_ends() == 0
            assert sent(store) == [("new", "gate"), ("end", "gate")]


class TestMuted:
    def test_cool_down_is_per_camera(self, store: EventStore, clock: Clock) -> None:
        set_route(store, cooldown_s=60, per_camera={"yard": {"cooldown_s": 0}})
        for camera in ("gate", "gate", "yard", "yard"):
            start_and_end(store, make_event(clock(), camera=camera))
            clock.advance(seconds=20)
        assert sorted(set(sent(store))) == [("end", "gate"), ("end", "yard"), ("new", "gate"), ("new", "yard")]
        assert store.counts().alerts["hook"] == {"pending": 0, "delivered": 6, "failed": 0, "muted": 1}
        clock.advance(seconds=41)
        start_and_end(store, make_event(clock()))
        assert sent(store) == [("new", "gate"), ("end", "gate")]

    def test_quiet_hours_have_a_time_zone(self, store: EventStore, clock: Clock) -> None:
        set_route(
            store, quiet_hours=["mon 12:00-14:00"], time_zone="Europe/Paris", per_camera={"yard": {"quiet_hours": []}}
        )
        start_and_end(store, make_event(NOON - timedelta(minutes=1)))
        start_and_end(store, make_event(NOON - timedelta(minutes=1), camera="yard"))
        assert sent(store) == [("new", "yard"), ("end", "yard")]
        clock.advance(hours=1)
        start_and_end(store, make_event(NOON + timedelta(hours=1)))
        assert sent(store) == [("new", "gate"), ("end", "gate")]


class TestStates:
    def test_a_state_that_passes_soon_is_not_sent(self, store: EventStore, clock: Clock) -> None:
        set_route(store, state_delay_s=15)
        store.record_state("gate", "live")
        assert sent(store) == [("state", "gate")]
        store.record_state("gate", "stalled")
        store.record_state("gate", "connecting")
        clock.advance(seconds=10)
        store.record_state("gate", "live")
        assert sent(store) == []
        store.record_state("gate", "stalled", "no frame for 10 s")
        store.record_state("gate", "down", "no answer")
        (alert,) = waiting(store)
        assert alert.payload["before"]["state"] == "live"
        assert (alert.payload["after"]["state"], alert.payload["after"]["message"]) == ("down", "no answer")


class TestOrder:
    def test_alerts_of_one_event_keep_their_order_and_new_events_go_first(
        self, store: EventStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SinkSettings, "retry_s", 10)
        set_route(store, timeout_s=1)
        first = make_event()
        start_and_end(store, first)
        failing = store.outbox.claim("hook", clock())
        assert failing is not None
        store.outbox.mark_failed(failing, "no answer", clock())
        assert store.outbox.claim("hook", clock()) is None
        due = store.outbox.next_due("hook")
        assert due is not None
        assert clock() + timedelta(seconds=5) <= due <= clock() + timedelta(seconds=10)
        clock.advance(seconds=60)
        second = make_event(clock())
        store.begin(second)
        order = [(alert.event_id, alert.kind, alert.attempts) for alert in waiting(store)]
        assert order == [(second.id, "new", 1), (first.id, "new", 2), (first.id, "end", 1)]

    def test_the_wait_doubles_up_to_its_limit(
        self, store: EventStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SinkSettings, "retry_s", 1)
        monkeypatch.setattr(SinkSettings, "retry_max_s", 8)
        set_route(store, timeout_s=1, kinds=["new"])
        store.begin(make_event())
        waits = []
        for _ in range(6):
            alert = store.outbox.claim("hook", clock())
            assert alert is not None
            store.outbox.mark_failed(alert, "no answer", clock())
            due = store.outbox.next_due("hook")
            assert due is not None
            waits.append((due - clock()).total_seconds())
            clock.now = due
        for wait, longest in zip(waits, (1, 2, 4, 8, 8, 8), strict=True):
            assert longest / 2 <= wait <= longest

    def test_a_claimed_alert_without_a_result_is_delivered_again(
        self, store: EventStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SinkSettings, "retry_s", 1)
        set_route(store, timeout_s=10)
        store.begin(make_event())
        claimed = store.outbox.claim("hook", clock())
        assert store.outbox.claim("hook", clock.advance(seconds=10)) is None
        again = store.outbox.claim("hook", clock.advance(seconds=2))
        assert claimed is not None
        assert again is not None
        assert (again.id, again.attempts) == (claimed.id, 2)

    def test_an_old_alert_is_given_up(self, store: EventStore, clock: Clock) -> None:
        set_route(store, give_up_h=1, kinds=["new"])
        store.begin(make_event())
        alert = store.outbox.claim("hook", clock.advance(minutes=61))
        assert alert is not None
        assert store.outbox.mark_failed(alert, "no answer", clock())
        assert store.outbox.next_due("hook") is None
        assert store.counts().alerts["hook"]["failed"] == 1

    def test_alerts_of_a_removed_sink_are_given_up(self, store: EventStore, clock: Clock) -> None:
        set_route(store)
        store.begin(make_event())
        store.outbox.set_routes({"other": SinkRules(SinkSettings())})
        assert store.outbox.give_up_unknown(clock()) == 1
        assert store.counts().alerts == {
            "hook": {"pending": 0, "delivered": 0, "failed": 1, "muted": 0},
            "other": {"pending": 0, "delivered": 0, "failed": 0, "muted": 0},
        }

    def test_finished_alerts_are_deleted_after_a_week(self, store: EventStore, clock: Clock) -> None:
        set_route(store)
        start_and_end(store, make_event())
        assert len(sent(store)) == 2
        store.begin(make_event(camera="yard"))
        store.sweep(clock.advance(days=8), None, None)
        assert store.counts().alerts["hook"] == {"pending": 1, "delivered": 0, "failed": 0, "muted": 0}


class TestSettings:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ({}, "has kind None: expected one of webhook, mqtt, apprise, command"),
            ({"kind": "pager"}, "has kind 'pager'"),
            ({"kind": "webhook"}, "'url' is missing"),
            ({**HOOK, "secrt": "x"}, "did you mean 'secret'"),
            ({**HOOK, "url": "ftp://host"}, "not of http or https"),
            ({**HOOK, "url": "https://host/a b"}, "spaces or control"),
            ({**HOOK, "url": "https://host:99999/"}, "cannot be read"),
            ({**HOOK, "quiet_hours": ["later"]}, "cannot read the hours"),
            ({**HOOK, "time_zone": "Mars/Olympus"}, "unknown time zone"),
            ({**HOOK, "time_zone": "../../etc/passwd"}, "unknown time zone"),
            ({**HOOK, "per_camera": {"gate": {"quiet_hours": ["x"]}}}, "cannot read the hours"),
            ({**HOOK, "cooldown_s": -1}, "expected 0 or more"),
            ({"kind": "command", "argv": []}, "argv"),
            ({"kind": "command", "argv": ["a\0b"]}, "no null bytes"),
            ({"kind": "command", "argv": ["curl", "env:TOKEN"]}, "other accounts could see it"),
            ({"kind": "mqtt", "host": "h", "prefix": "a/#"}, "prefix"),
            ({"kind": "email", "host": "h"}, "e-mail is sent by the kind 'apprise'"),
            ({"kind": "apprise"}, "'url' is missing"),
        ],
    )
    def test_a_setting_that_does_not_fit_is_refused_in_one_line(self, values: dict[str, Any], expected: str) -> None:
        with pytest.raises(ConfigError) as failure:
            parse_sink_settings("desk", values)
        assert expected in str(failure.value)
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
            {**MAIL, "url": {"is": "hunter2"}},
        ],
    )
    def test_no_secret_is_in_the_error(self, values: dict[str, Any]) -> None:
        with pytest.raises(ConfigError) as failure:
            parse_sink_settings("desk", values)
        assert "hunter2" not in str(failure.value)
        good = parse_sink_settings("desk", {**HOOK, "secret": "hunter2", "headers": {"A": "hunter2"}})
        assert "hunter2" not in repr(good)
