"""The inputs of the capacity plan: each a named field with its unit and where its figure comes from.

Measured costs are read from a file of `unit_costs.py`. Everything else is an assumption, which `--set NAME=VALUE` of
`simulate_capacity.py` changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self, TypeVar

from comemory.cluster.placement import LOST_S, SETTLE_S

RESULTS = Path(__file__).resolve().parent / "results"
UNIT_COSTS = RESULTS / "2026-11-29-unit-costs.json"

GIB, MIB = 2**30, 2**20

Inputs = TypeVar("Inputs")


def given(default: Any, unit: str, source: str = "assumed") -> Any:
    """A field with a unit and a source."""
    return field(default=default, metadata={"unit": unit, "source": source})


def measured(unit: str, *keys: str) -> Any:
    """A field that is read from the file of unit costs."""
    return field(metadata={"unit": unit, "source": f"unit costs: {', '.join(keys)}", "keys": keys})


@dataclass(frozen=True)
class Costs:
    """What was measured on one core."""

    decode_144x96_ms: float = measured("ms a frame", "decode", "h264 144x96", "median_ms")
    decode_360p_ms: float = measured("ms a frame", "decode", "h264 640x360", "median_ms")
    decode_720p_ms: float = measured("ms a frame", "decode", "h264 1280x720", "median_ms")
    decode_1080p_ms: float = measured("ms a frame", "decode", "h264 1920x1080", "median_ms")
    decode_1080p_hevc_ms: float = measured("ms a frame", "decode", "hevc 1920x1080", "median_ms")
    scored_ms: float = measured("ms a frame in which something moves", "stages", "scored", "median_ms")
    static_ms: float = measured("ms a static frame", "stages", "static", "median_ms")
    file_ms: float = measured("ms a file beyond its frames", "file", "beyond_frames", "median_ms")
    score_bytes: float = measured("bytes a frame in Parquet", "file", "score_bytes_a_frame")
    file_bytes: float = measured("bytes a file in Parquet beyond its frames", "file", "score_bytes_a_file")
    worker_start_s: float = measured("s of a core until a worker is ready", "worker", "cpu_s")
    worker_mib: float = measured("MiB", "worker", "rss_mib")
    driver_bytes: float = measured("bytes of the driver's memory for a file", "driver", "bytes_a_file")
    driver_start_ms: float = measured("ms of the driver for a file before it starts", "driver", "start_ms_a_file")
    thumbnail_bytes: float = measured("bytes an event", "images", "1920x1080", "thumbnail_bytes")
    crop_bytes: float = measured("bytes an event", "images", "1920x1080", "crop_bytes")
    heat_bytes: float = measured("bytes an event", "images", "1920x1080", "heat_bytes")
    images_ms: float = measured("ms an event", "images", "1920x1080", "cpu_ms")
    # Not `ms_an_event`: on a machine that is shared, most of it is waiting.
    database_ms: float = measured("ms of a core an event, one client", "database", "postgresql", "cpu_ms_an_event")
    database_bytes: float = measured("bytes an event", "database", "postgresql", "bytes_an_event")
    database_transactions: float = measured("transactions an event", "database", "postgresql", "transactions_an_event")
    day_of_scores_transactions: float = measured(
        "transactions", "database", "postgresql", "transactions_a_camera_day_of_scores"
    )
    day_of_scores_bytes: float = measured("bytes", "database", "postgresql", "bytes_a_camera_day_of_scores")

    @classmethod
    def read(cls, path: Path = UNIT_COSTS) -> Self:
        """The costs in a file of `unit_costs.py`."""
        found = json.loads(path.read_text(encoding="utf-8"))
        values = {}
        for one in fields(cls):
            value: Any = found
            for key in one.metadata["keys"]:
                value = value[key]
            values[one.name] = float(value)
        return cls(**values)

    def decode_ms(self, kind: str) -> float:
        """Decoding and resizing a frame: `144x96`, `360p`, `720p`, `1080p` or `1080p_hevc`."""
        return float(getattr(self, f"decode_{kind}_ms"))


@dataclass(frozen=True)
class Fleet:
    """Cameras, machines and what happens to them."""

    cameras: int = given(1000, "")
    cameras_a_cell: int = given(1000, "cameras that share a database, a head of Ray and a page")
    video: str = given("720p", "codec and size, see Costs.decode_ms")
    camera_fps: float = given(15.0, "frames per second that arrive and are decoded")
    camera_mbit_s: float = given(2.0, "Mbit/s")
    scored_fps: float = given(5.0, "frames per second that are scored")
    live_ms: float = given(
        2.7, "ms a frame of receiving, beyond decoding", "2026-11-24-live-load.json: 0.81 cores with six cameras"
    )
    busy_share_day: float = given(0.5, "share of frames in which something moves, at the busiest hour")
    busy_share_night: float = given(0.1, "the same, at the quietest hour")
    events_a_day: float = given(3.0, "events of a camera, false and true")
    event_s: float = given(10.0, "s, duration of an event")
    margin_s: float = given(8.0, "s of a clip before and after", "defaults of [recording]: 5 and 3")
    bursts_a_day: float = given(2.0, "changes of light over a whole cell: rain, lamps")
    burst_share: float = given(0.2, "share of the cameras at which one raises an event")
    burst_s: float = given(60.0, "s in which these events come")
    cores: int = given(16, "cores of a node")
    target: float = given(0.6, "share of a node's cores that may be busy at the busiest hour")
    spare: float = given(0.1, "share of nodes above what is needed, at least one")
    node_lost_h: float = given(720.0, "h between two losses of a node")
    node_away_min: float = given(20.0, "min until a lost node is back, mean")
    lost_s: float = given(LOST_S, "s until a loss is noticed", "cluster.placement.LOST_S")
    start_s: float = given(8.0, "s until moved cameras are scored: connection, model, first clip")
    settle_s: float = given(SETTLE_S, "s until a node that is back is trusted", "cluster.placement.SETTLE_S")
    outages_a_day: float = given(1.0, "times that the receiver of alerts is away")
    outage_min: float = given(10.0, "min of each, mean")
    sink_rate_s: float = given(50.0, "alerts a second that the receiver of a cell takes")
    retry_s: float = given(2.0, "s, first wait after a failed alert; doubled each time", "alerts.config retry_s")
    retry_max_s: float = given(120.0, "s, longest wait", "alerts.config retry_max_s")
    database_clients: int = given(8, "writers at a time that a database serves")
    media_days: float = given(30.0, "days that media are kept", "default of [retention]")
    scores_days: float = given(365.0, "days that scores are kept")
    days: float = given(1.0, "days to simulate")
    seed: int = given(0, "")

    def camera_cores(self, costs: Costs, busy: float) -> float:
        """Cores that a camera takes, with this share of its frames busy."""
        score_ms = busy * costs.scored_ms + (1 - busy) * costs.static_ms
        return (self.camera_fps * (costs.decode_ms(self.video) + self.live_ms) + self.scored_fps * score_ms) / 1000


@dataclass(frozen=True)
class Archive:
    """Files, workers and what happens to them."""

    hours: float = given(10e6, "h of video")
    file_min: float = given(60.0, "min, mean length of a file")
    file_spread: float = given(0.5, "standard deviation of the logarithm of the length")
    video: str = given("720p", "codec and size")
    fps: float = given(15.0, "frames per second that are decoded")
    mbit_s: float = given(2.0, "Mbit/s of the files")
    scored_fps: float = given(5.0, "frames per second that are scored: the rate of the training")
    busy_share: float = given(0.25, "share of frames in which something moves")
    workers: int = given(1600, "cores, one worker each")
    cores: int = given(16, "cores of a node")
    slow_share: float = given(0.05, "share of nodes that are slow")
    slow_factor: float = given(1.5, "how much longer they take")
    worker_lost_h: float = given(2000.0, "h between two deaths of a worker")
    node_lost_h: float = given(720.0, "h between two losses of a node")
    node_away_min: float = given(20.0, "min until it is back, mean")
    driver_lost_h: float = given(240.0, "h between two losses of the driver")
    driver_away_min: float = given(10.0, "min until it has been started again, and knows what is done")
    driver_ms: float = given(1.0, "ms of the driver for a file")
    failed_requests: float = given(0.01, "share of requests to the store that fail")
    requests_a_file: int = given(6, "requests for a file: size, contents, two results with their checks")
    attempts: int = given(7, "tries of a request", "object_store.ATTEMPTS")
    pause_s: float = given(0.2, "s, first pause; doubled each time", "object_store.FIRST_PAUSE_S")
    pause_max_s: float = given(10.0, "s, longest pause", "object_store.LONGEST_PAUSE_S")
    fetch_mbit_s: float = given(400.0, "Mbit/s at which one worker reads from the store")
    seed: int = given(0, "")


@dataclass(frozen=True)
class Prices:
    """What things cost a month or an hour. No offer of anybody: put in your own."""

    core_h: float = given(0.04, "a core for an hour, with 4 GiB of memory")
    spot_core_h: float = given(0.015, "a core for an hour that may be taken away: archives")
    database_month: float = given(400.0, "a database of 8 cores and its copy, a month")
    object_gib_month: float = given(0.023, "a GiB in an object store, a month")
    block_gib_month: float = given(0.10, "a GiB on the disk of a database, a month")
    write_1000: float = given(0.005, "1,000 write requests to the store")
    read_1000: float = given(0.0004, "1,000 read requests")
    ingress_gib: float = given(0.0, "a GiB from cameras to the nodes: 0 on one's own lines")


def describe(inputs: object) -> Iterator[tuple[str, Any, str, str]]:
    """Name, value, unit and source of each field."""
    for one in _fields(inputs):
        yield one.name, getattr(inputs, one.name), one.metadata["unit"], one.metadata["source"]


def with_settings(inputs: Sequence[Any], settings: Sequence[str]) -> list[Any]:
    """The inputs with `NAME=VALUE` set, each where such a field is.

    Raises:
        ValueError: no such field, or no such value.
    """
    changed = list(inputs)
    for setting in settings:
        name, _, text = setting.partition("=")
        places = [k for k, one in enumerate(changed) if any(name == there.name for there in _fields(one))]
        if not places:
            raise ValueError(f"--set {setting}: no input is called {name!r}")
        for place in places:
            present = getattr(changed[place], name)
            try:
                value: Any = text if isinstance(present, str) else type(present)(float(text))
            except ValueError:
                raise ValueError(f"--set {setting}: expected a number") from None
            if not isinstance(value, str) and value < 0:
                raise ValueError(f"--set {setting}: expected 0 or more")
            changed[place] = replace(changed[place], **{name: value})
    return changed


def _fields(inputs: Any) -> tuple[Field[Any], ...]:
    return fields(inputs)
