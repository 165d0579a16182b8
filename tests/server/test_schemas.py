"""The JSON of the API against what the engine and the store know."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from comemory.live.contract import CameraStatus
from comemory.scoring import parse_budget
from comemory.server.schemas import (
    BUDGET_PATTERN,
    MAX_TIME,
    MIN_TIME,
    Budget,
    CameraResponse,
    EventResponse,
    Moment,
    Zones,
)
from comemory.store.event import StoredEvent

MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


def test_cameras_and_events_have_all_fields() -> None:
    """The API is a promise of its own and repeats the names; none may be missing in it by accident."""
    assert list(CameraResponse.model_fields) == [field.name for field in fields(CameraStatus)]
    inner = {"files", "cells"}
    assert set(EventResponse.model_fields) == {field.name for field in fields(StoredEvent)} - inner | {"media"}


@settings(deadline=None, max_examples=60)
@given(st.datetimes(), st.integers(-23, 23))
def test_every_time_becomes_one_that_a_database_holds(moment: datetime, hours: int) -> None:
    aware = moment.replace(tzinfo=timezone(timedelta(hours=hours)))
    found = MOMENT.validate_python(aware.isoformat())
    assert MIN_TIME <= found <= MAX_TIME
    assert found.tzinfo is UTC
    if MIN_TIME <= aware <= MAX_TIME:
        assert found == aware


@pytest.mark.parametrize("text", ["7", "0.5", "1e9", "yesterday", ""])
def test_numbers_are_no_times(text: str) -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_python(text)


@settings(deadline=None, max_examples=60)
@given(st.from_regex(BUDGET_PATTERN, fullmatch=True))
def test_budgets_as_described_are_budgets(text: str) -> None:
    assert Budget(false_alarms=text).false_alarms == text
    assert parse_budget(text) > 0


def test_truth_is_no_number() -> None:
    with pytest.raises(ValidationError):
        Zones.model_validate({"zones": [[[False, 0.0], [1.0, 0.0], [0.5, 1.0]]]})
