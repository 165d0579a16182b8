"""Your own footage: videos or folders of images, with labels for as many of them as you like."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.labels import LabelFile, read_intervals
from comemory.datasets.listing import is_folder, is_video, list_entries, list_images, list_videos
from comemory.datasets.masks import MaskFiles
from comemory.datasets.recorded import SPLITS, RecordedDataset
from comemory.datasets.recording import Recording
from comemory.datasets.video_scan import scan_recording
from comemory.errors import DatasetError

_RESERVED = ("labels", "masks")


class Folder(RecordedDataset):
    """Videos and folders of images in one of three layouts.

    - `training/` and `testing/`, or one of them, with video files and folders of images in it;
    - video files and folders of images: all of them are training videos;
    - one video file or one folder of images: one training video.

    Only one level of folders is read; `check` and a training name whatever is left out. The labels of a test video
    `NAME` are optional: abnormal intervals in `testing/labels/NAME.csv` (columns `start_frame,end_frame`, counted from 0,
    both ends abnormal; or `start_s,end_s`), and masks, one image for each frame, in `testing/masks/NAME/`.
    """

    name = "folder"
    title = "folder"
    rate_hz: float | None = None
    benchmark = False

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._has_splits = any(is_folder(self.path / split) for split in SPLITS)
        if not any(self.recordings(split) for split in SPLITS):
            deeper = self._unused()
            hint = f"; {deeper[0]}" if deeper else ""
            raise DatasetError(f"{self.path}: holds no video and no folder of images{hint}")

    def recordings(self, split: str) -> Sequence[Recording]:
        """The videos of a split; those of the test split with their labels and masks, where there are any."""
        found = [(_name(path), path) for path in self._clips(split) if _is_usable(path)]
        if split == "training":
            return [Recording(name, path) for name, path in found]
        return [Recording(name, path, self._labels(name, path), self._masks(name)) for name, path in found]

    def unused_files(self) -> Sequence[str]:
        """What lies in the folder and is not used."""
        try:
            return self._unused()
        except DatasetError:
            return ()

    def problems(self) -> Sequence[str]:
        """Labels and masks that belong to no video, such as those with a misspelled name."""
        try:
            names = {recording.name for recording in self.recordings("testing")}
            files = [
                path
                for place in _RESERVED
                if is_folder(self._testing / place)
                for path in list_entries(self._testing / place)
            ]
        except DatasetError as error:
            return [str(error)]
        return [
            f"{path}: belongs to no video in {self._testing}"
            for path in files
            if (path.name if path.parent.name == "masks" else path.stem) not in names
        ]

    @property
    def _testing(self) -> Path:
        return self.path / "testing"

    def _clips(self, split: str) -> list[Path]:
        """The video files and folders of a split, usable or not."""
        if self._has_splits:
            found = list_videos(self.path / split) if is_folder(self.path / split) else []
            return [path for path in found if split == "training" or path.name not in _RESERVED]
        if split == "testing":
            return []
        if not is_folder(self.path):
            return [self.path] if self.path.is_file() else []
        inside = list_videos(self.path)
        return inside if any(_is_usable(path) for path in inside) or not list_images(self.path) else [self.path]

    def _labels(self, name: str, video: Path) -> LabelFile | None:
        path = self._testing / "labels" / f"{name}.csv"
        return LabelFile(path, partial(_read_labels, path, video)) if path.is_file() else None

    def _masks(self, name: str) -> MaskFiles | None:
        folder = self._testing / "masks" / name
        return MaskFiles(folder) if is_folder(folder) else None

    def _unused(self) -> list[str]:
        """A line for each thing that is left out: folders without images, other files, images beside the videos."""
        lines = []
        for split in SPLITS:
            for path in self._clips(split):
                if not _is_usable(path):
                    what = "is empty" if not list_entries(path) else "holds no images; videos go one level up"
                    lines.append(f"{path}: is not used, because it {what}")
        places = [self.path / split for split in SPLITS] if self._has_splits else [self.path]
        for folder in filter(is_folder, places):
            lines += _other_files(folder)
            if self._clips("training") != [folder] and (loose := list_images(folder)):
                lines.append(
                    f"{folder}: {len(loose)} images beside the videos are not used; put them into a folder of their own"
                )
        return lines


def _other_files(folder: Path) -> list[str]:
    """A line for each ending of the files in a folder that are neither videos nor images."""
    images = set(list_images(folder))
    others: dict[str, list[Path]] = {}
    for path in list_entries(folder):
        if not is_folder(path) and not is_video(path) and path not in images:
            others.setdefault(path.suffix.lower(), []).append(path)
    return [
        f"{files[0]}: is not used, because {suffix or 'a missing ending'} is not the ending of a video"
        + (f" (and {len(files) - 1} more)" if len(files) > 1 else "")
        for suffix, files in others.items()
    ]


def _read_labels(path: Path, video: Path, n_frames: int | None) -> NDArray[np.bool_]:
    """Read a CSV of intervals over the frames that the video shows, whatever its header states."""
    scan = scan_recording(video)
    if not scan.n_frames:
        raise DatasetError(f"{path}: cannot be used, because no frame of {video} can be read")
    return read_intervals(path, scan.n_frames, scan.times_s)


def _name(path: Path) -> str:
    """The name of a video: that of the link for a link, that of the folder itself for `.` and `..`."""
    if not is_folder(path):
        return path.stem
    return path.resolve().name if path.name in ("", "..") else path.name


def _is_usable(path: Path) -> bool:
    """Whether this is a video file or a folder with images; True if it cannot be listed, so that the check names it."""
    try:
        return not is_folder(path) or bool(list_images(path))
    except DatasetError:
        return True
