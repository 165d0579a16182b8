from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import made

from comemory.datasets.shanghaitech import ShanghaiTech
from comemory.errors import DatasetError

LABELS = {"01_0014": [0, 1, 1, 0], "10_0037": [0, 0, 0, 1]}


@pytest.fixture
def campus(tmp_path: Path) -> Path:
    for name in ("01_001", "01_002"):
        made.video(tmp_path / "training" / "videos" / f"{name}.avi", 5)
    for place in ("test_frame_mask", "test_pixel_mask"):
        (tmp_path / "testing" / place).mkdir(parents=True)
    for name, labels in LABELS.items():
        made.image_files(tmp_path / "testing" / "frames" / name, 4)
        masks = np.zeros((4, *made.SIZE), np.uint8)
        masks[:, 3, 4] = labels
        np.save(tmp_path / "testing" / "test_frame_mask" / f"{name}.npy", np.array(labels))
        np.save(tmp_path / "testing" / "test_pixel_mask" / f"{name}.npy", masks)
    return tmp_path


def frame_labels(root: Path, name: str = "01_0014") -> Path:
    return root / "testing" / "test_frame_mask" / f"{name}.npy"


def test_the_official_layout_is_read(campus: Path) -> None:
    dataset = ShanghaiTech(str(campus))
    assert [(clip.name, clip.n_frames) for clip in dataset.training()] == [("01_001", 5), ("01_002", 5)]
    for clip, (name, labels) in zip(dataset.testing(), LABELS.items(), strict=True):
        assert clip.name == name
        assert clip.labels is not None
        assert clip.labels.astype(int).tolist() == labels
        assert clip.mask is not None
        assert [bool(clip.mask(index).any()) for index in range(4)] == clip.labels.tolist()
    report = dataset.check()
    assert report.problems == ()
    assert report.found["testing frames"] == 8
    assert report.found["abnormal frames"] == 3
    assert any("ShanghaiTech subset: 2 of 330 training videos" in note for note in report.notes)


def test_training_video_may_be_frames(campus: Path) -> None:
    (campus / "training" / "videos").rename(campus / "training" / "unused")
    made.image_files(campus / "training" / "frames" / "01_001", 3)
    assert [(clip.name, clip.n_frames) for clip in ShanghaiTech(str(campus)).training()] == [("01_001", 3)]


def test_pixel_masks_stand_in_for_missing_frame_labels(campus: Path) -> None:
    frame_labels(campus).unlink()
    clip = ShanghaiTech(str(campus)).testing()[0]
    assert clip.labels is not None
    assert clip.labels.astype(int).tolist() == LABELS["01_0014"]


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.array([0.0, np.nan, 1.0, 0.0]), "1 of 4 labels are not 0 or 1; the first is nan at 1"),
        (np.array([0, 3, 1, 0]), "the first is 3 at 1"),
        (np.array([0, 1, 1]), "has 4 frames, but there are 3 labels"),
        (np.array([None, 1, 1, 0]), "not a whole .npy file"),
    ],
)
def test_bad_labels_are_refused_and_found(campus: Path, labels: np.ndarray, said: str) -> None:
    np.save(frame_labels(campus), labels)
    dataset = ShanghaiTech(str(campus))
    with pytest.raises(DatasetError, match=said):
        dataset.testing()
    (problem,) = dataset.check().problems
    assert said in problem


def test_masks_that_disagree_with_labels_are_found(campus: Path) -> None:
    np.save(frame_labels(campus), np.array([1, 1, 1, 1]))
    (problem,) = ShanghaiTech(str(campus)).check().problems
    assert problem.endswith("01_0014.npy disagree on 2 of 4 frames, counted from 0: 0, 3")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no ShanghaiTech: expected"):
        ShanghaiTech(str(tmp_path))
