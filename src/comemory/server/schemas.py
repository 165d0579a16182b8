"""The JSON of the API, version 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from comemory.errors import mask_password
from comemory.live.config.camera import MAX_POINTS, MAX_ZONES
from comemory.live.contract import CameraState, CameraStatus
from comemory.live.contract import Verdict as Word
from comemory.scoring import parse_budget
from comemory.server.auth_file import Role
from comemory.types import JSON

API = "/api/v1"

Point = Annotated[list[Annotated[float, Field(ge=0, le=1, strict=True)]], Field(min_length=2, max_length=2)]
Polygon = Annotated[list[Point], Field(min_length=3, max_length=MAX_POINTS)]
Size = Annotated[list[int], Field(min_length=2, max_length=2)]
Box = Annotated[list[int], Field(min_length=4, max_length=4)]
Pair = Annotated[list[float], Field(min_length=2, max_length=2)]

BUDGET_PATTERN = r"^([1-9][0-9]{0,4}(\.[0-9]{1,3})?|0\.[0-9]{0,2}[1-9])/(min|h|hour|d|day|week)$"
"""Budgets as people write them, for the description; `scoring.parse_budget` decides."""

MIN_TIME, MAX_TIME = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _refuse_number(text: Any) -> Any:
    """Refuse numbers, which pydantic would read as seconds or milliseconds since 1970."""
    if isinstance(text, str) and text[:4].isdigit() and text[4:5] == "-":
        return text
    raise ValueError("expected a time such as 2026-03-02T12:00:00Z")


def _clamp_time(moment: datetime) -> datetime:
    """A time in UTC; one without a zone is in UTC. Times that no database can store are moved to the nearest one."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return min(max(aware, MIN_TIME), MAX_TIME).astimezone(UTC)


def _is_budget(text: str) -> str:
    parse_budget(text)
    return text


Moment = Annotated[datetime, BeforeValidator(_refuse_number), AfterValidator(_clamp_time)]


class RequestBody(BaseModel):
    """Base of request bodies: unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=1024)


class ResponseBody(BaseModel):
    """Base of responses."""

    model_config = ConfigDict(protected_namespaces=())


class ErrorResponse(ResponseBody):
    """An error, in one line."""

    detail: str


class Login(RequestBody):
    """The password of a role."""

    password: Annotated[str, Field(min_length=1, max_length=256)]


class Session(ResponseBody):
    """Whether the caller is logged in, its role, and the proof for its changes."""

    required: bool = Field(description="Whether a login is needed at all.")
    authenticated: bool
    role: Role | None = Field(
        description="What the caller may do: a viewer reads, an operator also sets, an admin also deletes."
    )
    csrf: str | None = Field(description="Send it as X-CSRF-Token with every change, unless you use a bearer token.")
    version: str | None


class CameraResponse(ResponseBody):
    """The state of a camera; the password in its URL is masked."""

    name: str
    url: str
    state: CameraState
    since: datetime
    fps_in: float
    fps_scored: float
    fps_due: float = Field(description="Frames per second that should be scored.")
    frames: int = Field(
        description="Frames that arrived: scored + dropped + damaged + not_due + filling + faulty + waiting."
    )
    dropped: int = Field(description="Frames that are not scored because this machine is too slow.")
    scored: int
    lost: int = Field(description="Frames that did not arrive.")
    damaged: int = Field(description="Frames that are not scored because packets were lost.")
    latency_ms_p50: float | None
    latency_ms_p99: float | None
    reconnects: int
    attempts: int
    last_score: float | None
    threshold: float
    false_alarms: str
    model: str
    model_sha256: str
    size: Size | None = Field(description="Height and width of the frame.")
    zones: list[Polygon]
    active: bool = Field(description="Whether events count at this hour.")
    open_event: str | None
    message: str
    drift: str | None
    paused_until: datetime | None = Field(description="When a pause ends by itself; null where somebody must end it.")
    snoozed_until: datetime | None = Field(description="Until when its events make no alerts; null where they do.")
    not_due: int = Field(description="Frames that are not to be scored, by the frame rate of the model or of fps.")
    filling: int = Field(description="Frames that are not scored because their clip begins.")
    faulty: int = Field(description="Frames that are not scored because of a fault of the image or the model.")
    waiting: int = Field(description="Frames that wait for their score or are being scored.")


class Zones(RequestBody):
    """Ignored zones: polygons with corners as shares of the frame's width and height."""

    zones: Annotated[list[Polygon], Field(max_length=MAX_ZONES)]


class Scores(ResponseBody):
    """The scores of the last seconds, oldest first."""

    times: list[datetime]
    scores: list[float]


