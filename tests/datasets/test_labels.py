from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datasets import made
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comemory.datasets.labels import LabelError, labels_from_intervals, read_intervals, read_npy_labels, read_ucsd_m
from comemory.errors import DatasetError

FUZZ = settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
INTERVALS = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: tuple(sorted(pair))), max_size=4
)


def written(tmp_path: Path, text: str | bytes, name: str = "labels") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


class TestUcsd:
    def test_the_official_form_is_read(self, tmp_path: Path) -> None:
        text = (
            "% ground truth\r\nTestVideoFile = {};\r\n\r\n"
            "TestVideoFile{end+1}.gt_frame = [60:152];\r\n"
            "TestVideoFile{end+1}.gt_frame = [5:90, 140:200];  % two\r\n"
            "TestVideoFile{end+1}.gt_frame=[ 1 : 3 7 9:9 ]\r\n"
            "TestVideoFile{end+1}.gt_frame = [];"
        )
        assert read_ucsd_m(written(tmp_path, text)) == [
            [(59, 151)],
            [(4, 89), (139, 199)],
            [(0, 2), (6, 6), (8, 8)],
            [],
        ]

    @pytest.mark.parametrize(
        "line",
        [
            "TestVideoFile{end+1}.gt_frame = [0:5];",
            "TestVideoFile{end+1}.gt_frame = [9:5];",
            "TestVideoFile{end+1}.gt_frame = [1:2:9];",
            "TestVideoFile{end+1}.gt_frame = [1:5]; system('ls')",
            "TestVideoFile{3}.gt_frame = [1:5];",
            "TestVideoFile{end+1}.gt_frame = 1:5;",
            "TestVideoFile{end+1}.gt_frame = [-1:5];",
            "TestVideoFile{end+1}.gt_frame = [1e3:2000];",
            "TestVideoFile{end+1}.gt_frame = [" + " " * 100_000 + "];",
            "TestVideoFile = {};",
        ],
    )
    def test_a_line_of_another_form_is_refused_with_its_number(self, tmp_path: Path, line: str) -> None:
        path = written(tmp_path, f"TestVideoFile{{end+1}}.gt_frame = [1:2];\n{line}\n")
        with pytest.raises(DatasetError, match=r"line 2 is .*, expected TestVideoFile") as caught:
            read_ucsd_m(path)
        assert str(caught.value).startswith(str(path))
        assert len(str(caught.value)) < 400

    def test_every_bad_line_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(LabelError, match="and 1 more") as caught:
            read_ucsd_m(written(tmp_path, "bad\nTestVideoFile{end+1}.gt_frame = [1:2];\nworse"))
        assert len(caught.value.lines) == 2

    @FUZZ
    @given(st.lists(INTERVALS, max_size=4))
    def test_what_is_written_is_read(self, tmp_path: Path, clips: list[list[tuple[int, int]]]) -> None:
        lines = [
            f"TestVideoFile{{end+1}}.gt_frame = [{', '.join(f'{a + 1}:{b + 1}' for a, b in clip)}];" for clip in clips
        ]
        assert read_ucsd_m(written(tmp_path, "\n".join(lines))) == clips

    @FUZZ
    @given(st.binary(max_size=200) | st.text("TestVideoFile{end+1}.gt_frame = [0123456789:,];%\n ", max_size=200))
    def test_anything_gives_ranges_or_one_error(self, tmp_path: Path, text: str | bytes) -> None:
        assert "\n" not in made.error_of(lambda: read_ucsd_m(written(tmp_path, text)))


