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
from comemory.bundle.precision import FORM_MEMBERS, Agreement, Check, Form, FormRecord
from comemory.bundle.self_test import try_out
from comemory.bundle.writer import bundle_writer, copy_members, refuse_to_replace, write_json

__all__ = [
    "FORMAT",
    "FORM_MEMBERS",
    "MANIFEST",
    "OPTIONAL",
    "REQUIRED",
    "Agreement",
    "Bundle",
    "Check",
    "Form",
    "FormRecord",
    "bundle_writer",
    "copy_members",
    "open_bundle",
    "refuse_to_replace",
    "try_out",
    "write_json",
]
