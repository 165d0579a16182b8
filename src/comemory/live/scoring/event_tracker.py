"""Scores of one camera to events: published, stored, with their images and clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from comemory.detector import Detector, ScoredFrame
from comemory.live.capture.frame_queue import QueuedFrame
from comemory.live.config import CameraSettings, EventSettings
from comemory.live.contract import FindLabel, Label, Message
from comemory.live.monitoring.camera_stats import CameraStats
from comemory.live.recording.event_writer import EventWriter
from comemory.live.recording.outline import Outline, enclosing_box, outline_of
from comemory.live.recording.packet_buffer import PacketBuffer
from comemory.live.recording.snapshots import save_crop, save_heat_map, save_thumbnail, to_rgb
from comemory.live.scoring.suppression import Signature
from comemory.live.scoring.unusual_times import LABEL as UNUSUAL_TIME
from comemory.scoring import EventFinder
from comemory.store.event import StoredEvent, new_id
from comemory.store.write_ahead import EventChange
from comemory.types import Event, Score

UPDATE_S = 1.0
"""Shortest time between two updates of an open event, seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSample:
    """A frame of a camera with its score.

    Attributes:
        frame: as it came from the camera.
        score: its index counts the camera's scores, and its box is in pixels of the camera's image.
        scored: as it came from the detector.
        heat_map: of the peak of an event; otherwise None.
        outline: of the anomaly at the peak of an event; otherwise None.
        is_unusual_time: the score is high because of the time of the week, not by the model.
    """

    frame: QueuedFrame
    score: Score
    scored: ScoredFrame
    heat_map: NDArray[np.float32] | None = None
    outline: Outline | None = None
    is_unusual_time: bool = False


