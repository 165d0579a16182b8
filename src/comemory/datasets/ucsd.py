"""UCSD Ped1 and Ped2: pedestrians on two walkways, folders of images at 10 frames per second.

Source: Mahadevan, Li, Bhalodia, Vasconcelos, "Anomaly Detection in Crowded Scenes", CVPR 2010.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.labels import Interval, LabelFile, labels_from_intervals, read_ucsd_m, read_ucsd_mat
from comemory.datasets.listing import first_folder, is_folder, last_number, list_entries
from comemory.datasets.masks import MaskFiles
from comemory.datasets.recorded import RecordedDataset
from comemory.datasets.recording import Recording
from comemory.errors import DatasetError

_RELEASE = "UCSD_Anomaly_Dataset.v1p2"


class _Ucsd(RecordedDataset):
    """The official layout, `Train/Train001/001.tif`, or the circulating one, `training/frames/01/000.jpg`.

    Labels are the official ranges of `UCSDpedN.m`; without that file those of the circulating `pedN.mat`; without either,
    a frame is abnormal if its mask has any pixel. Ped1 has official masks for some of its test clips only.
    """

    folder: ClassVar[str]

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.root, self.official = self._find_root()

    def recordings(self, split: str) -> Sequence[Recording]:
        folder = self.root / (("Train" if split == "training" else "Test") if self.official else f"{split}/frames")
        if not is_folder(folder):
            return []
        found = [clip for clip in list_entries(folder) if is_folder(clip) and self._is_clip(clip)]
        if split == "training":
            return [Recording(clip.name, clip) for clip in found]
        return [Recording(clip.name, clip, self._labels(clip), self._masks(clip)) for clip in found]

    def notes(self) -> Sequence[str]:
        if self._ranges_file:
            return [f"{self._ranges_file}: frame labels are taken from here"]
        return [f"{self.root}: there is no {self.folder}.m; a frame is abnormal if its mask has any pixel"]

    @cached_property
    def _ranges_file(self) -> Path | None:
        names = (f"{self.folder}.m", f"{self.name}.mat")
        paths = [self.root / place / name for name in names for place in ("Test", ".", "testing")]
        return next((path for path in paths if path.is_file()), None)

    @cached_property
    def _ranges(self) -> list[list[Interval]]:
        path = self._ranges_file
        if path is None:
            return []
        return read_ucsd_mat(path) if path.suffix == ".mat" else read_ucsd_m(path)

    def _is_clip(self, path: Path) -> bool:
        return bool(re.fullmatch(r"(train|test)[0-9]+", path.name, re.IGNORECASE)) if self.official else True

    def _labels(self, clip: Path) -> LabelFile | None:
        path = self._ranges_file
        return LabelFile(path, partial(self._read_labels, path, clip)) if path else None

    def _read_labels(self, path: Path, clip: Path, n_frames: int | None) -> NDArray[np.bool_]:
        place = last_number(clip.name)
        if place is None or not 1 <= place <= len(self._ranges):
            raise DatasetError(f"{path}: has {len(self._ranges)} entries, none of them for {clip.name}")
        if n_frames is None:
            raise DatasetError(f"{clip}: its frames cannot be counted, so its labels cannot be placed")
        intervals = self._ranges[place - 1]
        last = max((end for _, end in intervals), default=-1) + 1
        if last > n_frames:
            raise DatasetError(f"{path}: entry {place} reaches frame {last}, but {clip} has {n_frames} frames")
        return labels_from_intervals(intervals, n_frames)

    def _masks(self, clip: Path) -> MaskFiles | None:
        folder = clip.parent / f"{clip.name}_gt" if self.official else self.root / "testing" / "masks" / clip.name
        return MaskFiles(folder) if is_folder(folder) else None

    def _find_root(self) -> tuple[Path, bool]:
        other = {"UCSDped1": "UCSDped2", "UCSDped2": "UCSDped1"}[self.folder]
        if self.path.name == other:
            raise DatasetError(
                f"{self.path}: this is {other}, not {self.folder}; open it as ped{other[-1]}:{self.path}"
            )
        for root in self._roots():
            if first_folder([root / "Train", root / "Test"]):
                return root, True
            if first_folder([root / "training" / "frames", root / "testing" / "frames"]):
                return root, False
        raise DatasetError(
            f"{self.path}: holds no {self.folder}: expected {_RELEASE}/{self.folder}/Train/Train001/001.tif "
            "or training/frames/01/000.jpg below it"
        )

    def _roots(self) -> Iterator[Path]:
        yield self.path / self.folder
        yield self.path / _RELEASE / self.folder
        yield self.path


class Ped1(_Ucsd):
    """UCSD Ped1: 34 training and 36 test clips of 200 frames, 238x158."""

    name = "ped1"
    title = "UCSD Ped1"
    rate_hz = 10.0
    folder = "UCSDped1"
    published: ClassVar[Mapping[str, int]] = {
        "training videos": 34,
        "training frames": 6800,
        "testing videos": 36,
        "testing frames": 7200,
    }


class Ped2(_Ucsd):
    """UCSD Ped2: 16 training and 12 test clips, 360x240."""

    name = "ped2"
    title = "UCSD Ped2"
    rate_hz = 10.0
    folder = "UCSDped2"
    published: ClassVar[Mapping[str, int]] = {
        "training videos": 16,
        "training frames": 2550,
        "testing videos": 12,
        "testing frames": 2010,
    }
