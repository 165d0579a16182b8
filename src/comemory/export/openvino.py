"""OpenVINO's own files of a network: in fp32, or with its convolutions in int8."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.errors import BundleError, RuntimeMissing, install_hint, last_line
from comemory.runtimes.openvino_core import shared_core

CONVOLUTIONS = ("Convolution", "ConvolutionBackpropData")
_PASSED = ("Constant", "Parameter", "Result")


def write_fp32(graph: Path, ir: Path) -> None:
    """Write the graph as `ir` and its `.bin`.

    Raises:
        BundleError: OpenVINO cannot read or write it.
    """
    _save(_read(graph), ir)


def write_int8(graph: Path, ir: Path, clips: Sequence[dict[str, NDArray[np.float32]]]) -> None:
    """Write the graph with its convolutions in int8 as `ir` and its `.bin`.

    Ours: only convolutions, which are nearly all of the cost. The read of the memory is a sharp softmax over small
    differences, and errors and residuals are small differences too. With these in int8 as well, the scores of Ped2
    correlate with those of fp32 by 0.85; with the convolutions only, by 0.9999, at the same speed.

    Args:
        graph: file of the fp32 network.
        ir: file to write.
        clips: inputs from which the ranges of the activations are taken.

    Raises:
        BundleError: OpenVINO or NNCF cannot do it. RuntimeMissing: NNCF is not installed.
    """
    nncf = _nncf()
    model = _read(graph)
    others = {op.get_type_name() for op in model.get_ops()} - {*CONVOLUTIONS, *_PASSED}
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            quantised = nncf.quantize(
                model,
                nncf.Dataset(list(clips)),
                subset_size=len(clips),
                ignored_scope=nncf.IgnoredScope(types=sorted(others), validate=False),
            )
    except Exception as error:  # nncf's and openvino's exceptions share no public parent
        raise BundleError(f"NNCF cannot quantise {graph} to int8: {last_line(error)}; nothing was changed") from None
    _save(quantised, ir)


def _nncf() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import nncf
    except ImportError as error:
        raise RuntimeMissing(
            f"int8 for OpenVINO needs {error.name or 'nncf'}, which does not load: {install_hint('export')}"
        ) from error
    import logging

    nncf.set_log_level(logging.ERROR)
    return nncf


def _read(graph: Path) -> Any:
    """Read the graph and fold its constants: arithmetic on constant shapes is half of the nodes and would slow every start."""
    from openvino.passes import ConstantFolding, Manager

    try:
        model = shared_core().read_model(str(graph))
        folding = Manager()
        folding.register_pass(ConstantFolding())
        folding.run_passes(model)
    except RuntimeError as error:
        raise BundleError(f"OpenVINO cannot read {graph}: {last_line(error)}") from None
    return model


def _save(model: Any, ir: Path) -> None:
    import openvino as ov

    try:
        ov.save_model(model, str(ir), compress_to_fp16=False)
    except RuntimeError as error:
        raise BundleError(
            f"cannot write {ir.name} and {ir.stem}.bin: {last_line(error)}; is the disk full? Nothing was changed"
        ) from None
