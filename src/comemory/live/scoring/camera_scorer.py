"""The scoring of one camera: frames in, events out. One worker at a time works on it, and any worker can."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from comemory.bundle import Bundle
from comemory.detector import Detector, ScoredFrame, scale_box
from comemory.errors import BundleError
from comemory.live.capture.frame_queue import QueuedFrame
from comemory.live.config import CameraSettings, LiveSettings
from comemory.live.contract import CameraState, FindLabel, Message, Snapshot
from comemory.live.monitoring.camera_stats import CameraStats
from comemory.live.monitoring.image_health import HealthFinding, ImageHealth
from comemory.live.monitoring.score_drift import DriftMonitor
from comemory.live.recording.activity import ActivityRecorder
from comemory.live.recording.event_writer import EventWriter
from comemory.live.recording.minute_scores import MinuteScores
from comemory.live.recording.packet_buffer import PacketBuffer
from comemory.live.recording.snapshots import downscale, to_rgb
from comemory.live.scoring.event_tracker import EventTracker, ScoredSample
from comemory.live.scoring.suppression import SuppressionFilter
from comemory.live.scoring.unusual_times import UnusualTimes, UnusualTimeScore
from comemory.live.scoring.zones import points_in_polygon
from comemory.store.activity import COLUMNS, ROWS, HourOfActivity
from comemory.store.event import StoredEvent, iso
from comemory.types import Box, Frame, Score
from comemory.video.image_folder import upright_rgb
from comemory.video.resize import resize

MAX_WAIT_S = 0.25
"""A frame that waited longer is prepared but not scored, if a newer one waits behind it."""

HISTORY = timedelta(days=56)
"""How far back the usual times reach: eight of each weekday."""
HISTORY_INTERVAL_S, HISTORY_RETRY_S = 3600.0, 60.0
"""How often they are read again, and how soon where the store did not answer."""

SNAPSHOT_WIDTH = 640
"""Of the images that the page shows, pixels."""


class CameraScorer:
    """Turns the frames of one camera into scores, events and their files.

    Attributes:
        stats: counters.
        finding: the health of the newest image.
        drift_guard: watches for a scene that no longer looks as in training.
        fault: why the newest frame has no score although its image is healthy; empty if it has one.
        lock: held while frames are scored or settings change.
        detector: of the model in use.
        health: checks the images.

    Args:
        name: of the camera.
        camera: its settings.
        settings: of the service.
        detector: for this camera alone.
        packets: the newest packets of the stream, for clips.
        event_writer: takes events, their files and scores.
        publish: sends a message to the page and to alerts.
        find_label: see `EventTracker`.
    """

    def __init__(
        self,
        name: str,
        camera: CameraSettings,
        settings: LiveSettings,
        detector: Detector,
        packets: PacketBuffer,
        event_writer: EventWriter,
        publish: Callable[[Message], None],
        find_label: FindLabel | None = None,
    ) -> None:
        self.name, self.camera, self.settings = name, camera, settings
        self._packets, self._event_writer, self._publish = packets, event_writer, publish
        self._find_label = find_label
        self.stats, self.drift_guard = CameraStats(), DriftMonitor()
        self.lock = threading.RLock()
        self.finding = HealthFinding(CameraState.LIVE, True, "")
        self.fault = ""
        self._reformatter = VideoReformatter()
        self._minutes = MinuteScores()
        self._normal: list[tuple[float, ...]] = []
        self._incoming: Detector | None = None
        self._connection: int | None = None
        self._is_stopped = False
        self._unscored: tuple[Any, datetime] | None = None
        self._index = self._last_sample = -1
        self._is_torn = False
        self._unusual_times: UnusualTimes | None = None
        self._unusual_times_note, self._history_read = "", -math.inf
        self._use(detector)

    @property
    def false_alarms(self) -> str:
        """The camera's false-alarm budget."""
        return self._tracker.false_alarms

    @property
    def threshold(self) -> float:
        """Threshold of the score by the camera's false-alarm budget."""
        return self._tracker.threshold

    @property
    def open_event(self) -> StoredEvent | None:
        """The event that is under way; None without one."""
        return self._tracker.open_event

    def configure(self, camera: CameraSettings) -> None:
        """Apply new zones, active hours or other budgets, from the next frame on."""
        with self.lock:
            if camera.unusual_times != self.camera.unusual_times:
                self._unusual_times, self._history_read = None, -math.inf
            self.camera = camera
            self._tracker.configure(camera)
            self._update_filter()

    def set_suppressions(self, normal: Iterable[Sequence[float] | None]) -> None:
        """Suppress what looks like past events that were marked as normal.

        Args:
            normal: the signatures of all such events of this camera; None for an event without one.
        """
        with self.lock:
            self._normal = [tuple(cells) for cells in normal if cells is not None]
            self._update_filter()

    @property
    def newest_bundle(self) -> Bundle:
        """The bundle that scores, or the one that will once its first clip is complete."""
        return (self._incoming or self.detector).bundle

    def swap_model(self, detector: Detector) -> None:
        """Change to another model once its first clip is complete; until then the present one goes on scoring."""
        with self.lock:
            self._incoming = detector

    def score_frames(self, frames: Sequence[QueuedFrame], *, lossless: bool, is_torn: bool = False) -> None:
        """Score frames, oldest first.

        Args:
            frames: those that waited in the queue.
            lossless: score every frame; otherwise those that waited too long are only prepared, except the newest.
            is_torn: frames before these were dropped, so that a new clip begins.
        """
        with self.lock:
            self._is_torn |= is_torn
            for frame in frames:
                if self._is_stopped:
                    return
                in_time = lossless or frame is frames[-1] or time.monotonic() - frame.arrived < MAX_WAIT_S
                self._process(frame, in_time)

    def close_event(self) -> None:
        """End the open event: no frames follow, or they cannot be trusted."""
        with self.lock:
            self._tracker.close()
            self.stats.last_score = None

    def reset_reference_view(self) -> None:
        """Accept the present view of a moved camera as its scene."""
        with self.lock:
            self.health.reset_reference()

    def stop(self) -> None:
        """Take no more frames; a frame that is being scored no longer counts."""
        self._is_stopped = True

    def close(self, timeout_s: float = 5.0) -> None:
        """End the open event and save what the next start can use.

        Args:
            timeout_s: how long to wait for a worker; after it, this is done although the worker has not returned.
        """
        self.stop()
        is_alone = self.lock.acquire(timeout=timeout_s)
        try:
            self._tracker.close()
            self.stats.last_score = None
            if (minute := self._minutes.finish()) is not None:
                self._event_writer.write_scores(self.name, *minute, self._model)
            self._write_activity(self._activity.finish())
            self.health.save()
        finally:
            if is_alone:
                self.lock.release()

    def snapshot(self, newest: Any, state: CameraState) -> Snapshot | None:
        """The newest scored image with its heat map; the newest image while none is scored; None without any.

        Args:
            newest: image as it came from the camera.
            state: of the camera.
        """
        with self.lock:
            latest = self._latest if state.is_scored else None
            heat_map = self.detector.heat_map(latest.scored) if latest is not None else None
            if latest is None and newest is not None and (self._unscored is None or self._unscored[0] is not newest):
                self._unscored = newest, datetime.now(UTC)
            unscored = self._unscored
        if latest is not None:
            image = downscale(to_rgb(latest.frame.image), SNAPSHOT_WIDTH)
            return Snapshot(image, heat_map, latest.score.value, _utc(latest.frame.time), state)
        if newest is None or unscored is None:
            return None
        return Snapshot(downscale(to_rgb(unscored[0]), SNAPSHOT_WIDTH), None, None, unscored[1], state)

    def _use(self, detector: Detector) -> None:
        self.detector = detector
        self._model = detector.bundle.digest[:16]
        self._tracker = EventTracker(
            self.name,
            self.camera,
            self.settings.events,
            detector,
            self._packets,
            self._event_writer,
            self.stats,
            self._publish,
            self._find_label,
        )
        view = self.settings.out / "cameras" / self.name / f"view-{self._model}.npz"
        self.health = ImageHealth(self.settings.health, view)
        self._activity = ActivityRecorder(detector.bundle.clips.width, detector.bundle.calibration.rate_hz)
        self._latest: ScoredSample | None = None
        self.fault = ""
        self.drift_guard.reset()
        self._update_filter()

    def _update_filter(self) -> None:
        spec = self.detector.bundle.clips
        self._cells: NDArray[np.bool_] | None = None
        self._suppression = SuppressionFilter(
            self.detector.bundle.calibration, (spec.height, spec.width), self.camera.zones, self._normal
        )

    def _process(self, frame: QueuedFrame, in_time: bool) -> None:
        if self._incoming is not None and self._incoming.is_ready:
            self._swap(self._incoming)
        if frame.connection != self._connection:
            self._connection, self._is_torn = frame.connection, False
            self.close_event()
            self.health.reset_frames()
            if self._unusual_times is not None:
                self._unusual_times.reset()
        image = self._resize(frame, self.detector)
        self.finding = self.health.check(image, frame.time, frame.image)
        if not self.finding.usable:
            self.stats.faulty += frame.sample.is_due
            self._is_torn = False
            self.detector.reset()
            self.close_event()
            return
        self._prepare_incoming(frame)
        if frame.sample.index != self._last_sample + 1:
            self._index += 1  # a gap: scores on its two sides must not count as consecutive
        self._last_sample = frame.sample.index
        self._score(frame, image, in_time)

    def _score(self, frame: QueuedFrame, image: NDArray[np.uint8], in_time: bool) -> None:
        sample = frame.sample
        try:
            scored = self.detector.step(
                Frame(image, frame.time, sample.index),
                flow_scale=sample.flow_scale,
                is_due=sample.is_due and in_time,
                patch_filter=self._suppression.patch_filter,
            )
        except BundleError as error:
            self.fault, self._latest = str(error), None
            self.stats.faulty += sample.is_due
            self.close_event()
            return
        if scored is not None:
            self.fault = ""
            self._record(frame, scored)
        elif self._is_torn or self.detector.is_ready:
            self.stats.late += sample.is_due
        else:
            self.stats.filling += sample.is_due
        self._is_torn &= not self.detector.is_ready

    def _record(self, frame: QueuedFrame, scored: ScoredFrame) -> None:
        if self._is_stopped:
            return
        self._index += 1
        box = scored.score.box
        if box is not None:
            box = scale_box(box, scored.frame.image.shape, frame.size)
        score = replace(scored.score, index=self._index, box=box)
        part = self._activity.add(frame.time, scored.evidence.maps)
        self._latest = sample = self._with_unusual_time(ScoredSample(frame, score, scored))
        self._tracker.update(sample)
        self.stats.record_score(frame.time, sample.score.value, time.monotonic() - frame.arrived)
        if self.open_event is None:
            self.drift_guard.add(frame.time, score.value)
        if (minute := self._minutes.add(frame.time, score.value)) is not None:
            self._event_writer.write_scores(self.name, *minute, self._model)
        self._write_activity(part)
        self._publish(self._score_message(sample.score))

    def _with_unusual_time(self, sample: ScoredSample) -> ScoredSample:
        """Raise the score of a frame in which something moves at a place and a time when it is usually empty."""
        if self.camera.unusual_times is None:
            return sample
        self._read_history(self.camera.unusual_times)
        usual = self._unusual_times
        if usual is None:
            return sample
        found = usual.step(sample.frame.time, self._activity.moves & self._cells_that_count())
        if found is None or found.excess < 0 or (value := self.threshold + found.excess) <= sample.score.value:
            return sample
        score = replace(sample.score, value=value, box=_box_of(found, sample.frame.size))
        return replace(sample, score=score, is_unusual_time=True)

    def _read_history(self, budget: str) -> None:
        """Ask for the activity of the last weeks once an hour; the thread that writes events reads it."""
        now = time.monotonic()
        if now - self._history_read < HISTORY_INTERVAL_S:
            return
        self._history_read = now - HISTORY_INTERVAL_S + HISTORY_RETRY_S

        def take(hours: list[HourOfActivity]) -> None:
            usual = UnusualTimes(hours, budget)
            with self.lock:
                if self.camera.unusual_times == budget:
                    self._unusual_times, self._history_read = usual, now
            if usual.note != self._unusual_times_note:
                self._unusual_times_note = usual.note
                if usual.note:
                    self._publish({"kind": "warning", "message": f"{self.name}: {usual.note}"})

        self._event_writer.read_activity(self.name, datetime.now(UTC) - HISTORY, take)

    def _cells_that_count(self) -> NDArray[np.bool_]:
        """The cells of the activity whose centre lies in no ignored zone."""
        if self._cells is None:
            x, y = np.meshgrid((np.arange(COLUMNS) + 0.5) / COLUMNS, (np.arange(ROWS) + 0.5) / ROWS)
            self._cells = np.ones((ROWS, COLUMNS), np.bool_)
            for zone in self.camera.zones:
                self._cells &= ~points_in_polygon(zone, x, y)
        return self._cells

    def _write_activity(self, part: HourOfActivity | None) -> None:
        if part is not None:
            self._event_writer.write_activity(self.name, part)

    def _score_message(self, score: Score) -> Message:
        return {
            "kind": "score",
            "camera": self.name,
            "time": iso(_utc(score.time_s)),
            "score": score.value,
            "appearance": score.appearance,
            "motion": score.motion,
            "threshold": self.threshold,
            "box": None if score.box is None else list(score.box),
        }

    def _prepare_incoming(self, frame: QueuedFrame) -> None:
        """Give the frame to the model that is to take over, so that its clip fills."""
        if self._incoming is not None:
            image, sample = self._resize(frame, self._incoming), frame.sample
            incoming = Frame(image, frame.time, sample.index)
            self._incoming.step(incoming, flow_scale=sample.flow_scale, is_due=False)

    def _swap(self, detector: Detector) -> None:
        self.close_event()
        self._write_activity(self._activity.finish())
        self._use(detector)
        self._index += 1  # scores of two models must not count as consecutive
        self._incoming = None
        self._publish(
            {
                "kind": "model",
                "camera": self.name,
                "model": self._model,
                "message": f"changes to {detector.bundle.path.name}",
            }
        )

    def _resize(self, frame: QueuedFrame, detector: Detector) -> NDArray[np.uint8]:
        size = (detector.bundle.clips.flow_height, detector.bundle.clips.flow_width)
        if isinstance(frame.image, av.VideoFrame):
            return upright_rgb(frame.image, size, self._reformatter)
        return resize(frame.image, size)


def _box_of(found: UnusualTimeScore, size: tuple[int, int]) -> Box:
    """The box around the cells of a surprise, in pixels of an image of `size` (height, width)."""
    rows, columns = np.nonzero(found.cells)
    left, top = columns.min() * size[1] // COLUMNS, rows.min() * size[0] // ROWS
    right, bottom = -(-(columns.max() + 1) * size[1] // COLUMNS), -(-(rows.max() + 1) * size[0] // ROWS)
    return int(left), int(top), int(right), int(bottom)


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
