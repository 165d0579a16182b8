"""A checkpoint: one file from which a training continues with the same result as without the interruption.

It is safetensors with JSON in its header. Fabric's own checkpoints are pickles, which could run code when opened.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from comemory.errors import TrainingError
from comemory.models.contract import Model
from comemory.training.config import TrainingConfig

CHECKPOINT = "checkpoint.safetensors"
_EXECUTION = ("accelerator", "devices", "threads", "checkpoint_s")
"""Settings of a training that say where it runs, not what comes out."""


@dataclass
class TrainingState:
    """The progress of a training.

    Attributes:
        n_steps: steps of the whole training.
        step: steps done.
        history: one record for each epoch done: `epoch`, the mean of each term of the `loss`, and for each memory the
            share of the queries that were nearest to each item, `item_usage`.
    """

    n_steps: int
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class EpochMeans:
    """Running means of the terms of the loss in an epoch. A checkpoint stores them, so that a resumed run logs the same."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.steps = 0

    def add(self, parts: Mapping[str, float]) -> None:
        """Add the terms of one step."""
        self.steps += 1
        for name, value in parts.items():
            self.values[name] = self.values.get(name, 0.0) + value

    def restore(self, state: TrainingState) -> None:
        """Take over the sums of a checkpoint that was written within an epoch."""
        if state.history and "partial" in state.history[-1]:
            partial = state.history.pop()["partial"]
            self.values, self.steps = partial["values"], partial["steps"]

    def finish_epoch(self, model: Model, epoch: int) -> dict[str, Any]:
        """The record of an epoch for the history; the sums restart at zero."""
        means = {name: value / max(1, self.steps) for name, value in self.values.items()}
        usage = {
            name: [round(share, 6) for share in memory.pop_usage().tolist()]
            for name, memory in model.memories().items()
        }
        self.values, self.steps = {}, 0
        return {"epoch": epoch, "loss": means, "item_usage": usage}


def save_checkpoint(
    run: Path,
    model: Model,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
    config: TrainingConfig,
    data_sha256: str,
    means: EpochMeans,
) -> None:
    """Write all that resuming needs into one file.

    It is written under a temporary name and renamed, so that a kill leaves the older checkpoint whole.

    Raises:
        TrainingError: it cannot be written; the older checkpoint stays.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in moments.items()}
    for name, memory in model.memories().items():
        tensors[f"usage.{name}"] = memory.usage
    history = [*state.history]
    if means.steps:
        history.append({"partial": {"values": means.values, "steps": means.steps}})
    note = {
        "step": state.step,
        "n_steps": state.n_steps,
        "history": history,
        "config": config.model_dump(mode="json"),
        "data_sha256": data_sha256,
    }
    temporary = run / f"{CHECKPOINT}.tmp"
    try:
        safetensors.torch.save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            temporary,
            {"note": json.dumps(note)},
        )
        temporary.replace(run / CHECKPOINT)
    except (OSError, safetensors.SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise TrainingError(f"cannot write the checkpoint {run / CHECKPOINT}: {error}") from None


def read_checkpoint(run: Path) -> bytes | None:
    """The checkpoint as it is on the disk; None where there is none.

    Raises:
        TrainingError: it cannot be read.
    """
    try:
        return (run / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrainingError(_unreadable(run / CHECKPOINT, error)) from None


def load_checkpoint(
    content: bytes, run: Path, model: Model, optimizer: torch.optim.Optimizer, config: TrainingConfig, data_sha256: str
) -> TrainingState:
    """Restore model and optimiser from a checkpoint.

    Args:
        content: of the file, see `read_checkpoint`.
        run: its folder, for the text of an error.
        model: to restore.
        optimizer: to restore.
        config: of the training that continues.
        data_sha256: of the video of the training that continues.

    Raises:
        TrainingError: the checkpoint is damaged, or was made with other settings or other video.
    """
    path = run / CHECKPOINT
    try:
        note = _note(content)
        tensors = safetensors.torch.load(content)
        state = TrainingState(note["n_steps"], note["step"], note["history"])
        made_with = {"settings": note["config"], "video": note["data_sha256"]}
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise TrainingError(_unreadable(path, error)) from None
    for what, used in {"settings": config.model_dump(mode="json"), "video": data_sha256}.items():
        if _relevant(made_with[what]) != _relevant(used):
            raise TrainingError(
                f"the checkpoint {path} was made with other {what}: use the same, or delete it to start again"
            )
    model.load_state_dict(_under("model.", tensors))
    for name, memory in model.memories().items():
        memory.usage.copy_(tensors[f"usage.{name}"])
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _under("optimizer.", tensors).items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return state


def _note(content: bytes) -> Any:
    """The JSON in the header of a safetensors file, whose length stands in its first 8 bytes."""
    n_bytes = int.from_bytes(content[:8], "little")
    return json.loads(json.loads(content[8 : 8 + n_bytes])["__metadata__"]["note"])


def _unreadable(path: Path, error: Exception) -> str:
    return f"the checkpoint {path} cannot be read ({error}): delete it to start again"


def _relevant(used: Any) -> Any:
    """All of a configuration that shapes the weights.

    The scoring is fitted when the training is over. The processes and threads may differ: a training that was interrupted
    can continue on more or fewer of them.
    """
    if not isinstance(used, dict):
        return used
    training = used.get("train")
    shaping = {key: value for key, value in used.items() if key != "scoring"}
    if isinstance(training, dict):
        shaping["train"] = {key: value for key, value in training.items() if key not in _EXECUTION}
    return shaping


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
