"""A segment of normal video with objects pasted into it, frame by frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from comemory.research.pseudo_anomalies.objects import (
    Cutout,
    background,
    cut_out_objects,
    link_tracklets,
    paste,
)
from comemory.research.pseudo_anomalies.perturbations import NORMAL, PERTURBATIONS, CutoutPose, normal
from comemory.types import Frame

MAX_FRAMES = 48
"""Longest tracklet that is looked for, in frames: about five seconds at 10 Hz."""
MIN_FRAMES = 16
DEFAULT_RATE_HZ = 25.0
"""Where neither the data set nor the container states a rate."""


class ObjectBank:
    """The moving objects of one segment, cut out once and used for all videos that are made of it."""

    def __init__(self) -> None:
        self._tracklets: list[list[Cutout]] | None = None

    def tracklets_of(self, frames: NDArray[np.uint8]) -> list[list[Cutout]]:
        """Return the tracklets of the segment, as long as at least three can be found.

        Shapes:
            frames: uint8 (n, H, W, 3), RGB.
        """
        if self._tracklets is None:
            empty_scene = background(frames)
            found = [cut_out_objects(frame, empty_scene) for frame in frames]
            for n_frames in (MAX_FRAMES, 32, MIN_FRAMES):
                if len(tracklets := link_tracklets(found, n_frames)) >= 3:
                    break
            self._tracklets = tracklets
        return self._tracklets


class PseudoSource:
    """One segment of a normal video with pasted objects of the same video that behave abnormally.

    It is rendered as a whole, because the background is made of all frames. Videos of one segment and one seed have the
    same objects at the same times, whatever their kind: only what the objects do differs.

    Args:
        name: of the video.
        frames: the normal frames, uint8 (H, W, 3), all of one size.
        rate_hz: frames per second; None: 25.
        kinds: of `PERTURBATIONS`; one is drawn for each abnormal object. `NORMAL` alone gives a video without anomalies.
        seed: of everything that is drawn.
        density: abnormal objects present at a time, on average.
        bank: of these frames; pass one to all videos of a segment, so that its objects are cut out once.
    """

    def __init__(
        self,
        name: str,
        frames: Iterable[Frame],
        rate_hz: float | None,
        *,
        kinds: Sequence[str],
        seed: Sequence[int],
        density: float = 0.5,
        bank: ObjectBank | None = None,
    ) -> None:
        self.name, self.rate_hz = name, rate_hz
        self._frames = frames
        self._kinds, self._seed = tuple(kinds), tuple(seed)
        self._density, self._bank = density, bank or ObjectBank()

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames, RGB."""
        for index, image in enumerate(self._rendered()[0]):
            yield Frame(image, index / (self.rate_hz or DEFAULT_RATE_HZ), index)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Return the abnormal pixels of frame `index`: bool (H, W)."""
        packed, width = self._masks
        return np.unpackbits(packed[index], axis=-1, count=width).astype(np.bool_)

    @property
    def labels(self) -> NDArray[np.bool_]:
        """Whether a frame has an abnormal pixel: bool (n_frames,)."""
        return np.asarray(self._masks[0].any(axis=(1, 2)))

    @cached_property
    def _masks(self) -> tuple[NDArray[np.uint8], int]:
        """The masks, eight pixels to a byte, and their width.

        Only masks are stored, because labels are asked for long before frames; frames are rendered again.
        """
        masks = self._rendered()[1]
        return np.packbits(masks, axis=-1), masks.shape[2]

    def _rendered(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Frames, uint8 (n, H, W, 3), and masks, bool (n, H, W)."""
        frames = np.stack([frame.image for frame in self._frames])
        masks = np.zeros(frames.shape[:3], np.bool_)
        if tracklets := self._bank.tracklets_of(frames):
            for start, steps, abnormal in self._schedule(tracklets, len(frames), frames.shape[1:3]):
                for image, mask, step in zip(frames[start:], masks[start:], steps, strict=False):
                    covered = paste(image, step.cut, step.x, step.y, step.scale)
                    mask &= ~covered  # What is pasted later hides what was pasted before.
                    if abnormal:
                        mask |= covered
        return frames, masks

    def _schedule(
        self, tracklets: Sequence[Sequence[Cutout]], n_frames: int, size: tuple[int, int]
    ) -> Iterator[tuple[int, list[CutoutPose], bool]]:
        """Yield when each pasted object appears, its steps, and whether it is abnormal.

        There are as many normal as abnormal ones, so that the traces of pasting alone tell nothing. The order of the draws
        from the generator is part of the data set: changing it changes every frame.
        """
        n_objects = max(1, round(self._density * n_frames / (MAX_FRAMES / 2)))
        for number in range(n_objects):
            rng = np.random.default_rng([*self._seed, number])
            normal_object, abnormal_object = rng.integers(len(tracklets), size=2)
            starts = rng.integers(max(1, n_frames - MIN_FRAMES), size=2)
            kind = self._kinds[int(rng.integers(len(self._kinds)))]
            yield int(starts[0]), normal(tracklets[normal_object], MAX_FRAMES, size, rng), False
            perturb = normal if kind == NORMAL else PERTURBATIONS[kind]
            yield int(starts[1]), perturb(tracklets[abnormal_object], MAX_FRAMES, size, rng), kind != NORMAL
