"""A bundle's graph in a runtime's own form, added to the bundle."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import MANIFEST, Bundle, bundle_writer, open_bundle
from comemory.errors import BundleError
from comemory.runtimes import RUNTIMES, Network

Target = Literal["onnx", "openvino"]

TOLERANCE = 1e-4


def export(path: str | Path, runtime: Target) -> list[Path]:
    """Make what the runtime reads fastest, and check that it gives the graph's own answers.

    `onnx` needs nothing beside `model.onnx`, which every bundle holds; `openvino` adds `model.xml` and `model.bin`,
    fp32, which load without a conversion. The bundle changes whole or not at all.

    Returns:
        The files that the runtime reads.

    Raises:
        BundleError: the bundle cannot be opened or written, or the runtime's form answers otherwise.
    """
    bundle = open_bundle(path)
    if runtime == "onnx":
        return [bundle.network.graph]
    with bundle_writer(path) as folder:
        for member in bundle.path.iterdir():
            if member.name not in (MANIFEST, "model.xml", "model.bin"):
                shutil.copyfile(member, folder / member.name)
        ir = _write_openvino(bundle.network.graph, folder)
        _compare(bundle, bundle.network._replace(ir=ir))
    return [bundle.path / "model.xml", bundle.path / "model.bin"]


def _write_openvino(graph: Path, folder: Path) -> Path:
    import openvino as ov

    try:
        model = ov.Core().read_model(str(graph))
    except RuntimeError as error:
        raise BundleError(f"OpenVINO cannot read {graph}: {_last_line(error)}") from None
    try:
        ov.save_model(model, str(folder / "model.xml"), compress_to_fp16=False)
    except RuntimeError as error:
        raise BundleError(
            f"cannot write model.xml and model.bin: {_last_line(error)}; is the disk full? Nothing was changed"
        ) from None
    return folder / "model.xml"


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


def _noise(bundle: Bundle) -> dict[str, NDArray[np.float32]]:
    spec, generator = bundle.clips, np.random.default_rng(0)
    frames = generator.uniform(-1, 1, (1, spec.n_past + 1, spec.channels, spec.height, spec.width))
    flow = generator.normal(size=(1, 2, spec.height, spec.width))
    return {"frames": frames.astype(np.float32), "flow": flow.astype(np.float32), **bundle.items}


def _last_line(error: RuntimeError) -> str:
    return str(error).strip().splitlines()[-1]
