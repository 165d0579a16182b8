"""The detector: frames in, scores out, synchronous, with all of its state in plain sight.

detector = Detector.open("models/ped2-small")
for score in detector.run("gate.mp4"):
    print(score.index, score.value)
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Bundle, open_bundle, try_out
from comemory.clips.builder import ClipBuilder
from comemory.clips.static_gate import THRESHOLD, StaticFrameGate, patience
from comemory.errors import BundleError, ConfigError
from comemory.flow import open_flow
from comemory.runtimes import RUNTIMES
from comemory.scoring import Judgement, Keep, Scorer, follow, heat, hold, score_map, with_relative
from comemory.types import Box, Clip, Evidence, Frame, Runtime, Score, Source
from comemory.video.source import OpenedSource, open_source

Update = Literal["off", "gated", "always", "bounded"]
_ONE_AT_A_TIME = "a detector watches one source at a time, and another one was begun: open a detector for each"


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """A frame that was watched, and what came of it.

    Attributes:
        score, judgement: None while the clip fills.
        maps: the evidence behind them, by name; empty while the clip fills.
    """

    frame: Frame
    score: Score | None
    judgement: Judgement | None
    maps: Mapping[str, NDArray[np.float32]]


class Detector:
    """One bundle, watching one source at a time.

    Attributes:
        has_workers: a pipeline is at a source with this detector; the pipeline's to set.

    Args:
        bundle: an opened one.
        runtime: entry of `runtimes.RUNTIMES`; or one that is open already, to be shared by detectors of one bundle.
        precision: what the network computes in, see `bundle.Bundle.in_precision`; a runtime that is open already keeps
            its own.
        threads: CPU threads of the runtime; None leaves the choice to it.
        heat_map: make `Score.heat_map`.
        update: keep the memory items as the network updates them while it watches: never (`off`), after frames whose
            score is one that every second ordinary frame passes or less (`gated`), or after every frame (`always`,
            which soon takes an anomaly that stays for normal). `bounded` moves them slowly and not far, after frames that
            pass the gate by the trained memory, and holds every score within `BOUND` of the one without updates; the
            network runs twice a frame then. The items are reset for each source.
        flow_weights: path of the flow's weight file, where the bundle's flow needs one. A bundle never says which file
            of this machine to read.
        gate: frames in which nothing has moved since the last one that was scored in full repeat its evidence and cost
            almost nothing; see `video.still.StillGate`. Without it every frame is scored in full.

    Raises:
        ConfigError: an unknown runtime or mode, no thread, or flow weights that are not there.
        BundleError: the network cannot be read, or does not fit the rest of the bundle.
        RuntimeMissing: the runtime's package is not installed.
    """

    GATE = 0.3
    BOUND = 0.3
    PACE = 0.01
    REACH = 0.3

    def __init__(
        self,
        bundle: Bundle,
        *,
        runtime: str | Runtime = "openvino",
        precision: str = "auto",
        threads: int | None = None,
        heat_map: bool = False,
        update: Update = "off",
        flow_weights: str | Path | None = None,
        gate: bool = True,
    ) -> None:
        if update not in get_args(Update):
            raise ConfigError(f"update is 'off', 'gated', 'always' or 'bounded', got {update!r}")
        if threads is not None and threads < 1:
            raise ConfigError(f"the network needs at least 1 thread, got threads={threads}")
        if isinstance(runtime, str):
            bundle = bundle.in_precision(runtime, precision)
        else:
            bundle = bundle.in_precision(runtime.name, getattr(runtime, "precision", "fp32"))
        self.bundle = bundle
        self.heat_map = heat_map
        self.update = update
        network = bundle.network._replace(updates=update != "off")
        open_runtime = partial(RUNTIMES.load(runtime), network, threads) if isinstance(runtime, str) else None
        self.runtime: Runtime = open_runtime() if open_runtime is not None else cast(Runtime, runtime)
        self._open_runtime, self._workers_runtimes = open_runtime, {0: self.runtime}
        if not bundle.is_current():
            raise BundleError(f"{bundle.path} was replaced or removed while it was opened: open it again")
        weights = None if flow_weights is None else str(flow_weights)
        still = None
        if gate:
            wait = patience(bundle.clips.n_past, bundle.clips.flow_carry)
            still = StaticFrameGate(wait, bundle.calibration.still or THRESHOLD)
        estimator = open_flow(bundle.flow.model_copy(update={"weights": weights}))
        self.builder = ClipBuilder(bundle.clips, estimator, still, bundle.calibration.rate_hz)
        self._judge, self._second_judge = Scorer(bundle.calibration), Scorer(bundle.calibration)
        self._watch: object = None
        self.has_workers = False
        self.reset()
        try_out(bundle, self.runtime, updates=update != "off")

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        runtime: str = "openvino",
        precision: str = "auto",
        threads: int | None = None,
        heat_map: bool = False,
        update: Update = "off",
        flow_weights: str | Path | None = None,
        gate: bool = True,
    ) -> Detector:
        """Open the bundle at `path` and make its detector. Raises what `bundle.open_bundle` raises."""
        make = partial(
            cls,
            runtime=runtime,
            precision=precision,
            threads=threads,
            heat_map=heat_map,
            update=update,
            flow_weights=flow_weights,
            gate=gate,
        )
        bundle = open_bundle(path)
        try:
            return make(bundle)
        except BundleError:
            if bundle.is_current():
                raise
        return make(open_bundle(path))

    def reset(self) -> None:
        """Forget the source: the next frame is the first of another one."""
        self.builder.reset()
        self._judge.reset()
        self._second_judge.reset()
        self._followed: dict[str, NDArray[np.float32]] = dict(self.bundle.items)
        self._second_maps: dict[str, NDArray[np.float32]] = {}
        self._items: dict[str, NDArray[np.float32]] = dict(self.bundle.items)
        self._maps: dict[str, NDArray[np.float32]] = {}
        self.judgement: Judgement | None = None

    def push(self, frame: Frame) -> Score | None:
        """Score the next frame; None until the clip before it is full.

        The score depends on this frame and the ones before it alone.

        Raises:
            BundleError: the network gives no finite number for it; the source is forgotten, see `reset`.
        """
        look = self.builder.look(frame)
        clip = self.builder.add(self.builder.measure(look))
        if clip is None:
            return None
        return self.repeat(clip, frame.image.shape) if look.still else self.score(clip, frame.image.shape)

    def score(self, clip: Clip, size: Sequence[int], keep: Keep | None = None) -> Score:
        """Score a clip that `builder` gave, the newest or one after those scored before.

        Args:
            size: (height, width) of the pictures that the box is for.
            keep: which patches may win; all without it.
        """
        return self.conclude(clip, size, self.observe(clip), keep)

    def observe(self, clip: Clip, runtime: Runtime | None = None) -> dict[str, NDArray[np.float32]]:
        """The evidence of a clip by name: the network's answer, with the items as they are now, and what the clip shows itself.

        Args:
            runtime: another one that executes the same network.
        """
        inputs = {**self.bundle.network.squares.inputs(clip), **self._items}
        return {**(runtime or self.runtime).run(inputs), **clip.evidence}

    def worker_runtime(self, number: int) -> Runtime:
        """The runtime of one worker of a pipeline: number 0 has the detector's own, each other one of its own.

        Raises:
            ConfigError: the detector was given a runtime, and cannot open more of them.
        """
        if number not in self._workers_runtimes:
            if self._open_runtime is None:
                raise ConfigError("a detector with a runtime that it shares watches with one worker")
            self._workers_runtimes[number] = self._open_runtime()
        return self._workers_runtimes[number]

    def conclude(
        self, clip: Clip, size: Sequence[int], maps: dict[str, NDArray[np.float32]], keep: Keep | None = None
    ) -> Score:
        """Score a clip by the network's answer to it. See `score`."""
        maps = {**with_relative(maps, self.bundle.calibration.usual)}
        judged = self._judge.push(maps, keep)
        self._maps = maps
        if self.update == "bounded":
            judged = self._held(clip, judged, keep)
        self.judgement = judged
        if self.update == "always" or (self.update == "gated" and judged.value <= self.GATE):
            self._items = {name: maps[f"updated_{name.removesuffix('_items')}"] for name in self._items}
        return self._score(clip, size, judged)

    def repeat(self, clip: Clip, size: Sequence[int], keep: Keep | None = None) -> Score:
        """Score a clip whose newest frame is a still one by the network's answer before; the memories stay as they are."""
        settling = bool(self._maps["restlessness"].any()) if self._maps else False
        if self.judgement is None or settling or self.bundle.calibration.settings.smoothing:
            self._maps = {**self._maps, **clip.evidence}
            self.judgement = self._judge.push(self._maps, keep)
            if self._second_maps:
                self._second_maps = {**self._second_maps, **clip.evidence}
                self.judgement = hold(self._second_judge.push(self._second_maps, keep), self.judgement, self.BOUND)
        return self._score(clip, size, self.judgement)

    def _held(self, clip: Clip, frozen: Judgement, keep: Keep | None) -> Judgement:
        """The judgement of the memory that goes on learning, held to that of the trained one; then it learns."""
        inputs = {**self.bundle.network.squares.inputs(clip), **self._followed}
        maps = self._second_maps = {**self.runtime.run(inputs), **clip.evidence}
        if frozen.value <= self.GATE:
            for name, items in self._followed.items():
                updated = maps[f"updated_{name.removesuffix('_items')}"]
                self._followed[name] = follow(items, updated, self.bundle.items[name], self.PACE, self.REACH)
        return hold(self._second_judge.push(maps, keep), frozen, self.BOUND)

    def _score(self, clip: Clip, size: Sequence[int], judged: Judgement) -> Score:
        if not math.isfinite(judged.value + judged.appearance + judged.motion):
            self.reset()
            raise BundleError(
                f"{self.bundle.path}: the network gives no finite score for frame {clip.index}: "
                "export or train the bundle again"
            )
        spec = self.bundle.clips
        box = scaled_box(judged.box, (spec.height, spec.width), size)
        heat = self.heat() if self.heat_map else None
        return Score(clip.index, clip.time_s, judged.value, judged.appearance, judged.motion, box, heat)

    def watch(self, frames: Iterable[Frame]) -> Generator[Seen, None, None]:
        """Score the frames of one source one after the other, from its start.

        Raises:
            ConfigError: another source was begun before this one was over.
        """
        mine = self.begin()
        for frame in frames:
            if self._watch is not mine:
                raise ConfigError(_ONE_AT_A_TIME)
            yield self.seen(frame, self.push(frame))

    def begin(self) -> object:
        """Forget the source for another one, which ends the `watch` that is on.

        Raises:
            ConfigError: workers of a pipeline are at one.
        """
        if self.has_workers:
            raise ConfigError(_ONE_AT_A_TIME)
        self.reset()
        self._watch = object()
        return self._watch

    def seen(self, frame: Frame, score: Score | None) -> Seen:
        """What there is to say of the newest frame."""
        return Seen(frame, None, None, {}) if score is None else Seen(frame, score, self.judgement, self._maps)

    def run(self, source: str | Path | Source, rate_hz: float | None = None) -> Iterator[Score]:
        """The scores of a source, from its start.

        Args:
            rate_hz: frames per second where the source does not say; else those of the video it was trained on.

        Raises:
            SourceError: the source cannot be opened.
        """
        return self._scores(self.open_source(source, rate_hz))

    def _scores(self, opened: OpenedSource) -> Iterator[Score]:
        for seen in self.watch(opened):
            if seen.score is not None:
                yield as_recorded(seen.score, seen.frame, opened)

    def open_source(self, location: str | Path | Source, rate_hz: float | None = None) -> OpenedSource:
        """Open a source at the size that the detector works at, which saves it the larger picture. See `run`."""
        spec = self.bundle.clips
        rate_hz = rate_hz or self.bundle.calibration.rate_hz
        return open_source(location, size=(spec.flow_height, spec.flow_width), rate_hz=rate_hz)

    @property
    def maps(self) -> Mapping[str, NDArray[np.float32]]:
        """The evidence maps of the newest scored frame; empty before there is one."""
        return self._maps

    @property
    def items(self) -> Mapping[str, NDArray[np.float32]]:
        """What the memories hold now, by name; those of the bundle until an update moves them."""
        return self._followed if self.update == "bounded" else self._items

    def evidence(self, clip: Clip) -> Evidence:
        """The network's raw answer to a clip, with the items as they are now."""
        return Evidence({}, self.observe(clip))

    def example_inputs(self) -> dict[str, NDArray[np.float32]]:
        """Named arrays of the right shapes, to time or trace the runtime with."""
        spec = self.bundle.clips
        frames = np.zeros((spec.n_past + 1, spec.channels, spec.height, spec.width), np.float32)
        clip = Clip.of(frames, np.zeros((2, spec.height, spec.width), np.float32))
        return {**self.bundle.network.squares.inputs(clip), **self._items}

    def score_map(self, maps: Mapping[str, NDArray[np.float32]] | None = None) -> NDArray[np.float32]:
        """How abnormal each place of a scored frame is, on the scale of `Score.value` and not clipped.

        See `decision.heat.score_map`. A place at the threshold would raise an alarm alone.

        Shapes: float32 (H / CELL, W / CELL), H and W the model's size.

        Args:
            maps: the frame's evidence, such as `Seen.maps`; by default that of the newest scored frame.
        """
        spec = self.bundle.clips
        return score_map(self._maps if maps is None else maps, self.bundle.calibration, spec.height, spec.width)

    def heat(self, maps: Mapping[str, NDArray[np.float32]] | None = None) -> NDArray[np.float32]:
        """The heat map of a scored frame, float32 (H, W) of the model's size in [0, 1]: `score_map`, clipped."""
        return heat(self.score_map(maps))


def as_recorded(score: Score, frame: Frame, opened: OpenedSource) -> Score:
    """A score of a frame with its box in the pixels of the recording, whatever size the frame was brought to."""
    return replace(score, box=scaled_box(score.box, frame.image.shape, opened.size))


def scaled_box(box: Box | None, size: Sequence[int], target: Sequence[int] | None) -> Box | None:
    """A box of a picture of `size` in the pixels of the same picture at `target` size, (height, width) each."""
    if box is None or target is None:
        return box
    y, x = target[0] / size[0], target[1] / size[1]
    left, top = min(round(box[0] * x), target[1] - 1), min(round(box[1] * y), target[0] - 1)
    right, bottom = min(round(box[2] * x), target[1]), min(round(box[3] * y), target[0])
    return (left, top, max(right, left + 1), max(bottom, top + 1))
