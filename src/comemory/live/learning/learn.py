"""Learning from a camera itself: record what is ordinary there, train or calibrate on it, hand over."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import FORM_MEMBERS, FormRecord, bundle_writer, copy_members, open_bundle, write_json
from comemory.bundle.files import FORM_FILES
from comemory.detector import Detector
from comemory.errors import ConfigError, RuntimeMissing, TrainingError
from comemory.export.agreement import agreement
from comemory.live.config import LearnSettings, LiveSettings
from comemory.live.learning.progress import Progress
from comemory.live.learning.recorder import Recorder
from comemory.runtimes import gains_by
from comemory.scoring import Calibration, Scorer, fit_calibration, with_relative
from comemory.training.config import read_recipe
from comemory.types import Frame

MOST_CALIBRATED = 3000
PERIOD_S = 1.0
LOWEST_PRIORITY = 15
NEEDED = ("torch", "lightning_fabric", "onnx", "onnxscript")
"""Packages of the training that are not installed with comemory."""
_BOUND = (
    "import ctypes, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
    "from comemory.cli import main; main(sys.argv[1:])"
)
"""A program that the system ends with the process that began it, even where it is at rest then (PR_SET_PDEATHSIG)."""

Say = Callable[[str], None]
Maps = Mapping[str, NDArray[np.float32]]


def learned(
    settings: LiveSettings, camera: str, seconds: float, *, recalibrate: bool, progress: Progress, say: Say
) -> Path:
    """Record a camera, then train on it or calibrate the bundle it has; gives the bundle made, not yet in force.

    Raises:
        RuntimeMissing: what training needs is not installed; before anything is recorded.
        ConfigError: the preset or its settings do not fit; likewise.
        SourceError: too little came of the camera.
        TrainingError, BundleError: one line each.
    """
    if not recalibrate and (absent := [name for name in NEEDED if find_spec(name) is None]):
        raise RuntimeMissing(f"learning needs {absent[0]}, which is not installed: pip install 'comemory[train]'")
    told, folder = settings.learn, settings.out / "cameras" / camera
    recipe = read_recipe(told.preset, settings=told.settings)
    size = None if recalibrate else (recipe.clips.flow_height, recipe.clips.flow_width)
    recorder = Recorder(settings, camera, folder / "recorded" / "training", size)
    progress.tell("recording", f"ordinary hours, {seconds / 3600:.3g} h", seconds=seconds)
    data = recorder.run(seconds, say)
    place = folder / "models" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    say(f"{recorder.n_frames} frames recorded, {'calibrating' if recalibrate else 'training'}")
    if recalibrate:
        progress.tell("calibrating", f"on {recorder.n_frames} frames")
        return recalibrated(settings.bundle_of(camera), data, place)
    run = place.with_name(f"{place.name}.run")
    progress.tell("training", f"on {recorder.n_frames} frames", run=run, epochs=recipe.train.epochs)
    train_apart(data.parent, place, told, say)
    if gains_by("int8") and find_spec("nncf") is not None:
        progress.tell("exporting", "to int8, which runs faster here")
        export_apart(data.parent, place, told.cpu_share, say)
    shutil.rmtree(run / "cache", ignore_errors=True)
    return place


def train_apart(data: Path, out: Path, told: LearnSettings, say: Say) -> None:
    """Train on recorded clips in a process of its own, at the lowest priority and for a share of one core.

    Ours: one thread, and within each second the process rests when its share is used.

    Raises:
        TrainingError: it failed; the text is its last line.
    """
    settings = [part for setting in (*told.settings, "train.threads=1") for part in ("--set", setting)]
    command = ["train", "--data", f"folder:{data}", "--preset", told.preset, *settings, "--out", str(out)]
    log = out.with_name(f"{out.name}.log")
    if said := _apart(command, log, told.cpu_share, lambda: say("training goes on")):
        raise TrainingError(f"the training failed: {said}; see {log}")


def export_apart(data: Path, bundle: Path, cpu_share: float, say: Say) -> None:
    """Add the network in int8 to a bundle, likewise; where that fails, it is told and the bundle stays as it was."""
    command = ["export", str(bundle), "--precision", "int8", "--data", f"folder:{data}"]
    log = bundle.with_name(f"{bundle.name}.int8.log")
    if said := _apart(command, log, cpu_share, lambda: say("the export goes on")):
        say(f"the bundle stays in fp32: {said}")


def _apart(command: Sequence[str], log: Path, cpu_share: float, on_minute: Callable[[], None]) -> str:
    """Run a command of comemory in a process of its own, which ends with this one; gives why it failed, or nothing."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as said:
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOUND, *command],
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            with suppress(ProcessLookupError, PermissionError):
                os.setpriority(os.PRIO_PROCESS, process.pid, LOWEST_PRIORITY)
            _share(process, cpu_share, on_minute)
        finally:
            if process.poll() is None:
                _signal(process, signal.SIGCONT)
                _signal(process, signal.SIGKILL)
                process.wait()
    if not process.returncode:
        return ""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {process.returncode}"


