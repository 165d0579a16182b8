"""Scores of one camera to events: told, stored, with their pictures and clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from comemory.detector import Detector
from comemory.live.capture.frame_queue import QueuedFrame
from comemory.live.config import CameraSettings, EventSettings
from comemory.live.contract import Message
from comemory.live.monitoring.camera_stats import CameraStats
from comemory.live.recording.event_writer import EventWriter
from comemory.live.recording.packet_buffer import PacketBuffer
from comemory.live.recording.snapshots import save_heat_map, save_thumbnail
from comemory.live.scoring.suppression import Signature
from comemory.scoring import EventFinder
from comemory.store.event import StoredEvent, new_id
from comemory.types import Event, Score

UPDATE_S = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class ScoredSample:
    """A scored frame, and what was seen in it."""

    tick: QueuedFrame
    score: Score
    heat_map: NDArray[np.float32] | None


class EventTracker:
    """The events of one camera by one bundle.

    Attributes:
        camera: its settings as they are now.
        open_event: the event that is on, None without one.

    Args:
        figures: counts them.
    """

    def __init__(
        self,
        name: str,
        camera: CameraSettings,
        settings: EventSettings,
        detector: Detector,
        footage: PacketBuffer,
        journal: EventWriter,
        figures: CameraStats,
        publish: Callable[[Message], None],
    ) -> None:
        self.name, self.camera, self._settings = name, camera, settings
        self._detector, self._footage, self._journal = detector, footage, journal
        self._figures, self._publish = figures, publish
        self.open_event: StoredEvent | None = None
        spec, calibration = detector.bundle.clips, detector.bundle.calibration
        self._finder = EventFinder(name, self.threshold, calibration.settings)
        self._signature = Signature(calibration, (spec.height, spec.width))
        self._model = detector.bundle.digest[:16]
        self._best: ScoredSample | None = None
        self._attached: ScoredSample | None = None
        self._started: int | None = None
        self._began = self._ended = self._updated = 0.0

    @property
    def threshold(self) -> float:
        """Of the score, by the camera's budget."""
        return self._detector.bundle.calibration.threshold(self.camera.false_alarms)

    def configure(self, camera: CameraSettings) -> None:
        """Take new hours or another budget, from the next frame on."""
        self.camera = camera
        self._finder.threshold = self.threshold

    def update(self, seen: ScoredSample) -> None:
        """Take the next scored frame."""
        score, at = replace(seen.score, time_s=seen.tick.time_s), seen.tick.time
        if (ended := self._finder.update(score)) is not None:
            self._end(ended)
        held = self._finder.open
        if held is not None and held.end_frame == score.index:
            if held.start_frame != self._started:
                self._started, self._began = held.start_frame, at
                self._signature.reset()
            self._ended = at
            self._signature.add(self._detector.maps)
            if held.peak_frame == score.index:
                self._best = replace(seen, heat=self._detector.heat())
        if held is not None and self._finder.active:
            self._go_on(held, at)

    def close(self) -> None:
        """End what is open: frames do not follow, or are not to be trusted."""
        if (ended := self._finder.finish()) is not None:
            self._end(ended)

    def _go_on(self, held: Event, at: float) -> None:
        if self.open_event is None:
            self._begin(held)
        elif at - self._began >= self._settings.max_duration_s:
            if (ended := self._finder.finish()) is not None:
                self._end(ended)
        elif at - self._updated >= UPDATE_S and held.peak_score > self.open_event.peak_score:
            self._updated = at
            self.open_event = self._stored(held, self.open_event)
            self._tell("update", self.open_event)

    def _stored(self, event: Event, known: StoredEvent | None, *, is_over: bool = False) -> StoredEvent:
        best = self._best
        peak = best.score if best is not None and best.score.index == event.peak_frame else None
        start = _utc(self._began) if known is None else known.start
        suppressed = not self.camera.is_active(start.astimezone())
        return StoredEvent(
            id=new_id(start) if known is None else known.id,
            camera=self.name,
            start=start,
            peak=start if best is None else _utc(best.tick.time),
            end=_utc(self._ended) if is_over else None,
            peak_score=event.peak_score,
            appearance=0.0 if peak is None else peak.appearance,
            motion=0.0 if peak is None else peak.motion,
            box=event.box,
            size=(0, 0) if best is None else best.tick.size,
            model=self._model,
            threshold=self._finder.threshold if known is None else known.threshold,
            suppressed=suppressed if known is None else known.suppressed,
            cells=self._signature.cells(),
        )

    def _begin(self, held: Event) -> None:
        event = self.open_event = self._stored(held, None)
        self._updated = self._ended
        if event.suppressed:
            self._figures.suppressed += 1
        else:
            self._figures.events += 1
        self._tell("new", event)
        if self._settings.clips:
            self._footage.begin_clip(event.id, self._journal.scratch / f"{event.id}.mp4", self._began)
        self._attach_pictures(event.id)

    def _end(self, ended: Event) -> None:
        known = self.open_event
        event = self._stored(ended, known, is_over=True)
        if known is None:
            self._tell("new", replace(event, end=None))
        self.open_event = None
        self._tell("end", event)
        self._footage.end_clip(event.id, self._ended)
        self._attach_pictures(event.id)
        self._best = self._attached = None

    def _tell(self, change: str, event: StoredEvent) -> None:
        self._journal.write_event(change, event)
        self._publish({"kind": "event", "camera": self.name, "change": change, "event": event.to_json()})

    def _attach_pictures(self, event_id: str) -> None:
        best = self._best
        if best is None or best is self._attached:
            return
        self._attached = best
        folder, threshold, lose = self._journal.scratch, self._finder.threshold, self._figures.count_recording_error
        self._journal.attach(
            event_id, "thumbnail", lambda: save_thumbnail(best.tick.image, folder / f"{event_id}.jpg"), lose
        )
        self._journal.attach(
            event_id,
            "heat",
            lambda: save_heat_map(
                best.tick.image, best.score, best.heat_map, folder / f"{event_id}-heat.jpg", threshold
            ),
            lose,
        )


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
