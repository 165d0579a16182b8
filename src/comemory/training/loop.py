"""The training loop: each epoch is one pass over the clips in random order, on the devices that Lightning Fabric finds.

Fabric handles devices, precision and data-parallel processes. N processes train as one does: they share each batch, its
gradients, the statistics of batch normalisation and the queries that update the memories.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.seed import seed_everything
from numpy.typing import NDArray
from torch import Tensor, nn

from comemory.errors import ComemoryError, TrainingError, last_line
from comemory.training.batch_norm import share_batch_norm, unshare_batch_norm
from comemory.training.cache import PreparedVideo
from comemory.training.checkpoint import (
    EpochMeans,
    TrainingState,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from comemory.training.config import TrainingConfig, TrainSettings, model_class
from comemory.training.processes import broadcast_bytes, open_fabric, watch_processes


def make_fabric(settings: TrainSettings) -> Fabric:
    """Choose devices and precision, and meet the other processes; Fabric starts them unless a launcher did.

    Raises:
        TrainingError: the devices are not there, or the processes cannot meet.
    """
    precision = settings.precision
    if precision == "auto":
        half = settings.accelerator != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        precision = "bf16-mixed" if half else "32-true"
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        fabric = open_fabric(settings, precision)
        fabric.launch()
    except ComemoryError:
        raise
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise TrainingError(
            f"cannot train with accelerator={settings.accelerator!r}, devices={settings.devices!r}: {last_line(error)}"
        ) from None
    return fabric


def fit(
    fabric: Fabric,
    config: TrainingConfig,
    videos: Sequence[PreparedVideo],
    run: Path,
    *,
    resume: bool = False,
    on_step: Callable[[TrainingState, float], None] = lambda state, loss: None,
    on_epoch: Callable[[TrainingState], None] = lambda state: None,
) -> tuple[nn.Module, TrainingState]:
    """Train the model of the configuration on prepared videos.

    A model without a trainable parameter is returned as it was made, after no step.

    Args:
        fabric: see `make_fabric`.
        config: of the training.
        videos: to train on.
        run: folder of the checkpoint.
        resume: continue from the checkpoint in `run`, if there is one; the result is the same as without the
            interruption. The number of processes may differ.
        on_step: called in the first process after each step, with the state and the loss.
        on_epoch: called in the first process after each epoch, and when a resumed training already has epochs done.

    Returns:
        The model in evaluation mode on the CPU, and the final state.

    Raises:
        TrainingError: there are fewer clips than a batch needs, the devices cannot share a batch evenly, the loss is
            not finite, or a checkpoint cannot be written or read.
        LostProcessError: another process ended; see `processes.watch_processes`.
    """
    with watch_processes(fabric):
        return _fit(fabric, config, videos, run, resume, on_step, on_epoch)


def _fit(
    fabric: Fabric,
    config: TrainingConfig,
    videos: Sequence[PreparedVideo],
    run: Path,
    resume: bool,
    on_step: Callable[[TrainingState, float], None],
    on_epoch: Callable[[TrainingState], None],
) -> tuple[nn.Module, TrainingState]:
    settings = config.train
    seed_everything(settings.seed, verbose=False)
    bare = _new_model(config)
    if not any(weight.requires_grad for weight in bare.parameters()):
        _load_frozen(bare, config)
        return bare.eval(), TrainingState(0)
    stored = broadcast_bytes(fabric, read_checkpoint(run) if resume and fabric.is_global_zero else None)
    if stored is None:  # a checkpoint has the weights that never train too
        _load_frozen(bare, config)
    batches = _Batches(fabric, videos, config)
    per_epoch = batches.per_epoch
    state = TrainingState(per_epoch * settings.epochs)
    # Channels last is the faster memory layout of convolutions; it changes no weight.
    bare = _channels_last(bare)
    if fabric.world_size > 1:
        share_batch_norm(bare)
    optimizer = bare.make_optimizer(settings.lr)
    model, wrapped = fabric.setup(bare, optimizer)
    model.mark_forward_method("loss")
    model.train()
    data_sha256 = _data_sha256(videos)
    means = EpochMeans()
    if stored is not None:
        state = load_checkpoint(stored, run, bare, optimizer, config, data_sha256)
        means.restore(state)
        if state.history and fabric.is_global_zero:
            on_epoch(state)
    saved_s = time.monotonic()
    for epoch in range(state.step // per_epoch, settings.epochs):
        for number in range(state.step % per_epoch, per_epoch):
            _set_learning_rate(wrapped, settings.lr, state)
            loss = _step(fabric, model, wrapped, batches.load(epoch, number), settings, means)
            state.step += 1
            if fabric.is_global_zero:
                on_step(state, loss)
                if time.monotonic() - saved_s >= settings.checkpoint_s and number + 1 < per_epoch:
                    save_checkpoint(run, bare, optimizer, state, config, data_sha256, means)
                    saved_s = time.monotonic()
        state.history.append(means.finish_epoch(bare, epoch))
        if fabric.is_global_zero:
            save_checkpoint(run, bare, optimizer, state, config, data_sha256, means)
            on_epoch(state)
    unshare_batch_norm(bare)
    return bare.cpu().eval(), state


def _channels_last(model: Any) -> Any:
    """The model with the weights of its 2-D convolutions in that layout; 3-D convolutions have no such layout."""
    is_flat = all(weight.dim() < 5 for weight in model.parameters())
    return model.to(memory_format=torch.channels_last) if is_flat else model


def _new_model(config: TrainingConfig) -> Any:
    """The model before its training; TrainingError where it does not fit the clips."""
    try:
        return model_class(config.model).from_kwargs(**config.model_kwargs())
    except ValueError as error:
        raise TrainingError(f"cannot train the model {config.model!r}: {error}") from None


def _load_frozen(model: Any, config: TrainingConfig) -> None:
    """Read the weights that never train; TrainingError where they are missing or unknown."""
    try:
        model.load_frozen()
    except ValueError as error:
        raise TrainingError(f"cannot train the model {config.model!r}: {error}") from None


class _Batches:
    """The clips of every step, in an order that seed and epoch decide, on the device of this process."""

    def __init__(self, fabric: Fabric, videos: Sequence[PreparedVideo], config: TrainingConfig) -> None:
        self._fabric, self._videos, self._config = fabric, videos, config
        self._clips = [(v, t) for v, video in enumerate(videos) for t in video.clip_ends(config.clips.n_past)]
        self.per_epoch = _steps_per_epoch(len(self._clips), config.train, fabric.world_size)
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def load(self, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """Frames and flow of one step. Shapes: (B, n_past + 1, C, H, W) and (B, 2, H, W), B of this process."""
        settings, fabric = self._config.train, self._fabric
        if self._order is None or self._order[0] != epoch:
            # Seeded by the epoch, so that a resumed training sees the same order without replaying the epochs before.
            self._order = (epoch, np.random.default_rng([settings.seed, epoch]).permutation(len(self._clips)))
        order = self._order[1]
        # Neighbouring clips of the batch: gathered from all processes, they are in the order that one process has.
        n_own = settings.batch // fabric.world_size
        first = number * settings.batch + fabric.global_rank * n_own
        chosen = order[first : first + n_own]
        clips = [self._videos[v].clip(t, self._config.clips) for v, t in (self._clips[i] for i in chosen)]
        frames, flow = (fabric.to_device(torch.from_numpy(np.stack(arrays))) for arrays in zip(*clips, strict=True))
        return frames, flow


def _steps_per_epoch(n_clips: int, settings: TrainSettings, n_processes: int) -> int:
    """Steps of an epoch. Clips that do not fill a batch are left out, different ones in each epoch."""
    if settings.batch % n_processes:
        raise TrainingError(
            f"{n_processes} processes cannot share train.batch={settings.batch} clips evenly: "
            f"set train.batch to a multiple of {n_processes}"
        )
    if n_clips < settings.batch:
        raise TrainingError(f"{n_clips} clips are fewer than train.batch={settings.batch}: give more video")
    return n_clips // settings.batch


def _data_sha256(videos: Sequence[PreparedVideo]) -> str:
    """Identifies the frames that are trained on."""
    digest = hashlib.sha256()
    for video in videos:
        digest.update(f"{video.sha256}:{len(video.indices)}:".encode())
        digest.update(video.indices.tobytes())
        digest.update(video.samples.tobytes())
    return digest.hexdigest()


def _step(
    fabric: Fabric,
    model: Any,
    optimizer: Any,
    batch: tuple[Tensor, Tensor],
    settings: TrainSettings,
    means: EpochMeans,
) -> float:
    """One step of the optimiser; returns the loss, a mean over all processes."""
    loss, parts = model.loss(*batch)
    if not loss.requires_grad:
        raise TrainingError(
            "the model's loss depends on none of its trainable parameters: correct `loss`, or freeze them"
        )
    own = torch.stack([loss.detach(), *(part.detach() for part in parts.values())]).float()
    of_all: Any = fabric.all_reduce(own, reduce_op="mean")
    mean, *part_means = of_all.tolist()
    if not math.isfinite(mean):
        raise TrainingError(
            f"the loss became {mean}: lower train.lr (now {settings.lr}) or set train.precision=32-true"
        )
    optimizer.zero_grad()
    fabric.backward(loss)
    optimizer.step()
    means.add(dict(zip(parts, part_means, strict=True)))
    return float(mean)


def _set_learning_rate(optimizer: Any, highest: float, state: TrainingState) -> None:
    """One cycle: from a tenth linearly up over the first tenth of the steps, then down along a half cosine.

    The rate ends at a thousandth of the highest. It depends on the step alone, so that a resumed training has the same.
    A parameter group with an `lr_scale`, such as a discriminator, gets that share of it.
    """
    share = state.step / max(1, state.n_steps)
    rate = highest * (0.1 + 9 * share if share < 0.1 else 0.5 * (1 + np.cos(np.pi * (share - 0.1) / 0.9)) + 1e-3)
    for group in optimizer.param_groups:
        group["lr"] = float(rate) * group.get("lr_scale", 1.0)
