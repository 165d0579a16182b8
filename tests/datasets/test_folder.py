from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from datasets import made

from comemory.datasets.folder import Folder
from comemory.errors import DatasetError


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    made.video(tmp_path / "training" / "gate.mp4", 6)
    made.image_files(tmp_path / "training" / "yard", 5)
    made.video(tmp_path / "testing" / "night.avi", 10)
    made.image_files(tmp_path / "testing" / "rain", 4)
    return tmp_path


def labels(root: Path, name: str, text: str) -> Path:
    path = root / "testing" / "labels" / f"{name}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def names(dataset: Folder) -> list[tuple[str, int | None]]:
    return [(clip.name, clip.n_frames) for clip in dataset.training()]


def test_training_and_testing_are_read(footage: Path) -> None:
    dataset = Folder(str(footage))
    assert names(dataset) == [("gate", 6), ("yard", 5)]
    assert [(clip.name, clip.labels) for clip in dataset.testing()] == [("night", None), ("rain", None)]
    assert dataset.rate_hz is None
    report = dataset.check()
    assert report.problems == ()
    assert report.published == {}
    assert f"{footage}/testing/night.avi: has no labels" in report.notes


def test_one_level_of_videos_and_folders_is_training(tmp_path: Path) -> None:
    made.video(tmp_path / "b10.avi", 3)
    made.video(tmp_path / "b9.avi", 3)
    made.image_files(tmp_path / "a", 2)
    dataset = Folder(str(tmp_path))
    assert names(dataset) == [("a", 2), ("b9", 3), ("b10", 3)]
    assert dataset.testing() == []


def test_one_video_or_one_folder_of_images_is_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made.video(tmp_path / "gate.mp4", 3)
    assert names(Folder(str(path))) == [("gate", 3)]
    made.image_files(tmp_path / "yard", 2)
    assert names(Folder(str(tmp_path / "yard"))) == [("yard", 2)]
    monkeypatch.chdir(tmp_path / "yard")
    assert names(Folder(".")) == [("yard", 2)]
    assert Folder(".").check().problems == ()


def test_intervals_label_a_video(footage: Path) -> None:
    labels(footage, "night", "start_frame,end_frame\n2,4\n9,9\n")
    labels(footage, "rain", "start_frame,end_frame\n")
    night, rain = Folder(str(footage)).testing()
    assert night.labels is not None
    assert rain.labels is not None
    assert np.flatnonzero(night.labels).tolist() == [2, 3, 4, 9]
    assert len(night.labels) == 10
    assert not rain.labels.any()
    assert Folder(str(footage)).check().found["abnormal frames"] == 4


def test_seconds_need_a_frame_rate(footage: Path) -> None:
    labels(footage, "night", "start_s,end_s\n0.08,0.16\n")
    night = Folder(str(footage)).testing()[0]
    assert night.labels is not None
    assert np.flatnonzero(night.labels).tolist() == [2, 3, 4]
    labels(footage, "rain", "start_s,end_s\n0.08,0.16\n")
    with pytest.raises(DatasetError, match=r"rain\.csv: gives seconds, but a folder of images has no times"):
        Folder(str(footage)).testing()


def test_masks_label_a_video(footage: Path) -> None:
    made.masks(footage / "testing" / "masks" / "rain", [0, 1, 1, 0])
    rain = Folder(str(footage)).testing()[1]
    assert rain.labels is not None
    assert rain.labels.tolist() == [False, True, True, False]
    assert rain.mask is not None
    assert rain.mask(1).shape == made.SIZE
    labels(footage, "rain", "start_frame,end_frame\n1,3\n")
    (problem,) = Folder(str(footage)).check().problems
    assert problem.endswith("rain.csv disagree on 1 of 4 frames, counted from 0: 3")


def test_every_bad_label_is_found(footage: Path) -> None:
    path = labels(footage, "night", "start_frame,end_frame\nnan,3\n-1,2\n5,3\n8,10\n1,2\n")
    made.masks(footage / "testing" / "masks" / "rain", [0, 1, 1])
    with pytest.raises(DatasetError, match=r"line 2 .* \(and 3 more\)"):
        Folder(str(footage)).testing()
    problems = Folder(str(footage)).check().problems
    assert len(problems) == 5
    assert sum(problem.startswith(f"{path}: line ") for problem in problems) == 4
    assert problems[-1].startswith(f"{footage}/testing/rain: has 4 frames, but there are 3 masks")


def test_labels_of_no_video_are_found(footage: Path) -> None:
    path = labels(footage, "nigth", "start_frame,end_frame\n")
    made.masks(footage / "testing" / "masks" / "snow", [0])
    assert Folder(str(footage)).check().problems == (
        f"{path}: belongs to no video in {footage}/testing",
        f"{footage}/testing/masks/snow: belongs to no video in {footage}/testing",
    )


