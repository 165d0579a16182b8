"""Learning from a camera itself: record what is ordinary there, train or calibrate on it, hand over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from comemory.bundle import REQUIRED, bundle_writer, open_bundle, write_json
from comemory.decision import fit_calibration
from comemory.detect import Detector
from comemory.errors import ConfigError, SourceError, TrainingError
from comemory.stream.contract import CameraState
from comemory.stream.footage import Footage
from comemory.stream.health import PictureHealth
from comemory.stream.pace import Pace
from comemory.stream.reader import Reader
from comemory.stream.settings import LiveSettings
from comemory.stream.slot import Slot, Tick
from comemory.types import Frame
from comemory.video.folder import upright
from comemory.video.resize import resize
from comemory.video.writer import VideoWriter

SEGMENT_S = 60.0
MOST_SEGMENTS = 90
LEAST_FRAMES = 100
SHORTEST = 20
MOST_CALIBRATED = 3000
PERIOD_S = 1.0
LOWEST_PRIORITY = 15
QUALITY = 16

Say = Callable[[str], None]


class Recorder:
    """Records samples of a camera at the rate and size that the network works at, within a disk quota.

    Ours: up to 90 minutes, spread evenly over the time asked for; pictures that are black, frozen, blinded or moved are
    left out, and a hole ends the clip.

    Args:
        folder: of the clips; those of an earlier recording are kept and count.
    """

    def __init__(self, settings: LiveSettings, camera: str, folder: Path) -> None:
        bundle = open_bundle(settings.bundle_of(camera))
        spec = bundle.clips
        self.size = (spec.flow_height, spec.flow_width)
        self.rate_hz, self.folder = bundle.calibration.rate_hz, folder
        self.quota = int(settings.learn.gigabytes * 1e9)
        self.n_frames = 0
        self._health = PictureHealth(settings.health)
        told = settings.cameras[camera]
        self._slot = Slot(32, lossless=not told.realtime)
        self._reader = Reader(
            camera,
            told,
            settings.health,
            Pace(self.rate_hz),
            self._slot,
            Footage(0, 0, 0, lambda _: True, _none, _none),
        )
        self._reformatter = VideoReformatter()
        self._writer: VideoWriter | None = None
        self._newest = -1
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stopping.set()

    def run(self, seconds: float, say: Say) -> Path:
        """Record; gives the folder.

        Raises:
            SourceError: too little came, or it cannot be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        every_s = max(SEGMENT_S, seconds / MOST_SEGMENTS)
        start, message = time.monotonic(), ""
        self._reader.start()
        try:
            while (passed := time.monotonic() - start) < seconds and not self._stopping.is_set():
                wanted = passed % every_s < SEGMENT_S and self._used() < self.quota
                self._take(self._slot.take(), wanted)
                if self._reader.finished and self._slot.oldest is None:
                    break
                if self._reader.link is not CameraState.LIVE and self._reader.message != message:
                    message = self._reader.message
                    say(message)
                self._stopping.wait(0.02)
        finally:
            self._reader.stop()
            self._cut()
        if self.n_frames < LEAST_FRAMES:
            raise SourceError(
                f"only {self.n_frames} usable frames came from the camera, at least {LEAST_FRAMES} are needed: "
                f"{self._reader.message or 'record longer'}"
            )
        return self.folder

    def _used(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.mp4"))

    def _take(self, ticks: list[Tick], wanted: bool) -> None:
        if not wanted:
            self._cut()
            return
        for tick in ticks:
            picture = self._picture(tick)
            if not self._health.push(picture, tick.time).usable or (
                self._newest >= 0 and tick.beat.index != self._newest + 1
            ):
                self._cut()
            self._newest = tick.beat.index
            if self._writer is None:
                path = self.folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.mp4"
                self._writer = VideoWriter(path, self.size, self.rate_hz, quality=QUALITY)
                self._writer.__enter__()
            self._writer.write(picture)
            self.n_frames += 1

    def _picture(self, tick: Tick) -> NDArray[np.uint8]:
        if isinstance(tick.picture, av.VideoFrame):
            return upright(tick.picture, self.size, self._reformatter)
        return resize(tick.picture, self.size)

    def _cut(self) -> None:
        writer, self._writer = self._writer, None
        self._newest = -1
        if writer is not None and writer.n_frames < SHORTEST:
            writer.__exit__(SourceError, None, None)
        elif writer is not None:
            writer.close()


def train_apart(data: Path, out: Path, preset: str, cpu_share: float, say: Say) -> Path:
    """Train on recorded clips in a process of its own, at the lowest priority and for a share of one core.

    Ours: one thread, and within each second the process rests when its share is used.

    Raises:
        TrainingError: it failed; the text is its last line.
    """
    command = [sys.executable, "-m", "comemory", "train", "--data", f"folder:{data}", "--preset", preset]
    log = out.with_name(f"{out.name}.log")
    out.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [*command, "--set", "train.threads=1", "--out", str(out)],
            stdout=said,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)
        try:
            _share(process, cpu_share, say)
        finally:
            if process.poll() is None:
                _signal(process, signal.SIGCONT)
                _signal(process, signal.SIGKILL)
                process.wait()
    if process.returncode:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        raise TrainingError(
            f"the training failed: {lines[-1] if lines else f'exit code {process.returncode}'}; see {log}"
        )
    return out


