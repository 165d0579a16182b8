"""Another decision for a network that is trained already: the same weights, calibrated on the same held-out video."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from comemory.bundle import Bundle, bundle_writer, open_bundle, write_json
from comemory.config import build
from comemory.datasets import open_dataset
from comemory.errors import BundleError, ConfigError, TrainingError, short
from comemory.models import MODELS
from comemory.provenance import commit
from comemory.registry import Table
from comemory.scoring import DecisionSettings
from comemory.training.cache import PreparedVideo, prepare_videos
from comemory.training.calibrate import calibrate, n_observed, split
from comemory.training.config import Recipe
from comemory.training.train import Reporter, Silence, Trained
from comemory.types import JSON

_KEPT = ("weights.safetensors", "items.safetensors", "model.onnx", "model.xml", "model.bin")
"""Members that another decision leaves as they are. The forms of other precisions have calibrations of their own."""


def recalibrate(
    path: Path,
    data: str,
    decision: DecisionSettings,
    out: Path,
    *,
    cache: Path,
    flow_weights: str | None = None,
    reporter: Reporter | None = None,
) -> Trained:
    """Write a bundle of the same network with another decision.

    The video must be the one that the network was trained with: it is told by the hash of its content, and the same
    part of it is held out. With the bundle's own decision the calibration comes out as it was.

    Args:
        path: of the bundle; it stays as it is.
        data: `KIND:PATH` of the data set it was trained on.
        cache: folder of prepared frames.
        flow_weights: path of the flow's weight file, where the flow needs one.

    Raises:
        ConfigError: the decision needs a memory that the network does not have.
        TrainingError: the video is not the one of the training.
        DatasetError, BundleError: one line each.
    """
    reporter = reporter or Silence()
    bundle = open_bundle(path)
    recipe = bundle_recipe(bundle, decision)
    videos = open_dataset(data).training()
    counts = [video.n_frames for video in videos]
    reporter.stage("Preparing frames", None if None in counts else sum(count or 0 for count in counts))
    prepared, problems = prepare_videos(
        videos,
        cache,
        recipe.clips,
        recipe.flow.model_copy(update={"weights": flow_weights}),
        dataset=data,
        rate_hz=bundle.calibration.rate_hz,
        on_frame=reporter.advance,
    )
    trained, held = _parts(bundle, prepared, recipe, data)
    reporter.stage("Calibrating on held-out video", n_observed(held, trained, recipe.clips.n_past))
    calibration = calibrate(_model(bundle), held, recipe, bundle.calibration.rate_hz, reporter.advance, trained)
    note = {"date": datetime.now(UTC).date().isoformat(), "commit": commit(), "from": bundle.digest[:16]}
    with bundle_writer(out) as folder:
        link_members(bundle.path, folder, _KEPT)
        write_json(folder / "config.json", {**bundle.config, "decision": recipe.decision.model_dump(mode="json")})
        write_json(folder / "calibration.json", calibration.model_dump(mode="json"))
        write_json(folder / "provenance.json", {**bundle.provenance, "recalibrated": note})
    return Trained(out, problems, calibration.caution)


def bundle_recipe(bundle: Bundle, decision: DecisionSettings | None = None) -> Recipe:
    """The recipe that a bundle was trained with, with another decision over it if given.

    Raises:
        BundleError: this version does not know its settings. ConfigError: the decision does not fit the network.
    """
    values: JSON = {key: value for key, value in bundle.config.items() if key != "graph"}
    values["clips"] = bundle.clips.model_dump()
    values["network"] = {k: v for k, v in bundle.config["network"].items() if k not in ("channels", "n_past")}
    try:
        recipe = build(Recipe, values)
    except ConfigError as error:
        raise BundleError(f"{bundle.path}/config.json: {error}: train it anew with this version") from None
    return recipe if decision is None else build(Recipe, {**values, "decision": decision})


def link_members(source: Path, target: Path, names: Iterable[str]) -> None:
    """Put members of a bundle into a folder, as further names of the same files where the disk can do that.

    Args:
        names: those that the bundle does not have are passed over.
    """
    for name in names:
        if (source / name).is_file():
            try:
                os.link(source / name, target / name)
            except OSError:
                shutil.copyfile(source / name, target / name)


def _parts(
    bundle: Bundle, prepared: Sequence[PreparedVideo], recipe: Recipe, data: str
) -> tuple[list[PreparedVideo], list[PreparedVideo]]:
    """What was trained on and what was held out, or TrainingError where the video is another one."""
    content = hashlib.sha256("".join(video.content for video in prepared).encode()).hexdigest()
    if content != bundle.provenance.get("data_sha256"):
        raise TrainingError(
            f"{data} is not the video that {bundle.path} was trained with (its content differs): give that video, or train anew"
        )
    trained, held = split(prepared, recipe.train.holdout, recipe.clips.n_past)
    found, noted = {video.name: len(video.indices) for video in held}, bundle.provenance.get("held_out")
    if found != noted:
        raise TrainingError(
            f"{bundle.path} held out {short(noted)} of {data}, this version holds out {short(found)}: train it anew"
        )
    return trained, held


def _model(bundle: Bundle) -> Any:
    """The network in evaluation mode on the CPU, as the training left it to the calibration."""
    network = bundle.network
    try:
        with torch.device("meta"):
            model = Table("model", MODELS).load(network.model)(**network.arguments)
        model.load_state_dict(safetensors.torch.load_file(network.weights), assign=True)
    except (safetensors.SafetensorError, RuntimeError, TypeError, ValueError, KeyError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise BundleError(f"the weights {network.weights} do not fit the model: {short(str(error))}") from None
    return model.float().eval()