class TestIntervals:
    def read(self, tmp_path: Path, text: str | bytes, n_frames: int = 10, rate_hz: float | None = None) -> list[int]:
        times_s = None if rate_hz is None else np.arange(n_frames) / rate_hz
        return np.flatnonzero(read_intervals(written(tmp_path, text), n_frames, times_s)).tolist()

    def test_frames_are_counted_from_0_with_both_ends(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "start_frame,end_frame\n2,4\n\n9,9\n") == [2, 3, 4, 9]

    def test_seconds_are_turned_into_frames(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "start_s, end_s\n0.1,0.3\n0.85,1.0\n", rate_hz=10.0) == [1, 2, 3, 9]

    def test_seconds_are_those_at_which_frames_are_shown(self, tmp_path: Path) -> None:
        times_s = np.concatenate([np.arange(50) / 10, 5 + np.arange(50) / 2])
        path = written(tmp_path, "start_s,end_s\n0,4.95\n5.1,5.2\n20,29.5\n")
        expected = [*range(50), *range(80, 100)]
        assert np.flatnonzero(read_intervals(path, 100, times_s)).tolist() == expected

    def test_a_header_alone_is_a_normal_video(self, tmp_path: Path) -> None:
        assert self.read(tmp_path, "\ufeffstart_frame,end_frame\n") == []

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ("nan,3", "two finite numbers"),
            ("1,inf", "two finite numbers"),
            ("-1,3", "negative"),
            ("5,3", "end is before the start"),
            ("5,10", "has 10 frames, 0 to 9"),
            ("1.5,3", "whole frame numbers"),
            ("a,b", "two numbers"),
            ("1", "two values"),
            ("1,2,3", "two values"),
        ],
    )
    def test_a_bad_row_is_refused_with_its_line(self, tmp_path: Path, row: str, said: str) -> None:
        with pytest.raises(DatasetError, match=f"line 3 is '{row}': .*{said}") as caught:
            self.read(tmp_path, f"start_frame,end_frame\n0,1\n{row}\n")
        assert str(caught.value).startswith(str(tmp_path))

    def test_every_bad_row_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(LabelError) as caught:
            self.read(tmp_path, "start_frame,end_frame\n5,3\n1,2\n-1,2\n")
        assert len(caught.value.lines) == 2

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "expected start_frame,end_frame"),
            ("first,last\n1,2", "starts with 'first,last'"),
            ("start_s,end_s\n0,1", "a folder of images has no times"),
            (b"\xff\xfe", "not a text file"),
            ("x" * (1 << 22) + "y", "over 4 MiB"),
            ('"' + "x" * 200_000, "not a CSV file"),
        ],
    )
    def test_a_file_of_another_form_is_refused(self, tmp_path: Path, text: str | bytes, said: str) -> None:
        with pytest.raises(DatasetError, match=said):
            self.read(tmp_path, text)

    def test_an_end_behind_the_video_is_refused_in_seconds_too(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match=r"the video ends at 1\.000 s"):
            self.read(tmp_path, "start_s,end_s\n0,1.2\n", rate_hz=10.0)

    @FUZZ
    @given(INTERVALS)
    def test_what_is_written_is_read(self, tmp_path: Path, intervals: list[tuple[int, int]]) -> None:
        text = "start_frame,end_frame\n" + "".join(f"{start},{end}\n" for start, end in intervals)
        inside = {frame for start, end in intervals for frame in range(start, end + 1)}
        assert set(self.read(tmp_path, text, 51)) == inside
        assert labels_from_intervals(intervals, 51).sum() == len(inside)

    @FUZZ
    @given(st.binary(max_size=100) | st.text("start_frame,end0123456789.-naif\n\"' ", max_size=100), st.booleans())
    def test_anything_gives_labels_or_one_error(self, tmp_path: Path, text: str | bytes, headed: bool) -> None:
        body = text if isinstance(text, bytes) else text.encode()
        assert "\n" not in made.error_of(
            lambda: self.read(tmp_path, (b"start_frame,end_frame\n" if headed else b"") + body)
        )


class TestNpy:
    @pytest.mark.parametrize("kind", ["?", "u1", "i8", "f4", "f8"])
    @pytest.mark.parametrize("shape", [(4,), (1, 4), (4, 1)])
    def test_labels_of_any_plain_kind_are_read(self, tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
        np.save(tmp_path / "a.npy", np.array([0, 1, 1, 0], kind).reshape(shape))
        labels = read_npy_labels(tmp_path / "a.npy")
        assert labels.dtype == np.bool_
        assert labels.tolist() == [False, True, True, False]

    @pytest.mark.parametrize(
        ("array", "said"),
        [
            (np.array([0.0, np.nan, np.nan]), "2 of 3 labels are not 0 or 1; the first is nan at 1"),
            (np.array([0, 1, 2]), "the first is 2 at 2"),
            (np.array([0, -1]), "the first is -1 at 1"),
            (np.array(["0", "1"]), "holds values of type <U1"),
            (np.zeros(3, complex), "holds values of type complex128"),
            (np.zeros((2, 2)), r"shape .2, 2., expected one label for each frame"),
            (np.array([{}, []], object), "is not a whole .npy file"),
        ],
    )
    def test_other_values_are_refused(self, tmp_path: Path, array: np.ndarray, said: str) -> None:
        path = tmp_path / "a.npy"
        np.save(path, array)
        with pytest.raises(DatasetError, match=said) as caught:
            read_npy_labels(path)
        assert str(caught.value).startswith(str(path))

    def test_a_cut_file_and_a_missing_one_are_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        with pytest.raises(DatasetError, match="No such file"):
            read_npy_labels(path)
        np.save(path, np.zeros(1000))
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(DatasetError, match="not a whole"):
            read_npy_labels(path)

    @FUZZ
    @given(st.data())
    def test_a_changed_file_gives_labels_or_one_error(self, tmp_path: Path, data: st.DataObject) -> None:
        path = tmp_path / "a.npy"
        np.save(path, np.array([0, 1, 1, 0]))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, 100))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        assert "\n" not in made.error_of(lambda: read_npy_labels(path))

    @FUZZ
    @given(st.binary(max_size=120), st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"\x93NUMPY\x02\x00\x20\x00"]))
    def test_arbitrary_bytes_give_labels_or_one_error(self, tmp_path: Path, junk: bytes, magic: bytes) -> None:
        assert "\n" not in made.error_of(lambda: read_npy_labels(written(tmp_path, magic + junk, "a.npy")))
