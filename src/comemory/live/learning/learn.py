"""Trains a model for one camera: records normal video, trains or calibrates on it, and gives the new bundle."""

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

from comemory.bundle import VARIANT_MEMBERS, VariantRecord, bundle_writer, copy_members, open_bundle, write_json
from comemory.bundle.files import VARIANT_FILES
from comemory.datasets import open_dataset
from comemory.detector import Detector
from comemory.errors import ConfigError, RuntimeMissing, TrainingError, install_hint
from comemory.export.agreement import compare_scores
from comemory.live.config import LearnSettings, LiveSettings
from comemory.live.learning.progress import LearningProgress
from comemory.live.learning.recorder import CameraRecorder
from comemory.runtimes import is_faster_in
from comemory.scoring import Calibration, Scorer, fit_calibration
from comemory.training.config import read_training_config

MAX_CALIBRATION_FRAMES = 3000
"""More frames no longer change the thresholds, and take minutes."""
MIN_CLIP_CALIBRATION_FRAMES = 20
"""Frames that a clip gives at least, so that many short clips are not reduced to their first moments."""
THROTTLE_PERIOD_S = 1.0
NICE = 15
TRAINING_PACKAGES = ("torch", "lightning_fabric", "onnx", "onnxscript")
"""Packages that training needs and that are not installed by default."""
Print = Callable[[str], None]
Maps = Mapping[str, NDArray[np.float32]]


def learn(
    settings: LiveSettings,
    camera: str,
    seconds: float,
    *,
    recalibrate: bool,
    progress: LearningProgress,
    say: Print,
    footage: Path | None = None,
) -> Path:
    """Record a camera, then train a model on it or recalibrate its present one.

    Args:
        settings: of the cameras.
        camera: name of the camera.
        seconds: how long to record.
        recalibrate: keep the network and fit its thresholds again, which takes minutes instead of hours.
        progress: receives the progress.
        say: called with lines for people.
        footage: folder of normal videos to train on; None records the camera.

    Returns:
        The new bundle; the camera does not use it yet.

    Raises:
        RuntimeMissing: a package for training is not installed; before anything is recorded.
        ConfigError: the preset or its settings are invalid, or the camera's URL is not known; before anything is recorded.
        SourceError: the camera gave too few usable frames.
        TrainingError: the training failed.
        BundleError: the bundle cannot be written.
    """
    if not recalibrate and (absent := [name for name in TRAINING_PACKAGES if find_spec(name) is None]):
        raise RuntimeMissing(f"learning needs {absent[0]}, which is not installed: {install_hint('train')}")
    chosen, folder = settings.learn, settings.out / "cameras" / camera
    config = read_training_config(chosen.preset, settings=chosen.settings)
    bundle = folder / "models" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    if footage is not None:
        open_dataset(f"folder:{footage}")
        return _train(footage, bundle, chosen, config.train.epochs, progress, say, f"on {footage}")
    settings.cameras[camera].require_url(camera)
    size = None if recalibrate else (config.clips.flow_height, config.clips.flow_width)
    recorder = CameraRecorder(settings, camera, folder / "recorded" / "training", size)
    progress.begin_stage("recording", f"normal video, {seconds / 3600:.3g} h", seconds=seconds)
    data = recorder.run(seconds, say)
    say(f"{recorder.n_frames} frames recorded, {'calibrating' if recalibrate else 'training'}")
    if recalibrate:
        progress.begin_stage("calibrating", f"on {recorder.n_frames} frames")
        return recalibrate_bundle(settings.bundle_of(camera), data, bundle)
    return _train(data.parent, bundle, chosen, config.train.epochs, progress, say, f"on {recorder.n_frames} frames")


def _train(
    data: Path, bundle: Path, chosen: LearnSettings, epochs: int, progress: LearningProgress, say: Print, message: str
) -> Path:
    run = bundle.with_name(f"{bundle.name}.run")
    progress.begin_stage("training", message, run=run, epochs=epochs)
    train_in_subprocess(data, bundle, chosen, say)
    if is_faster_in("int8") and find_spec("nncf") is not None and open_bundle(bundle).has_network:
        progress.begin_stage("exporting", "to int8, which is faster on this CPU")
        export_in_subprocess(data, bundle, chosen.cpu_share, say)
    shutil.rmtree(run / "cache", ignore_errors=True)
    return bundle


