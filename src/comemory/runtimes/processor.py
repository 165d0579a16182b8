"""The precisions that this CPU supports, and those in which it is faster."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

from comemory.runtimes.openvino_core import shared_core

_CPUINFO = Path("/proc/cpuinfo")
_BYTE_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}
_BFLOAT16 = {"avx512_bf16", "amx_bf16"}


def supports(precision: str) -> bool:
    """Whether this CPU computes the numbers to which a calibration for the precision was fitted.

    An x86 CPU without dot products of bytes adds int8 products up in 16 bits, which overflow: the scores would differ.
    """
    if precision == "fp32":
        return True
    flags = processor_flags()
    if flags is None:
        return precision.upper() in _openvino_capabilities()
    return bool(flags & (_BYTE_DOT_PRODUCTS if precision == "int8" else _BFLOAT16))


def is_faster_in(precision: str) -> bool:
    """Whether a network runs faster in the precision than in fp32 on this CPU.

    bf16 is faster on CPUs with AMX (matrix tiles) and on AMD's. Intel's `avx512_bf16` alone was measured at half the speed of
    fp32.
    """
    if precision == "bf16":
        flags = processor_flags() or frozenset()
        return "amx_bf16" in flags or ("avx512_bf16" in flags and "AuthenticAMD" in flags)
    return supports(precision)


@cache
def processor_flags() -> frozenset[str] | None:
    """The vendor and the instruction sets of an x86 CPU as Linux lists them; None on other systems."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return None
    try:
        listing = _CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    lines = re.findall(r"^(?:flags|vendor_id)\s*:(.*)$", listing, re.M)
    return frozenset(word for line in lines for word in line.split())


@cache
def _openvino_capabilities() -> frozenset[str]:
    return frozenset(shared_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
