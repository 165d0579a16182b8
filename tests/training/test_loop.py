"""The loop: the same weights for the same seed, also after a kill, and one clear line where it cannot continue."""

from __future__ import annotations

import json
import math
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

import safetensors.torch  # noqa: E402
from training import made  # noqa: E402

from comemory.errors import TrainingError  # noqa: E402
from comemory.training.checkpoint import CHECKPOINT, TrainingState  # noqa: E402
from comemory.training.config import TrainSettings  # noqa: E402
from comemory.training.loop import make_fabric  # noqa: E402


@pytest.fixture(scope="module")
def trained(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], TrainingState]:
    """The weights after an uninterrupted training, and its state."""
    model, state = made.fit(cache, tmp_path_factory.mktemp("run"))
    return model.state_dict(), state


def assert_same(model: Any, state: dict[str, torch.Tensor]) -> None:
    assert model.state_dict().keys() == state.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


class StoppedError(Exception):
    """Raised to stop a training in a test."""


def stop_after(step: int) -> Any:
    def on_step(state: TrainingState, loss: float) -> None:
        if state.step == step:
            raise StoppedError

    return on_step


def test_the_same_seed_makes_the_same_weights(cache: Path, tmp_path: Path, trained: Any) -> None:
    steps, epochs = [], []
    model, state = made.fit(
        cache,
        tmp_path,
        on_step=lambda state, loss: steps.append((state.step, state.n_steps, loss)),
        on_epoch=lambda state: epochs.append(len(state.history)),
    )
    assert_same(model, trained[0])
    assert state == trained[1]
    assert [(step, n_steps) for step, n_steps, _ in steps] == [(i + 1, made.N_STEPS) for i in range(made.N_STEPS)]
    assert epochs == [1, 2]
    assert not model.training
    assert steps[-1][2] < steps[0][2]
    with pytest.raises(AssertionError):
        assert_same(made.fit(cache, tmp_path, "train.seed=1", "train.epochs=1")[0], trained[0])


def test_the_history_holds_means_of_every_term_and_shares_of_every_item(trained: Any) -> None:
    _, state = trained
    assert (state.step, state.n_steps) == (made.N_STEPS, made.N_STEPS)
    for epoch, record in enumerate(state.history):
        assert record["epoch"] == epoch
        assert set(record["loss"]) == set(made.config().network.model_dump()["loss_weights"])
        assert all(math.isfinite(value) and value >= 0 for value in record["loss"].values())
        for shares in record["item_usage"].values():
            assert len(shares) == 3
            assert sum(shares) == pytest.approx(1, abs=1e-5)


def test_an_epoch_uses_each_clip_once_and_leaves_out_different_ones(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """26 clips make 6 batches of 4: two clips are left out of each epoch, not the same ones."""
    from comemory.training.cache import PreparedVideo

    seen: list[int] = []
    clip = PreparedVideo.clip
    monkeypatch.setattr(PreparedVideo, "clip", lambda self, t, spec: (seen.append(t), clip(self, t, spec))[1])
    made.fit(cache, tmp_path)
    epochs = [set(seen[:24]), set(seen[24:])]
    assert [len(epoch) for epoch in epochs] == [24, 24]
    assert epochs[0] != epochs[1]
    assert epochs[0] | epochs[1] <= set(range(4, 30))


KILLED = """
import sys
from pathlib import Path
from training import made
cache, run = map(Path, sys.argv[1:])
made.fit(cache, run, "train.checkpoint_s=0", on_step=lambda state, loss: print(state.step, flush=True))
"""


def test_a_killed_training_resumes_to_the_same_weights(cache: Path, tmp_path: Path, trained: Any) -> None:
    last = random.randrange(2, made.N_STEPS)
    made.videos(cache)
    command = [sys.executable, "-c", KILLED, str(cache), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=made.environment()) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) == last:
                break
        process.send_signal(signal.SIGKILL)
    steps: list[int] = []
    model, state = made.fit(
        cache, tmp_path, "train.checkpoint_s=0", resume=True, on_step=lambda state, loss: steps.append(state.step)
    )
    assert steps[0] > 1, f"killed after step {last}, and started again"
    assert steps == list(range(steps[0], made.N_STEPS + 1))
    assert_same(model, trained[0])
    assert state.history == trained[1].history, f"killed after step {last}"


@pytest.mark.parametrize("step", [1, 5, 6, 7, 12])
def test_a_training_resumes_from_any_step(cache: Path, tmp_path: Path, trained: Any, step: int) -> None:
    """Before the first checkpoint, within an epoch, at its end, and after the last step."""
    with pytest.raises(StoppedError):
        made.fit(cache, tmp_path, "train.checkpoint_s=0", on_step=stop_after(step))
    model, state = made.fit(cache, tmp_path, "train.checkpoint_s=0", resume=True)
    assert_same(model, trained[0])
    assert state.history == trained[1].history


