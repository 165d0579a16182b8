"""The progress of training a camera's model: what is written, and what is read of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from comemory.errors import SourceError
from comemory.live.learning.progress import SHOWN_S, LearningProgress, read_progress
from comemory.server.schemas import TrainingStatus


def folder(out: Path) -> Path:
    return out / "cameras" / "gate"


def test_a_stage_of_known_length_has_a_share(tmp_path: Path) -> None:
    with LearningProgress(folder(tmp_path), "gate") as progress:
        progress.begin_stage("recording", "normal hours, 24h", seconds=100)
        (progress_now,) = read_progress(tmp_path, now=time.time() + 25)
    assert progress_now["share"] == pytest.approx(0.25, abs=0.05)
    assert TrainingStatus.model_validate(progress_now) == TrainingStatus(
        camera="gate", stage="recording", share=progress_now["share"], message="normal hours, 24h", running=True
    )


def test_a_training_counts_its_epochs(tmp_path: Path) -> None:
    run = tmp_path / "made.run"
    run.mkdir()
    with LearningProgress(folder(tmp_path), "gate") as progress:
        progress.begin_stage("training", "on 900 frames", run=run, epochs=4)
        assert read_progress(tmp_path)[0]["share"] == 0.0
        (run / "log.jsonl").write_text('{"epoch": 0}\n{"epoch": 1}\n')
        assert read_progress(tmp_path)[0]["share"] == 0.5
        (run / "log.jsonl").write_text("{")
        assert read_progress(tmp_path)[0]["message"] == "on 900 frames"


def test_its_end_is_shown_for_a_day(tmp_path: Path) -> None:
    with LearningProgress(folder(tmp_path), "gate"):
        pass
    assert [(one["stage"], one["running"]) for one in read_progress(tmp_path)] == [("done", False)]
    assert read_progress(tmp_path, now=time.time() + SHOWN_S + 10) == []


def test_a_failure_is_shown_without_passwords(tmp_path: Path) -> None:
    with pytest.raises(SourceError), LearningProgress(folder(tmp_path), "gate"):
        raise SourceError("cannot open rtsp://user:secret@gate.lan/stream")
    (progress_now,) = read_progress(tmp_path)
    assert progress_now["stage"] == "failed"
    assert "secret" not in progress_now["message"]


def test_a_training_whose_process_has_died_is_interrupted(tmp_path: Path) -> None:
    gone = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(gone, 0)
    LearningProgress(folder(tmp_path), "gate").begin_stage("training")
    file = folder(tmp_path) / "learning.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "process": gone}))
    assert read_progress(tmp_path)[0]["stage"] == "interrupted"


@pytest.mark.parametrize(
    "changes",
    [{"started": 10**400}, {"process": 10**400}, {"seconds": -1}, {"epochs": "four"}, {"running": None}, {"more": 1}],
)
def test_records_with_impossible_numbers_are_ignored(tmp_path: Path, changes: dict[str, object]) -> None:
    LearningProgress(folder(tmp_path), "gate").begin_stage("training", seconds=5)
    file = folder(tmp_path) / "learning.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    assert read_progress(tmp_path) == []


@pytest.mark.parametrize("line", ["[" * 100_000, '{"epoch": 1e400}', '{"epoch": -3}', "[]", "{}"])
def test_a_damaged_log_counts_no_epochs(tmp_path: Path, line: str) -> None:
    (tmp_path / "log.jsonl").write_text(line + "\n")
    LearningProgress(folder(tmp_path), "gate").begin_stage("training", "as it was", run=tmp_path, epochs=4)
    (progress_now,) = read_progress(tmp_path)
    assert (progress_now["share"], progress_now["message"]) == (0.0, "as it was")


def test_a_name_that_is_not_utf8_is_shown_with_escapes(tmp_path: Path) -> None:
    LearningProgress(folder(tmp_path), "gate").begin_stage("failed", "cannot read \udcff.mp4", run=tmp_path / "\udcff")
    assert read_progress(tmp_path)[0]["message"] == r"cannot read \udcff.mp4"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"started": "x"}', "\x00", "[" * 100_000])
def test_files_of_another_kind_are_ignored(tmp_path: Path, text: str) -> None:
    folder(tmp_path).mkdir(parents=True)
    (folder(tmp_path) / "learning.json").write_text(text)
    assert read_progress(tmp_path) == []
