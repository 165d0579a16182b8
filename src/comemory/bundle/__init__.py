"""A bundle: one folder that rebuilds a detector, with the sha256 of every member. Nothing in it is ever unpickled.

manifest.json        format, model, sha256 and size of every other member
config.json          the resolved config it was trained with
calibration.json     what turns evidence into scores
provenance.json      data hash, commit, versions, figures of the training
weights.safetensors  parameters and buffers, for the pytorch runtime and for further training
items.safetensors    the memory items, inputs of the graph
model.onnx           the graph
model.xml, model.bin OpenVINO's own files of the graph, after `comemory export`

After `comemory export --precision`, for each runtime and precision, see `forms.Form`:

openvino-bf16.json                                          calibration and figures; the graph is the one above
openvino-int8.json, openvino-int8.xml, openvino-int8.bin    likewise, with a graph of its own
onnx-int8.json, onnx-int8.onnx                              likewise, for ONNX Runtime

members.py  what a bundle may hold, read and verified    opened.py   the bundle that a detector is made of
forms.py    its network in other precisions              writing.py  written whole or not at all
trial.py    its network run once before it watches
"""

from comemory.bundle.bundle import Bundle, open_bundle
from comemory.bundle.files import FORMAT, MANIFEST, OPTIONAL, REQUIRED
from comemory.bundle.precision import VARIANT_MEMBERS, Agreement, LabelledAgreement, PrecisionVariant, VariantRecord
from comemory.bundle.self_test import run_self_test
from comemory.bundle.writer import bundle_writer, copy_members, require_replaceable, write_json

__all__ = [
    "FORMAT",
    "MANIFEST",
    "OPTIONAL",
    "REQUIRED",
    "VARIANT_MEMBERS",
    "Agreement",
    "Bundle",
    "LabelledAgreement",
    "PrecisionVariant",
    "VariantRecord",
    "bundle_writer",
    "copy_members",
    "open_bundle",
    "require_replaceable",
    "run_self_test",
    "write_json",
]
