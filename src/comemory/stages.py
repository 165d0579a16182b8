"""The stages that turn one frame into a score, and the state they keep between the frames of a source.

A frame passes five stages. Three of them have state and take the frames one at a time, in order:

    pair                pair the frame with the one before it
    append              filter the flow, complete the clip, follow the objects
    score               score the evidence, update the memory

The two expensive ones between them have none, so several frames may be in them at once:

    compute_features    estimate the flow
    infer               run the network

`Detector.step` takes one frame through all five; `parallel.score_frames` spreads frames over threads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Bundle
from comemory.clips.builder import ClipBuilder
from comemory.clips.preparation import FrameFeatures, FramePair
from comemory.errors import BundleError, ConfigError
from comemory.scoring import (
    MovingObject,
    ObjectEvidence,
    PatchFilter,
    ScoreParts,
    Scorer,
    bounded_update,
    clamp,
    has_score_map,
    heat_map,
    object_box,
    score_map,
)
from comemory.types import Box, Clip, Evidence, Frame, Runtime, Score

Update = Literal["off", "gated", "always", "bounded"]
"""When memory items are updated while the detector runs; see `detector.Detector`."""

LEARN_BELOW = 0.3
"""Highest score of a frame that `gated` and `bounded` learn from: every second normal frame scores less."""

BOUND = 0.3
"""How far `bounded` may move a score, in log10 units: a factor of two in rarity."""

RATE = 0.01
"""Share of the way to its update that `bounded` moves an item each frame: items follow minutes, not frames."""

MAX_ANGLE = 0.3
"""Largest angle between an item and its trained self under `bounded`, radians."""

_ONE_SOURCE = (
    "a detector scores one source at a time, and run, step or reset has started another one: open a detector for each"
)

_Maps = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, eq=False)
class ScoredFrame:
    """A frame with its score and what the score is made of.

    Attributes:
        frame: as it was given.
        score: its box is in pixels of `frame.image`.
        parts: the score of each part, and the box in pixels of the model's image.
        evidence: that the score was made from.
    """

    frame: Frame
    score: Score
    parts: ScoreParts
    evidence: Evidence


@dataclass(slots=True, eq=False)
class FrameInProgress:
    """One frame on its way through the stages; each stage adds what it found.

    Attributes:
        pair: by `pair`.
        is_due: whether the frame is to be scored; otherwise it only becomes part of the following clips.
        patch_filter: which patches may set the score.
        features: by `compute_features`.
        clip: by `append`; None while the clip fills.
        is_scored: by `append`; whether `score` makes a score.
        is_reused: by `append`; whether a static frame reuses the evidence of the frame before it.
        outputs: of the network, by `infer`; None where no channel needs it.
        object_maps: the evidence of moving objects, by `append`; empty where no channel needs it.
        objects: they themselves.
    """

    frame: Frame
    pair: FramePair
    is_due: bool
    patch_filter: PatchFilter | None
    features: FrameFeatures | None = None
    clip: Clip | None = None
    is_scored: bool = False
    is_reused: bool = False
    outputs: _Maps | None = None
    object_maps: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    objects: Sequence[MovingObject] = ()


class Stages:
    """The five stages of a bundle, for one source at a time.

    Attributes:
        runtime: of the first worker.
        is_ready: the newest frame completed a clip.
        runs_network: false where neither a channel nor an update of the memory needs it: frames and flow are enough.

    Args:
        bundle: an opened one.
        runtimes: gives the runtime of a worker, by its number from 0.
        builder: of the clips.
        update: when memory items are updated.
        with_heat_maps: make `Score.heat_map` for every score.
        all_evidence: run the network even where nothing needs it.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtimes: Callable[[int], Runtime],
        builder: ClipBuilder,
        update: Update,
        *,
        with_heat_maps: bool,
        all_evidence: bool = False,
    ) -> None:
        self.bundle, self.builder, self.update = bundle, builder, update
        self.runs_network = all_evidence or update != "off" or bundle.calibration.settings.needs_network
        self.worker_runtime = runtimes
        self.runtime = runtimes(0)
        self._with_heat_maps = with_heat_maps
        self._scorer = Scorer(bundle.calibration)
        scene = bundle.scene
        self._objects = None if scene is None else ObjectEvidence(scene, bundle.calibration.rate_hz)
        self._bounded = BoundedMemory(bundle, self._run) if update == "bounded" else None
        self._source: object = None
        self._is_locked = False
        self.reset()

    def reset(self) -> None:
        """Forget the source: the next frame is the first of another one."""
        self.builder.reset()
        self._scorer.reset()
        if self._objects is not None:
            self._objects.reset()
        self._object_maps: _Maps = {}
        if self._bounded is not None:
            self._bounded.reset()
        self._items: _Maps = dict(self.bundle.items)
        self.is_ready = False
        self._scored: tuple[ScoreParts, Evidence] | None = None
        self._is_current = False
        self._patch_filter: PatchFilter | None = None

    @property
    def items(self) -> Mapping[str, NDArray[np.float32]]:
        """The memory items now, by name: those of the bundle, until an update changes them."""
        return self._items if self._bounded is None else self._bounded.items

    @property
    def infers_in_order(self) -> bool:
        """Whether `infer` takes the frames in order too: with memory updates the items depend on the frame before."""
        return self.update != "off"

    @property
    def waits_for_a_network(self) -> bool:
        """Whether a neural network runs for every frame, for its evidence or for its flow."""
        return self.runs_network or self.bundle.flow.name == "raft"

    def pair(
        self, frame: Frame, *, flow_scale: float = 1.0, is_due: bool = True, patch_filter: PatchFilter | None = None
    ) -> FrameInProgress:
        """Pair the next frame with the one before it. In the order of the frames. See `detector.Detector.step`."""
        return FrameInProgress(frame, self.builder.pair(frame, flow_scale), is_due, patch_filter)

    def compute_features(self, work: FrameInProgress) -> None:
        """Estimate the frame's flow. In any order, from any thread."""
        work.features = self.builder.compute_features(work.pair)

    def append(self, work: FrameInProgress) -> None:
        """Complete the frame's clip, and decide what is left to do. In the order of the frames."""
        assert work.features is not None, "compute_features comes before append"
        work.clip = self.builder.append(work.features)
        self.is_ready = work.clip is not None
        work.is_scored = work.is_due and self.is_ready
        # Evidence may be reused only if every frame since the one that it was made from is static, scored or not.
        is_reusable = work.pair.is_static and self._is_current and work.patch_filter == self._patch_filter
        work.is_reused = work.is_scored and is_reusable
        self._find_objects(work)
        self._is_current = work.is_scored or is_reusable
        self._patch_filter = work.patch_filter

    def _find_objects(self, work: FrameInProgress) -> None:
        """Follow the objects, in frames that are not scored too: tracks and background must not lose them."""
        if self._objects is None:
            return
        if work.clip is None:
            self._objects.reset()  # a gap: what was there may be gone
        elif not work.pair.is_static or not self._object_maps:
            self._object_maps = self._objects.update(work.clip.newest_image, work.clip.flow, work.clip.evidence)
        work.object_maps, work.objects = self._object_maps, self._objects.objects

    def infer(self, work: FrameInProgress, runtime: Runtime | None = None) -> None:
        """Run the network on the clip, where a channel needs it. In any order, unless `infers_in_order`.

        Args:
            work: the frame.
            runtime: another one that runs the same network.
        """
        if self.runs_network and work.is_scored and not work.is_reused:
            assert work.clip is not None, "a clip is needed"
            work.outputs = self._run(work.clip, self._items, runtime)

    def score(self, work: FrameInProgress) -> ScoredFrame | None:
        """Score the frame; None if it is not to be scored. In the order of the frames.

        Raises:
            BundleError: the score is no finite number; the source is forgotten, see `reset`.
        """
        if work.clip is None:
            self._restart_smoothing()
        if not work.is_scored:
            return None
        assert work.clip is not None, "a clip is needed"
        if work.is_reused:
            parts, evidence = self._score_static(work.clip, work.patch_filter)
        else:
            parts, evidence = self._score(work, work.clip)
        self._scored = parts, evidence
        self._check_finite(parts, work.clip)
        return ScoredFrame(work.frame, self._to_score(work, parts, evidence), parts, evidence)

    def _restart_smoothing(self) -> None:
        """Restart the smoothing of scores, because a gap separates the frames before from those after it."""
        self._scorer.reset()
        if self._bounded is not None:
            self._bounded.restart_smoothing()

    def start_source(self) -> object:
        """Forget the source for another one. Returns a token for `check_source`.

        Raises:
            ConfigError: a pipeline is working on a source.
        """
        if self._is_locked:
            raise ConfigError(_ONE_SOURCE)
        self.reset()
        self._source = object()
        return self._source

    def check_source(self, token: object) -> None:
        """Raise ConfigError if another source was started since `start_source` gave this token."""
        if self._source is not token:
            raise ConfigError(_ONE_SOURCE)

    def take_source(self) -> None:
        """Let the frames that come one by one be those of the source: whoever has a token is refused from now on.

        Raises:
            ConfigError: a pipeline is working on a source.
        """
        if self._is_locked:
            raise ConfigError(_ONE_SOURCE)
        self._source = None

    def give_back_source(self, token: object) -> None:
        """Let a token hold again after a frame of its own source, which has taken the source from it."""
        if self._source is None:
            self._source = token

    def lock(self, *, is_locked: bool) -> None:
        """Refuse (or allow) other sources while a pipeline is working on one."""
        self._is_locked = is_locked

    def example_inputs(self) -> _Maps:
        """Inputs of the right names and shapes, all zero, to time the runtime with."""
        spec = self.bundle.clips
        frames = np.zeros((spec.n_past + 1, spec.channels, spec.height, spec.width), np.float32)
        clip = Clip.from_arrays(frames, np.zeros((2, spec.height, spec.width), np.float32))
        return {**self.bundle.network.layout.build_inputs(clip), **self._items}

    def _run(self, clip: Clip, items: Mapping[str, NDArray[np.float32]], runtime: Runtime | None = None) -> _Maps:
        return (runtime or self.runtime).run({**self.bundle.network.layout.build_inputs(clip), **items})

    def _score(self, work: FrameInProgress, clip: Clip) -> tuple[ScoreParts, Evidence]:
        maps = {**(work.outputs or {}), **clip.evidence, **work.object_maps}
        evidence = self.bundle.calibration.normalise(maps)
        parts = self._scorer.update(evidence, work.patch_filter)
        if self._bounded is not None:
            parts = self._bounded.score(clip, parts, work.patch_filter, work.object_maps)
        elif self.update == "always" or (self.update == "gated" and parts.value <= LEARN_BELOW):
            self._items = updated_items(self._items, evidence.maps)
        return parts, evidence

    def _score_static(self, clip: Clip, patch_filter: PatchFilter | None) -> tuple[ScoreParts, Evidence]:
        """Score a static frame by the evidence before it; memory items stay as they are.

        The score is the same again, unless agitation is still fading from the input maps, or scores are smoothed.
        """
        assert self._scored is not None, "a frame was scored before"
        parts, evidence = self._scored
        if evidence.maps["agitation"].any() or self.bundle.calibration.settings.smoothing_s:
            evidence = self.bundle.calibration.normalise({**evidence.maps, **clip.evidence})
            parts = self._scorer.update(evidence, patch_filter)
            if self._bounded is not None:
                parts = self._bounded.score_static(clip, parts, patch_filter)
        return parts, evidence

    def _check_finite(self, parts: ScoreParts, clip: Clip) -> None:
        if not math.isfinite(parts.value + parts.appearance + parts.motion):
            self.reset()
            raise BundleError(
                f"{self.bundle.path}: the network gives no finite score for frame {clip.index}: "
                "export or train the bundle again"
            )

    def _to_score(self, work: FrameInProgress, parts: ScoreParts, evidence: Evidence) -> Score:
        spec, frame = self.bundle.clips, work.frame
        box = None
        if parts.box is not None:
            box = scale_box(object_box(work.objects, parts.box), (spec.height, spec.width), frame.image.shape)
        heat = self.heat_map(evidence) if self._with_heat_maps else None
        return Score(frame.index, frame.time_s, parts.value, parts.appearance, parts.motion, box, heat)

    def heat_map(self, evidence: Evidence) -> NDArray[np.float32]:
        """See `detector.Detector.heat_map`."""
        spec = self.bundle.clips
        if not has_score_map(evidence, self.bundle.calibration.settings):
            return np.zeros((spec.height, spec.width), np.float32)
        return heat_map(score_map(evidence, self.bundle.calibration, spec.height, spec.width))


