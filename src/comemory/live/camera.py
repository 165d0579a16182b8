"""One camera of a running engine: its reader, its slot, its watch, and the state they come to together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from comemory.detector import Detector
from comemory.errors import mask_password
from comemory.live.capture.frame_queue import Slot
from comemory.live.capture.frame_sampler import Pace
from comemory.live.capture.reader import Reader
from comemory.live.config import CameraSettings, LiveSettings
from comemory.live.contract import CameraState, CameraStatus, Message
from comemory.live.recording.event_writer import Errands, Journal
from comemory.live.recording.packet_buffer import Footage
from comemory.live.scoring.camera_scorer import Watch

RESTART_S = 5.0


class Camera:
    """One camera being watched.

    Attributes:
        busy: a worker is at it; the engine's to set.
        state, since, message: how it is.
        restarts: of a reader that died of a fault.
    """

    def __init__(
        self,
        name: str,
        settings: LiveSettings,
        detector: Detector,
        journal: Journal,
        films: Errands,
        publish: Callable[[Message], None],
        on_put: Callable[[], None],
    ) -> None:
        self.name, self.settings = name, settings
        self._journal, self._publish = journal, publish
        camera, kept = settings.cameras[name], settings.events
        self.footage = Footage(
            kept.before_s if kept.clips else 0.0,
            kept.after_s,
            int(kept.buffer_mb * 2**20) if kept.clips else 0,
            films.submit,
            self._keep_clip,
            self._recording_failed,
        )
        self.watch = Watch(name, camera, settings, detector, self.footage, journal, publish)
        self.pace = Pace(detector.bundle.calibration.rate_hz, camera.fps)
        self.slot = Slot(detector.bundle.clips.n_past + 1, lossless=not camera.realtime, on_put=on_put)
        self.reader = self._new_reader(camera)
        self.busy = False
        self.restarts = 0
        self.state, self.since, self.message = CameraState.CONNECTING, datetime.now(UTC), "connecting"
        self._died: float | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Begin to read."""
        self.reader.start()

    @property
    def waiting(self) -> float | None:
        """When the oldest frame arrived that no worker has taken; None when there is none, or one is at it."""
        return None if self.busy else self.slot.oldest

    @property
    def finished(self) -> bool:
        """Whether a file is over, everything of it is scored, and that it is over has been told."""
        return self._is_scored and self.state in (CameraState.DOWN, CameraState.ENDED)

    @property
    def failed(self) -> bool:
        """Whether a file is over because it cannot be read to its end, or over without a score of its last frame."""
        return self.reader.failed or (self.reader.finished and bool(self.watch.fault))

    def look(self) -> None:
        """Find out how it is; tell it when that has changed; end the event of a camera that is not live."""
        state, message = self._find_state()
        if self._stopping.is_set():
            return
        if state is not CameraState.LIVE and self.slot.oldest is None and not self.busy:
            self.watch.close_event()
        self.footage.finish(time.time())
        if state is not self.state:
            before, self.state, self.since = self.state, state, datetime.now(UTC)
            self.message = message
            self._journal.state(self.name, state.value, message)
            self._publish(
                {
                    "kind": "state",
                    "camera": self.name,
                    "time": self.since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                    "state": state.value,
                    "before": before.value,
                    "message": message,
                }
            )
        self.message = message

    def revive(self) -> None:
        """Begin anew with a reader that died of a fault, not at once and not for a file that is over."""
        if self._stopping.is_set() or self.reader.is_alive() or self.reader.finished:
            self._died = None
        elif self._died is None:
            self._died = time.monotonic()
        elif time.monotonic() - self._died >= RESTART_S:
            old, self._died = self.reader, None
            self.restarts += 1
            self.reader = self._new_reader(self.watch.camera)
            for counter in ("frames", "attempts", "reconnects", "corrupt", "leaps"):
                setattr(self.reader, counter, getattr(old, counter))
            self.reader.start()
            if self._stopping.is_set():
                self.reader.stop()

    def hand_over(self, detector: Detector) -> None:
        """Go over to another bundle without a gap; see `Watch.hand_over`."""
        self.pace.rate_hz = detector.bundle.calibration.rate_hz
        self.slot.length = detector.bundle.clips.n_past + 1
        self.watch.hand_over(detector)

    def stop(self) -> None:
        """Ask the reader to end and take no frame any more; its state stays as it was, for that is no fault."""
        self._stopping.set()
        self.watch.halt()
        self.reader.stop()

    def finish(self, timeout_s: float = 5.0) -> None:
        """End what is open, once it is stopped.

        Args:
            timeout_s: to wait for a worker that is at it.
        """
        self.watch.finish(timeout_s)
        self.footage.finish()

    def status(self) -> CameraStatus:
        """How it is doing."""
        watch, reader, figures = self.watch, self.reader, self.watch.figures
        event, bundle = watch.open_event, watch.detector.bundle
        message = self.message or (self._journal.trouble and f"not all is stored: {self._journal.trouble}")
        return CameraStatus(
            name=self.name,
            url=mask_password(watch.camera.url),
            state=self.state,
            since=self.since,
            fps_in=reader.rate.hz(),
            fps_scored=figures.rate.hz(),
            frames=reader.frames,
            dropped=self.slot.dropped + figures.skipped,
            scored=figures.scored,
            latency_ms_p50=figures.latency_ms(0.5),
            latency_ms_p99=figures.latency_ms(0.99),
            reconnects=reader.reconnects,
            attempts=reader.attempts,
            last_score=figures.last_score if self.state is CameraState.LIVE else None,
            threshold=watch.threshold,
            false_alarms=watch.camera.false_alarms,
            model=bundle.path.name,
            model_sha256=bundle.digest,
            size=reader.size,
            zones=watch.camera.zones,
            active=watch.camera.is_active(datetime.now().astimezone()),
            open_event=None if event is None else event.id,
            message=message,
            drift=watch.guard.message,
        )

    @property
    def _is_scored(self) -> bool:
        return self.reader.finished and self.slot.oldest is None and not self.busy

    def _find_state(self) -> tuple[CameraState, str]:
        reader, finding = self.reader, self.watch.finding
        if reader.finished and not self._is_scored:
            return self.state, self.message
        if not reader.is_alive() and not reader.finished:
            return CameraState.DOWN, "its reader died of a fault and begins anew"
        if reader.link is CameraState.ENDED and self.watch.fault:
            return CameraState.DOWN, self.watch.fault
        if reader.link is not CameraState.LIVE:
            return self._apart(reader.link, reader.message)
        quiet_s = 0.0 if reader.last_frame is None else time.monotonic() - reader.last_frame
        if quiet_s > self.settings.health.stalled_s:
            return CameraState.STALLED, f"no frame for {quiet_s:.0f} s: check the camera's network"
        if finding.state is CameraState.LIVE and self.watch.fault:
            return CameraState.DOWN, self.watch.fault
        if finding.state is CameraState.LIVE:
            return CameraState.LIVE, self._rate_note()
        return finding.state, finding.message

    def _apart(self, link: CameraState, message: str) -> tuple[CameraState, str]:
        """A camera that is down stays so while it is tried again."""
        if link is CameraState.CONNECTING and self.state in (CameraState.DOWN, CameraState.STALLED):
            return self.state, self.message
        return link, message

    def _rate_note(self) -> str:
        camera_hz, trained_hz = self.pace.camera_hz, self.pace.rate_hz
        if camera_hz is None or self.reader.frames < 100 or camera_hz >= 0.8 * trained_hz:
            return ""
        return (
            f"the camera sends {camera_hz:.1f} frames a second and the model learned at {trained_hz:g}: "
            "raise the camera's rate, or learn from this camera"
        )

    def _keep_clip(self, event_id: str, path: Path) -> None:
        if not self._journal.attach(event_id, "clip", lambda: path, self.watch.figures.lose):
            with suppress(OSError):
                path.unlink()

    def _recording_failed(self, trouble: str) -> None:
        self.watch.figures.lose()
        self._journal.tell("clips", trouble)

    def _new_reader(self, camera: CameraSettings) -> Reader:
        return Reader(self.name, camera, self.settings.health, self.pace, self.slot, self.footage)
