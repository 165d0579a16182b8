"""A bundle's graph in a runtime's own form, added to the bundle."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from comemory.bundle import MANIFEST, Bundle, bundle_writer, open_bundle
from comemory.errors import BundleError

Target = Literal["onnx", "openvino"]


def export(path: str | Path, runtime: Target) -> list[Path]:
    """Make what the runtime reads fastest, and check that it gives the graph's own answers.

    `onnx` needs nothing beside `model.onnx`, which every bundle holds; `openvino` adds `model.xml` and `model.bin`,
    fp32, which load without a conversion.

    Returns:
        The files that the runtime reads.

    Raises:
        BundleError: the bundle cannot be opened or written.
    """
    bundle = open_bundle(path)
    if runtime == "onnx":
        return [bundle.network.graph]
    with bundle_writer(path) as folder:
        for member in bundle.path.iterdir():
            if member.name != MANIFEST:
                shutil.copyfile(member, folder / member.name)
        _openvino(bundle)(folder)
    return [bundle.path / "model.xml", bundle.path / "model.bin"]


def _openvino(bundle: Bundle) -> Callable[[Path], None]:
    import openvino as ov

    def write(folder: Path) -> None:
        try:
            ov.save_model(
                ov.Core().read_model(str(bundle.network.graph)), str(folder / "model.xml"), compress_to_fp16=False
            )
        except RuntimeError as error:
            raise BundleError(
                f"OpenVINO cannot read {bundle.network.graph}: {str(error).strip().splitlines()[-1]}"
            ) from None

    return write
