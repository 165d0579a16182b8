"""One camera of a running engine: its reader, queue and scorer, and the state that follows from them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from comemory.detector import Detector
from comemory.errors import mask_password
from comemory.live.capture.frame_queue import FrameQueue
from comemory.live.capture.reader import CameraReader
from comemory.live.config import CameraSettings, LiveSettings
from comemory.live.contract import CameraState, CameraStatus, FindLabel, Message
from comemory.live.monitoring.recent_share import RecentShare
from comemory.live.recording.event_writer import EventWriter
from comemory.live.recording.packet_buffer import MAX_BUFFER_BYTES, PacketBuffer
from comemory.live.recording.task_queue import TaskQueue
from comemory.live.scoring.camera_scorer import CameraScorer
from comemory.video.frame_sampler import FrameSampler

RESTART_S = 5.0
"""Pause before a reader that died of an error is replaced."""
SLOW_CAMERA = 0.8
"""Below this share of the trained frame rate, a camera's status says so: flow over longer intervals is less exact."""
RATE_FRAMES = 100
"""Frames before the camera's rate is compared: the first seconds of a connection come in bursts."""
LOSS_LIMITS = (0.05, 0.02)
"""Share of lost and damaged frames above which a camera is degraded, and below which it no longer is. One lost packet a
minute costs less: the frames up to the next key frame."""
OVERLOAD_LIMITS = (0.1, 0.05)
"""The same for the share of due frames that are dropped; a short peak of other work costs less."""
BURST_S = 3.0
"""After a connection, a server may send the last seconds at once: the frames dropped then say nothing of this machine."""
COUNTERS = ("frames", "attempts", "reconnects", "lost", "damaged", "not_due", "clock_jumps")
"""Counters that go on when a reader is replaced."""


