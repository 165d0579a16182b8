"""One camera being scored: frames in, events out. One worker at a time works on it, any of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from comemory.detector import Detector, scaled_box
from comemory.errors import BundleError
from comemory.live.capture.frame_queue import QueuedFrame
from comemory.live.capture.frame_sampler import PacedFlow
from comemory.live.config import CameraSettings, LiveSettings
from comemory.live.contract import CameraState, Message, Snapshot
from comemory.live.monitoring.camera_stats import CameraStats
from comemory.live.monitoring.image_health import HealthFinding, ImageHealth
from comemory.live.monitoring.score_drift import DriftMonitor
from comemory.live.recording.event_writer import EventWriter
from comemory.live.recording.minute_scores import MinuteScores
from comemory.live.recording.packet_buffer import PacketBuffer
from comemory.live.recording.snapshots import shrink, to_rgb
from comemory.live.scoring.event_tracker import EventTracker, ScoredSample
from comemory.live.scoring.suppression import SuppressionFilter
from comemory.store.event import StoredEvent, iso
from comemory.types import Clip, Frame, Score
from comemory.video.image_folder import upright_rgb
from comemory.video.resize import resize

MAX_WAIT_S = 0.25
"""A frame that waited longer is prepared but not scored, where a newer one waits behind it."""
UPDATE_S = 1.0
SNAPSHOT_WIDTH = 640

Cells = tuple[float, ...]


class CameraScorer:
    """Frames of one camera to scores, events and their files.

    Attributes:
        figures: counters.
        finding: what the newest picture is.
        guard: of drift.
        fault: why the newest frame has no score, though its picture is as it should be; empty where it has one.
    """

    def __init__(
        self,
        name: str,
        camera: CameraSettings,
        settings: LiveSettings,
        detector: Detector,
        footage: PacketBuffer,
        journal: EventWriter,
        publish: Callable[[Message], None],
    ) -> None:
        self.name, self.camera, self.settings = name, camera, settings
        self.footage, self.journal, self._publish = footage, journal, publish
        self.stats, self.drift_guard = CameraStats(), DriftMonitor()
        self.lock = threading.RLock()
        self.finding = HealthFinding(CameraState.LIVE, True, "")
        self.fault = ""
        self._reformatter = VideoReformatter()
        self._minutes = MinuteScores()
        self._normal: list[Cells] = []
        self._incoming: Detector | None = None
        self._connection: int | None = None
        self._halted = False
        self._unscored: tuple[Any, datetime] | None = None
        self._use(detector)

    @property
    def threshold(self) -> float:
        """Of the score, by the camera's budget."""
        return self._reporter.threshold

    @property
    def open_event(self) -> StoredEvent | None:
        """The event that is on, None without one."""
        return self._reporter.open_event

    def configure(self, camera: CameraSettings) -> None:
        """Take new zones, hours or another budget, from the next frame on."""
        with self.lock:
            self.camera = camera
            self._reporter.configure(camera)
            self._refit()

    def set_suppressions(self, normal: Iterable[Sequence[float] | None]) -> None:
        """Take the signatures of all events of this camera that were called normal."""
        with self.lock:
            self._normal = [tuple(cells) for cells in normal if cells is not None]
            self._refit()

    def swap_model(self, detector: Detector) -> None:
        """Go over to another bundle as soon as its first clip is whole; until then the present one goes on."""
        with self.lock:
            self._incoming = detector

    def score_frames(self, ticks: Sequence[QueuedFrame], *, lossless: bool) -> None:
        """Work through the frames that waited, oldest first; late ones are scored only where none waits behind them."""
        with self.lock:
            for tick in ticks:
                if self._halted:
                    return
                in_time = lossless or tick is ticks[-1] or time.monotonic() - tick.arrived < MAX_WAIT_S
                self._push(tick, in_time)

    def close_event(self) -> None:
        """End what is open: frames do not follow, or are not to be trusted."""
        with self.lock:
            self._close_event()

    def reset_reference_view(self) -> None:
        """Take the present view of a moved camera for its scene."""
        with self.lock:
            self.health.reset_reference()

    def stop(self) -> None:
        """Take no frame any more; what is being scored no longer counts."""
        self._halted = True

    def close(self, timeout_s: float = 5.0) -> None:
        """End what is open and keep what the next start can use, even where a worker does not come back in time."""
        self.stop()
        is_alone = self.lock.acquire(timeout=timeout_s)
        try:
            self._close_event()
            if (minute := self._minutes.finish()) is not None:
                self.journal.write_scores(self.name, *minute, self._model)
            self.health.save()
        finally:
            if is_alone:
                self.lock.release()

    def snapshot(self, newest: Any, state: CameraState) -> Snapshot | None:
        """The newest scored picture with its heat map; without one, the newest picture.

        Args:
            newest: as it came from the camera.
        """
        with self.lock:
            seen = self._seen if state is CameraState.LIVE else None
            heat = self.detector.heat() if seen is not None else None
            if seen is None and newest is not None and (self._unscored is None or self._unscored[0] is not newest):
                self._unscored = newest, datetime.now(UTC)
            unscored = self._unscored
        if seen is None:
            if newest is None or unscored is None:
                return None
            return Snapshot(shrink(to_rgb(unscored[0]), SNAPSHOT_WIDTH), None, None, unscored[1], state)
        picture = shrink(to_rgb(seen.tick.image), SNAPSHOT_WIDTH)
        return Snapshot(picture, heat, seen.score.value, _utc(seen.tick.time), state)

    def _close_event(self) -> None:
        self._reporter.close()
        self.stats.last_score = None

    def _use(self, detector: Detector) -> None:
        spec = detector.bundle.clips
        self.detector = detector
        self._flow = _pace_flow(detector)
        self._size = (spec.flow_height, spec.flow_width)
        self._model = detector.bundle.digest[:16]
        self._reporter = EventTracker(
            self.name,
            self.camera,
            self.settings.events,
            detector,
            self.footage,
            self.journal,
            self.stats,
            self._publish,
        )
        view = self.settings.out / "cameras" / self.name / f"view-{self._model}.npz"
        self.health = ImageHealth(self.settings.health, view)
        self._seen: ScoredSample | None = None
        self.fault = ""
        self._index, self._last_beat = -1, -1
        self.drift_guard.reset()
        self._refit()

    def _refit(self) -> None:
        self._repeatable = False
        spec = self.detector.bundle.clips
        self._tolerance = SuppressionFilter(
            self.detector.bundle.calibration, (spec.height, spec.width), self.camera.zones, self._normal
        )

    def _push(self, tick: QueuedFrame, in_time: bool) -> None:
        if tick.connection != self._connection:
            self._connection = tick.connection
            self._close_event()
            self.health.reset_frames()
        picture = self._resized(tick, self._size)
        self.finding = self.health.check(picture, tick.time)
        if not self.finding.usable:
            self.detector.builder.reset()
            self.close_event()
            return
        self._flow.factor = tick.sample.flow_scale
        builder = self.detector.builder
        look = builder.pair(Frame(picture, tick.time, tick.sample.index))
        clip = builder.append(builder.compute_features(look))
        self._repeatable = self._repeatable and look.is_static
        if tick.sample.index != self._last_beat + 1:
            self._index += 1
        self._last_beat = tick.sample.index
        clip = self._taken_over(tick) or clip
        if clip is None or not tick.sample.is_due:
            return
        if not in_time:
            self.stats.skipped += 1
            return
        self._score(tick, clip)

    def _score(self, tick: QueuedFrame, clip: Clip) -> None:
        act = self.detector.repeat if self._repeatable else self.detector.score
        try:
            score = act(clip, self._size, self._tolerance.patch_filter)
        except BundleError as error:
            self.fault, self._seen, self._repeatable = str(error), None, False
            self._close_event()
            return
        self.fault, self._repeatable = "", True
        if self._halted:
            return
        self._index += 1
        score = replace(score, index=self._index, box=scaled_box(score.box, self._size, tick.size))
        self._seen = ScoredSample(tick, score, None)
        self._reporter.update(self._seen)
        self._record(score, tick.time, tick.arrived)

    def _taken_over(self, tick: QueuedFrame) -> Clip | None:
        """Feed the bundle that is to follow; once its clip is whole it takes over with it."""
        incoming = self._incoming
        if incoming is None:
            return None
        _pace_flow(incoming).factor = tick.sample.flow_scale
        spec = incoming.bundle.clips
        picture = self._resized(tick, (spec.flow_height, spec.flow_width))
        clip = incoming.builder.add_frame(Frame(picture, tick.time, tick.sample.index))
        if clip is not None:
            self.close_event()
            index, beat = self._index, self._last_beat
            self._use(incoming)
            self._index, self._last_beat, self._incoming = index + 1, beat, None
            name = incoming.bundle.path.name
            self._publish(
                {"kind": "model", "camera": self.name, "model": self._model, "message": f"goes over to {name}"}
            )
        return clip

    def _resized(self, tick: QueuedFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
        if isinstance(tick.image, av.VideoFrame):
            return upright_rgb(tick.image, size, self._reformatter)
        return resize(tick.image, size)

    def _record(self, score: Score, at: float, arrived: float) -> None:
        self.stats.record_score(at, score.value, time.monotonic() - arrived)
        if self.open_event is None:
            self.drift_guard.add(at, score.value)
        if (minute := self._minutes.add(at, score.value)) is not None:
            self.journal.write_scores(self.name, *minute, self._model)
        self._publish(
            {
                "kind": "score",
                "camera": self.name,
                "time": iso(_utc(at)),
                "score": score.value,
                "appearance": score.appearance,
                "motion": score.motion,
                "threshold": self.threshold,
                "box": None if score.box is None else list(score.box),
            }
        )


def _pace_flow(detector: Detector) -> PacedFlow:
    """The detector's flow, with a factor that can be set."""
    flow = detector.builder.preparation.estimator
    if not isinstance(flow, PacedFlow):
        flow = detector.builder.preparation.estimator = PacedFlow(flow)
    return flow


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
