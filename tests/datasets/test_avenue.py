from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from datasets import made

from comemory.datasets.avenue import TEST_FRAMES, Avenue, AvenueNpy
from comemory.errors import DatasetError

LABELS = {8: [1] * 36, 21: [0] * 20 + [1] * 56}


def label_mask(path: Path, labels: list[int], size: tuple[int, int] = made.SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    box = np.empty((1, len(labels)), object)
    for index, label in enumerate(labels):
        box[0, index] = np.zeros(size, np.uint8)
        box[0, index][1:3, 2:4] = label
    scipy.io.savemat(path, {"volLabel": box}, do_compression=True)
    return path


@pytest.fixture
def avenue(tmp_path: Path) -> Path:
    """The two shortest test videos, with their official numbers of frames."""
    made.video(tmp_path / "training_videos" / "01.avi", 5)
    made.video(tmp_path / "training_videos" / "10.avi", 4)
    for number, labels in LABELS.items():
        made.video(tmp_path / "testing_videos" / f"{number:02d}.avi", len(labels))
        label_mask(tmp_path / "testing_label_mask" / f"{number}_label.mat", labels)
    (tmp_path / "testing_videos" / "Thumbs.db").write_bytes(b"junk")
    return tmp_path


@pytest.fixture
def circulating(avenue: Path) -> Path:
    labels = np.zeros((1, sum(TEST_FRAMES)), np.int64)
    start = sum(TEST_FRAMES[:7])
    labels[0, start : start + 30] = 1
    labels[0, -10:] = 1
    np.save(avenue / "frame_labels_avenue.npy", labels)
    return avenue


def test_the_official_counts_add_up() -> None:
    assert len(TEST_FRAMES) == Avenue.published["testing videos"]
    assert sum(TEST_FRAMES) == Avenue.published["testing frames"]


@pytest.mark.parametrize("place", [".", "ground_truth_demo"])
def test_labels_come_from_the_official_masks(avenue: Path, place: str) -> None:
    (avenue / place).mkdir(exist_ok=True)
    (avenue / "testing_label_mask").rename(avenue / place / "testing_label_mask")
    dataset = Avenue(str(avenue))
    assert [(clip.name, clip.n_frames) for clip in dataset.training()] == [("01", 5), ("10", 4)]
    clips = dataset.testing()
    assert [clip.name for clip in clips] == ["08", "21"]
    for clip, labels in zip(clips, LABELS.values(), strict=True):
        assert clip.labels is not None
        assert clip.mask is not None
        assert clip.labels.astype(int).tolist() == labels
        assert [bool(clip.mask(index).any()) for index in (40, 0) if index < len(labels)] == [
            bool(labels[index]) for index in (40, 0) if index < len(labels)
        ]
    report = dataset.check()
    assert report.problems == ()
    assert report.found["abnormal frames"] == 36 + 56
    assert any("Avenue subset: 2 of 21 testing videos" in note for note in report.notes)
    assert any("official pixel masks" in note for note in report.notes)


def test_more_or_fewer_labels_than_frames_are_refused(avenue: Path) -> None:
    label_mask(avenue / "testing_label_mask" / "8_label.mat", [1] * 35)
    with pytest.raises(DatasetError, match=r"08\.avi: has 36 frames, but there are 35 labels in .*8_label\.mat"):
        Avenue(str(avenue)).testing()
    (problem,) = Avenue(str(avenue)).check().problems
    assert "08.avi: has 36 frames, but there are 35 masks" in problem


def test_the_check_finds_everything_that_is_wrong(avenue: Path) -> None:
    made.cut(avenue / "training_videos" / "01.avi")
    (avenue / "training_videos" / "10.avi").write_bytes(b"not a video")
    made.cut(avenue / "testing_label_mask" / "21_label.mat")
    (avenue / "testing_label_mask" / "8_label.mat").unlink()
    report = Avenue(str(avenue)).check()
    for text in (
        "01.avi: ",
        "10.avi: cannot be opened as a video: ",
        "21_label.mat: is not a readable MATLAB 5 file",
        "08.avi: has no labels",
    ):
        assert any(text in problem for problem in report.problems), text
    assert all(problem.startswith(str(avenue)) and "\n" not in problem for problem in report.problems)


def test_a_damaged_training_video_has_an_unknown_count(avenue: Path) -> None:
    (avenue / "training_videos" / "10.avi").write_bytes(b"not a video")
    assert [clip.n_frames for clip in Avenue(str(avenue)).training()] == [5, None]


def test_masks_of_another_size_are_found(avenue: Path) -> None:
    label_mask(avenue / "testing_label_mask" / "8_label.mat", LABELS[8], (10, 20))
    (problem,) = Avenue(str(avenue)).check().problems
    assert problem.endswith("8_label.mat: 36 masks are 20x10, but the frames 48x32")


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no Avenue: expected training_videos/"):
        Avenue(str(tmp_path))


def test_the_circulating_labels_are_cut_by_the_official_counts(circulating: Path) -> None:
    dataset = AvenueNpy(str(circulating))
    first, second = dataset.testing()
    assert first.labels is not None
    assert second.labels is not None
    assert np.flatnonzero(first.labels).tolist() == list(range(30))
    assert np.flatnonzero(second.labels).tolist() == list(range(66, 76))
    assert first.mask is None
    report = dataset.check()
    assert report.problems == ()
    assert report.found["abnormal frames"] == 40
    assert any("frame_labels_avenue.npy" in note and "441" in note for note in report.notes)


def test_a_circulating_file_of_another_length_is_refused(circulating: Path) -> None:
    np.save(circulating / "frame_labels_avenue.npy", np.zeros(100))
    with pytest.raises(DatasetError, match="holds 100 labels, expected 15324"):
        AvenueNpy(str(circulating)).testing()
    (circulating / "frame_labels_avenue.npy").unlink()
    with pytest.raises(DatasetError, match=r"frame_labels_avenue\.npy: cannot be read: No such file"):
        AvenueNpy(str(circulating)).testing()


def test_a_video_with_another_number_of_frames_is_refused(circulating: Path) -> None:
    made.video(circulating / "testing_videos" / "08.avi", 30)
    with pytest.raises(DatasetError, match=r"08\.avi: has 30 frames, but there are 36 labels"):
        AvenueNpy(str(circulating)).testing()


@pytest.mark.parametrize("name", ["22.avi", "gate.avi"])
def test_a_video_of_no_official_number_is_refused(circulating: Path, name: str) -> None:
    made.video(circulating / "testing_videos" / name, 3)
    with pytest.raises(DatasetError, match="no number from 1 to 21 in its name"):
        AvenueNpy(str(circulating)).testing()


def test_the_real_subset_has_the_labels_that_scipy_reads(data: Path) -> None:
    dataset = Avenue(str(data / "avenue"))
    assert sum(clip.n_frames or 0 for clip in dataset.training()) == 145 + 244 + 1223 + 781
    clips = dataset.testing()
    assert [clip.n_frames for clip in clips] == [TEST_FRAMES[int(clip.name) - 1] for clip in clips]
    for clip in clips:
        path = data / "avenue" / "testing_label_mask" / f"{int(clip.name)}_label.mat"
        masks = scipy.io.loadmat(path)["volLabel"][0]
        assert clip.labels is not None
        assert clip.mask is not None
        assert clip.labels.tolist() == [bool(mask.any()) for mask in masks]
        assert np.array_equal(clip.mask(20), masks[20] != 0)
    assert sum(int(clip.labels.sum()) for clip in clips if clip.labels is not None) == 36 + 384 + 140 + 53
