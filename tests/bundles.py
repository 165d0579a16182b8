"""Copies of bundles to damage, with manifests that match the damage."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def copied(bundle: Path, folder: Path) -> Path:
    """Copy a bundle into `folder`, to be changed."""
    target = folder / "copy"
    if target.exists():
        shutil.rmtree(target)
    return Path(shutil.copytree(bundle, target))


def sign(bundle: Path) -> Path:
    """Write the manifest again, with the hash of every member that exists."""
    members = {
        member.name: {"sha256": hashlib.sha256(member.read_bytes()).hexdigest(), "bytes": member.stat().st_size}
        for member in sorted(bundle.iterdir())
        if member.name != "manifest.json"
    }
    (bundle / "manifest.json").write_text(json.dumps({"format": 1, "members": members}), encoding="utf-8")
    return bundle


def read(bundle: Path, member: str) -> Any:
    """Read a JSON member."""
    return json.loads((bundle / member).read_text(encoding="utf-8"))


def write(bundle: Path, member: str, value: Any) -> Path:
    """Replace a member by JSON, bytes or text, and sign the bundle."""
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    (bundle / member).write_bytes(content)
    return sign(bundle)


def unfinite(bundle: Path, folder: Path, where: str, most: float = 0.0) -> Path:
    """Copy a bundle, and make its network return NaN where the squared mean of an input is above `most`."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install '.[train]'")
    target = copied(bundle, folder)
    model = onnx.load(target / "model.onnx")
    graph, make = model.graph, onnx.helper.make_node
    for node in graph.node:
        node.output[:] = ["frame_error_sound" if name == "frame_error" else name for name in node.output]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(most, np.float32), "most"))
    graph.node.extend(
        [
            make("ReduceMean", [where], ["mean"], keepdims=0),
            make("Mul", ["mean", "mean"], ["square"]),
            make("Sub", ["most", "square"], ["left"]),
            make("Sqrt", ["left"], ["number"]),
            make("Add", ["frame_error_sound", "number"], ["frame_error"]),
        ]
    )
    onnx.save(model, target / "model.onnx")
    return sign(target)