class Budget(RequestBody):
    """The false-alarm budget, such as `1/day` or `2/h`."""

    false_alarms: Annotated[
        str,
        AfterValidator(_is_budget),
        Field(max_length=32, examples=["1/day"], json_schema_extra={"pattern": BUDGET_PATTERN}),
    ]


class SensitivityStep(ResponseBody):
    """A false-alarm budget to choose.

    `alarms_per_day` is the rate that the recorded scores would have given; null where too little is recorded.
    """

    false_alarms: str
    threshold: float
    alarms_per_day: float | None


class Sensitivity(ResponseBody):
    """The budget in force, those to choose from, and the alarm rates by the recorded scores."""

    false_alarms: str
    threshold: float
    steps: list[SensitivityStep]
    curve: list[Pair] = Field(description="Threshold and alarms a day, by the recorded scores.")
    recorded_minutes: int
    recorded_since: datetime | None


class MediaUrls(ResponseBody):
    """URLs of an event's files, null where there is none."""

    thumbnail: str | None = None
    crop: str | None = Field(None, description="The peak, cropped to the anomaly.")
    heat: str | None = None
    clip: str | None = None


class EventResponse(ResponseBody):
    """An interval above threshold."""

    id: str
    camera: str
    start: datetime
    peak: datetime
    end: datetime | None = Field(description="Null while the event is open.")
    peak_score: float
    appearance: float
    motion: float
    box: Box | None = Field(description="Left, top, right, bottom of the worst patch at the peak.")
    size: Size = Field(description="Height and width of the frame that the box belongs to.")
    model: str
    threshold: float
    verdict: Word | None
    suppressed: bool
    label: str | None = Field(
        description="Name of the object at the peak; null without `[labels]`, or where none is found."
    )
    region: list[Annotated[list[int], Field(min_length=2, max_length=2)]] | None = Field(
        description="Corners of the outline of the anomaly at the peak, in pixels of the frame."
    )
    note: str | None = Field(description="Text of an operator.")
    favourite: bool = Field(description="Retention keeps it.")
    media: MediaUrls


class EventPage(ResponseBody):
    """A page of events, newest first: `next` as `before` gives the next page. With `after`, oldest first: `next` as `after`."""

    events: list[EventResponse]
    next: str | None


class EventSummaryResponse(ResponseBody):
    """The part of an event that a timeline shows."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    camera: str
    start: datetime
    end: datetime | None = Field(description="Null while the event is open.")
    peak_score: float
    verdict: Word | None
    suppressed: bool
    label: str | None
    favourite: bool


class Timeline(ResponseBody):
    """The events of a time range, newest first, up to a limit, and the number of all."""

    events: list[EventSummaryResponse]
    total: int


class Verdict(RequestBody):
    """The verdict of an operator; null removes it."""

    verdict: Word | None


class TrainingStatus(ResponseBody):
    """A training that runs, or has ended."""

    camera: str
    stage: str
    share: float | None = Field(description="Progress of the stage, 0 to 1; null where not known.")
    message: str
    running: bool


class Quarantine(ResponseBody):
    """Media files that belong to no event in the database."""

    files: int
    bytes: int
    deleted_from: datetime | None = Field(description="When the first of them is deleted; null where there is none.")


class SystemStatus(ResponseBody):
    """The state of the whole system."""

    version: str | None
    uptime_s: float
    events: dict[str, Any]
    store_error: str | None = Field(description="Why the last write to the store failed; null after one that worked.")
    store_warning: str | None = Field(
        description="The database and the media folder do not fit together, and nothing was changed; null where they do."
    )
    quarantine: Quarantine | None = Field(description="What was set aside; null without a database.")
    learning: list[TrainingStatus]


_KINDS = ("thumbnail", "crop", "heat", "clip")
_STATUS = tuple(item.name for item in fields(CameraStatus))


def camera_view(status: CameraStatus) -> JSON:
    """A camera's status as plain JSON; its URL is masked again, in case the engine did not."""
    shown = {name: getattr(status, name) for name in _STATUS}
    shown["state"], shown["since"] = str(status.state), status.since.isoformat()
    shown["url"] = mask_password(status.url)
    shown["message"] = mask_password(status.message)
    return CameraResponse.model_validate(shown).model_dump(mode="json")


def event_view(stored: Mapping[str, Any]) -> JSON:
    """A stored event's JSON as the API shows it: URLs in place of paths."""
    files = stored.get("files") or {}
    place = f"{API}/events/{stored['id']}"
    media = {kind: f"{place}/{kind}" if kind in files else None for kind in _KINDS}
    return EventResponse.model_validate({**stored, "media": media}).model_dump(mode="json")
