"""The export: a variant of the network is added to its bundle, or the bundle stays as it was."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import (
    Bundle,
    VariantRecord,
    bundle_writer,
    copy_members,
    open_bundle,
    write_json,
)
from comemory.bundle.files import VARIANT_FILES
from comemory.errors import BundleError, ConfigError, suggest
from comemory.export import onnx, openvino
from comemory.export.comparison import PrecisionComparison, require_agreement
from comemory.export.videos import ExportVideos, prepare_labelled_videos, prepare_training_videos, quantisation_inputs
from comemory.provenance import cpu_name, package_version
from comemory.runtimes import PRECISIONS, RUNTIMES, Network, supports
from comemory.types import Clip

TOLERANCE = 1e-4
"""Largest difference, relative and absolute, between OpenVINO's own fp32 files and `model.onnx`."""
MIN_CORRELATION = 0.99
"""Smallest correlation with the scores of fp32, by rank and by value, with which an export is accepted."""

Maps = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ExportResult:
    """The result of an export.

    Attributes:
        files: that the runtime reads.
        record: calibration and agreement; None for fp32, which uses the bundle's own calibration.
        problems: one line for each frame or video that could not be used.
    """

    files: Sequence[Path]
    record: VariantRecord | None = None
    problems: Sequence[str] = field(default_factory=list)


def export(
    path: str | Path,
    runtime: str = "openvino",
    precision: str = "fp32",
    *,
    data: str | None = None,
    checks: Sequence[str] = (),
    cache: Path | None = None,
    flow_weights: str | None = None,
    min_correlation: float = MIN_CORRELATION,
    on_stage: Callable[[str, int | None], None] = lambda name, total: None,
    on_frame: Callable[[], None] = lambda: None,
) -> ExportResult:
    """Add a variant of the network for one runtime to the bundle. The bundle changes completely or not at all.

    fp32 needs no data. For `onnx` there is nothing to do; `openvino` gets files that load without conversion, after a
    check that they compute what `model.onnx` does. Other precisions shift the evidence, so the calibration is fitted
    again on the normal video that the training held out, and stored with the variant together with its agreement.

    Args:
        path: the bundle.
        runtime: `openvino` or `onnx`.
        precision: `fp32`, or another one that the runtime has.
        data: `KIND:PATH` of the data set that the bundle was trained on.
        checks: `KIND:PATH` of labelled data sets to compare both precisions on.
        cache: folder of prepared frames; that of the training if it is still there, else a temporary one.
        flow_weights: path of the flow's weight file, where the bundle's flow needs one.
        min_correlation: smallest correlation with the scores of fp32.
        on_stage: called with the name of each stage and its number of frames, None where it is not known.
        on_frame: called for each frame of a stage.

    Raises:
        ConfigError: a precision that the runtime or this CPU does not have, no data for one that needs them, or a model
            without a network.
        DatasetError: the data are not those of the training.
        BundleError: the bundle cannot be opened or written, or the variant does not score like fp32.
        RuntimeMissing: a package is needed that is not installed.
    """
    _check_request(runtime, precision)
    bundle = open_bundle(path)
    if precision != "fp32":
        _check_variant(bundle, precision, data)
    if precision == "fp32" or data is None:
        return ExportResult(_export_fp32(bundle, runtime))
    with _cache_folder(bundle, cache) as folder:
        on_stage("Preparing frames", None)
        training = prepare_training_videos(bundle, data, folder, flow_weights, on_frame)
        labelled = {_short(one): prepare_labelled_videos(bundle, one, folder, flow_weights, on_frame) for one in checks}
        problems = [*training.problems, *(line for _, lines in labelled.values() for line in lines)]
        with bundle_writer(path) as written:
            names = VARIANT_FILES[runtime, precision]
            copy_members(bundle.path, written, names)
            on_stage(f"Converting the network to {precision}", None)
            network = _write_variant(bundle, training, written, runtime, precision)
            comparison = PrecisionComparison(bundle, runtime, network, on_frame)
            videos = [*training.held_out, *(video for found, _ in labelled.values() for video, _ in found)]
            # Every video in both precisions; in the new one held-out video twice and training video once, to calibrate it.
            scored = [*videos, *videos, *training.held_out, *training.counted]
            on_stage("Comparing with fp32", sum(len(video.clip_ends(bundle.clips.n_past)) for video in scored))
            held_out = comparison.calibrate(training.held_out, training.counted, training.trained)
            found = {name: comparison.compare_labelled(videos) for name, (videos, _) in labelled.items()}
            record = VariantRecord(
                calibration=comparison.calibration, held_out=held_out, checks=found, created=_environment(runtime)
            )
            require_agreement(record, runtime, precision, min_correlation)
            write_json(written / names[0], record.model_dump(mode="json"))
            if not bundle.is_current():
                raise BundleError(f"{bundle.path} was replaced during the export: export it again")
    return ExportResult([bundle.path / name for name in names], record, problems)


