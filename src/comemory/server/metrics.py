"""Metrics for Prometheus, read from the engine and the store at each scrape."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

from comemory.errors import ComemoryError
from comemory.live.contract import CameraState, EngineContract, Metrics
from comemory.provenance import package_version
from comemory.store.store import EventStore

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily

_CAMERA_COUNTERS = (
    ("frames", "frames_received", "Frames that arrived from the camera."),
    ("dropped", "frames_dropped", "Frames that are not scored because this machine is too slow."),
    ("scored", "frames_scored", "Frames that were scored."),
    ("lost", "frames_lost", "Frames that did not arrive from the camera."),
    ("damaged", "frames_damaged", "Frames that are not scored because packets were lost."),
    ("not_due", "frames_not_due", "Frames that are not to be scored, by the frame rate of the model or of fps."),
    ("filling", "frames_filling", "Frames that are not scored because their clip begins."),
    (
        "faulty",
        "frames_faulty",
        "Frames that are not scored because the image shows a fault, or the model gives no score.",
    ),
    ("reconnects", "camera_reconnects", "Reconnections after a lost connection."),
    ("events", "events", "Events started."),
    ("suppressed", "events_suppressed", "Events suppressed by feedback, an ignored zone or inactive hours."),
    ("recording_errors", "recording_errors", "Clips and images that could not be stored."),
)


class EngineCollector(Collector):
    """The metrics of one engine and its store.

    Args:
        engine: a running one.
        store: of its events; None where they are not stored in a database.
    """

    def __init__(self, engine: EngineContract, store: EventStore | None) -> None:
        self._engine, self._store = engine, store

    def collect(self) -> Iterable[Family]:
        """The metric families with their present values."""
        metrics = self._engine.metrics()
        yield InfoMetricFamily("comemory", "This installation.", value={"version": package_version("comemory") or ""})
        yield GaugeMetricFamily("comemory_uptime_seconds", "Seconds since the engine started.", value=metrics.uptime_s)
        yield GaugeMetricFamily(
            "comemory_queue_depth", "Cameras with a frame waiting to be scored.", value=metrics.queue_depth
        )
        text = "Minutes of scores and parts of hours of activity that were dropped, since the store was away too long."
        yield CounterMetricFamily("comemory_writes_dropped", text, value=metrics.writes_dropped)
        yield from _camera_families(metrics)
        yield _latency(metrics)
        yield from self._store_families()

    def _store_families(self) -> Iterable[Family]:
        if self._store is None:
            return
        if (write_ahead := self._store.write_ahead) is not None:
            text = "Changes in the write-ahead file that the database has not stored yet."
            yield GaugeMetricFamily("comemory_changes_unstored", text, value=len(write_ahead))
        aside = self._store.sum_of_quarantine()
        text = "Media files in the quarantine: they belong to no event, and are deleted after 30 days."
        yield GaugeMetricFamily("comemory_quarantine_files", text, value=aside.files)
        yield GaugeMetricFamily("comemory_quarantine_bytes", "Bytes of these files.", value=aside.bytes)
        yield from _upload_families(self._store)
        up = GaugeMetricFamily("comemory_store_up", "1 while the event store can be read and written.")
        try:
            counts = self._store.counts()
        except ComemoryError:
            up.add_metric([], 0)
            yield up
            return
        up.add_metric([], float(self._store.error is None))
        yield up
        stored = GaugeMetricFamily("comemory_events_stored", "Events in the store.", labels=["verdict"])
        n_without = counts.events - counts.normal - counts.abnormal
        for verdict, count in (("normal", counts.normal), ("abnormal", counts.abnormal), ("none", n_without)):
            stored.add_metric([verdict], count)
        yield stored
        yield GaugeMetricFamily("comemory_events_open", "Open events.", value=counts.open)
        yield GaugeMetricFamily("comemory_media_bytes", "Bytes of thumbnails, heat maps and clips.", value=counts.bytes)
        yield GaugeMetricFamily("comemory_media_free_bytes", "Free bytes on their disk.", value=counts.free_bytes)
        alerts = GaugeMetricFamily("comemory_alerts", "Alerts by outcome.", labels=["sink", "outcome"])
        for sink, outcomes in counts.alerts.items():
            for outcome, count in outcomes.items():
                alerts.add_metric([sink, outcome], count)
        yield alerts


def metrics_text(engine: EngineContract, store: EventStore | None) -> bytes:
    """The metrics as text, in Prometheus format 0.0.4."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(EngineCollector(engine, store))
    return generate_latest(registry)


def _upload_families(store: EventStore) -> Iterable[Family]:
    """What waits for the object store; nothing without one, and while the database is away."""
    try:
        waiting = store.waiting_uploads()
    except ComemoryError:
        return
    if waiting is not None:
        text = "Media files of ended events that wait for their upload to the object store."
        yield GaugeMetricFamily("comemory_uploads_waiting", text, value=waiting[0])
        yield GaugeMetricFamily("comemory_uploads_waiting_bytes", "Bytes of these files.", value=waiting[1])


def _camera_families(metrics: Metrics) -> Iterable[Family]:
    for field, name, text in _CAMERA_COUNTERS:
        family = CounterMetricFamily(f"comemory_{name}", text, labels=["camera"])
        counted: Mapping[str, int] = getattr(metrics, field)
        for camera, count in counted.items():
            family.add_metric([camera], count)
        yield family
    states = GaugeMetricFamily(
        "comemory_camera_state", "1 for the present state of the camera.", labels=["camera", "state"]
    )
    for camera, now in metrics.states.items():
        for state in CameraState:
            states.add_metric([camera, str(state)], float(state == now))
    yield states


def _latency(metrics: Metrics) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "comemory_latency_seconds", "Seconds from the arrival of a frame to its score.", labels=["camera"]
    )
    bounds = ["+Inf" if math.isinf(bound) else f"{bound:g}" for bound in metrics.latency_buckets_s]
    for camera, counts in metrics.latency_counts.items():
        buckets = [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)]
        family.add_metric([camera], buckets, metrics.latency_sum_s.get(camera, 0.0))
    return family
