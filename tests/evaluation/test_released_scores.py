"""Released scores: whose file is whose, which frames were dropped, and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from comemory import metrics
from comemory.cli import main
from comemory.errors import ComemoryError, EvaluationError
from comemory.evaluation.released_scores import evaluate_released_scores, read_released_scores
from comemory.types import LabelledSource

LENGTHS = {"Test001": 12, "Test002": 20, "Test003": 15}
SCENE = "synthetic:seed=2,frames=40,testing=2,size=60x90"


def video(name: str, n_frames: int) -> LabelledSource:
    """A video whose second half is abnormal."""
    return LabelledSource(name, "nowhere.mp4", n_frames, np.arange(n_frames) >= n_frames // 2)


VIDEOS = [video(name, n_frames) for name, n_frames in LENGTHS.items()]


def scores_of(n_frames: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n_frames) + (np.arange(n_frames) >= n_frames // 2) * 0.5


def save(folder: Path, n_missing: int = 0, name: str = "psnr_{:d}.npy") -> Path:
    """A file for each video, the first frames left out."""
    for number, n_frames in enumerate(LENGTHS.values(), 1):
        np.save(folder / name.format(number), scores_of(n_frames)[n_missing:])
    return folder


def test_a_file_belongs_to_the_video_of_its_number(tmp_path: Path) -> None:
    scored, notes = read_released_scores(save(tmp_path, 4), VIDEOS)
    assert [one.name for one in scored] == list(LENGTHS)
    for one, (name, n_frames) in zip(scored, LENGTHS.items(), strict=True):
        assert one.frames.tolist() == list(range(4, n_frames)), name
        np.testing.assert_array_equal(one.score, scores_of(n_frames)[4:])
    assert notes == ["12 of 47 frames have no score and are left out: the first 4 of every video."]


def test_a_name_goes_before_a_number_and_other_files_are_named(tmp_path: Path) -> None:
    save(tmp_path, name="Test{:03d}.npy")
    np.save(tmp_path / "labels_1.npy", np.zeros(47))
    scored, notes = read_released_scores(tmp_path, VIDEOS)
    np.testing.assert_array_equal(scored[0].score, scores_of(12))
    assert notes == ["No labelled video belongs to labels_1.npy: left out.", "Every frame has a score."]


def test_frames_dropped_at_both_ends(tmp_path: Path) -> None:
    for number, n_frames in enumerate(LENGTHS.values(), 1):
        np.savez(tmp_path / f"{number}.npz", scores_of(n_frames)[3:-2].reshape(-1, 1))
    scored, (note,) = read_released_scores(tmp_path, VIDEOS, n_first=3)
    assert scored[1].frames.tolist() == list(range(3, 18))
    assert note == "15 of 47 frames have no score and are left out: the first 3 and the last 2 of every video."


def test_frames_dropped_differently_and_in_between(tmp_path: Path) -> None:
    save(tmp_path)
    np.save(tmp_path / "psnr_2.npy", np.where(np.arange(18) == 5, np.nan, scores_of(20)[2:]))
    scored, (note,) = read_released_scores(tmp_path, VIDEOS)
    assert 7 not in scored[1].frames
    assert note.endswith("left out: the first 2 and 1 between of Test002.")


@pytest.mark.parametrize("in_folder", [True, False])
@pytest.mark.parametrize("name", ["all.npy", "ALL.NPY", "all.npz", "all.NPZ"])
def test_one_array_of_all_videos_is_cut(tmp_path: Path, in_folder: bool, name: str) -> None:
    whole = np.concatenate([scores_of(n_frames)[4:] for n_frames in LENGTHS.values()])
    with (tmp_path / name).open("wb") as file:
        np.savez(file, whole) if name.lower().endswith("z") else np.save(file, whole)
    scored, notes = read_released_scores(tmp_path if in_folder else tmp_path / name, VIDEOS)
    for one, n_frames in zip(scored, LENGTHS.values(), strict=True):
        np.testing.assert_array_equal(one.score, scores_of(n_frames)[4:])
    assert notes[0].startswith(f"{name} holds all videos: it was cut into 3 parts in the order")
    assert "the first 4 of every video" in notes[1]


def test_regularity_scaled_within_the_video_is_turned_round_and_named(tmp_path: Path) -> None:
    for number, n_frames in enumerate(LENGTHS.values(), 1):
        scores = scores_of(n_frames)
        np.save(tmp_path / f"{number}.npy", 1 - (scores - scores.min()) / np.ptp(scores))
    results, notes = evaluate_released_scores(tmp_path, "made", VIDEOS, higher_is_normal=True)
    assert any("scaled within the whole video" in note for note in notes)
    scaled = metrics.offline_min_max([scores_of(n_frames) for n_frames in LENGTHS.values()])
    labels = [one.labels for one in VIDEOS if one.labels is not None]
    assert results["causal"]["auc_micro"] == pytest.approx(metrics.micro_auc(scaled, labels))


def test_the_same_scores_as_a_scores_file_give_the_same_results(tmp_path: Path) -> None:
    arrays = {name: np.r_[np.full(4, np.nan), scores_of(n)[4:]] for name, n in LENGTHS.items()}
    np.savez(tmp_path / "own.npz", **arrays)  # type: ignore[arg-type]
    (tmp_path / "released").mkdir()
    released = evaluate_released_scores(save(tmp_path / "released", 4), "made", VIDEOS)
    assert released == evaluate_released_scores(tmp_path / "own.npz", "made", VIDEOS)


class TestRefused:
    @pytest.mark.parametrize(
        ("values", "text"),
        [
            (np.zeros(13), "the video 'Test001' has 13 scores for 12 frames"),
            (np.zeros(0), "the video 'Test001' has 0 scores"),
            (np.zeros((4, 3)), r"expected one real number for each frame"),
            (np.full(12, np.inf), "a score that is not finite"),
            (np.array(["a"] * 12), "expected bool, integer or real numbers"),
            (np.array([{}] * 12), "is not a whole .npy file of plain numbers"),
        ],
    )
    def test_an_array_that_does_not_fit(self, tmp_path: Path, values: np.ndarray, text: str) -> None:
        np.save(save(tmp_path) / "psnr_1.npy", values, allow_pickle=True)
        with pytest.raises(ComemoryError, match=text) as caught:
            read_released_scores(tmp_path, VIDEOS)
        assert "\n" not in str(caught.value)

    def test_no_score_at_all(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "mine.npz", **{video.name: np.full(video.n_frames or 0, np.nan) for video in VIDEOS})
        with pytest.raises(EvaluationError, match=r"mine\.npz has no score of any labelled frame, only nan"):
            read_released_scores(tmp_path / "mine.npz", VIDEOS)

    @pytest.mark.parametrize("name", ["mine.csv", "mine.mat", "mine.npz"])
    def test_a_file_of_another_format_is_not_called_a_pickle(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("frame,score\n0,0.5\n")
        with pytest.raises(EvaluationError, match=r"is neither a \.npy nor a \.npz file: save it with") as caught:
            read_released_scores(tmp_path / name, VIDEOS)
        assert "pickle" not in str(caught.value)

    def test_files_that_are_missing_or_many(self, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match=r"has no \.npy or \.npz file"):
            read_released_scores(tmp_path, VIDEOS)
        np.save(save(tmp_path) / "mse_3.npy", scores_of(15))
        with pytest.raises(EvaluationError, match=r"mse_3\.npy, psnr_3\.npy all fit the video 'Test003'"):
            read_released_scores(tmp_path, VIDEOS)
        for file in tmp_path.glob("*_3.npy"):
            file.unlink()
        with pytest.raises(EvaluationError, match=r"has no file of the video 'Test003': expected Test003\.npy"):
            read_released_scores(tmp_path, VIDEOS)

    @pytest.mark.parametrize("n_scores", [48, 45, 5])
    def test_an_array_that_cannot_be_cut(self, tmp_path: Path, n_scores: int) -> None:
        np.save(tmp_path / "all.npy", np.zeros(n_scores))
        with pytest.raises(EvaluationError, match=rf"{n_scores} scores for 47 frames of 3 videos"):
            read_released_scores(tmp_path / "all.npy", VIDEOS)

    def test_more_first_frames_than_are_missing(self, tmp_path: Path) -> None:
        with pytest.raises(EvaluationError, match="lacks the scores of 4 frames, so its first 8"):
            read_released_scores(save(tmp_path, 4), VIDEOS, n_first=8)

    def test_arrays_of_one_file(self, tmp_path: Path) -> None:
        np.savez(save(tmp_path) / "psnr_1.npz", a=np.zeros(12), b=np.zeros(12))
        (tmp_path / "psnr_1.npy").unlink()
        with pytest.raises(EvaluationError, match=r"has 2 arrays \(a, b\): expected one"):
            read_released_scores(tmp_path, VIDEOS)


def command(*arguments: object, code: int = 0) -> None:
    with pytest.raises(SystemExit, match=rf"^{code}$"):
        main(["evaluate", *map(str, arguments), "--data", SCENE])


def test_the_command_has_the_matrix_and_a_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "mine.npz", **{name: scores_of(40) for name in ("01", "02")})  # type: ignore[arg-type]
    command("--scores-file", tmp_path / "mine.npz", "--matrix", "--protocol", "causal")
    said = capsys.readouterr().out
    assert "AUC, micro / macro, by normalisation and smoothing" in said
    assert "alarms at other budgets" not in said
    assert "paper" not in said
    command("--scores-file", tmp_path / "mine.npz", "--false-alarms", "1/h", code=2)
    assert "--scores-file takes no --false-alarms" in capsys.readouterr().err


def test_the_command_says_what_the_column_paper_is_and_writes_the_notes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "all.npy", np.r_[scores_of(36), scores_of(36)])
    command("--scores-file", tmp_path / "all.npy")
    assert "paper: the scores of the file, divided by their maximum in each video" in capsys.readouterr().out
    command("--scores-file", tmp_path / "all.npy", "--json", "-")
    said = capsys.readouterr()
    notes = json.loads(said.out)["notes"]
    assert notes[1] == "8 of 80 frames have no score and are left out: the first 4 of every video."
    assert all(f"note: {note}" in said.err for note in notes)
    np.save(tmp_path / "all.npy", np.full(80, np.nan))
    command("--scores-file", tmp_path / "all.npy", code=1)
    assert "all.npy has no score of any labelled frame, only nan" in capsys.readouterr().err


def test_the_command_takes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("01", "02"):
        np.save(tmp_path / f"{name}.npy", scores_of(36))
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["evaluate", "--scores-file", str(tmp_path), "--data", SCENE])
    said = capsys.readouterr().out
    assert "8 of 80 frames have no score and are left out: the first 4 of every video." in said
