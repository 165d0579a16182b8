from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from datasets import made
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.datasets import listing
from comemory.datasets.folder import Folder
from comemory.errors import DatasetError
from comemory.video.image_folder import natural_key


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 10**12), unique=True, max_size=20), st.integers())
def test_numbers_in_names_sort_as_numbers(values: list[int], seed: int) -> None:
    names = [f"frame{value}.jpg" for value in sorted(values)]
    shuffled = list(names)
    random.Random(seed).shuffle(shuffled)
    assert sorted(shuffled, key=natural_key) == names


def test_other_files_and_sub_folders_are_not_images(tmp_path: Path) -> None:
    made.image_files(tmp_path, 11)
    for name in (".DS_Store", "._001.jpg", "Thumbs.db", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "004.tif").mkdir()
    assert [path.name for path in listing.list_images(tmp_path)] == [f"{index:03d}.jpg" for index in range(11)]
    assert listing.count_frames(tmp_path) == 11


def test_a_header_states_the_frames_of_a_video(tmp_path: Path) -> None:
    assert listing.count_frames(made.video(tmp_path / "a.avi", 7)) == 7


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not a video" * 100])
def test_what_is_no_video_has_an_unknown_count(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.avi"
    path.write_bytes(content)
    assert listing.count_frames(path) is None
    assert listing.count_frames(tmp_path / "absent.avi") is None


def test_a_script_that_names_other_files_is_no_video(tmp_path: Path) -> None:
    made.video(tmp_path / "b.avi", 7)
    path = tmp_path / "a.mkv"
    path.write_text("ffconcat version 1.0\nfile b.avi\nfile b.avi\n")
    assert listing.count_frames(path) is None
    (problem,) = Folder(str(path)).check().problems
    assert problem.startswith(f"{path}: cannot be opened as a video: ")


def test_links_in_a_circle_and_pipes_do_not_hang(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a.jpg").symlink_to(tmp_path / "b.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe.avi")
    assert [path.name for path in listing.list_videos(tmp_path)] == ["loop"]
    assert [path.name for path in listing.list_images(tmp_path)] == ["a.jpg", "b.jpg"]


def test_a_folder_that_may_not_be_listed_is_named(open_folder: Path, request: pytest.FixtureRequest) -> None:
    closed = open_folder / "closed"
    closed.mkdir(mode=0o000)
    request.getfixturevalue("ordinary_user")
    with pytest.raises(DatasetError, match=r"closed: this folder cannot be listed: Permission denied"):
        listing.list_entries(closed)
    assert listing.count_frames(closed) is None


@pytest.mark.parametrize(
    ("path", "said"), [("", "no path was given"), ("/no/such/place", "No such file"), ("a\0b", "null")]
)
def test_a_missing_path_is_refused(path: str, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        listing.dataset_path(path, "ped2")


def test_ranges_are_short() -> None:
    assert listing.format_numbers([]) == ""
    assert listing.format_numbers(range(10)) == "0-9"
    assert listing.format_numbers([1, 3, 4], most=1) == "1 and more"