class BoundedMemory:
    """A second memory that adapts to the camera beside the trained one, for the update mode `bounded`.

    The network runs a second time with its items, and the score that this gives is clamped to that of the trained
    memory. It learns only from frames that the trained memory scores as normal, so a lasting anomaly cannot become normal to it.

    Attributes:
        items: as they are now, by name.

    Args:
        bundle: with the trained items.
        run: the network on a clip, with given items.
    """

    def __init__(self, bundle: Bundle, run: Callable[[Clip, Mapping[str, NDArray[np.float32]]], _Maps]) -> None:
        self._bundle, self._run = bundle, run
        self._scorer = Scorer(bundle.calibration)
        self.reset()

    def reset(self) -> None:
        """Forget the source; the items are the trained ones again."""
        self.restart_smoothing()
        self.items: _Maps = dict(self._bundle.items)
        self._maps: _Maps = {}

    def restart_smoothing(self) -> None:
        """Reset the smoothing of the score; the memory items stay as they are."""
        self._scorer.reset()

    def score(
        self,
        clip: Clip,
        frozen: ScoreParts,
        patch_filter: PatchFilter | None,
        object_maps: Mapping[str, NDArray[np.float32]],
    ) -> ScoreParts:
        """Score a clip, and learn from it if it is normal.

        Args:
            clip: the frame's.
            frozen: the score by the trained memory.
            patch_filter: which patches may set the score.
            object_maps: the evidence of moving objects.
        """
        self._maps = {**self._run(clip, self.items), **clip.evidence, **object_maps}
        if frozen.value <= LEARN_BELOW:
            updated = updated_items(self.items, self._maps)
            for name, items in self.items.items():
                self.items[name] = bounded_update(items, updated[name], self._bundle.items[name], RATE, MAX_ANGLE)
        return self._clamped(frozen, patch_filter)

    def score_static(self, clip: Clip, frozen: ScoreParts, patch_filter: PatchFilter | None) -> ScoreParts:
        """Score a static frame by the network's outputs before it. See `score`."""
        self._maps = {**self._maps, **clip.evidence}
        return self._clamped(frozen, patch_filter)

    def _clamped(self, frozen: ScoreParts, patch_filter: PatchFilter | None) -> ScoreParts:
        evidence = self._bundle.calibration.normalise(self._maps)
        return clamp(self._scorer.update(evidence, patch_filter), frozen, BOUND)


def updated_items(items: Mapping[str, NDArray[np.float32]], outputs: Mapping[str, NDArray[np.float32]]) -> _Maps:
    """The items as the network updated them, by the name of the items."""
    return {name: outputs[f"updated_{name.removesuffix('_items')}"] for name in items}


def scale_box(box: Box, size: Sequence[int], target: Sequence[int]) -> Box:
    """Scale a box of an image to the same image at another size, (height, width) each.

    >>> scale_box((0, 0, 8, 8), (64, 96), (128, 192))
    (0, 0, 16, 16)
    """
    y, x = target[0] / size[0], target[1] / size[1]
    left, top = min(round(box[0] * x), target[1] - 1), min(round(box[1] * y), target[0] - 1)
    right, bottom = min(round(box[2] * x), target[1]), min(round(box[3] * y), target[0])
    return (left, top, max(right, left + 1), max(bottom, top + 1))
