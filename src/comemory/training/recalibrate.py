"""Another scoring for a trained network: the same weights, calibrated on the same held-out video."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from comemory.bundle import Bundle, bundle_writer, open_bundle, write_json
from comemory.datasets import open_dataset
from comemory.errors import BundleError, ConfigError, TrainingError, short_repr
from comemory.provenance import current_commit
from comemory.runtimes.pytorch import load_model
from comemory.scoring import ScoringSettings
from comemory.training.cache import PreparedVideo, prepare_videos
from comemory.training.calibrate import split_videos
from comemory.training.config import TrainingConfig, build_training_config
from comemory.training.footage_sampling import trained_sampling
from comemory.training.train import SilentReporter, TrainingReporter, TrainingResult, calibrate_in_stages, write_scene
from comemory.types import JSON

_UNCHANGED = ("weights.safetensors", "items.safetensors", "model.onnx", "model.xml", "model.bin")
"""Members that another scoring does not change. Variants in other precisions are left out: each has a calibration of its
own."""


def recalibrate(
    path: Path,
    data: str,
    scoring: ScoringSettings,
    out: Path,
    *,
    cache: Path,
    flow_weights: str | None = None,
    reporter: TrainingReporter | None = None,
) -> TrainingResult:
    """Write a bundle of the same network with another scoring.

    The video must be that of the training: its content is compared by hash, and the same part of it is held out. With
    the bundle's own scoring the calibration comes out unchanged.

    Args:
        path: the bundle; it is not changed.
        data: `KIND:PATH` of the data set it was trained on.
        scoring: the new one.
        out: path of the new bundle.
        cache: folder of prepared frames.
        flow_weights: path of the flow's weight file, where the flow needs one.
        reporter: receives the progress.

    Raises:
        ConfigError: a channel whose evidence the network does not give.
        TrainingError: the video is not that of the training.
        DatasetError: the data set cannot be read.
        BundleError: the bundle cannot be read or written.
    """
    reporter = reporter or SilentReporter()
    bundle = open_bundle(path)
    config = bundle_training_config(bundle, scoring)
    videos = open_dataset(data).training()
    sampling = trained_sampling(bundle, videos)
    counts = [video.n_frames for video in videos if video.name in sampling]
    reporter.stage("Preparing frames", None if None in counts else sum(count or 0 for count in counts))
    prepared, problems = prepare_videos(
        videos,
        cache,
        config.clips,
        config.flow.model_copy(update={"weights": flow_weights}),
        dataset=data,
        rate_hz=bundle.calibration.rate_hz,
        sampling=sampling,
        on_frame=reporter.advance,
    )
    trained, held_out = _split_as_trained(bundle, prepared, config, data)
    rate_hz = bundle.calibration.rate_hz
    calibration, scene = calibrate_in_stages(load_model(bundle.network), held_out, trained, config, rate_hz, reporter)
    note = {"date": datetime.now(UTC).date().isoformat(), "commit": current_commit(), "from": bundle.digest[:16]}
    with bundle_writer(out) as folder:
        link_members(bundle.path, folder, _UNCHANGED)
        write_json(folder / "config.json", {**bundle.config, "scoring": config.scoring.model_dump(mode="json")})
        write_scene(scene, folder)
        write_json(folder / "calibration.json", calibration.model_dump(mode="json"))
        write_json(folder / "provenance.json", {**bundle.provenance, "recalibrated": note})
    return TrainingResult(
        out, problems, calibration.small_sample_note, [note for video in prepared for note in video.notes]
    )


def bundle_training_config(bundle: Bundle, scoring: ScoringSettings | None = None) -> TrainingConfig:
    """The configuration that a bundle was trained with, with another scoring if given.

    Raises:
        BundleError: this version does not know its settings.
        ConfigError: a channel of the scoring whose evidence the network does not give.
    """
    values: JSON = {key: value for key, value in bundle.config.items() if key != "graph"}
    values["clips"] = bundle.clips.model_dump()
    values["network"] = {k: v for k, v in bundle.config["network"].items() if k not in ("channels", "n_past")}
    try:
        config = build_training_config(values)
    except ConfigError as error:
        raise BundleError(f"{bundle.path}/config.json: {error}: train it again with this version") from None
    return config if scoring is None else build_training_config({**values, "scoring": scoring})


def link_members(source: Path, target: Path, names: Iterable[str]) -> None:
    """Put members of a bundle into another folder, as hard links where the file system has them, else as copies.

    Args:
        source: the bundle.
        target: the other folder.
        names: those that the bundle does not have are skipped.
    """
    for name in names:
        if (source / name).is_file():
            try:
                os.link(source / name, target / name)
            except OSError:
                shutil.copyfile(source / name, target / name)


def _split_as_trained(
    bundle: Bundle, prepared: Sequence[PreparedVideo], config: TrainingConfig, data: str
) -> tuple[list[PreparedVideo], list[PreparedVideo]]:
    """The training and the calibration videos of the bundle; TrainingError where the video or its split is another."""
    content = hashlib.sha256("".join(video.sha256 for video in prepared).encode()).hexdigest()
    if content != bundle.provenance.get("data_sha256"):
        raise TrainingError(
            f"{data} is not the video that {bundle.path} was trained with (its content differs): give that video, or "
            "train again"
        )
    trained, held_out = split_videos(prepared, config.train.calibration_share, config.clips.n_past)
    found, noted = {video.name: len(video.indices) for video in held_out}, bundle.provenance.get("held_out")
    if found != noted:
        raise TrainingError(
            f"{bundle.path} held out {short_repr(noted)} of {data}, this version holds out {short_repr(found)}: train it again"
        )
    return trained, held_out
