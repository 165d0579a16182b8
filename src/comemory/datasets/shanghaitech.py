"""ShanghaiTech Campus: 13 scenes, 856x480 at 24 frames per second.

Source: Luo, Liu, Gao, "A Revisit of Sparse Coding Based Anomaly Detection in Stacked RNN Framework", ICCV 2017.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.labels import LabelFile, read_npy_labels
from comemory.datasets.listing import first_folder, is_folder, list_videos
from comemory.datasets.masks import MaskArray
from comemory.datasets.recorded import RecordedDataset
from comemory.datasets.recording import Recording
from comemory.errors import DatasetError


class ShanghaiTech(RecordedDataset):
    """The official folders: `training/videos/01_001.avi` or `training/frames/01_001/`, `testing/frames/01_0014/`.

    Frame labels are in `testing/test_frame_mask/01_0014.npy`, pixel masks in `testing/test_pixel_mask/01_0014.npy`. The
    published number of test frames is that of the labels, 40791; the text of the paper has 42883.
    """

    name = "shanghaitech"
    title = "ShanghaiTech"
    rate_hz = 24.0
    published: ClassVar[Mapping[str, int]] = {
        "training videos": 330,
        "training frames": 274515,
        "testing videos": 107,
        "testing frames": 40791,
    }

    def __init__(self, path: str) -> None:
        super().__init__(path)
        roots = (self.path, self.path / "shanghaitech")
        self._root = next((root for root in roots if _videos(root, "training") or _videos(root, "testing")), None)
        if self._root is None:
            raise DatasetError(
                f"{self.path}: holds no ShanghaiTech: expected training/videos/ or training/frames/ and testing/frames/"
            )

    def recordings(self, split: str) -> Sequence[Recording]:
        """The videos of a split; those of the test split with their labels and masks."""
        root = self._root or self.path
        folder = _videos(root, split)
        if folder is None:
            return []
        named = [(path.name if is_folder(path) else path.stem, path) for path in list_videos(folder)]
        if split == "training":
            return [Recording(name, path) for name, path in named]
        return [Recording(name, path, _labels(root, name), _masks(root, name)) for name, path in named]

    def notes(self) -> Sequence[str]:
        """Where the counts of the labels and of the paper differ."""
        return ["testing/test_frame_mask: there are labels for 40791 test frames; the text of the paper has 42883"]


def _videos(root: Path, split: str) -> Path | None:
    """The folder with the videos of a split, the official layout first."""
    official, other = ("videos", "frames") if split == "training" else ("frames", "videos")
    return first_folder([root / split / official, root / split / other])


def _labels(root: Path, name: str) -> LabelFile | None:
    path = root / "testing" / "test_frame_mask" / f"{name}.npy"
    if not path.is_file():
        return None

    def read(_: int | None) -> NDArray[np.bool_]:
        return read_npy_labels(path)

    return LabelFile(path, read)


def _masks(root: Path, name: str) -> MaskArray | None:
    path = root / "testing" / "test_pixel_mask" / f"{name}.npy"
    return MaskArray(path) if path.is_file() else None
