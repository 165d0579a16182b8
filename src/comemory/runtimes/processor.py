"""Which precisions this CPU computes in, and which of them it is faster in."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}


def supports(precision: str) -> bool:
    """Whether this CPU gives the numbers that a calibration for the precision was fitted on.

    int8 on an x86 CPU without dot products of bytes adds them up in 16 bits, which overflow: other scores.
    """
    if precision == "fp32":
        return True
    flags = processor_flags()
    if flags is None:
        return precision.upper() in _openvino_capabilities()
    return bool(flags & (_DOT_PRODUCTS if precision == "int8" else {"avx512_bf16", "amx_bf16"}))


def is_faster_in(precision: str) -> bool:
    """Whether a network is faster in the precision than in fp32 on this CPU.

    bf16 pays where the CPU multiplies tiles of it (AMX), and on AMD's; Intel's `avx512_bf16` alone was measured at half
    the speed of fp32.
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
        listed = _CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return frozenset(
        word for line in re.findall(r"^(?:flags|vendor_id)\s*:(.*)$", listed, re.M) for word in line.split()
    )


@cache
def _openvino_capabilities() -> frozenset[str]:
    import openvino as ov

    return frozenset(ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