class EventTracker:
    """Finds the events of one camera by one model, and passes them on while they last.

    Attributes:
        camera: its settings now.
        open_event: the event that is under way; None without one.

    Args:
        name: of the camera.
        camera: its settings.
        settings: what is stored of an event.
        detector: gives the calibration and heat maps.
        packets: the newest packets of the stream, for clips.
        event_writer: takes events and their files.
        stats: counts the events.
        publish: sends a message to the page and to alerts.
        find_label: names the object at a place of an image; None where events get no label.
    """

    def __init__(
        self,
        name: str,
        camera: CameraSettings,
        settings: EventSettings,
        detector: Detector,
        packets: PacketBuffer,
        event_writer: EventWriter,
        stats: CameraStats,
        publish: Callable[[Message], None],
        find_label: FindLabel | None = None,
    ) -> None:
        self.name, self.camera, self._settings = name, camera, settings
        self._detector, self._packets, self._event_writer = detector, packets, event_writer
        self._stats, self._publish, self._find_label = stats, publish, find_label
        self.open_event: StoredEvent | None = None
        spec, calibration = detector.bundle.clips, detector.bundle.calibration
        self._finder = EventFinder(name, self.threshold, calibration.settings)
        self._signature = Signature(calibration, (spec.height, spec.width))
        self._model = detector.bundle.digest[:16]
        self._peak: ScoredSample | None = None
        self._attached: ScoredSample | None = None
        self._labelled: ScoredSample | None = None
        self._label: Label | None = None
        self._start_frame: int | None = None
        self._start = self._end = self._updated = 0.0

    @property
    def false_alarms(self) -> str:
        """The camera's false-alarm budget: the one given, else the default of its bundle."""
        return self.camera.false_alarms or self._detector.bundle.default_budget

    @property
    def threshold(self) -> float:
        """Threshold of the score by the camera's false-alarm budget."""
        return self._detector.bundle.calibration.threshold(self.false_alarms)

    def configure(self, camera: CameraSettings) -> None:
        """Apply new active hours or another budget, from the next frame on."""
        self.camera = camera
        self._finder.threshold = self.threshold

    def update(self, sample: ScoredSample) -> None:
        """Add the next scored frame."""
        score, at = replace(sample.score, time_s=sample.frame.time_s), sample.frame.time
        if (ended := self._finder.update(score)) is not None:
            self._close(ended)
        event = self._finder.open_event
        if event is not None and event.end_frame == score.index:
            if event.start_frame != self._start_frame:
                self._start_frame, self._start = event.start_frame, at
                self._signature.reset()
            self._end = at
            self._signature.add(sample.scored.evidence.maps)
            if event.peak_frame == score.index:
                heat_map = self._detector.heat_map(sample.scored)
                outline = outline_of(heat_map, sample.score.box, sample.frame.size)
                self._peak = replace(sample, heat_map=heat_map, outline=outline)
        if event is not None and self._finder.is_confirmed:
            self._continue(event, at)

    def close(self) -> None:
        """End the open event: no frames follow, or they cannot be trusted."""
        if (ended := self._finder.finish()) is not None:
            self._close(ended)

    def _continue(self, event: Event, at: float) -> None:
        if self.open_event is None:
            self._open(event)
        elif at - self._start >= self._settings.max_duration_s:
            self.close()
        elif at - self._updated >= UPDATE_S and event.peak_score > self.open_event.peak_score:
            self._updated = at
            self.open_event = self._to_stored(event, self.open_event)
            self._send("update", self.open_event)

    def _to_stored(self, event: Event, known: StoredEvent | None, *, is_over: bool = False) -> StoredEvent:
        peak = self._peak
        peak_score = peak.score if peak is not None and peak.score.index == event.peak_frame else None
        start = _utc(self._start) if known is None else known.start
        suppressed = not self.camera.is_active(start.astimezone())
        return StoredEvent(
            id=new_id(start) if known is None else known.id,
            camera=self.name,
            start=start,
            peak=start if peak is None else _utc(peak.frame.time),
            end=_utc(self._end) if is_over else None,
            peak_score=event.peak_score,
            appearance=0.0 if peak_score is None else peak_score.appearance,
            motion=0.0 if peak_score is None else peak_score.motion,
            box=event.box,
            size=(0, 0) if peak is None else peak.frame.size,
            model=self._model,
            threshold=self._finder.threshold if known is None else known.threshold,
            suppressed=suppressed if known is None else known.suppressed,
            cells=self._signature.cells(),
            label=self._label_name(),
            region=None if peak_score is None or peak is None else peak.outline,
        )

    def _label_name(self) -> str | None:
        if self._label is not None:
            return self._label.name
        return UNUSUAL_TIME if self._peak is not None and self._peak.is_unusual_time else None

    def _label_peak(self) -> None:
        """Run the detector on the peak, once at the start of an event and again at its end where the peak has moved.

        It runs before the alert goes out, so that the label stands in it. The surer of the two labels counts.
        """
        peak = self._peak
        if self._find_label is None or peak is None or peak is self._labelled:
            return
        self._labelled = peak
        found = self._find_label(to_rgb(peak.frame.image), peak.score.box)
        if found is not None and (self._label is None or found.score > self._label.score):
            self._label = found

    def _open(self, event: Event) -> None:
        self._label_peak()
        stored = self.open_event = self._to_stored(event, None)
        self._updated = self._end
        if stored.suppressed:
            self._stats.suppressed += 1
        else:
            self._stats.events += 1
        self._send("new", stored)
        if self._settings.clips:
            self._packets.begin_clip(stored.id, self._event_writer.scratch / f"{stored.id}.mp4", self._start)
        self._attach_images(stored.id)

    def _close(self, event: Event) -> None:
        known = self.open_event
        self._label_peak()
        stored = self._to_stored(event, known, is_over=True)
        if known is None:  # it became long enough and ended with the same frame: its start was never sent
            self._send("new", replace(stored, end=None))
        self.open_event = None
        self._send("end", stored)
        self._packets.end_clip(stored.id, self._end)
        self._attach_images(stored.id)
        self._peak = self._attached = self._labelled = self._label = None

    def _send(self, change: EventChange, event: StoredEvent) -> None:
        self._event_writer.write_event(change, event)
        self._publish({"kind": "event", "camera": self.name, "change": change, "event": event.to_json()})

    def _attach_images(self, event_id: str) -> None:
        """Store the image and the heat map of the peak, unless those of the same peak are stored already."""
        peak = self._peak
        if peak is None or peak is self._attached:
            return
        self._attached = peak
        folder, on_error = self._event_writer.scratch, self._stats.count_recording_error
        self._event_writer.attach(
            event_id, "thumbnail", lambda: save_thumbnail(peak.frame.image, folder / f"{event_id}.jpg"), on_error
        )
        self._event_writer.attach(
            event_id,
            "heat",
            lambda: save_heat_map(
                peak.frame.image,
                peak.score,
                peak.heat_map,
                folder / f"{event_id}-heat.jpg",
                peak.outline,
                _utc(peak.frame.time),
            ),
            on_error,
        )
        if (place := enclosing_box(peak.outline, peak.score.box)) is not None:
            crop = folder / f"{event_id}-crop.jpg"
            self._event_writer.attach(event_id, "crop", lambda: save_crop(peak.frame.image, place, crop), on_error)


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