class RunningCamera:
    """One camera of a running engine.

    Attributes:
        busy: whether a worker is scoring its frames; set by the workers.
        state: see `CameraState`.
        since: when the state began, UTC.
        message: one line that explains the state.
        restarts: how often a reader that died of an error was replaced.
        pause_note: who paused it, in one line; None while it is watched.

    Args:
        clip_tasks: writes the clips.
        publish: sends a message to all subscribers.
        on_put: called for each queued frame.
        find_label: see `EventTracker`.
    """

    def __init__(
        self,
        name: str,
        settings: LiveSettings,
        detector: Detector,
        event_writer: EventWriter,
        clip_tasks: TaskQueue,
        publish: Callable[[Message], None],
        on_put: Callable[[], None],
        find_label: FindLabel | None = None,
    ) -> None:
        self.name, self.settings = name, settings
        self._event_writer, self._publish = event_writer, publish
        camera, events = settings.cameras[name], settings.events
        self.packets = PacketBuffer(
            events.pre_capture_s if events.clips else 0.0,
            events.post_capture_s,
            MAX_BUFFER_BYTES if events.clips else 0,
            clip_tasks.submit,
            self._attach_clip,
            self._report_clip_error,
        )
        self.scorer = CameraScorer(name, camera, settings, detector, self.packets, event_writer, publish, find_label)
        self.sampler = FrameSampler(detector.bundle.calibration.rate_hz, camera.fps)
        self.queue = FrameQueue(detector.bundle.clips.n_past + 1, lossless=not camera.realtime, on_put=on_put)
        self.reader = self._new_reader(camera)
        self.busy = False
        self.restarts = 0
        self.pause_note: str | None = None
        self._reader_lock, self._state_lock = threading.Lock(), threading.Lock()
        self.state, self.since, self.message = CameraState.CONNECTING, datetime.now(UTC), "connecting"
        self._measured_attempt, self._connected_at = 0, time.monotonic()
        self._loss = RecentShare(*LOSS_LIMITS)
        self._overload = RecentShare(*OVERLOAD_LIMITS)
        self._unscored = RecentShare(*OVERLOAD_LIMITS)
        self._died_at: float | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start reading, unless it is paused."""
        if self.pause_note is None:
            self.reader.start()

    def pause(self, note: str) -> None:
        """Stop reading, and show no more of what was read."""
        with self._reader_lock:
            is_watched, self.pause_note = self.pause_note is None, note
            if is_watched:
                self.reader.stop()
                self._replace_reader()

    def resume(self) -> None:
        """Read again."""
        with self._reader_lock:
            if self.pause_note is not None:
                self.pause_note = None
                if not self._stopping.is_set():
                    self.reader.start()

    @property
    def waiting_since(self) -> float | None:
        """When the oldest queued frame arrived, on the monotonic clock; None without one, or while a worker scores."""
        return None if self.busy else self.queue.oldest_arrival

    @property
    def n_dropped(self) -> int:
        """Number of due frames that are not scored because this machine is too slow."""
        return self.queue.dropped + self.scorer.stats.late

    @property
    def n_waiting(self) -> int:
        """Number of due frames that wait for their score or are being scored."""
        stats = self.scorer.stats
        return max(0, self.sampler.n_due - self.n_dropped - stats.scored - stats.filling - stats.faulty)

    @property
    def finished(self) -> bool:
        """Whether a file has ended, all of it is scored, and its end has been published."""
        return self._is_scored and self.state in (CameraState.DOWN, CameraState.ENDED)

    @property
    def failed(self) -> bool:
        """Whether a file has ended because of an error: of reading, or of scoring its last frame."""
        return self.reader.failed or (self.reader.finished and bool(self.scorer.fault))

    def score_waiting(self) -> None:
        """Score the frames that wait; called by a worker, one at a time."""
        frames = self.queue.pop_all()
        self.scorer.score_frames(frames, lossless=self.queue.lossless, is_torn=self.queue.is_torn)

    def update_state(self) -> None:
        """Work out the state and publish a change; end the event of a camera that is not live."""
        with self._state_lock:
            self._update_state()

    def _update_state(self) -> None:
        self._measure_degradation()
        state, message = self._find_state()
        if self._stopping.is_set():
            return
        if not state.is_scored and self.queue.oldest_arrival is None and not self.busy:
            self.scorer.close_event()
        self.packets.finish_clips(time.time())
        if state is not self.state:
            before, self.state, self.since = self.state, state, datetime.now(UTC)
            self.message = message
            self._event_writer.write_state(self.name, state.value, message)
            self._publish_state(before)
        self.message = message

    def restart_reader(self) -> None:
        """Replace a reader that died of an error, after a pause; the end of a file is no error."""
        with self._reader_lock:
            self._restart_reader()

    def _restart_reader(self) -> None:
        is_stopped = self._stopping.is_set() or self.pause_note is not None
        if is_stopped or self.reader.is_alive() or self.reader.finished:
            self._died_at = None
        elif self._died_at is None:
            self._died_at = time.monotonic()
        elif time.monotonic() - self._died_at >= RESTART_S:
            self._died_at = None
            self.restarts += 1
            self._replace_reader().start()
            if self._stopping.is_set():
                self.reader.stop()

    def _replace_reader(self) -> CameraReader:
        """A new reader, not started, that goes on counting where the old one stops."""
        old, new = self.reader, self._new_reader(self.scorer.camera)
        for counter in COUNTERS:
            setattr(new, counter, getattr(old, counter))
        self.reader = new
        return new

    def swap_model(self, detector: Detector) -> None:
        """Switch to another bundle without a gap; see `CameraScorer.swap_model`."""
        self.sampler.rate_hz = detector.bundle.calibration.rate_hz
        self.queue.capacity = detector.bundle.clips.n_past + 1
        self.scorer.swap_model(detector)

    def stop(self) -> None:
        """Stop reading and scoring; the state stays as it is, because stopping is no fault."""
        self._stopping.set()
        self.scorer.stop()
        self.reader.stop()

    def finish(self, timeout_s: float = 5.0) -> None:
        """End the open event and clip of a stopped camera.

        Args:
            timeout_s: how long to wait for a worker that is scoring.
        """
        self.scorer.close(timeout_s)
        self.packets.finish_clips()

    def status(self) -> CameraStatus:
        """The camera's status, for the page and the API."""
        scorer, reader, stats = self.scorer, self.reader, self.scorer.stats
        event, bundle = scorer.open_event, scorer.detector.bundle
        message = self.message or (self._event_writer.error and f"not everything is stored: {self._event_writer.error}")
        return CameraStatus(
            name=self.name,
            url=mask_password(scorer.camera.url),
            state=self.state,
            since=self.since,
            fps_in=reader.rate.hz(),
            fps_scored=stats.rate.hz(),
            fps_due=self.sampler.due_hz,
            frames=reader.frames,
            dropped=self.n_dropped,
            scored=stats.scored,
            not_due=reader.not_due,
            filling=stats.filling,
            faulty=stats.faulty,
            waiting=self.n_waiting,
            lost=reader.lost,
            damaged=reader.damaged,
            latency_ms_p50=stats.latency_ms(0.5),
            latency_ms_p99=stats.latency_ms(0.99),
            reconnects=reader.reconnects,
            attempts=reader.attempts,
            last_score=stats.last_score if self.state.is_scored else None,
            threshold=scorer.threshold,
            false_alarms=scorer.false_alarms,
            model=bundle.path.name,
            model_sha256=bundle.digest,
            size=reader.size,
            zones=scorer.camera.zones,
            active=scorer.camera.is_active(datetime.now().astimezone()),
            open_event=None if event is None else event.id,
            message=message,
            drift=scorer.drift_guard.message,
        )

    def _publish_state(self, before: CameraState) -> None:
        self._publish(
            {
                "kind": "state",
                "camera": self.name,
                "time": self.since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                "state": self.state.value,
                "before": before.value,
                "message": self.message,
            }
        )

    @property
    def _is_scored(self) -> bool:
        return self.reader.finished and self.queue.oldest_arrival is None and not self.busy

    def _find_state(self) -> tuple[CameraState, str]:
        reader, finding = self.reader, self.scorer.finding
        if self.pause_note is not None:
            return CameraState.PAUSED, self.pause_note
        if reader.finished and not self._is_scored:
            return self.state, self.message
        if not reader.is_alive() and not reader.finished:
            return CameraState.DOWN, "its reader stopped with an error and is being restarted"
        if reader.link is CameraState.ENDED and self.scorer.fault:
            return CameraState.DOWN, self.scorer.fault
        if reader.link is not CameraState.LIVE:
            return self._keep_fault(reader.link, reader.message)
        quiet_s = 0.0 if reader.last_frame is None else time.monotonic() - reader.last_frame
        if quiet_s > self.settings.health.stalled_s:
            return CameraState.STALLED, f"no frame for {quiet_s:.0f} s: check the camera's network"
        if finding.state is CameraState.LIVE and self.scorer.fault:
            return CameraState.DOWN, self.scorer.fault
        if finding.state is CameraState.LIVE:
            return self._find_degradation() or (CameraState.LIVE, self._rate_note())
        return finding.state, finding.message

    @property
    def is_overloaded(self) -> bool:
        """Whether this machine drops many of the camera's frames unscored."""
        return self._overload.is_high

    def _find_degradation(self) -> tuple[CameraState, str] | None:
        """Whether many frames are lost on the way to this machine, or on it."""
        loss, unscored = self._loss, self._unscored
        if loss.is_high:
            return CameraState.DEGRADED, (
                f"{loss.share:.0%} of the frames are lost or damaged and not scored: check the camera's network, "
                + (
                    "or set transport = tcp"
                    if self.settings.cameras[self.name].transport == "udp"
                    else "lower its bit rate"
                )
            )
        if self.is_overloaded:
            return CameraState.DEGRADED, (
                f"{unscored.share:.0%} of the frames of the last minute are not scored, "
                f"{unscored.hz * (1 - unscored.share):.1f} of {unscored.hz:.1f} a second are: this machine is too slow, or "
                "the frames arrive in bursts; lower the fps of the cameras, use a smaller model, or watch fewer cameras"
            )
        return None

    def _measure_degradation(self) -> None:
        now, reader = time.monotonic(), self.reader
        self._loss.update(now, reader.lost + reader.damaged, reader.frames + reader.lost)
        if not reader.is_file and (reader.attempts != self._measured_attempt or reader.last_frame is None):
            self._measured_attempt, self._connected_at = reader.attempts, now
        if now - self._connected_at < BURST_S:
            self._overload.reset()
            self._unscored.reset()
        self._overload.update(now, self.n_dropped, self.sampler.n_due)
        self._unscored.update(now, self.sampler.n_due - self.scorer.stats.scored, self.sampler.n_due)

    def _keep_fault(self, link: CameraState, message: str) -> tuple[CameraState, str]:
        """A camera that is down or stalled stays so during the next attempts to connect."""
        if link is CameraState.CONNECTING and self.state in (CameraState.DOWN, CameraState.STALLED):
            return self.state, self.message
        return link, message

    def _rate_note(self) -> str:
        camera_hz, trained_hz = self.sampler.camera_hz, self.sampler.rate_hz
        if camera_hz is None or self.reader.frames < RATE_FRAMES or camera_hz >= SLOW_CAMERA * trained_hz:
            return ""
        return (
            f"the camera sends {camera_hz:.1f} frames per second and the model was trained at {trained_hz:g}: "
            "raise the camera's frame rate, or train on this camera with comemory learn"
        )

    def _attach_clip(self, event_id: str, path: Path) -> None:
        self._event_writer.attach_clip(event_id, path, self.scorer.stats.count_recording_error)

    def _report_clip_error(self, error: str) -> None:
        self.scorer.stats.count_recording_error()
        self._event_writer.report("clips", error)

    def _new_reader(self, camera: CameraSettings) -> CameraReader:
        return CameraReader(self.name, camera, self.settings.health, self.sampler, self.queue, self.packets)
