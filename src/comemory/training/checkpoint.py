"""A training as one file, from which it goes on as if nothing had been.

Safetensors and JSON, because Fabric's checkpoints are pickles.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import safetensors.torch
import torch
from torch import Tensor

from comemory.errors import TrainingError
from comemory.models.memory import Memory
from comemory.training.config import Recipe

CHECKPOINT = "checkpoint.safetensors"


class Model(Protocol):
    """What a checkpoint needs of a network; `science` has the whole contract."""

    def memories(self) -> Mapping[str, Memory]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any: ...


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        step, n_steps: done and in all.
        history: one record for each epoch done: mean of each term of the loss, and the use of each memory's items.
    """

    n_steps: int
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Sums:
    """Running means of an epoch; they travel with the checkpoint, so that a resumed run logs the same."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.steps = 0

    def add(self, parts: Mapping[str, float]) -> None:
        """Count the terms of one more step."""
        self.steps += 1
        for name, value in parts.items():
            self.values[name] = self.values.get(name, 0.0) + value

    def restore(self, progress: Progress) -> None:
        """Go on with the sums that a checkpoint held."""
        if progress.history and "partial" in progress.history[-1]:
            partial = progress.history.pop()["partial"]
            self.values, self.steps = partial["values"], partial["steps"]

    def take(self, model: Model, epoch: int) -> dict[str, Any]:
        """The record of an epoch; the next one begins at nothing."""
        means = {name: value / max(1, self.steps) for name, value in self.values.items()}
        use = {
            name: [round(share, 6) for share in memory.take_use().tolist()] for name, memory in model.memories().items()
        }
        self.values, self.steps = {}, 0
        return {"epoch": epoch, "loss": means, "item_use": use}


def save_checkpoint(
    run: Path,
    model: Model,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    recipe: Recipe,
    footage: str,
    sums: Sums,
) -> None:
    """Write all that resuming needs into one file, under a passing name first: a kill leaves the old one whole.

    Raises:
        TrainingError: it cannot be written; the older checkpoint stays.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
    for name, memory in model.memories().items():
        tensors[f"use.{name}"] = memory.use
    history = [*progress.history]
    if sums.steps:
        history.append({"partial": {"values": sums.values, "steps": sums.steps}})
    note = {
        "step": progress.step,
        "n_steps": progress.n_steps,
        "history": history,
        "recipe": recipe.model_dump(mode="json"),
        "footage": footage,
    }
    passing = run / f"{CHECKPOINT}.tmp"
    try:
        safetensors.torch.save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            passing,
            {"note": json.dumps(note)},
        )
        passing.replace(run / CHECKPOINT)
    except (OSError, safetensors.SafetensorError) as error:
        passing.unlink(missing_ok=True)
        raise TrainingError(f"cannot write the checkpoint {run / CHECKPOINT}: {error}") from None


def load_checkpoint(
    run: Path, model: Model, optimizer: torch.optim.Optimizer, recipe: Recipe, footage: str
) -> Progress:
    """Set model and optimizer to where the checkpoint left them.

    Raises:
        TrainingError: the checkpoint is damaged or belongs to another recipe or other footage.
    """
    path = run / CHECKPOINT
    try:
        with safetensors.safe_open(path, "pt") as file:
            note = json.loads((file.metadata() or {})["note"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        progress = Progress(note["n_steps"], note["step"], note["history"])
        made_with = {"settings": note["recipe"], "footage or teachers": note["footage"]}
    except (safetensors.SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise TrainingError(f"the checkpoint {path} cannot be read ({error}): delete it to start anew") from None
    for what, used in {"settings": recipe.model_dump(mode="json"), "footage or teachers": footage}.items():
        if _shaping(made_with[what]) != _shaping(used):
            raise TrainingError(
                f"the checkpoint {path} was made with other {what}: use the same, or delete it to start anew"
            )
    model.load_state_dict(_under("model.", tensors))
    for name, memory in model.memories().items():
        memory.use.copy_(tensors[f"use.{name}"])
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in _under("optimizer.", tensors).items():
        number, _, name = key.partition(".")
        states.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
    return progress


def _shaping(used: Any) -> Any:
    """What shapes a training: all of a recipe but the decision, which is fitted when the training is over."""
    return {key: value for key, value in used.items() if key != "decision"} if isinstance(used, dict) else used


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
