"""Video anomaly detection for fixed cameras: learns from normal video, and scores how abnormal each frame is.

    from comemory import Detector

    for score in Detector.open("models/ped2-small").run("gate.mp4"):
        print(score.time_s, score.value)

The names in this module are loaded when they are first used: importing comemory loads neither torch nor a runtime.

No telemetry. OpenVINO and NNCF would report every import and every export to their maker through the package
`openvino_telemetry`, from a process that is forked in the middle of a thread and sometimes never ends. After comemory is
imported they do not find that package, and work without it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # makes importing it fail

if TYPE_CHECKING:
    from comemory.bundle import Bundle, open_bundle
    from comemory.datasets import open_dataset
    from comemory.detector import Detector
    from comemory.errors import ComemoryError

    __version__: str
    from comemory.scoring import EventFinder
    from comemory.types import Event, Frame, Score, Source
    from comemory.video.source import open_source

__all__ = [
    "Bundle",
    "ComemoryError",
    "Detector",
    "Event",
    "EventFinder",
    "Frame",
    "Score",
    "Source",
    "open_bundle",
    "open_dataset",
    "open_source",
]

_MODULES = {
    "Bundle": "bundle",
    "ComemoryError": "errors",
    "Detector": "detector",
    "Event": "types",
    "EventFinder": "scoring",
    "Frame": "types",
    "Score": "types",
    "Source": "types",
    "open_bundle": "bundle",
    "open_dataset": "datasets",
    "open_source": "video.source",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from comemory.provenance import package_version

        return package_version("comemory") or "unknown"
    if name not in _MODULES:
        raise AttributeError(f"module 'comemory' has no attribute {name!r}")
    return getattr(import_module(f"comemory.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
