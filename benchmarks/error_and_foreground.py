"""What does the error of a reconstruction follow? Train the autoencoder, and compare its score with the share of the foreground.

    python benchmarks/error_and_foreground.py --data ped2:data/ped2 --epochs 3 --json FILE

A pixel is foreground where it differs from the median of the training frames by more than `THRESHOLD` grey levels. The share of
such pixels needs no network: it rises with the number of people and their nearness to the camera. The error is taken over the
whole frame, as in the publications, and in the window of the largest error.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray

from comemory import metrics
from comemory.bench import measurement_environment
from comemory.datasets import open_dataset
from comemory.models.baselines.autoencoder import Autoencoder
from comemory.research.reproduce.statistics import spearman
from comemory.types import JSON, LabelledSource
from comemory.video.resize import resize
from comemory.video.source import open_source

SIZE = (128, 192)
THRESHOLD = 25
N_DROPPED = 4
"""First frames of a video that are left out, as for the networks that need past frames."""
BATCH = 4
RATE = 1e-3


def grey_frames(video: LabelledSource) -> NDArray[np.uint8]:
    """All frames of a video as the networks see them, (n_frames, H, W)."""
    source = open_source(video.source) if isinstance(video.source, str) else video.source
    return np.stack([cv2.cvtColor(resize(frame.image, SIZE), cv2.COLOR_RGB2GRAY) for frame in source])


def as_input(frames: NDArray[np.uint8]) -> torch.Tensor:
    """Frames in [-1, 1], (B, 1, H, W)."""
    return torch.from_numpy(frames).float()[:, None] / 127.5 - 1


def train(model: Any, frames: NDArray[np.uint8], epochs: int) -> Iterator[int]:
    """Train on single frames with the schedule of the trainer; yields after each epoch how many are done."""
    optimizer, order = model.make_optimizer(RATE), np.random.default_rng(0)
    per_epoch = len(frames) // BATCH
    for epoch in range(epochs):
        model.train()
        shuffled = order.permutation(len(frames))
        for number in range(per_epoch):
            share = (epoch * per_epoch + number) / (epochs * per_epoch)
            rate = RATE * (0.1 + 9 * share if share < 0.1 else 0.5 * (1 + np.cos(np.pi * (share - 0.1) / 0.9)) + 1e-3)
            for group in optimizer.param_groups:
                group["lr"] = float(rate)
            batch = as_input(frames[shuffled[BATCH * number : BATCH * (number + 1)]])
            loss, _ = model.loss(batch[:, None], torch.zeros(()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        yield epoch + 1


@torch.no_grad()
def errors(model: Any, frames: NDArray[np.uint8]) -> torch.Tensor:
    """Squared error of each pixel, (n_frames, H, W)."""
    model.eval()
    parts = (as_input(frames[start : start + 16]) for start in range(0, len(frames), 16))
    return torch.cat([(model(part) - part)[:, 0] ** 2 for part in parts])


def scores(model: Any, frames: NDArray[np.uint8], background: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Every score of one video."""
    frames = frames[N_DROPPED:]
    error = errors(model, frames)
    windows = {f"window of {side}": nnf.avg_pool2d(error[:, None], side, 4).flatten(1).amax(1) for side in (16, 32)}
    foreground = (np.abs(frames.astype(np.float64) - background) > THRESHOLD).mean(axis=(1, 2))
    whole = 10 * torch.log10(error.mean(dim=(1, 2)) / 4 + 1e-10)
    tensors = {"whole frame, -PSNR": whole, **windows}
    return {**{name: values.double().numpy() for name, values in tensors.items()}, "foreground alone": foreground}


def summary(by_video: Mapping[str, Mapping[str, NDArray[np.float64]]], labels: Mapping[str, NDArray[np.bool_]]) -> JSON:
    """AUCs of every score, and how far the error follows the foreground."""
    names = list(by_video)
    kinds: Sequence[str] = list(by_video[names[0]])
    known = [labels[name] for name in names]
    found: JSON = {}
    for kind in kinds:
        values = [by_video[name][kind] for name in names]
        per_video = {name: metrics.auc(v, known_) for name, v, known_ in zip(names, values, known, strict=True)}
        found[kind] = {
            "auc_micro": metrics.micro_auc(values, known, names),
            "auc_micro_min_max": metrics.micro_auc(metrics.offline_min_max(values), known, names),
            "per_video": {name: round(auc, 3) for name, auc in per_video.items() if auc is not None},
        }
    whole, share = (np.concatenate([by_video[name][kind] for name in names]) for kind in (kinds[0], kinds[-1]))
    return {"scores": found, "spearman_of_error_and_foreground": spearman(whole.tolist(), share.tolist())}


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="KIND:PATH")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    torch.manual_seed(0)
    dataset = open_dataset(options.data)
    frames = np.concatenate([grey_frames(video) for video in dataset.training()])
    background = np.median(frames[:: max(1, len(frames) // 100)], axis=0)
    testing = {video.name: video for video in dataset.testing() if video.labels is not None}
    test = {name: grey_frames(video) for name, video in testing.items()}
    labels = {name: np.asarray(video.labels)[N_DROPPED:] for name, video in testing.items()}
    model: Any = Autoencoder.from_kwargs(width=options.width, channels=1, n_past=N_DROPPED)
    model = model.to(memory_format=torch.channels_last)
    epochs = {}
    for done in train(model, frames, options.epochs):
        if done in (1, options.epochs):
            found = summary({name: scores(model, video, background) for name, video in test.items()}, labels)
            epochs[f"{done} of {options.epochs} epochs"] = found
            print(done, json.dumps(found), flush=True)
    measured = {"what": f"autoencoder, width {options.width}, one seed", "data": options.data, "epochs": epochs}
    options.json.write_text(json.dumps({**measured, **measurement_environment()}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
