"""Adds a variant of a bundle's network for one runtime: faster to load, or faster to run in lower precision.

run.py       the export, complete or not at all    comparison.py  a variant compared with fp32 on the same frames
openvino.py  OpenVINO's own files, and int8        agreement.py   how close two series of scores are
onnx.py      int8 for ONNX Runtime                 videos.py      the video of the training, found by its hash
"""

from comemory.export.run import MIN_CORRELATION, TOLERANCE, ExportResult, export

__all__ = ["MIN_CORRELATION", "TOLERANCE", "ExportResult", "export"]
