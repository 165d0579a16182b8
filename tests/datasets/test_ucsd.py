from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
from datasets import made

from comemory.datasets.ucsd import Ped1, Ped2
from comemory.errors import DatasetError

OFFICIAL_PED2 = [
    "61:180", "95:180", "1:146", "31:180", "1:129", "1:159", "46:180", "1:180", "1:120", "1:150", "1:180", "88:180",
]  # fmt: skip


def ranges_file(path: Path, ranges: list[str]) -> Path:
    lines = [f"TestVideoFile{{end+1}}.gt_frame = [{text}];" for text in ranges]
    path.write_text("\n".join(["TestVideoFile = {};", *lines]))
    return path


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Two training and two test clips of UCSDped2 as released, with the junk that comes along."""
    root = tmp_path / "UCSD_Anomaly_Dataset.v1p2" / "UCSDped2"
    for number in (1, 2):
        made.image_files(root / "Train" / f"Train{number:03d}", 5, ".tif", start=1)
        made.image_files(root / "Test" / f"Test{number:03d}", 6, ".tif", start=1)
    made.masks(root / "Test" / "Test001_gt", [0, 1, 1, 0, 0, 1], ".bmp", start=1)
    made.masks(root / "Test" / "Test002_gt", [1, 1, 1, 1, 1, 1], ".bmp", start=1)
    ranges_file(root / "Test" / "UCSDped2.m", ["2:3, 6", "1:6"])
    for place in ("Train/.DS_Store", "Train/Train001/._001.tif", "Test/Test001/Thumbs.db", "Test/notes.txt"):
        (root / place).write_bytes(b"junk")
    (root / "Test" / "Test001_copy").mkdir()
    return root


@pytest.fixture
def circulating(tmp_path: Path) -> Path:
    root = tmp_path / "ped2"
    made.image_files(root / "training" / "frames" / "01", 5)
    for name in ("02", "10", "01"):
        made.image_files(root / "testing" / "frames" / name, 4)
        made.masks(root / "testing" / "masks" / name, [0, 1, 1, 0])
    return root


def test_the_official_layout_is_read(official: Path) -> None:
    for path in (official, official.parent, official.parent.parent):
        dataset = Ped2(str(path))
        assert [clip.name for clip in dataset.training()] == ["Train001", "Train002"]
        assert [clip.n_frames for clip in dataset.training()] == [5, 5]
        assert all(clip.labels is None and clip.mask is None for clip in dataset.training())
        first, second = dataset.testing()
        assert first.name == "Test001"
        assert first.source == str(official / "Test" / "Test001")
        assert first.labels is not None
        assert first.labels.tolist() == [False, True, True, False, False, True]
        assert first.mask is not None
        assert first.mask(1).shape == made.SIZE
        assert [bool(first.mask(index).any()) for index in range(6)] == first.labels.tolist()
        assert second.labels is not None
        assert second.labels.all()
    assert dataset.rate_hz == 10.0


def test_the_check_of_a_good_copy_has_no_problem(official: Path) -> None:
    report = Ped2(str(official)).check()
    assert report.problems == ()
    assert report.found == {
        "training videos": 2,
        "training frames": 10,
        "testing videos": 2,
        "testing frames": 12,
        "abnormal frames": 9,
    }
    assert report.published["training frames"] == 2550
    assert any("UCSD Ped2 subset: 2 of 16 training videos" in note for note in report.notes)
    assert any("UCSDped2.m" in note for note in report.notes)


def test_the_check_finds_everything_that_is_wrong(official: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made.cut(official / "Train" / "Train001" / "002.tif")
    made.image_file(official / "Train" / "Train001" / "004.tif", (16, 16))
    (official / "Train" / "Train002" / "003.tif").unlink()
    (official / "Test" / "Test001_gt" / "002.bmp").write_bytes(b"")
    made.mask(official / "Test" / "Test001_gt" / "004.bmp", abnormal=True)
    made.mask(official / "Test" / "Test001_gt" / "005.bmp", abnormal=False, size=(8, 8))
    (official / "Test" / "Test002" / "006.tif").unlink()
    problems = Ped2(str(official)).check().problems
    expected = [
        "Train001/002.tif: the image is damaged",
        "Train001: the size changes from 48x32 to 16x16 at 004.tif (frames of that size: 1)",
        "Train002: the numbering of its images lacks 3",
        "Test001_gt/002.bmp: the file is empty",
        "Test001_gt: 1 masks are 8x8, but the frames 48x32",
        "UCSDped2.m disagree on 1 of 6 frames, counted from 0: 3",
        "UCSDped2.m: entry 2 reaches frame 6, but",
        "Test002: has 5 frames, but there are 6 masks",
    ]
    for text in expected:
        assert sum(text in problem for problem in problems) == 1, text
    assert len(problems) == len(expected)
    assert all(problem.startswith(str(official)) and "\n" not in problem for problem in problems)
    assert capfd.readouterr().err == ""


def test_a_clip_beyond_the_ranges_is_refused(official: Path) -> None:
    ranges_file(official / "Test" / "UCSDped2.m", ["2:3"])
    with pytest.raises(DatasetError, match=r"UCSDped2\.m: has 1 entries, none of them for Test002"):
        Ped2(str(official)).testing()


def test_a_range_beyond_the_clip_is_refused(official: Path) -> None:
    ranges_file(official / "Test" / "UCSDped2.m", ["2:7", "1:6"])
    with pytest.raises(DatasetError, match=r"entry 1 reaches frame 7, but .* has 6 frames"):
        Ped2(str(official)).testing()


def test_ped1_has_masks_for_some_clips_only(tmp_path: Path) -> None:
    root = tmp_path / "UCSDped1"
    made.image_files(root / "Train" / "Train001", 3, ".tif", start=1)
    for number in (1, 2):
        made.image_files(root / "Test" / f"Test{number:03d}", 3, ".tif", start=1)
    made.masks(root / "Test" / "Test002_gt", [1, 0, 0], ".bmp", start=1)
    ranges_file(root / "Test" / "UCSDped1.m", ["1:2", "1"])
    first, second = Ped1(str(root)).testing()
    assert first.mask is None
    assert first.labels is not None
    assert first.labels.tolist() == [True, True, False]
    assert second.mask is not None
    assert Ped1(str(root)).check().problems == ()


def test_clips_without_labels_are_a_problem_of_the_check(tmp_path: Path) -> None:
    made.image_files(tmp_path / "Test" / "Test001", 3, ".tif", start=1)
    dataset = Ped1(str(tmp_path))
    assert dataset.testing()[0].labels is None
    report = dataset.check()
    assert report.problems == (f"{tmp_path / 'Test' / 'Test001'}: has no labels",)
    assert any("no training video" in note for note in report.notes)
    assert "abnormal frames" not in report.found


def test_the_circulating_layout_takes_labels_from_masks(circulating: Path) -> None:
    dataset = Ped2(str(circulating))
    clips = dataset.testing()
    assert [clip.name for clip in clips] == ["01", "02", "10"]
    for clip in clips:
        assert clip.labels is not None
        assert clip.labels.tolist() == [False, True, True, False]
    report = dataset.check()
    assert report.problems == ()
    assert report.found["abnormal frames"] == 6
    assert any("no UCSDped2.m" in note for note in report.notes)


def test_missing_masks_are_refused(circulating: Path) -> None:
    (circulating / "testing" / "masks" / "02" / "001.png").unlink()
    with pytest.raises(DatasetError, match=r"02: has 4 frames, but there are 3 labels in .*masks/02"):
        Ped2(str(circulating)).testing()
    assert len(Ped2(str(circulating)).check().problems) == 1


def test_a_frame_missing_at_the_start_is_found(circulating: Path) -> None:
    for index in (0, 1):
        (circulating / "training" / "frames" / "01" / f"{index:03d}.jpg").unlink()
    (problem,) = Ped2(str(circulating)).check().problems
    assert problem.endswith("training/frames/01: the numbering of its images starts at 2, expected 0 or 1")


def test_two_images_with_one_number_are_found(circulating: Path) -> None:
    made.image_file(circulating / "training" / "frames" / "01" / "002.png")
    (problem,) = Ped2(str(circulating)).check().problems
    assert problem.endswith("several images have the number 2")


def test_the_other_half_of_the_dataset_is_refused(official: Path) -> None:
    with pytest.raises(DatasetError, match="this is UCSDped2, not UCSDped1; open it as ped2:"):
        Ped1(str(official))


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no UCSDped2: expected"):
        Ped2(str(tmp_path))


def test_a_clip_that_may_not_be_read_is_a_problem_line(open_folder: Path, request: pytest.FixtureRequest) -> None:
    made.image_files(open_folder / "Train" / "Train001", 2, ".tif", start=1)
    made.image_files(open_folder / "Train" / "Train002", 2, ".tif", start=1)
    (open_folder / "Train" / "Train001").chmod(0)
    (open_folder / "Train" / "Train002" / "001.tif").chmod(0)
    request.getfixturevalue("ordinary_user")
    dataset = Ped2(str(open_folder))
    assert [clip.n_frames for clip in dataset.training()] == [None, 2]
    problems = dataset.check().problems
    assert f"{open_folder}/Train/Train001: this folder cannot be listed: Permission denied" in problems
    assert f"{open_folder}/Train/Train002/001.tif: cannot be read: Permission denied" in problems


def test_the_real_ped2_is_whole(data: Path) -> None:
    dataset = Ped2(str(data / "ped2"))
    assert [clip.n_frames for clip in dataset.training()][:4] == [120, 150, 150, 180]
    assert sum(clip.n_frames or 0 for clip in dataset.training()) == 2550
    clips = dataset.testing()
    assert len(clips) == 12
    assert sum(clip.n_frames or 0 for clip in clips) == 2010
    assert sum(int(clip.labels.sum()) for clip in clips if clip.labels is not None) == 1648
    assert clips[0].mask is not None
    assert clips[0].mask(100).shape == (240, 360)
    assert clips[0].mask(100).dtype == np.bool_


def test_the_real_masks_agree_with_the_official_ranges(data: Path, tmp_path: Path) -> None:
    for place in ("training", "testing"):
        (tmp_path / place).symlink_to(data / "ped2" / place)
    ranges_file(tmp_path / "UCSDped2.m", OFFICIAL_PED2)
    from_ranges, from_masks = Ped2(str(tmp_path)).testing(), Ped2(str(data / "ped2")).testing()
    for ours, theirs in zip(from_ranges, from_masks, strict=True):
        assert ours.labels is not None
        assert theirs.labels is not None
        assert np.array_equal(ours.labels, theirs.labels), ours.name


def mat_file(path: Path, ranges: list[list[list[int]]]) -> Path:
    """The circulating labels: for each clip the first frames over the last frames, counted from 1."""
    gt = np.empty((1, len(ranges)), object)
    for number, clip in enumerate(ranges):
        gt[0, number] = np.array(clip, np.uint16).reshape(2, -1)
    scipy.io.savemat(path, {"gt": gt}, do_compression=True)
    return path


def test_ranges_of_the_circulating_mat_file_are_read(circulating: Path) -> None:
    mat_file(circulating / "ped2.mat", [[[2], [3]], [[1, 4], [1, 4]], *[[[1], [1]]] * 8])
    labels = [clip.labels for clip in Ped2(str(circulating)).testing() if clip.labels is not None]
    assert [np.flatnonzero(frames).tolist() for frames in labels] == [[1, 2], [0, 3], [0]]
    assert any("ped2.mat: frame labels are taken from here" in note for note in Ped2(str(circulating)).check().notes)


@pytest.mark.parametrize(
    ("ranges", "reason"),
    [([[[3], [2]], [[1], [1]]], "is no list of frame ranges"), ([[[1], [9]], [[1], [1]]], "reaches frame 9")],
)
def test_ranges_of_a_mat_file_that_do_not_fit_are_refused(
    circulating: Path, ranges: list[list[list[int]]], reason: str
) -> None:
    mat_file(circulating / "ped2.mat", ranges)
    with pytest.raises(DatasetError, match=rf"ped2\.mat: .*{reason}"):
        Ped2(str(circulating)).testing()
