"""The base of the data sets of recorded video: lists the recordings, reads their labels, checks them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from comemory.datasets.inspection import InspectionResult, inspect_recording
from comemory.datasets.listing import dataset_path
from comemory.datasets.recording import Recording, open_recording
from comemory.errors import DatasetError
from comemory.types import DataCheck, LabelledSource

SPLITS = ("training", "testing")


class RecordedDataset(ABC):
    """A data set of video files or folders of images.

    A subclass for another layout only lists its `recordings`; this class reads the labels, checks and counts.

    Attributes:
        name: the name in the registry.
        title: the name in reports.
        rate_hz: frames per second of folders of images.
        published: counts as the authors publish them, with the keys of `DataCheck.found`.
        benchmark: whether it is a published data set. There, a gap in the numbering or a test video without labels is a
            problem; in your own footage it is a note.
    """

    name: str
    rate_hz: float | None
    title: ClassVar[str]
    published: ClassVar[Mapping[str, int]] = {}
    benchmark: ClassVar[bool] = True

    def __init__(self, path: str) -> None:
        self.path: Path = dataset_path(path, self.name)

    @abstractmethod
    def recordings(self, split: str) -> Sequence[Recording]:
        """The recordings of `training` or `testing` in natural order; empty for a missing split."""

    def training(self) -> Sequence[LabelledSource]:
        """The training videos, which show only what is normal.

        Raises:
            DatasetError: the folder cannot be listed, or two videos have one name.
        """
        return [open_recording(recording) for recording in self._unique("training")]

    def testing(self) -> Sequence[LabelledSource]:
        """The test videos, with their labels read.

        Raises:
            DatasetError: as for `training`, or labels are damaged or do not fit the video.
        """
        return [open_recording(recording) for recording in self._unique("testing")]

    def usable_testing(self) -> tuple[list[LabelledSource], list[str]]:
        """The test videos whose labels can be read and fit, and a line for each of the others.

        Raises:
            DatasetError: as for `training`.
        """
        videos: list[LabelledSource] = []
        problems: list[str] = []
        for recording in self._unique("testing"):
            try:
                videos.append(open_recording(recording))
            except DatasetError as error:
                problems.append(str(error))
        return videos, problems

    def check(self) -> DataCheck:
        """Decode every frame, read every label and mask, and report all problems."""
        findings = InspectionResult()
        for split in SPLITS:
            self._check_split(split, findings)
        found = {
            f"{split} {what}": findings.found[f"{split} {what}"] for split in SPLITS for what in ("videos", "frames")
        }
        if "abnormal frames" in findings.found:
            found["abnormal frames"] = findings.found["abnormal frames"]
        self._compare(found, findings)
        findings.problems.extend(self.problems())
        notes = dict.fromkeys([*self.unused_files(), *self.notes(), *findings.notes])
        return DataCheck(
            found, dict(self.published), tuple(dict.fromkeys(findings.problems)), tuple(notes), dict(findings.seconds)
        )

    def notes(self) -> Sequence[str]:
        """What a user should know about this copy that is not a problem, one line each."""
        return ()

    def unused_files(self) -> Sequence[str]:
        """See `ListsUnusedFiles`."""
        return ()

    def problems(self) -> Sequence[str]:
        """What is wrong with this copy, other than with a video, its labels or masks; one line each."""
        return ()

    def _unique(self, split: str) -> Sequence[Recording]:
        recordings = self.recordings(split)
        if twice := _repeated(recordings):
            raise DatasetError(twice[0])
        return recordings

    def _check_split(self, split: str, findings: InspectionResult) -> None:
        try:
            recordings = self.recordings(split)
        except DatasetError as error:
            findings.add_error(error)
            return
        findings.problems.extend(_repeated(recordings))
        if split == "training" and not recordings:
            findings.notes.append(f"{self.path}: holds no training video")
        for recording in recordings:
            inspect_recording(recording, split, findings, numbered=self.benchmark, rate_hz=self.rate_hz)
            if split == "testing" and recording.labels is None and recording.masks is None:
                (findings.problems if self.benchmark else findings.notes).append(f"{recording.path}: has no labels")

    def _compare(self, found: Mapping[str, int], findings: InspectionResult) -> None:
        """Compare the counts with the published ones; a subset of the videos is a note, not a problem."""
        for split in SPLITS:
            videos, frames = f"{split} videos", f"{split} frames"
            expected = self.published.get(videos, found[videos])
            if found[videos] < expected:
                subset = f"{self.title} subset: {found[videos]} of {expected} {videos} are here"
                findings.notes.append(f"{self.path}: this is the {subset}")
            elif found[videos] > expected:
                findings.problems.append(f"{self.path}: {found[videos]} {videos}, but {expected} are published")
            elif found[frames] != self.published.get(frames, found[frames]):
                findings.problems.append(
                    f"{self.path}: {found[frames]} {frames}, but {self.published[frames]} are published"
                )


def _repeated(recordings: Sequence[Recording]) -> list[str]:
    names = Counter(recording.name for recording in recordings)
    return [
        f"{recording.path}: the name {recording.name!r} stands for {names[recording.name]} videos; rename all but one"
        for recording in recordings
        if names[recording.name] > 1
    ]