def test_resuming_a_finished_training_takes_no_step_and_reports_its_epochs(
    cache: Path, tmp_path: Path, trained: Any
) -> None:
    made.fit(cache, tmp_path)
    reported: list[int] = []
    model, state = made.fit(
        cache,
        tmp_path,
        resume=True,
        on_step=lambda state, loss: pytest.fail("a step too many"),
        on_epoch=lambda state: reported.append(len(state.history)),
    )
    assert reported == [2]
    assert_same(model, trained[0])
    assert state == trained[1]


@pytest.fixture
def stopped(cache: Path, tmp_path: Path) -> Path:
    """A run folder with the checkpoint of a training that was stopped after its first epoch."""
    with pytest.raises(StoppedError):
        made.fit(cache, tmp_path, on_step=stop_after(8))
    return tmp_path


def refusal(cache: Path, run: Path, *settings: str, **options: Any) -> str:
    """The text of the refusal to resume, which is one line."""
    with pytest.raises(TrainingError) as refused:
        made.fit(cache, run, *settings, resume=True, **options)
    assert "\n" not in str(refused.value)
    assert str(run) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize("setting", ["train.seed=1", "network.loss_weights.flow=2", "clips.flow_of=seen"])
def test_the_checkpoint_of_another_configuration_is_refused(cache: Path, stopped: Path, setting: str) -> None:
    assert "was made with other settings: use the same" in refusal(cache, stopped, setting)


def test_the_checkpoint_of_other_video_is_refused(cache: Path, stopped: Path) -> None:
    assert "was made with other video: use the same" in refusal(cache, stopped, n_videos=2)


def rewritten(path: Path, **note: Any) -> None:
    """The checkpoint with another note."""
    with safetensors.safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        whole = json.loads(file.metadata()["note"]) | note
    safetensors.torch.save_file(tensors, path, {"note": json.dumps({k: v for k, v in whole.items() if v is not None})})


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "no note", "step", "n_steps", "config", "data_sha256"])
def test_a_damaged_checkpoint_is_refused(cache: Path, stopped: Path, damage: str) -> None:
    path = stopped / CHECKPOINT
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "garbage":
        path.write_bytes(random.Random(0).randbytes(1000))
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "no note":
        safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    else:
        rewritten(path, **{damage: None})
    assert "cannot be read" in refusal(cache, stopped)
    assert "delete it to start again" in refusal(cache, stopped)


def test_without_resume_the_checkpoint_is_not_read(cache: Path, stopped: Path, trained: Any) -> None:
    (stopped / CHECKPOINT).write_bytes(b"garbage")
    assert_same(made.fit(cache, stopped)[0], trained[0])


def test_a_full_disk_leaves_the_older_checkpoint_whole(cache: Path, tmp_path: Path, trained: Any) -> None:
    run = tmp_path / "run"
    made.fit(cache, tmp_path)
    with made.small_disk(run, int(1.5 * (tmp_path / CHECKPOINT).stat().st_size)):
        with pytest.raises(TrainingError, match="cannot write the checkpoint") as refused:
            made.fit(cache, run)
        assert "\n" not in str(refused.value)
        assert [path.name for path in run.iterdir()] == [CHECKPOINT]
        (tmp_path / CHECKPOINT).write_bytes((run / CHECKPOINT).read_bytes())
    model, _ = made.fit(cache, tmp_path, resume=True)
    assert_same(model, trained[0])


def test_a_loss_that_is_not_finite_stops_the_training(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss became (nan|inf): lower train\.lr \(now 1e\+20\)"):
        made.fit(cache, tmp_path, "train.lr=1e20")
    assert list(tmp_path.iterdir()) == []


def test_too_few_clips_for_a_batch_are_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"26 clips are fewer than train\.batch=27"):
        made.fit(cache, tmp_path, "train.batch=27")
    assert made.fit(cache, tmp_path, "train.batch=26", "train.epochs=1")[1].n_steps == 1


@pytest.mark.parametrize(
    "settings",
    [
        ["network.motion_items=0"],
        ["network.appearance_items=0", "network.motion_encoder=volume"],
        ["network.motion_items=0", "network.appearance_items=0", "train.batch=13"],
        ["train.precision=bf16-mixed", "clips.channels=3"],
    ],
)
def test_other_networks_train_and_resume_too(cache: Path, tmp_path: Path, settings: list[str]) -> None:
    whole, _ = made.fit(cache, tmp_path, *settings, "train.checkpoint_s=0")
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    (tmp_path / CHECKPOINT).unlink()
    with pytest.raises(StoppedError):
        made.fit(cache, tmp_path, *settings, "train.checkpoint_s=0", on_step=stop_after(3))
    assert_same(made.fit(cache, tmp_path, *settings, "train.checkpoint_s=0", resume=True)[0], state)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(TrainingError, match="cannot train with accelerator='gpu', devices=1"):
        make_fabric(TrainSettings(accelerator="gpu", devices=1))
