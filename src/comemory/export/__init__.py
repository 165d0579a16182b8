"""A bundle's network in another form for a runtime: faster to load, or faster to run in fewer bits.

run.py        the export, whole or not at all         footage.py     the video of the training again, told by its hash
openvino.py   OpenVINO's own file, and int8 in it     comparison.py  one form beside fp32 on the same frames
onnx.py       int8 for ONNX Runtime                   agreement.py   how near two series of scores come
"""

from comemory.export.run import FLOOR, TOLERANCE, Exported, export

__all__ = ["FLOOR", "TOLERANCE", "Exported", "export"]
