"""A bundle: one folder that rebuilds a detector, with the sha256 of every member. Nothing in it is ever unpickled.

Members:

    manifest.json         format, sha256 and size of every other member
    config.json           the resolved config of the training
    calibration.json      turns evidence into scores
    provenance.json       hash of the data, commit, versions, metrics of the training
    weights.safetensors   parameters and buffers, for the runtime `pytorch` and for further training
    items.safetensors     the memory items, inputs of the graph
    model.onnx            the graph
    scene.safetensors     background, heights and normal objects, where a channel measures moving objects
    model.xml, model.bin  OpenVINO's own files of the graph, after `comemory export`

After `comemory export --precision`, for each runtime and precision (see `precision.PrecisionVariant`):

    openvino-bf16.json    calibration and metrics; the graph is model.onnx or model.xml
    openvino-int8.json    the same, with a graph of its own: openvino-int8.xml, openvino-int8.bin
    onnx-int8.json        the same for ONNX Runtime: onnx-int8.onnx

Modules:

    files.py      the members that exist, read and verified    bundle.py     an opened bundle
    precision.py  its network in other precisions              writer.py     a bundle is written whole or not at all
    self_test.py  runs the network once before the first frame
"""

from comemory.bundle.bundle import Bundle, has_network, open_bundle
from comemory.bundle.files import FORMAT, MANIFEST, OPTIONAL, REQUIRED, SCENE
from comemory.bundle.precision import (
    VARIANT_MEMBERS,
    Agreement,
    LabelledAgreement,
    PrecisionVariant,
    VariantRecord,
)
from comemory.bundle.self_test import run_self_test
from comemory.bundle.writer import bundle_writer, copy_members, require_replaceable, write_json

__all__ = [
    "FORMAT",
    "MANIFEST",
    "OPTIONAL",
    "REQUIRED",
    "SCENE",
    "VARIANT_MEMBERS",
    "Agreement",
    "Bundle",
    "LabelledAgreement",
    "PrecisionVariant",
    "VariantRecord",
    "bundle_writer",
    "copy_members",
    "has_network",
    "open_bundle",
    "require_replaceable",
    "run_self_test",
    "write_json",
]
