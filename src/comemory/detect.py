"""The detector: frames in, scores out, synchronous, with all of its state in plain sight.

detector = Detector.open("models/ped2-small")
for score in detector.run("gate.mp4"):
    print(score.index, score.value)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Bundle, open_bundle
from comemory.decision import Judge, Judgement, patch_map
from comemory.errors import BundleError, ConfigError
from comemory.flow import open_flow
from comemory.runtimes import RUNTIMES
from comemory.types import Box, Clip, Evidence, Frame, Runtime, Score, Source
from comemory.video.clips import ClipBuilder
from comemory.video.source import OpenedSource, open_source

Update = Literal["off", "gated", "always"]

HOTTEST = 4.0
"""The scaled value at which the heat map is full: one ordinary frame in 10,000."""


class Detector:
    """One bundle, watching one source at a time.

    Args:
        bundle: an opened one.
        runtime: entry of `runtimes.RUNTIMES`.
        threads: CPU threads of the runtime; None leaves the choice to it.
        heat_map: make `Score.heat_map`.
        update: keep the memory items as the network updates them while it watches: never (`off`), after frames whose
            score is one that every second ordinary frame passes or less (`gated`), or after every frame (`always`,
            which soon takes an anomaly that stays for normal). The items are reset for each source.
        flow_weights: path of the flow's weight file, where the bundle's flow needs one. A bundle never says which file
            of this machine to read.

    Raises:
        ConfigError: an unknown runtime or mode, no thread, or flow weights that are not there.
        BundleError: the network cannot be read, or does not fit the rest of the bundle.
        RuntimeMissing: the runtime's package is not installed.
    """

    GATE = 0.3

    def __init__(
        self,
        bundle: Bundle,
        *,
        runtime: str = "openvino",
        threads: int | None = None,
        heat_map: bool = False,
        update: Update = "off",
        flow_weights: str | Path | None = None,
    ) -> None:
        if update not in ("off", "gated", "always"):
            raise ConfigError(f"update is 'off', 'gated' or 'always', got {update!r}")
        if threads is not None and threads < 1:
            raise ConfigError(f"the network needs at least 1 thread, got threads={threads}")
        self.bundle = bundle
        self.heat_map = heat_map
        self.update = update
        self.runtime: Runtime = RUNTIMES.load(runtime)(bundle.network, threads)
        if not bundle.is_current():
            raise BundleError(f"{bundle.path} was replaced or removed while it was opened: open it again")
        weights = None if flow_weights is None else str(flow_weights)
        self.builder = ClipBuilder(bundle.clips, open_flow(bundle.flow.model_copy(update={"weights": weights})))
        self._judge = Judge(bundle.calibration)
        self.reset()
        self._try_out()

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        runtime: str = "openvino",
        threads: int | None = None,
        heat_map: bool = False,
        update: Update = "off",
        flow_weights: str | Path | None = None,
    ) -> Detector:
        """Open the bundle at `path` and make its detector. Raises what `bundle.open_bundle` raises."""
        make = partial(
            cls, runtime=runtime, threads=threads, heat_map=heat_map, update=update, flow_weights=flow_weights
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
        self._items: dict[str, NDArray[np.float32]] = dict(self.bundle.items)
        self._maps: dict[str, NDArray[np.float32]] = {}
        self.judgement: Judgement | None = None

    def push(self, frame: Frame) -> Score | None:
        """Score the next frame; None until the clip before it is full.

        The score depends on this frame and the ones before it alone.
        """
        clip = self.builder.push(frame)
        if clip is None:
            return None
        maps = self._observe(clip)
        judged = self._judge.push(maps)
        self._maps, self.judgement = maps, judged
        if self.update == "always" or (self.update == "gated" and judged.value <= self.GATE):
            self._items = {name: maps[f"updated_{name.removesuffix('_items')}"] for name in self._items}
        spec = self.bundle.clips
        box = scaled_box(judged.box, (spec.height, spec.width), frame.image.shape)
        heat = self.heat() if self.heat_map else None
        return Score(frame.index, frame.time_s, judged.value, judged.appearance, judged.motion, box, heat)

    def run(self, source: str | Path | Source, rate_hz: float | None = None) -> Iterator[Score]:
        """The scores of a source, from its start.

        Args:
            rate_hz: frames per second where the source does not say; else those of the video it was trained on.

        Raises:
            SourceError: the source cannot be opened.
        """
        return self._scores(self.open_source(source, rate_hz))

    def _scores(self, opened: OpenedSource) -> Iterator[Score]:
        self.reset()
        for frame in opened:
            if (score := self.push(frame)) is not None:
                yield replace(score, box=scaled_box(score.box, frame.image.shape, opened.size))

    def open_source(self, location: str | Path | Source, rate_hz: float | None = None) -> OpenedSource:
        """Open a source at the size that the detector works at, which saves it the larger picture. See `run`."""
        spec = self.bundle.clips
        rate_hz = rate_hz or self.bundle.calibration.rate_hz
        return open_source(location, size=(spec.flow_height, spec.flow_width), rate_hz=rate_hz)

    def evidence(self, clip: Clip) -> Evidence:
        """The network's raw answer to a clip, with the items as they are now."""
        return Evidence({}, self._observe(clip))

    def example_inputs(self) -> dict[str, NDArray[np.float32]]:
        """Named arrays of the right shapes, to time or trace the runtime with."""
        spec = self.bundle.clips
        frames = np.zeros((1, spec.n_past + 1, spec.channels, spec.height, spec.width), np.float32)
        return {"frames": frames, "flow": np.zeros((1, 2, spec.height, spec.width), np.float32), **self._items}

    def heat(self) -> NDArray[np.float32]:
        """The heat map of the newest scored frame, float32 (H, W) of the model's size in [0, 1].

        The patch around each place on the scale of its channel, the largest channel; 0 is ordinary, 1 is 1 in 10,000.
        """
        spec, fitted = self.bundle.clips, self.bundle.calibration
        heat = np.zeros((spec.height, spec.width), np.float32)
        for channel in (*fitted.settings.motion, *fitted.settings.appearance):
            values, pitch, _ = patch_map(self._maps, channel)
            scaled = fitted.scales[channel](values).astype(np.float32)
            cells = _centred(scaled, spec.height // pitch, spec.width // pitch)
            heat = np.maximum(heat, cells.repeat(pitch, axis=0).repeat(pitch, axis=1))
        return np.asarray(np.clip(heat / HOTTEST, 0, 1), dtype=np.float32)

    def _observe(self, clip: Clip) -> dict[str, NDArray[np.float32]]:
        return self.runtime.run({"frames": clip.frames[None], "flow": clip.flow[None], **self._items})

    def _try_out(self) -> None:
        """Run the network once, so that one that does not fit its bundle is refused now and not at the first frame."""
        maps = self.runtime.run(self.example_inputs())
        spec, decision = self.bundle.clips, self.bundle.calibration.settings
        for name, items in self._items.items():
            updated = f"updated_{name.removesuffix('_items')}"
            if updated not in maps or maps[updated].shape != items.shape:
                raise BundleError(f"{self.bundle.path}: the network does not give {updated} of shape {items.shape}")
        for name, cells in maps.items():
            if not np.isfinite(cells).all() or (cells.ndim != 4 and not name.startswith("updated_")):
                raise BundleError(f"{self.bundle.path}: the network does not give maps of numbers, see {name}")
        thesis = [f"{name}:{decision.thesis_patch}" for name in ("flow_error", "frame_error")]
        for channel in (*decision.motion, *decision.appearance, *thesis):
            try:
                values, pitch, side = patch_map(maps, channel)
            except ConfigError as error:
                raise BundleError(f"{self.bundle.path}: {error}") from None
            size = tuple(pitch * (n - 1) + side for n in values.shape)
            if size != (spec.height, spec.width):
                raise BundleError(
                    f"{self.bundle.path}: the network's {channel} covers {size}, expected {(spec.height, spec.width)}"
                )


def _centred(patches: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Each patch's value at the middle of the patch, the border taken from the nearest.

    Shapes: patches (height - side + 1, width - side + 1); returns (height, width).
    """
    more_y, more_x = height - patches.shape[0], width - patches.shape[1]
    return np.pad(patches, ((more_y // 2, more_y - more_y // 2), (more_x // 2, more_x - more_x // 2)), mode="edge")


def scaled_box(box: Box | None, size: Sequence[int], target: Sequence[int] | None) -> Box | None:
    """A box of a picture of `size` in the pixels of the same picture at `target` size, (height, width) each."""
    if box is None or target is None:
        return box
    y, x = target[0] / size[0], target[1] / size[1]
    left, top = min(round(box[0] * x), target[1] - 1), min(round(box[1] * y), target[0] - 1)
    right, bottom = min(round(box[2] * x), target[1]), min(round(box[3] * y), target[0])
    return (left, top, max(right, left + 1), max(bottom, top + 1))