def test_labels_of_an_unreadable_video_are_refused(footage: Path) -> None:
    (footage / "testing" / "night.avi").write_bytes(b"junk")
    labels(footage, "night", "start_frame,end_frame\n")
    with pytest.raises(DatasetError, match=r"because no frame of .*night\.avi can be read"):
        Folder(str(footage)).testing()
    assert any("night.avi: cannot be opened" in problem for problem in Folder(str(footage)).check().problems)


def test_two_videos_of_one_name_are_refused(footage: Path) -> None:
    made.video(footage / "training" / "gate.avi", 2)
    with pytest.raises(DatasetError, match="the name 'gate' stands for 2 videos"):
        Folder(str(footage)).training()
    assert len(Folder(str(footage)).check().problems) == 2


def test_folders_without_images_and_loose_images_are_named(footage: Path) -> None:
    made.video(footage / "training" / "camera" / "a.mp4", 2)
    (footage / "training" / "empty").mkdir()
    made.image_file(footage / "training" / "loose.jpg")
    notes = Folder(str(footage)).check().notes
    assert f"{footage}/training/camera: is not used, because it holds no images; videos go one level up" in notes
    assert f"{footage}/training/empty: is not used, because it is empty" in notes
    assert any("1 images beside the videos are not used" in note for note in notes)
    made.video(footage / "deep" / "a" / "b.mp4", 2)
    with pytest.raises(DatasetError, match=r"holds no video and no folder of images; .*deep/a: is not used"):
        Folder(str(footage / "deep"))


def test_gaps_in_the_numbering_are_only_noted(footage: Path) -> None:
    (footage / "training" / "yard" / "002.jpg").unlink()
    report = Folder(str(footage)).check()
    assert report.problems == ()
    assert f"{footage}/training/yard: the numbering of its images lacks 2" in report.notes


def test_images_without_numbers_are_accepted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        made.image_file(tmp_path / f"{name}.png")
    assert Folder(str(tmp_path)).check().found["training frames"] == 3


def test_cut_and_changing_videos_are_found(footage: Path) -> None:
    made.cut(footage / "training" / "yard" / "003.jpg", 0.7)
    made.cut(made.video(footage / "training" / "cut.avi", 40), 0.5)
    report = Folder(str(footage)).check()
    assert any("yard/003.jpg: " in problem and "truncated" in problem for problem in report.problems)
    assert any("cut.avi: " in problem and "of 40" in problem for problem in report.problems)


def test_a_sound_file_is_no_video(tmp_path: Path) -> None:
    import wave

    path = tmp_path / "sound.avi"
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        sound.writeframes(bytes(16000))
    assert names(Folder(str(path))) == [("sound", None)]
    (problem,) = Folder(str(path)).check().problems
    assert problem.startswith(f"{path}: cannot be opened as a video: ")


@pytest.mark.parametrize("kind", ["empty", "pipe"])
def test_what_holds_nothing_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    path.mkdir() if kind == "empty" else os.mkfifo(path)
    with pytest.raises(DatasetError, match="holds no video and no folder of images"):
        Folder(str(path))


def test_a_circle_of_links_does_not_hang(footage: Path) -> None:
    (footage / "training" / "loop").symlink_to(footage, target_is_directory=True)
    dataset = Folder(str(footage))
    assert names(dataset) == [("gate", 6), ("yard", 5)]
    assert any("loop: is not used" in note for note in dataset.check().notes)


def test_folders_that_may_not_be_read_are_problem_lines(open_folder: Path, request: pytest.FixtureRequest) -> None:
    made.image_files(open_folder / "training" / "yard", 2)
    made.image_files(open_folder / "training" / "closed", 2).chmod(0)
    (open_folder / "testing").mkdir(mode=0o000)
    request.getfixturevalue("ordinary_user")
    report = Folder(str(open_folder)).check()
    assert f"{open_folder}/training/closed: this folder cannot be listed: Permission denied" in report.problems
    assert f"{open_folder}/testing: this folder cannot be listed: Permission denied" in report.problems
    assert report.found["training frames"] == 2


def test_a_link_has_the_name_of_the_link(tmp_path: Path) -> None:
    made.image_files(tmp_path / "disk" / "2024-06-01", 6)
    testing = tmp_path / "footage" / "testing"
    testing.mkdir(parents=True)
    for name in ("friday", "saturday"):
        (testing / name).symlink_to(tmp_path / "disk" / "2024-06-01", target_is_directory=True)
    labels(tmp_path / "footage", "friday", "start_frame,end_frame\n2,4\n")
    friday, saturday = Folder(str(tmp_path / "footage")).testing()
    assert (friday.name, saturday.name) == ("friday", "saturday")
    assert friday.labels is not None
    assert saturday.labels is None
