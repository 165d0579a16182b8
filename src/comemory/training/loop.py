"""The training loop: one pass over random clips an epoch, on whatever Lightning Fabric finds.

Fabric owns devices, precision and data-parallel.
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
from lightning_fabric.utilities.seed import seed_everything
from numpy.typing import NDArray
from torch import Tensor, nn

from comemory.errors import TrainingError
from comemory.models import MODELS
from comemory.registry import Table
from comemory.training.cache import PreparedVideo
from comemory.training.checkpoint import CHECKPOINT, Progress, Sums, load_checkpoint, save_checkpoint
from comemory.training.config import Recipe, TrainSettings
from comemory.training.teachers import Teachers


def make_fabric(settings: TrainSettings) -> Fabric:
    """The devices and the precision, started."""
    precision = settings.precision
    if precision == "auto":
        half = settings.accelerator != "cpu" and torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        precision = "bf16-mixed" if half else "32-true"
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    try:
        fabric = Fabric(accelerator=settings.accelerator, devices=settings.devices, precision=precision)
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"cannot train with accelerator={settings.accelerator!r}, devices={settings.devices!r}: {error}"
        ) from None
    return fabric


def fit(
    fabric: Fabric,
    recipe: Recipe,
    videos: Sequence[PreparedVideo],
    run: Path,
    *,
    teachers: Teachers | None = None,
    resume: bool = False,
    on_step: Callable[[Progress, float], None] = lambda progress, loss: None,
    on_epoch: Callable[[Progress], None] = lambda progress: None,
) -> tuple[nn.Module, Progress]:
    """Train the recipe's model on prepared videos.

    Args:
        run: folder of the checkpoint.
        teachers: networks that it learns from beside the videos.
        resume: go on from the checkpoint in `run`, if there is one; the result is the same as without the break.
        on_step, on_epoch: called on the first worker; `on_epoch` also when a resumed training already has epochs done.

    Returns:
        The model in evaluation mode on the CPU.

    Raises:
        TrainingError: there are fewer clips than a batch takes, the devices cannot share a batch evenly, the loss is
            not finite, or a checkpoint cannot be written or read.
    """
    settings = recipe.train
    seed_everything(settings.seed, verbose=False)
    batches = _Batches(fabric, videos, recipe, teachers)
    per_epoch = batches.per_epoch
    progress = Progress(per_epoch * settings.epochs)
    bare = Table("model", MODELS).load(recipe.model)(**recipe.arguments()).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(bare.parameters(), lr=settings.lr)
    model, wrapped = fabric.setup(bare, optimizer)
    model.mark_forward_method("loss")
    model.train()
    footage = _footage(videos, teachers)
    sums = Sums()
    if resume and (run / CHECKPOINT).is_file():
        progress = load_checkpoint(run, bare, optimizer, recipe, footage)
        sums.restore(progress)
        if progress.history and fabric.is_global_zero:
            on_epoch(progress)
    saved_s = time.monotonic()
    for epoch in range(progress.step // per_epoch, settings.epochs):
        for number in range(progress.step % per_epoch, per_epoch):
            _set_rate(wrapped, settings.lr, progress)
            loss = _step(fabric, model, wrapped, batches.take(epoch, number), settings, sums)
            progress.step += 1
            if fabric.is_global_zero:
                on_step(progress, loss)
                if time.monotonic() - saved_s >= settings.checkpoint_s and number + 1 < per_epoch:
                    save_checkpoint(run, bare, optimizer, progress, recipe, footage, sums)
                    saved_s = time.monotonic()
        progress.history.append(sums.take(bare, epoch))
        if fabric.is_global_zero:
            save_checkpoint(run, bare, optimizer, progress, recipe, footage, sums)
            on_epoch(progress)
    return bare.cpu().eval(), progress


class _Batches:
    """The clips of every step, in an order that the seed and the epoch decide, on this process's device."""

    def __init__(
        self, fabric: Fabric, videos: Sequence[PreparedVideo], recipe: Recipe, teachers: Teachers | None
    ) -> None:
        self._fabric, self._videos, self._recipe, self._teachers = fabric, videos, recipe, teachers
        self._places = [(v, t) for v, video in enumerate(videos) for t in video.newest(recipe.clips.n_past)]
        self.per_epoch = _steps(len(self._places), recipe.train, fabric.world_size)
        self._order: tuple[int, NDArray[np.int64]] | None = None
        if teachers:
            teachers.to(fabric.device)

    def take(self, epoch: int, number: int) -> tuple[Tensor, Tensor]:
        """Frames and flow of one step."""
        settings, fabric = self._recipe.train, self._fabric
        if self._order is None or self._order[0] != epoch:
            self._order = (epoch, np.random.default_rng([settings.seed, epoch]).permutation(len(self._places)))
        order = self._order[1]
        chosen = order[number * settings.batch : (number + 1) * settings.batch][fabric.global_rank :: fabric.world_size]
        clips = [self._videos[v].clip(t, self._recipe.clips) for v, t in (self._places[i] for i in chosen)]
        frames, flow = (fabric.to_device(torch.from_numpy(np.stack(arrays))) for arrays in zip(*clips, strict=True))
        return self._teachers.lay_over(frames, flow) if self._teachers else (frames, flow)


def _steps(n_clips: int, settings: TrainSettings, n_devices: int) -> int:
    """Steps of an epoch. The clips that fill no batch are left out, other ones in each epoch."""
    if settings.batch % n_devices:
        raise TrainingError(
            f"{n_devices} devices cannot share train.batch={settings.batch} clips evenly: "
            f"set train.batch to a multiple of {n_devices}"
        )
    if n_clips < settings.batch:
        raise TrainingError(f"{n_clips} clips are fewer than train.batch={settings.batch}: give more footage")
    return n_clips // settings.batch


def _footage(videos: Sequence[PreparedVideo], teachers: Teachers | None) -> str:
    """What was trained on, and by whom, in short."""
    digest = hashlib.sha256("".join(teachers.digests if teachers else ()).encode())
    for video in videos:
        digest.update(f"{video.content}:{len(video.indices)}:".encode())
        digest.update(video.indices.tobytes())
    return digest.hexdigest()


def _step(
    fabric: Fabric,
    model: Any,
    optimizer: Any,
    batch: tuple[Tensor, Tensor],
    settings: TrainSettings,
    sums: Sums,
) -> float:
    loss, parts = model.loss(*batch, settings.loss.model_dump())
    own = torch.stack([loss.detach(), *(part.detach() for part in parts.values())]).float()
    of_all: Any = fabric.all_reduce(own, reduce_op="mean")
    mean, *means = of_all.tolist()
    if not math.isfinite(mean):
        raise TrainingError(
            f"the loss became {mean}: lower train.lr (now {settings.lr}) or set train.precision=32-true"
        )
    optimizer.zero_grad()
    fabric.backward(loss)
    optimizer.step()
    sums.add(dict(zip(parts, means, strict=True)))
    return float(mean)


def _set_rate(optimizer: Any, highest: float, progress: Progress) -> None:
    """One cycle: up over the first tenth, then down along a half cosine."""
    share = progress.step / max(1, progress.n_steps)
    rate = highest * (0.1 + 9 * share if share < 0.1 else 0.5 * (1 + np.cos(np.pi * (share - 0.1) / 0.9)) + 1e-3)
    for group in optimizer.param_groups:
        group["lr"] = float(rate)
