"""CUHK Avenue: one campus walkway, 640x360 at 25 frames per second, with either of its two label sets.

Source: Lu, Shi, Jia, "Abnormal Event Detection at 150 FPS in MATLAB", ICCV 2013.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.labels import LabelFile, read_npy_labels
from comemory.datasets.listing import first_folder, is_folder, last_number, list_entries, list_videos
from comemory.datasets.masks import MaskCells
from comemory.datasets.recorded import RecordedDataset
from comemory.datasets.recording import Recording
from comemory.errors import DatasetError

TEST_FRAMES = (
    1439, 1211, 923, 947, 1007, 1283, 605, 36, 1175, 841, 472, 1271, 549, 507, 1001, 740, 426, 294, 248, 273, 76,
)  # fmt: skip
"""Frames of the 21 official test videos, 15324 in total."""


class Avenue(RecordedDataset):
    """Avenue with its official pixel masks, `testing_label_mask/N_label.mat`: a frame is abnormal if any of its pixels is.

    The folder holds `training_videos/` and `testing_videos/`; the masks are beside them or in `ground_truth_demo/`. A copy
    with only some of the 16 + 21 videos is reported as the Avenue subset.
    """

    name = "avenue"
    title = "Avenue"
    rate_hz = 25.0
    published: ClassVar[Mapping[str, int]] = {
        "training videos": 16,
        "training frames": 15328,
        "testing videos": 21,
        "testing frames": 15324,
    }

    def __init__(self, path: str) -> None:
        super().__init__(path)
        roots = [self.path, self.path / "Avenue Dataset", self.path / "Avenue_Dataset"]
        found = first_folder(root / f"{split}_videos" for root in roots for split in ("training", "testing"))
        if found is None:
            raise DatasetError(f"{self.path}: holds no Avenue: expected training_videos/ and testing_videos/ in it")
        self.root = found.parent

    def recordings(self, split: str) -> Sequence[Recording]:
        """The videos of a split, with their masks in the test split."""
        folder = self.root / f"{split}_videos"
        found = list_videos(folder) if is_folder(folder) else []
        if split == "training":
            return [Recording(_name(path), path) for path in found]
        return [self._test(path) for path in found]

    def notes(self) -> Sequence[str]:
        """Which labels are read."""
        return [f"{self._mask_folder or self.root}: labels are the official pixel masks"]

    def _test(self, path: Path) -> Recording:
        place = last_number(path.stem)
        return Recording(_name(path), path, masks=self._masks.get(place) if place is not None else None)

    @cached_property
    def _mask_folder(self) -> Path | None:
        places = ("testing_label_mask", "ground_truth_demo/testing_label_mask")
        return first_folder(root / place for root in (self.root, self.path) for place in places)

    @cached_property
    def _masks(self) -> dict[int, MaskCells]:
        named = [
            (re.fullmatch(r"([0-9]+)_label\.mat", path.name), path)
            for path in (list_entries(self._mask_folder) if self._mask_folder else [])
        ]
        return {int(match[1]): MaskCells(path, "volLabel") for match, path in named if match}


class AvenueNpy(Avenue):
    """Avenue with the labels that circulate as `frame_labels_avenue.npy`, one row for the frames of all 21 test videos.

    They differ from the official masks in 441 of 15324 frames, so no masks are used with them. The row is split by the
    number of each video and the official frame counts; it must be whole even if only some of the videos are here.
    """

    name = "avenue-npy"

    def notes(self) -> Sequence[str]:
        """Which labels are read."""
        return [
            f"{self._file}: these are the widely circulated labels; they differ from the official masks in 441 of 15324 frames"
        ]

    def _test(self, path: Path) -> Recording:
        return Recording(_name(path), path, LabelFile(self._file, partial(self._read_labels, path)))

    @property
    def _file(self) -> Path:
        return self.root / "frame_labels_avenue.npy"

    @cached_property
    def _all_labels(self) -> NDArray[np.bool_]:
        labels = read_npy_labels(self._file)
        if len(labels) != sum(TEST_FRAMES):
            raise DatasetError(
                f"{self._file}: holds {len(labels)} labels, expected {sum(TEST_FRAMES)}, those of all 21 videos"
            )
        return labels

    def _read_labels(self, path: Path, n_frames: int | None) -> NDArray[np.bool_]:
        place = last_number(path.stem)
        if place is None or not 1 <= place <= len(TEST_FRAMES):
            raise DatasetError(f"{path}: no number from 1 to 21 in its name, so its labels cannot be found")
        start = sum(TEST_FRAMES[: place - 1])
        return self._all_labels[start : start + TEST_FRAMES[place - 1]]


def _name(path: Path) -> str:
    return path.name if is_folder(path) else path.stem