def train_in_subprocess(data: Path, out: Path, chosen: LearnSettings, say: Print) -> None:
    """Train on recorded clips in a process with low priority that uses a share of one core.

    Ours: one thread, stopped for the rest of each second when its share is used, so that the cameras keep their cores.

    Raises:
        TrainingError: it failed; the text ends with its last line of output.
    """
    settings = [part for setting in (*chosen.settings, "train.threads=1") for part in ("--set", setting)]
    command = ["train", "--data", f"folder:{data}", "--preset", chosen.preset, *settings, "--out", str(out)]
    log = out.with_name(f"{out.name}.log")
    if failure := _run_throttled(command, log, chosen.cpu_share, lambda: say("still training")):
        raise TrainingError(f"the training failed: {failure}; see {log}")


def export_in_subprocess(data: Path, bundle: Path, cpu_share: float, say: Print) -> None:
    """Add the network in int8 to a bundle, in the same way; a failure is reported and leaves the bundle as it was."""
    command = ["export", str(bundle), "--precision", "int8", "--data", f"folder:{data}"]
    log = bundle.with_name(f"{bundle.name}.int8.log")
    if failure := _run_throttled(command, log, cpu_share, lambda: say("still exporting")):
        say(f"the bundle stays in fp32: {failure}")


def child_command(*arguments: str, bound_fd: int | None = None) -> list[str]:
    """The command of a comemory process that the kernel kills with the thread that starts it, even while it is stopped.

    It ends at once where this process ended before it could ask the kernel for that (PR_SET_PDEATHSIG = 1).

    Args:
        arguments: of the command line.
        bound_fd: file descriptor that the process inherits, and closes as soon as the kernel is asked.
    """
    program = (
        "import ctypes, os, signal, sys; ctypes.CDLL(None).prctl(1, signal.SIGKILL); "
        f"os.getppid() == {os.getpid()} or sys.exit(1); "
        f"{'' if bound_fd is None else f'os.close({bound_fd}); '}"
        "from comemory.cli import main; main(sys.argv[1:])"
    )
    return [sys.executable, "-P", "-c", program, *arguments]


def _run_throttled(command: Sequence[str], log: Path, cpu_share: float, on_minute: Callable[[], None]) -> str:
    """Run a comemory command in a throttled process that ends with this one; gives why it failed, or an empty text."""
    log.parent.mkdir(parents=True, exist_ok=True)
    process = _start_bound(command, log)
    try:
        with suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, process.pid, NICE)
        _throttle(process, cpu_share, on_minute)
    finally:
        if process.poll() is None:
            _signal(process, signal.SIGCONT)
            _signal(process, signal.SIGKILL)
            process.wait()
    if not process.returncode:
        return ""
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"exit code {process.returncode}"


