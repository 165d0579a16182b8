"""Video anomaly detection with fixed cameras: learn what is normal, see what is not.

    from comemory import Detector

    for score in Detector.open("models/ped2-small").run("gate.mp4"):
        print(score.time_s, score.value)

The names here are loaded when they are first used, so importing comemory loads neither torch nor a runtime.

Nothing that comemory does is told to anybody. OpenVINO and NNCF would report every import and every export to their maker
through the package `openvino_telemetry`, from a process forked in the middle of a thread, which now and then never ends.
Where comemory is imported first they find no such package, and do without.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # so that importing it fails

if TYPE_CHECKING:
    from comemory.bundle import Bundle, open_bundle
    from comemory.datasets import open_dataset
    from comemory.detector import Detector
    from comemory.errors import ComemoryError
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

_PLACES = {
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
    if name not in _PLACES:
        raise AttributeError(f"module 'comemory' has no attribute {name!r}")
    return getattr(import_module(f"comemory.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
