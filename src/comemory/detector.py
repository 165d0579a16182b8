"""The detector: frames in, scores out.

detector = Detector.open("models/ped2-small")
for score in detector.run("gate.mp4"):
    print(score.index, score.value)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NoReturn, get_args

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Bundle, open_bundle, run_self_test
from comemory.clips.builder import ClipBuilder
from comemory.clips.static_gate import THRESHOLD, StaticFrameGate, n_frames_to_settle
from comemory.errors import BundleError, ConfigError, SourceError, short_repr
from comemory.flow import open_flow
from comemory.runtimes import CPU, RUNTIMES
from comemory.scoring import PatchFilter
from comemory.stages import ScoredFrame, Stages, Update, scale_box
from comemory.types import Frame, Runtime, Score, Source, describe_value, is_number
from comemory.video.frame_sampler import Sample, SourceSampler
from comemory.video.source import OpenedSource, open_source

__all__ = ["Detector", "ScoredFrame", "Update", "scale_box", "score_in_recording_pixels"]


class Detector:
    """Scores the frames of one source at a time with the model of one bundle.

    Args:
        bundle: an opened bundle.
        runtime: name of an entry of `runtimes.RUNTIMES`; or a runtime that is open already, which detectors of the same
            bundle may share.
        precision: of the network's arithmetic, see `bundle.Bundle.in_precision`; an open runtime keeps its own.
        device: that the network runs on: `CPU`, or with the runtime `openvino` another that it finds, or `AUTO`; an open
            runtime keeps its own.
        threads: CPU threads of the runtime; None leaves the choice to it.
        with_heat_maps: make `Score.heat_map` for every score.
        update: when the network's updated memory items replace the present ones while the detector runs.
            `off`: never. `gated`: after frames whose score is not above the median of normal frames. `always`: after
            every frame, which soon takes a lasting anomaly for normal. `bounded`: slowly, within a small angle of the
            trained items, and after frames that the trained memory scores as normal; each score stays within
            `stages.BOUND` of the score without updates, and the network runs twice for each frame. Every source starts
            with the trained items.
        flow_weights: path of the weight file that the bundle's optical flow may need. A bundle never names a file of
            this machine.
        skip_static: reuse the evidence while nothing moves, see `clips.static_gate.StaticFrameGate`: such frames cost
            almost nothing. Otherwise every frame is measured.
        all_evidence: run the network even where no channel of the score needs it, for the thesis' score beside it and
            for comparisons.

    A detector stays in its process: it cannot be pickled or copied, and after a fork `openvino` and `pytorch` refuse to go on.

    Raises:
        ConfigError: an unknown runtime, device or update mode, fewer than one thread, an argument of another type, or the
            flow's weight file is missing; or the process was forked from one that had used the runtime.
        BundleError: the network cannot be read, or does not fit the rest of the bundle.
        RuntimeMissing: the runtime's package is not installed.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        runtime: str | Runtime = "openvino",
        precision: str = "auto",
        device: str = CPU,
        threads: int | None = None,
        with_heat_maps: bool = False,
        update: Update = "off",
        flow_weights: str | Path | None = None,
        skip_static: bool = True,
        all_evidence: bool = False,
    ) -> None:
        if not isinstance(bundle, Bundle):
            raise ConfigError(
                f"a detector is made of an opened bundle, got {describe_value(bundle)}: use Detector.open(path)"
            )
        if update not in get_args(Update):
            raise ConfigError(f"update is {update!r}: expected 'off', 'gated', 'always' or 'bounded'")
        _check_options(runtime, precision, device, threads, flow_weights)
        if isinstance(runtime, str):
            bundle = bundle.for_runtime(runtime, precision, device)
        else:
            bundle = bundle.in_precision(runtime.name, getattr(runtime, "precision", "fp32"))
        runtimes = _open_runtimes(bundle, runtime, threads, with_updates=update != "off")
        builder = _clip_builder(bundle, flow_weights, skip_static=skip_static)
        self._stages = Stages(
            bundle, runtimes, builder, update, with_heat_maps=with_heat_maps, all_evidence=all_evidence
        )
        self._last_index, self._last_s = -1, -math.inf
        self._last_shape: tuple[int, ...] | None = None
        if not bundle.is_current():
            raise BundleError(f"{bundle.path} was replaced or removed while it was opened: open it again")
        run_self_test(bundle, self._stages.runtime, updates=update != "off")

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        runtime: str = "openvino",
        precision: str = "auto",
        device: str = CPU,
        threads: int | None = None,
        with_heat_maps: bool = False,
        update: Update = "off",
        flow_weights: str | Path | None = None,
        skip_static: bool = True,
        all_evidence: bool = False,
    ) -> Detector:
        """Open the bundle at `path` and make its detector.

        Args:
            path: of the bundle, a folder.
            runtime: see `Detector`, as for all that follow.
            precision: see `Detector`.
            device: see `Detector`.
            threads: see `Detector`.
            with_heat_maps: see `Detector`.
            update: see `Detector`.
            flow_weights: see `Detector`.
            skip_static: see `Detector`.
            all_evidence: see `Detector`.

        Raises:
            BundleError: there is no such bundle, or it is damaged. And what `Detector` raises.
        """
        make = partial(
            cls,
            runtime=runtime,
            precision=precision,
            device=device,
            threads=threads,
            with_heat_maps=with_heat_maps,
            update=update,
            flow_weights=flow_weights,
            skip_static=skip_static,
            all_evidence=all_evidence,
        )
        bundle = open_bundle(path)
        try:
            return make(bundle)
        except BundleError:
            if bundle.is_current():
                raise
        return make(open_bundle(path))  # it was replaced meanwhile, as a retraining does: once more

    @property
    def bundle(self) -> Bundle:
        """The bundle, in the precision that the network runs in."""
        return self._stages.bundle

    @property
    def stages(self) -> Stages:
        """The stages that `step` consists of, for code that spreads them over threads or measures them."""
        return self._stages

    @property
    def is_ready(self) -> bool:
        """Whether enough consecutive frames came for a score: the newest one completed a clip."""
        return self._stages.is_ready

    @property
    def items(self) -> Mapping[str, NDArray[np.float32]]:
        """The memory items now, by name: those of the bundle, until an update changes them."""
        return self._stages.items

    def step(
        self,
        frame: Frame | NDArray[np.uint8],
        time_s: float | None = None,
        *,
        flow_scale: float = 1.0,
        is_due: bool = True,
        patch_filter: PatchFilter | None = None,
    ) -> ScoredFrame | None:
        """Score the next frame of the source. The score depends on this frame and those before it only.

        Args:
            frame: the next one, or its image alone: uint8 (H, W, 3), RGB.
            time_s: of an image; seconds on any clock. An image that is not later than the frame before it, or has another
                size, starts a new clip. A `Frame` has its time, and its place by its index alone.
            flow_scale: factor on the flow into this frame, where frames come at another rate than in training: at half
                the rate, things move twice as far between them, and 0.5 makes their speeds comparable.
            is_due: score the frame; otherwise it only becomes part of the clips of the frames after it.
            patch_filter: which patches may set the score; all without it.

        Returns:
            The scored frame. None while the first clip fills, after a gap in the frames' indices too, or if the frame
            is not due.

        Raises:
            SourceError: the image is not uint8 (H, W, 3), or its time is not a finite number.
            ConfigError: an image comes without its time, or a frame with a second one; the flow's factor is not a positive
                number; or `parallel.score_frames` is scoring a source.
            BundleError: the network gives no finite number for it; the source is forgotten, see `reset`.
        """
        if not is_number(flow_scale) or not 0 < flow_scale < math.inf:
            raise ConfigError(
                f"flow_scale is {short_repr(flow_scale)}: expected a positive number, 1 leaves the flow as it is"
            )
        frame = self._as_frame(frame, time_s)
        self._stages.take_source()
        self._last_index, self._last_s, self._last_shape = frame.index, frame.time_s, frame.image.shape
        work = self._stages.pair(frame, flow_scale=flow_scale, is_due=is_due, patch_filter=patch_filter)
        self._stages.compute_features(work)
        self._stages.append(work)
        self._stages.infer(work)
        return self._stages.score(work)

    def step_sample(self, frame: Frame, sample: Sample | None) -> ScoredFrame | None:
        """Score the next frame of a recording at its place among the samples.

        Args:
            frame: the next one.
            sample: from `source_sampler`; None for a frame that is left out.
        """
        if sample is None:
            return None
        scored = self.step(replace(frame, index=sample.index), flow_scale=sample.flow_scale)
        return None if scored is None else with_frame_index(scored, frame)

    def source_sampler(self, name: str) -> SourceSampler:
        """A sampler of the frames of a recording, by their times, to the rate of the training.

        Args:
            name: of the recording, for the sampler's notes.
        """
        return SourceSampler(self.bundle.calibration.rate_hz, name)

    def run(self, source: str | Path | Source, rate_hz: float | None = None) -> Iterator[Score]:
        """Score a source from its start. Boxes are in pixels of the recording.

        Args:
            source: path or URL of a video, folder of images, or a source object.
            rate_hz: frames per second where the source does not say; without it, those of the training video.

        Raises:
            SourceError: the source cannot be opened, or the rate is not a positive number.
            ConfigError: another source was started before this one ended, by `run`, `step` or `reset`.
        """
        return self._run(self.open_source(source, rate_hz))

    def _run(self, opened: OpenedSource) -> Iterator[Score]:
        token = self._stages.start_source()
        sampler = self.source_sampler(opened.name)
        for frame in opened:
            self._stages.check_source(token)
            scored = self.step_sample(frame, sampler.sample(frame))
            self._stages.give_back_source(token)
            if scored is not None:
                yield score_in_recording_pixels(scored, opened)

    def reset(self) -> None:
        """Forget the source: the next frame is the first of another one. The memory items are the trained ones again.

        Raises:
            ConfigError: `parallel.score_frames` is scoring a source.
        """
        self._stages.take_source()
        self._stages.reset()
        self._last_index, self._last_s, self._last_shape = -1, -math.inf, None

    def heat_map(self, scored: ScoredFrame) -> NDArray[np.float32]:
        """Show how abnormal each place of a scored frame is.

        Shapes: float32 (H, W) of the model's size, in [0, 1]: 0 is normal, 1 a score of `scoring.HEAT_MAP_MAX` or more;
            all 0 for a model that gives one number per frame, which cannot localise.
        """
        return self._stages.heat_map(scored.evidence)

    def open_source(self, location: str | Path | Source, rate_hz: float | None = None) -> OpenedSource:
        """Open a source at the size that the detector works at, which saves decoding larger images. See `run`."""
        spec = self.bundle.clips
        rate_hz = self.bundle.calibration.rate_hz if rate_hz is None else rate_hz
        return open_source(location, size=(spec.flow_height, spec.flow_width), rate_hz=rate_hz)

    def _as_frame(self, frame: Frame | NDArray[np.uint8], time_s: float | None) -> Frame:
        image = frame.image if isinstance(frame, Frame) else frame
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.shape[2:] != (3,) or not image.size:
            raise SourceError(f"a frame is an RGB image, uint8 (height, width, 3), got {describe_value(image)}")
        if isinstance(frame, Frame):
            if time_s is not None:
                raise ConfigError(
                    f"a Frame has its own time, {frame.time_s} s, and {short_repr(time_s)} was given too: leave it out"
                )
            return frame
        if time_s is None:
            raise ConfigError("an image needs its time: step(image, time_s), or step(Frame(image, time_s, index))")
        given = Frame(image, time_s, self._last_index + 1)
        follows = time_s > self._last_s and image.shape == (self._last_shape or image.shape)
        # A lost index is a gap: the clock of another recording, or one that stands still, or another camera mode.
        return given if follows else replace(given, index=given.index + 1)

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled and copied: a compiled network is part of its process, and a source has one detector."""
        raise TypeError(
            "a detector cannot be pickled or copied: open one with Detector.open in each process and thread"
        )


def _check_options(runtime: object, precision: object, device: object, threads: object, flow_weights: object) -> None:
    """Refuse what a caller without a type checker may give.

    Raises:
        ConfigError: an option has another type, or there is less than one thread.
    """
    if not isinstance(runtime, str | Runtime):
        raise ConfigError(
            f"runtime is {describe_value(runtime)}: expected a name, {', '.join(RUNTIMES)}, or an open runtime"
        )
    for name, value in {"precision": precision, "device": device}.items():
        if not isinstance(value, str):
            raise ConfigError(f"{name} is {describe_value(value)}: expected a name")
    if threads is not None and (type(threads) is not int or threads < 1):
        raise ConfigError(
            f"the network needs at least 1 thread, got threads={short_repr(threads)}: expected a whole number or None"
        )
    if flow_weights is not None and not isinstance(flow_weights, str | Path):
        raise ConfigError(f"flow_weights is {describe_value(flow_weights)}: expected the path of a file")


def _open_runtimes(
    bundle: Bundle, runtime: str | Runtime, threads: int | None, *, with_updates: bool
) -> Callable[[int], Runtime]:
    """Give the runtime of each worker by its number: each has one of its own, and keeps it."""
    network = bundle.network._replace(with_updates=with_updates)
    opened: dict[int, Runtime] = {}
    open_one = partial(RUNTIMES.load(runtime), network, threads) if isinstance(runtime, str) else None
    if not isinstance(runtime, str):
        opened[0] = runtime

    def of_worker(number: int) -> Runtime:
        if number not in opened:
            if open_one is None:
                raise ConfigError("a detector with a shared runtime scores with one worker: pass workers=1")
            opened[number] = open_one()
        return opened[number]

    return of_worker


def _clip_builder(bundle: Bundle, flow_weights: str | Path | None, *, skip_static: bool) -> ClipBuilder:
    spec, calibration = bundle.clips, bundle.calibration
    gate = None
    if skip_static:
        gate = StaticFrameGate(
            n_frames_to_settle(spec.n_past, spec.flow_ema_decay), calibration.static_threshold or THRESHOLD
        )
    weights = None if flow_weights is None else str(flow_weights)
    estimator = open_flow(bundle.flow.model_copy(update={"weights": weights}))
    return ClipBuilder(spec, estimator, gate, calibration.rate_hz)


def with_frame_index(scored: ScoredFrame, frame: Frame) -> ScoredFrame:
    """The score of a sample as the score of a frame of the recording: with the index that the frame has there."""
    return replace(scored, frame=frame, score=replace(scored.score, index=frame.index))


def score_in_recording_pixels(scored: ScoredFrame, opened: OpenedSource) -> Score:
    """The score with its box in pixels of the recording, whatever size its frames were decoded at."""
    box = scored.score.box
    if box is None or opened.size is None:
        return scored.score
    return replace(scored.score, box=scale_box(box, scored.frame.image.shape, opened.size))
