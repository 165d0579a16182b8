"""One camera's connection: reads frames into the queue and packets into the buffer, and reconnects when it is lost."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.video.stream import VideoStream

from comemory.errors import ConfigError, SourceError, mask_password
from comemory.live.capture.backoff import Backoff
from comemory.live.capture.clock import ArrivalClock, PlaybackClock, StreamClock, WallClock
from comemory.live.capture.connection import Connection, copy_packet, explain_read_error
from comemory.live.capture.frame_loss import FrameLoss
from comemory.live.capture.frame_queue import FrameQueue, QueuedFrame
from comemory.live.config import CameraSettings, HealthSettings
from comemory.live.contract import CameraState
from comemory.live.monitoring.camera_stats import RateMeter
from comemory.live.recording.packet_buffer import LIBRARY_ERRORS, PacketBuffer, StreamParams
from comemory.video.frame_sampler import FrameSampler
from comemory.video.image_folder import FrameFolder, upright_size

N_REMEMBERED_KEYFRAMES = 256
"""Key frames of a playlist that are recognised when they come again; more than any live playlist lists."""
FILE_RETRY_S = 1.0
"""Pause before a looped file that could not be read is tried again."""
SINGLE_IMAGE = "this is a single image, not a stream: give the address of the camera's RTSP or MJPEG stream"
END_TOLERANCE_S = 2.0
"""A recording whose last frame lies this close to its stated duration was played to its end, and not broken off."""
MAX_RATE_HZ = 240
"""A stated frame rate above this is a mistake of the container; the rate is measured instead."""


class CameraReader(threading.Thread):
    """Reads one camera until it is stopped, or a file until its end.

    Attributes:
        link: `connecting`, `live` while connected (also between two rounds of a looped file), `down` or `ended`.
        message: why it is not live, in one line.
        frames: number of frames received.
        attempts: number of connection attempts.
        reconnects: number of connections made after one was lost.
        lost: number of frames that did not arrive; see `FrameLoss`.
        damaged: number of received frames that cannot be trusted because packets were lost; they are not queued.
        not_due: number of received frames that are not to be scored, by the frame rate of the model or of `fps`.
        clock_jumps: how often the time of day of this machine was set.
        last_frame: when the last frame was taken, on the monotonic clock, as far as its timestamps tell; None before the
            first. The last frame of a camera that hangs may arrive seconds later, when the connection times out.
        newest: the newest frame, as decoded.
        rate: measures the frames a second that arrive.
        size: (height, width) of the frames, in pixels.
        finished: the file has ended, or cannot be read to its end.
        failed: it has ended because it cannot be read, or because it is empty.
    """

    def __init__(
        self,
        name: str,
        camera: CameraSettings,
        health: HealthSettings,
        sampler: FrameSampler,
        queue: FrameQueue,
        packets: PacketBuffer,
    ) -> None:
        super().__init__(name=f"camera-{name}", daemon=True)
        self.camera, self.health, self.sampler, self.queue, self.packets = camera, health, sampler, queue, packets
        self.link = CameraState.CONNECTING
        self.message = "connecting"
        self.frames = self.attempts = self.reconnects = self.clock_jumps = 0
        self.lost = self.damaged = self.not_due = 0
        self.last_frame: float | None = None
        self.rate = RateMeter()
        self.newest: Any = None
        self.size: tuple[int, int] | None = None
        self.finished = self.failed = False
        self._location = ""
        self._taken = 0.0
        self._stopping = threading.Event()
        self._backoff = Backoff()
        self._was_live = self._has_ended = self._is_single_image = False
        self._seen_keyframes: deque[int] = deque(maxlen=N_REMEMBERED_KEYFRAMES)

    @property
    def is_file(self) -> bool:
        """Whether it plays a file or a folder, which has an end; False while its `env:NAME` has no value."""
        return bool(self._location) and "://" not in self._location and not self._location.startswith("/dev/")

    def stop(self) -> None:
        """Ask it to end; it does so within the time limit of one read."""
        self._stopping.set()

    def run(self) -> None:
        """Connect and read, again and again, until the camera is stopped or its recording has ended."""
        failures = 0
        while not self._stopping.is_set():
            frames_before = self.frames
            self._connect_and_read()
            if self.finished or self._stopping.is_set():
                break
            failures = 0 if self.frames > frames_before else failures + 1
            self._wait(failures)

    def _connect_and_read(self) -> None:
        self._backoff.record_attempt(time.monotonic())
        self.attempts += 1
        frames_before = self.frames
        try:
            self._location = self.camera.resolved_url
            if self.link is not CameraState.LIVE:
                self.link = CameraState.CONNECTING
            self._read_location()
            if not self._stopping.is_set():
                self._handle_end(self.frames - frames_before)
        except (SourceError, ConfigError) as error:
            self._set_lost(str(error))
        except LIBRARY_ERRORS as error:
            is_image = self._is_single_image and self.frames - frames_before == 1
            reason = SINGLE_IMAGE if is_image else explain_read_error(error, self._location)
            self._set_lost(f"{mask_password(self._location)}: {reason}")

    def _read_location(self) -> None:
        if self.is_file and Path(self._location).is_dir():
            self._play_folder(FrameFolder(Path(self._location), name="", size=None, rate_hz=self.sampler.rate_hz))
        else:
            with Connection(self._location, self.camera, self.health, is_file=self.is_file) as connection:
                self._refuse_replay(connection)
                self._read(connection)

    def _handle_end(self, n_frames: int) -> None:
        """What follows from the end of a file or stream that gave so many frames; a looped file simply starts again."""
        shown = mask_password(self._location)
        if not self.is_file and self._is_single_image and n_frames == 1:
            self._set_lost(f"{shown}: {SINGLE_IMAGE}")
        elif not self.is_file:
            self._set_lost(f"{shown}: the camera ended the stream")
        elif not n_frames:
            raise SourceError(f"{shown}: it contains no frame that can be decoded")
        elif not self.camera.loop:
            self._set_lost("the file has ended", CameraState.ENDED)

    def _refuse_replay(self, connection: Connection) -> None:
        """A recording at a URL is played once: played again, it would raise the same events again."""
        was_played = self._has_ended or (connection.is_segmented and self._was_live)
        if connection.is_recording and not self.is_file and was_played and not self.camera.loop:
            raise SourceError(
                f"{mask_password(self._location)}: the recording has ended: set loop = true to play it again"
            )

    def _set_lost(self, message: str, link: CameraState = CameraState.DOWN) -> None:
        """The connection is lost; a file that is not looped has ended with it."""
        # A path may contain bytes that are no valid text: escape them, or the message could not be written.
        printable = message.encode(errors="backslashreplace").decode()
        self.link, self.message = link, mask_password(printable)
        if self.is_file and not self.camera.loop:
            self.failed = link is not CameraState.ENDED
            self.finished = True

    def _wait(self, failures: int) -> None:
        """Pause before the next attempt; a looped file starts again at once unless it cannot be read."""
        if not self.is_file:
            self._stopping.wait(self._backoff.pause_s(time.monotonic(), failures))
        elif failures:
            self._stopping.wait(FILE_RETRY_S)

    def _play_folder(self, folder: FrameFolder) -> None:
        start, wall = time.monotonic(), WallClock()
        self._begin_connection(self.sampler.rate_hz, None)
        for frame in folder:
            if not self._wait_until(start + frame.time_s):
                return
            self._follow_wall_clock(wall, None)
            self._taken = time.monotonic()
            self._add_frame(frame.image, frame.time_s, wall.to_unix(start + frame.time_s))

    def _read(self, connection: Connection) -> None:
        """Read an open connection until it ends or the reader is stopped."""
        self._is_single_image = connection.is_single_image
        params = StreamParams(connection.stream)
        loss = None if connection.is_recording else FrameLoss(params.codec, params.extradata, float(params.time_base))
        stated = None if connection.uses_arrival_time else params.rate_hz
        rate_hz = stated if stated and 0 < stated <= MAX_RATE_HZ else None
        self._begin_connection(rate_hz, params)
        stream_clock = StreamClock(float(params.time_base), rate_hz or self.sampler.rate_hz)
        is_played_back = connection.is_recording or connection.is_segmented
        rebuffers = not connection.is_file and (self.camera.realtime or not connection.is_recording)
        start, wall = time.monotonic(), WallClock()
        clock = PlaybackClock(start, rebuffers=rebuffers) if is_played_back else ArrivalClock()
        for packet in self._new_packets(connection) if connection.is_segmented else connection.packets():
            if self._stopping.is_set():
                return
            now = time.monotonic()
            self._follow_wall_clock(wall, params)
            if packet is not None:
                time_s = now - start if connection.uses_arrival_time else stream_clock.packet_time_s(packet.pts)
                taken = clock.packet_time(time_s, now)
                self._taken = min(now, taken)
                self.packets.append(copy_packet(packet, wall.to_unix(taken)))
            for image in self._decode(connection.stream, packet, loss):
                time_s = now - start if connection.uses_arrival_time else stream_clock.frame_time_s(image.pts)
                at = clock.frame_time(time_s, now)
                if is_played_back and not self._wait_until(at):
                    return
                self._add_frame(image, time_s, wall.to_unix(at))
                self._has_ended = connection.is_recording and time_s >= connection.duration_s - END_TOLERANCE_S

    def _new_packets(self, connection: Connection) -> Iterator[Any]:
        """The packets from the first new key frame on: a playlist that does not grow gives its segments again."""
        is_new = False
        for packet in connection.packets():
            if packet is not None and packet.is_keyframe:
                mark = hash(bytes(packet))
                is_new = is_new or mark not in self._seen_keyframes
                self._seen_keyframes.append(mark)
            if is_new or packet is None:
                yield packet

    def _decode(self, stream: VideoStream, packet: Any, loss: FrameLoss | None) -> Iterator[av.VideoFrame]:
        """The frames of a packet that can be trusted.

        Args:
            stream: the stream that the packet belongs to.
            packet: None lets the decoder return its last frames.
            loss: None trusts all frames that the decoder does not mark: recordings lose no packets.
        """
        if loss is not None and packet is not None:
            self.lost += loss.n_lost_before(packet)
        try:
            images = stream.codec_context.decode(packet)
        except LIBRARY_ERRORS:
            if loss is not None:
                loss.mark_undecodable()
            self._count_damaged()
            return
        for image in images:
            is_clean = not image.is_corrupt if loss is None else loss.is_clean(image)
            if is_clean:
                yield image
            else:
                self._count_damaged()
        if loss is not None:
            n_left_out = loss.n_left_out()
            self.damaged += n_left_out
            self.frames += n_left_out

    def _count_damaged(self) -> None:
        """Count a frame that has arrived but cannot be trusted; it interrupts the clip."""
        self.damaged += 1
        self.sampler.mark_gap()
        self._count_frame()

    def _count_frame(self) -> None:
        self.frames += 1
        self.rate.count()
        self.last_frame = self._taken
        if self.link is not CameraState.LIVE:
            self.link, self.message = CameraState.LIVE, ""
            self._was_live = True

    def _begin_connection(self, rate_hz: float | None, params: StreamParams | None) -> None:
        """A connection is made: frames seen before belong to another clip."""
        self.packets.start_connection(params)
        self.sampler.restart(rate_hz)
        if self._was_live and not self.is_file:
            self.reconnects += 1

    def _follow_wall_clock(self, wall: WallClock, params: StreamParams | None) -> None:
        """Where the time of day was set, the following frames belong to another event and clip."""
        if wall.was_adjusted():
            self.clock_jumps += 1
            self.packets.start_connection(params)

    def _wait_until(self, at: float) -> bool:
        """Wait until a recorded frame is due, by the monotonic clock; False when the reader is stopped."""
        if not self.camera.realtime:
            return not self._stopping.is_set()
        return not self._stopping.wait(max(0.0, at - time.monotonic()))

    def _add_frame(self, image: Any, time_s: float, at: float) -> None:
        """Count a frame and queue it where it is sampled.

        Args:
            image: as the decoder gives it.
            time_s: on the stream's clock.
            at: Unix time.
        """
        self._count_frame()
        self.newest = image
        self.size = _upright_size(image)
        sample = self.sampler.sample(time_s)
        self.not_due += sample is None or not sample.is_due
        if sample is not None:
            connection = self.attempts + self.clock_jumps
            frame = QueuedFrame(image, sample, at, round(time_s, 6), time.monotonic(), self.size, connection)
            self.queue.put(frame, self._stopping.is_set)


def _upright_size(image: Any) -> tuple[int, int]:
    return upright_size(image) if isinstance(image, av.VideoFrame) else (image.shape[0], image.shape[1])