def _start_bound(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a comemory command, and wait until it ends with this process.

    Stopped before that, it would outlive a parent that is killed, and stay stopped for ever.
    """
    bound, bound_fd = os.pipe()
    try:
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                child_command(*command, bound_fd=bound_fd),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                pass_fds=(bound_fd,),
                start_new_session=True,
            )
    except BaseException:
        os.close(bound)
        raise
    finally:
        os.close(bound_fd)
    with os.fdopen(bound, "rb") as pipe:
        pipe.read()
    return process


def _throttle(process: subprocess.Popen[bytes], cpu_share: float, on_minute: Callable[[], None]) -> None:
    """Let a process run for its share of each `THROTTLE_PERIOD_S` until it ends."""
    reported_at = time.monotonic()
    while process.poll() is None:
        with suppress(subprocess.TimeoutExpired):
            process.wait(THROTTLE_PERIOD_S * cpu_share)
        if cpu_share < 1 and process.poll() is None:
            _signal(process, signal.SIGSTOP)
            time.sleep(THROTTLE_PERIOD_S * (1 - cpu_share))
            _signal(process, signal.SIGCONT)
        if time.monotonic() - reported_at >= 60:
            reported_at = time.monotonic()
            on_minute()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def recalibrate_bundle(bundle: Path, data: Path, out: Path) -> Path:
    """Write a bundle with the same network, calibrated on recorded clips of normal video.

    Each precision in the bundle is calibrated on its own outputs. Precisions that this machine cannot run are left out.

    Raises:
        ConfigError: there are too few frames.
        BundleError: it cannot be written.
    """
    source = open_bundle(bundle)
    detector = Detector(source, precision="fp32", threads=1, all_evidence=True)
    clips = _long_enough(detector, sorted(data.glob("*.mp4")))
    if not clips:
        raise ConfigError(f"{data}: no clip is long enough for a calibration: record longer")
    max_frames = max(MIN_CLIP_CALIBRATION_FRAMES, MAX_CALIBRATION_FRAMES // len(clips))
    clips = clips[-MAX_CALIBRATION_FRAMES // MIN_CLIP_CALIBRATION_FRAMES :]
    videos = [_evidence(detector, clip, max_frames) for clip in clips]
    fitted = _fit(source.calibration, videos)
    scores = _scores(fitted, videos)
    with bundle_writer(out) as folder:
        copy_members(source.path, folder, VARIANT_MEMBERS)
        write_json(folder / "calibration.json", fitted.model_dump(mode="json"))
        note = {"date": datetime.now(UTC).date().isoformat(), "frames": fitted.n_frames, "from": source.digest[:16]}
        write_json(folder / "provenance.json", {**source.provenance, "recalibrated": note})
        for (runtime, precision), variant in source.variants.items():
            try:
                detector = Detector(source, runtime=runtime, precision=precision, threads=1, all_evidence=True)
            except (RuntimeMissing, ConfigError):
                continue
            videos = [_evidence(detector, clip, max_frames) for clip in clips]
            calibration = _fit(variant.record.calibration, videos, fitted)
            held_out = compare_scores(_scores(calibration, videos), scores)
            record = VariantRecord(calibration=calibration, held_out=held_out, created=variant.record.created)
            names = VARIANT_FILES[runtime, precision]
            for name in names[1:]:
                shutil.copyfile(source.path / name, folder / name)
            write_json(folder / names[0], record.model_dump(mode="json"))
    return out


def _long_enough(detector: Detector, clips: Sequence[Path]) -> list[Path]:
    n_past = detector.bundle.clips.n_past
    return [clip for clip in clips if (detector.open_source(clip).n_frames or 0) > n_past]


def _fit(old: Calibration, videos: Sequence[Sequence[Maps]], known: Calibration | None = None) -> Calibration:
    """Fit again. What does not depend on the output of the network is taken from `known`, if given."""
    fitted = fit_calibration(videos, old.settings, old.rate_hz, spatial_baselines=old.spatial_baselines, known=known)
    if known is not None:
        return fitted
    return fitted.model_copy(update={"static_threshold": old.static_threshold})


def _scores(calibration: Calibration, videos: Sequence[Sequence[Maps]]) -> NDArray[np.float64]:
    scores = []
    for video in videos:
        scorer = Scorer(calibration)
        scores += [scorer.update(calibration.normalise(maps)).value for maps in video]
    return np.array(scores, np.float64)


def _evidence(detector: Detector, clip: Path, max_frames: int) -> list[Maps]:
    """The evidence of the first scored frames of a clip, without the updated memory items."""
    detector.reset()
    found: list[Maps] = []
    source = detector.open_source(clip)
    sampler = detector.source_sampler(source.name)
    for frame in source:
        if (scored := detector.step_sample(frame, sampler.sample(frame))) is not None:
            maps = scored.evidence.maps
            found.append({name: values for name, values in maps.items() if not name.startswith("updated_")})
        if len(found) >= max_frames:
            break
    return found