def _share(process: subprocess.Popen[bytes], cpu_share: float, say: Say) -> None:
    """Let a process run for its share of each second until it ends."""
    told = time.monotonic()
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(PERIOD_S * cpu_share)
        if cpu_share < 1 and process.poll() is None:
            _signal(process, signal.SIGSTOP)
            time.sleep(PERIOD_S * (1 - cpu_share))
            _signal(process, signal.SIGCONT)
        if time.monotonic() - told >= 60:
            told = time.monotonic()
            say("training goes on")


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def recalibrated(bundle: Path, data: Path, out: Path) -> Path:
    """Write a bundle of the same network, calibrated on recorded clips of ordinary video.

    Raises:
        ConfigError: too few frames.
        BundleError: it cannot be written.
    """
    detector = Detector.open(bundle, threads=1)
    clips = sorted(data.glob("*.mp4"))
    counts = [detector.open_source(clip).n_frames or 0 for clip in clips]
    wanted = [clip for clip, count in zip(clips, counts, strict=True) if count > detector.bundle.clips.n_past]
    if not wanted:
        raise ConfigError(f"{data}: no clip is long enough to calibrate on: record longer")
    each = max(20, MOST_CALIBRATED // len(wanted))
    videos = [_evidence(detector, clip, each) for clip in wanted[-MOST_CALIBRATED // 20 :]]
    old = detector.bundle.calibration
    fitted = fit_calibration(videos, old.settings, old.rate_hz, usual=old.usual)
    source = detector.bundle
    fitted = fitted.model_copy(update={"still": source.calibration.still})
    with bundle_writer(out) as folder:
        for member in (*REQUIRED, "model.xml", "model.bin"):
            if (source.path / member).is_file():
                shutil.copyfile(source.path / member, folder / member)
        write_json(folder / "calibration.json", fitted.model_dump(mode="json"))
        note = {"date": datetime.now(UTC).date().isoformat(), "frames": fitted.n_frames, "from": source.digest[:16]}
        write_json(folder / "provenance.json", {**source.provenance, "recalibrated": note})
    return out


def _evidence(detector: Detector, clip: Path, most: int) -> list[dict[str, NDArray[np.float32]]]:
    """The evidence of a clip's first scored frames, without what the score does not need."""
    detector.reset()
    found: list[dict[str, NDArray[np.float32]]] = []
    for frame in detector.open_source(clip):
        built = detector.builder.push(Frame(frame.image, frame.time_s, frame.index))
        if built is not None:
            maps = detector.evidence(built).maps
            found.append({name: values for name, values in maps.items() if not name.startswith("updated_")})
        if len(found) >= most:
            break
    return found


def _none(*_: object) -> None:
    """Nothing follows from it."""
