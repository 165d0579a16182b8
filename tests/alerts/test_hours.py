"""Hours of the week, and secrets from the environment."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import NOON

from comemory.alerts.hours import DAYS, Hours, local_time
from comemory.errors import ConfigError
from comemory.secret_values import resolve_secret

MONDAY = datetime(2026, 3, 2)


class TestHours:
    @pytest.mark.parametrize(
        ("text", "inside", "outside"),
        [
            ("08:00-18:00", ["mon 08:00", "sun 17:59"], ["mon 07:59", "mon 18:00"]),
            ("22:00-06:00", ["mon 22:00", "mon 05:59", "sun 00:00"], ["mon 06:00", "mon 21:59"]),
            ("mon-fri 22:00-06:00", ["fri 23:00", "sat 05:00"], ["sat 23:00", "mon 05:00", "sun 05:00"]),
            ("sun 00:00-24:00", ["sun 00:00", "sun 23:59"], ["mon 00:00", "sat 23:59"]),
            ("sat-mon 10:00-11:00", ["sat 10:00", "sun 10:30", "mon 10:59"], ["tue 10:00"]),
        ],
    )
    def test_what_they_cover(self, text: str, inside: list[str], outside: list[str]) -> None:
        hours = Hours.parse(text)
        for moment, expected in [(each, True) for each in inside] + [(each, False) for each in outside]:
            day, time = moment.split()
            at = MONDAY + timedelta(days=DAYS.index(day), hours=int(time[:2]), minutes=int(time[3:]))
            assert hours.contains(at) is expected, moment

    @pytest.mark.parametrize(
        "text", ["", "8-18", "25:00-26:00", "10:60-11:00", "10:00-10:00", "foo 10:00-11:00", "10:00-24:01"]
    )
    def test_what_cannot_be_read(self, text: str) -> None:
        with pytest.raises(ValueError, match="cannot read the hours"):
            Hours.parse(text)

    @given(st.text(max_size=30))
    @settings(max_examples=50, deadline=None)
    def test_any_text_is_read_or_refused(self, text: str) -> None:
        try:
            hours = Hours.parse(text)
        except ValueError:
            return
        week = [MONDAY + timedelta(minutes=k) for k in range(0, 7 * 24 * 60, 30)]
        assert any(hours.contains(moment) for moment in week) or hours.end_min - hours.start_min < 30

    def test_zones_move_the_clock(self) -> None:
        assert local_time(NOON, "Asia/Kathmandu").strftime("%H:%M") == "17:45"
        assert local_time(NOON, None).utcoffset() == NOON.astimezone().utcoffset()


class TestSecrets:
    def test_from_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("GATE_KEY", "hunter2")
        assert resolve_secret("env:GATE_KEY", "the key") == "hunter2"
        assert resolve_secret("hunter2", "the key") == "hunter2"

    @pytest.mark.parametrize("name", ["NOT_THERE", "", "A=B", "A\0B"])
    def test_what_is_not_there(self, name: str) -> None:
        with pytest.raises(ConfigError, match=r"the key is 'env:.*is not set: set it"):
            resolve_secret(f"env:{name}", "the key")