def _check_request(runtime: str, precision: str) -> None:
    """Raise ConfigError for what cannot be exported, before any work."""
    known = PRECISIONS.get(runtime)
    if known is None or runtime == "pytorch":
        raise ConfigError(f"there is nothing to export for the runtime {runtime!r}: {suggest(runtime, _TARGETS)}")
    if precision not in known:
        raise ConfigError(f"the runtime {runtime!r} has no precision {precision!r}: {suggest(precision, known)}")


def _check_variant(bundle: Bundle, precision: str, data: str | None) -> None:
    """Raise ConfigError where there is no network to convert, or it cannot be converted here."""
    if not bundle.has_network:
        raise ConfigError(f"{bundle.path} has no network: there is nothing to convert to {precision}")
    if data is None:
        raise ConfigError(f"{precision} is calibrated on the video of the training: give it with --data KIND:PATH")
    if not supports(precision):
        raise ConfigError(f"this CPU does not compute in {precision}: export it on one that does")


_TARGETS = ("openvino", "onnx")


def _export_fp32(bundle: Bundle, runtime: str) -> list[Path]:
    if runtime == "onnx":
        return [bundle.network.graph]
    names = ("model.xml", "model.bin")
    with bundle_writer(bundle.path) as written:
        copy_members(bundle.path, written, names)
        openvino.write_fp32(bundle.network.graph, written / names[0])
        _compare(bundle, bundle.network._replace(ir=written / names[0]))
    return [bundle.path / name for name in names]


def _compare(bundle: Bundle, written: Network) -> None:
    """Run the graph and the written files on the same noise; raise BundleError where they differ."""
    inputs = _noise(bundle)
    runtime = RUNTIMES.load("openvino")
    expected = runtime(bundle.network._replace(ir=None), 1).run(inputs)
    given = runtime(written, 1).run(inputs)
    for name, values in expected.items():
        if not np.allclose(given[name], values, rtol=TOLERANCE, atol=TOLERANCE):
            difference = float(np.abs(given[name] - values).max())
            raise BundleError(
                f"OpenVINO's files of {bundle.network.graph} differ by {difference:.3g} in {name}, expected at most "
                f"{TOLERANCE:g}; nothing was changed"
            )


def _noise(bundle: Bundle) -> Maps:
    spec, generator = bundle.clips, np.random.default_rng(0)
    frames = generator.uniform(-1, 1, (spec.n_past + 1, spec.channels, spec.height, spec.width))
    flow = generator.normal(size=(2, spec.height, spec.width))
    clip = Clip.from_arrays(frames.astype(np.float32), flow.astype(np.float32))
    return {**bundle.network.layout.build_inputs(clip), **bundle.items}


@contextmanager
def _cache_folder(bundle: Bundle, cache: Path | None) -> Iterator[Path]:
    """The folder of prepared frames: the one given, that of the training if it is still there, or a temporary one."""
    training = bundle.path.with_name(f"{bundle.path.name}.run") / "cache"
    if cache is not None or training.is_dir():
        yield cache or training
        return
    with tempfile.TemporaryDirectory(prefix="comemory-") as folder:
        yield Path(folder)


def _write_variant(bundle: Bundle, training: ExportVideos, folder: Path, runtime: str, precision: str) -> Network:
    """Write the graph of a variant, where it needs one of its own, and return the network with it."""
    network = bundle.network._replace(precision=precision)
    if precision != "int8":
        return network
    graph = folder / VARIANT_FILES[runtime, precision][1]
    clips = quantisation_inputs(training, bundle)
    if runtime == "onnx":
        onnx.write_int8(bundle.network.graph, graph, clips)
        return network._replace(graph=graph)
    openvino.write_int8(bundle.network.graph, graph, clips)
    return network._replace(ir=graph)


def _environment(runtime: str) -> dict[str, str | int]:
    packages = {"openvino": ("openvino", "nncf"), "onnx": ("onnxruntime", "onnx")}[runtime]
    versions = {package: package_version(package) or "unknown" for package in packages}
    return {"date": datetime.now(UTC).date().isoformat(), "cpu": cpu_name() or "unknown", **versions}


def _short(data: str) -> str:
    kind, _, place = data.partition(":")
    return f"{kind}:{Path(place).name}"
