"""The export: a form of the network added to its bundle, or the bundle left as it was."""

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
    FormRecord,
    bundle_writer,
    copy_members,
    open_bundle,
    write_json,
)
from comemory.bundle.files import FORM_FILES
from comemory.errors import BundleError, ConfigError, nearest
from comemory.export import onnx, openvino
from comemory.export.comparison import Comparison, refuse_distant
from comemory.export.footage import Footage, checking_footage, range_clips, training_footage
from comemory.provenance import cpu_name, package_version
from comemory.runtimes import PRECISIONS, RUNTIMES, Network, runs_in
from comemory.types import Clip

TOLERANCE = 1e-4
"""How far OpenVINO's own fp32 files may answer from `model.onnx`."""
FLOOR = 0.99
"""The least correlation with the scores of fp32, by rank and by value, that an export is kept with."""

Maps = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Exported:
    """What came of an export.

    Attributes:
        files: that the runtime reads for it.
        record: calibration and figures; None for fp32, which has the bundle's own.
        problems: one line for each frame or video that could not be used.
    """

    files: Sequence[Path]
    record: FormRecord | None = None
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
    floor: float = FLOOR,
    on_stage: Callable[[str, int | None], None] = lambda name, total: None,
    on_frame: Callable[[], None] = lambda: None,
) -> Exported:
    """Add the network in a form of a runtime's own to the bundle. The bundle changes whole or not at all.

    fp32 needs no data: for `onnx` nothing is to be done, `openvino` gets files that load without a conversion, checked
    to answer as `model.onnx` does. Other precisions shift the evidence, so the calibration is fitted again, on the
    ordinary video that the training held out, and kept beside the bundle's own together with figures.

    Args:
        data: `KIND:PATH` of the data set that the bundle was trained on.
        checks: `KIND:PATH` of labelled data sets to compare both precisions on.
        cache: folder of prepared frames, as that of the training; without one they are prepared for this run only.
        flow_weights: path of the flow's weight file, where the bundle's flow needs one.
        floor: the least correlation with the scores of fp32.

    Raises:
        ConfigError: a precision that the runtime or this CPU does not have, or no data for one that needs them.
        DatasetError: the data are not those of the training.
        BundleError: the bundle cannot be opened or written, or the form scores otherwise than fp32.
        RuntimeMissing: a package is needed that is not installed.
    """
    _refuse(runtime, precision, data)
    bundle = open_bundle(path)
    if precision == "fp32" or data is None:
        return Exported(_export_fp32(bundle, runtime))
    with _cache(bundle, cache) as folder:
        on_stage("Preparing frames", None)
        footage = training_footage(bundle, data, folder, flow_weights, on_frame)
        labelled = {_short(one): checking_footage(bundle, one, folder, flow_weights, on_frame) for one in checks}
        problems = [*footage.problems, *(line for _, lines in labelled.values() for line in lines)]
        with bundle_writer(path) as written:
            names = FORM_FILES[runtime, precision]
            copy_members(bundle.path, written, names)
            on_stage(f"Bringing the network to {precision}", None)
            network = _write_form(bundle, footage, written, runtime, precision)
            comparison = Comparison(bundle, runtime, network, on_frame)
            videos = [*footage.held, *(video for found, _ in labelled.values() for video, _ in found)]
            looks = [*videos, *videos, *footage.trained]
            on_stage("Comparing with fp32", sum(len(video.newest(bundle.clips.n_past)) for video in looks))
            held = comparison.held_out(footage.held, footage.trained)
            found = {name: comparison.check(videos) for name, (videos, _) in labelled.items()}
            record = FormRecord(calibration=comparison.calibration, held_out=held, checks=found, made=_made(runtime))
            refuse_distant(record, runtime, precision, floor)
            write_json(written / names[0], record.model_dump(mode="json"))
            if not bundle.is_current():
                raise BundleError(f"{bundle.path} was replaced during the export: export it again")
    return Exported([bundle.path / name for name in names], record, problems)


def _refuse(runtime: str, precision: str, data: str | None) -> None:
    """Raise ConfigError for what cannot be done, before any work."""
    known = PRECISIONS.get(runtime)
    if known is None or runtime == "pytorch":
        raise ConfigError(f"there is nothing to export for the runtime {runtime!r}: {nearest(runtime, _TARGETS)}")
    if precision not in known:
        raise ConfigError(f"the runtime {runtime!r} has no precision {precision!r}: {nearest(precision, known)}")
    if precision == "fp32":
        return
    if data is None:
        raise ConfigError(f"{precision} is calibrated on the video of the training: give it with --data KIND:PATH")
    if not runs_in(precision):
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
    """Run the graph and what was made of it on the same noise; raise BundleError where they differ."""
    inputs = _noise(bundle)
    runtime = RUNTIMES.load("openvino")
    expected = runtime(bundle.network._replace(ir=None), 1).run(inputs)
    given = runtime(written, 1).run(inputs)
    for name, values in expected.items():
        if not np.allclose(given[name], values, rtol=TOLERANCE, atol=TOLERANCE):
            far = float(np.abs(given[name] - values).max())
            raise BundleError(
                f"OpenVINO's form of {bundle.network.graph} differs by {far:.3g} in {name}, expected at most "
                f"{TOLERANCE:g}; nothing was changed"
            )


def _noise(bundle: Bundle) -> Maps:
    spec, generator = bundle.clips, np.random.default_rng(0)
    frames = generator.uniform(-1, 1, (spec.n_past + 1, spec.channels, spec.height, spec.width))
    flow = generator.normal(size=(2, spec.height, spec.width))
    clip = Clip.of(frames.astype(np.float32), flow.astype(np.float32))
    return {**bundle.network.squares.inputs(clip), **bundle.items}


@contextmanager
def _cache(bundle: Bundle, cache: Path | None) -> Iterator[Path]:
    """The folder of prepared frames: the one given, that of the training where it is still there, or one for now."""
    training = bundle.path.with_name(f"{bundle.path.name}.run") / "cache"
    if cache is not None or training.is_dir():
        yield cache or training
        return
    with tempfile.TemporaryDirectory(prefix="comemory-") as folder:
        yield Path(folder)


def _write_form(bundle: Bundle, footage: Footage, folder: Path, runtime: str, precision: str) -> Network:
    """Write the graph of a form, where it needs one of its own, and say where it is."""
    network = bundle.network._replace(precision=precision)
    if precision != "int8":
        return network
    graph = folder / FORM_FILES[runtime, precision][1]
    clips = range_clips(footage, bundle)
    if runtime == "onnx":
        onnx.write_int8(bundle.network.graph, graph, clips)
        return network._replace(graph=graph)
    openvino.write_int8(bundle.network.graph, graph, clips)
    return network._replace(ir=graph)


def _made(runtime: str) -> dict[str, str | int]:
    packages = {"openvino": ("openvino", "nncf"), "onnx": ("onnxruntime", "onnx")}[runtime]
    versions = {package: package_version(package) or "unknown" for package in packages}
    return {"date": datetime.now(UTC).date().isoformat(), "cpu": cpu_name() or "unknown", **versions}


def _short(data: str) -> str:
    kind, _, place = data.partition(":")
    return f"{kind}:{Path(place).name}"