def _share(process: subprocess.Popen[bytes], cpu_share: float, on_minute: Callable[[], None]) -> None:
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
            on_minute()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def recalibrated(bundle: Path, data: Path, out: Path) -> Path:
    """Write a bundle of the same network, calibrated on recorded clips of ordinary video.

    Every precision that the bundle holds and this machine runs is calibrated on its own answers; others are left out.

    Raises:
        ConfigError: too few frames.
        BundleError: it cannot be written.
    """
    source = open_bundle(bundle)
    detector = Detector(source, precision="fp32", threads=1)
    clips = sorted(data.glob("*.mp4"))
    counts = [detector.open_source(clip).n_frames or 0 for clip in clips]
    wanted = [clip for clip, count in zip(clips, counts, strict=True) if count > source.clips.n_past]
    if not wanted:
        raise ConfigError(f"{data}: no clip is long enough to calibrate on: record longer")
    each = max(20, MOST_CALIBRATED // len(wanted))
    wanted = wanted[-MOST_CALIBRATED // 20 :]
    videos = [_evidence(detector, clip, each) for clip in wanted]
    fitted = _fitted(source.calibration, videos)
    scores = _scores(fitted, videos)
    with bundle_writer(out) as folder:
        copy_members(source.path, folder, FORM_MEMBERS)
        write_json(folder / "calibration.json", fitted.model_dump(mode="json"))
        note = {"date": datetime.now(UTC).date().isoformat(), "frames": fitted.n_frames, "from": source.digest[:16]}
        write_json(folder / "provenance.json", {**source.provenance, "recalibrated": note})
        for (runtime, precision), form in source.forms.items():
            try:
                detector = Detector(source, runtime=runtime, precision=precision, threads=1)
            except (RuntimeMissing, ConfigError):
                continue
            videos = [_evidence(detector, clip, each) for clip in wanted]
            anew = _fitted(form.record.calibration, videos)
            held_out = agreement(_scores(anew, videos), scores)
            record = FormRecord(calibration=anew, held_out=held_out, made=form.record.made)
            names = FORM_FILES[runtime, precision]
            for name in names[1:]:
                shutil.copyfile(source.path / name, folder / name)
            write_json(folder / names[0], record.model_dump(mode="json"))
    return out


def _fitted(old: Calibration, videos: Sequence[Sequence[Maps]]) -> Calibration:
    fitted = fit_calibration(videos, old.settings, old.rate_hz, usual=old.usual)
    return fitted.model_copy(update={"still": old.still})


def _scores(calibration: Calibration, videos: Sequence[Sequence[Maps]]) -> NDArray[np.float64]:
    found = []
    for video in videos:
        judge = Scorer(calibration)
        found += [judge.push(with_relative(maps, calibration.usual)).value for maps in video]
    return np.array(found, np.float64)


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
