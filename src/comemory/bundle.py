"""A bundle: one folder that rebuilds a detector, with the sha256 of every member. Nothing in it is ever unpickled.

manifest.json        format, model, sha256 and size of every other member
config.json          the resolved config it was trained with
calibration.json     what turns evidence into scores
provenance.json      data hash, commit, versions, figures of the training
weights.safetensors  parameters and buffers, for the pytorch runtime and for further training
items.safetensors    the memory items, inputs of the graph
model.onnx           the graph
model.xml, model.bin OpenVINO's own files of the graph, after `comemory export`
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from comemory.decision import Calibration
from comemory.errors import BundleError, ConfigError, nearest
from comemory.flow import FlowSettings
from comemory.runtimes import Network
from comemory.science import MODELS
from comemory.types import JSON
from comemory.video.clips import ClipSettings

FORMAT = 1
MANIFEST = "manifest.json"
REQUIRED = (
    "config.json",
    "calibration.json",
    "provenance.json",
    "weights.safetensors",
    "items.safetensors",
    "model.onnx",
)
OPTIONAL = ("model.xml", "model.bin", "README.md")
_LARGEST_JSON = 64 * 2**20


@dataclass(frozen=True)
class Bundle:
    """An opened bundle whose members are what the manifest says they are.

    Attributes:
        path: of the folder.
        digest: sha256 of the manifest, the name of this very bundle.
        config, provenance: the members of that name.
        items: (N, D) by input name of the graph, in the graph's order.
    """

    path: Path
    digest: str
    config: JSON
    provenance: JSON
    clips: ClipSettings
    flow: FlowSettings
    calibration: Calibration
    network: Network
    items: Mapping[str, NDArray[np.float32]]


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and verify every member.

    Raises:
        BundleError: missing, damaged, unsafe, or of another format.
        ConfigError: it names a model, flow or setting that this version does not know.
    """
    folder = Path(path)
    manifest_bytes = _read(folder, MANIFEST)
    manifest = _object(folder, MANIFEST, manifest_bytes)
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder} has bundle format {manifest.get('format')!r}, this version reads {FORMAT}: train it anew"
        )
    members = _verified(folder, manifest)
    config = _object(folder, "config.json", _read(folder, "config.json"))
    calibration = _object(folder, "calibration.json", _read(folder, "calibration.json"))
    try:
        return Bundle(
            path=folder,
            digest=hashlib.sha256(manifest_bytes).hexdigest(),
            config=config,
            provenance=_object(folder, "provenance.json", _read(folder, "provenance.json")),
            clips=ClipSettings.model_validate(config["clips"]),
            flow=FlowSettings.model_validate(config["flow"]),
            calibration=Calibration.model_validate(calibration),
            network=Network(
                graph=folder / "model.onnx",
                ir=folder / "model.xml" if {"model.xml", "model.bin"} <= members else None,
                weights=folder / "weights.safetensors",
                model=_model_name(config),
                arguments=dict(config["network"]),
            ),
            items=_items(folder, config),
        )
    except ConfigError:
        raise
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"{folder}/config.json lacks or misuses {error}: the bundle was not written by comemory"
        ) from None
    except ValueError as error:
        raise BundleError(f"{folder} holds settings that do not fit: {' '.join(str(error).split())[:300]}") from None
    except safetensors.SafetensorError as error:
        raise BundleError(f"{folder}/items.safetensors cannot be read: {error}") from None


def _items(folder: Path, config: JSON) -> dict[str, NDArray[np.float32]]:
    stored = safetensors.numpy.load_file(folder / "items.safetensors")
    return {name: stored[name] for name in config["graph"]["inputs"] if name.endswith("_items")}


def _model_name(config: JSON) -> str:
    name = config["model"]
    if not isinstance(name, str) or name not in MODELS:
        raise BundleError(
            f"the bundle names the model {name!r}, which is not in the table of models: {nearest(str(name), MODELS)}"
        )
    return name


@contextmanager
def bundle_writer(path: str | Path) -> Iterator[Path]:
    """Give an empty folder to fill with members; at the end write the manifest and move the whole into place.

    Until then the bundle at `path`, if there is one, stays as it was; after an error it still is, and no half bundle lies
    beside it. Replaces a bundle; refuses to replace anything else.

    Raises:
        BundleError: the place is taken by something else, or writing failed (a full disk, say).
    """
    target = Path(path)
    refuse_to_replace(target)
    folder: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        yield folder
        _write_manifest(folder)
        folder.chmod(0o755)
        _move_into_place(folder, target)
    except OSError as error:
        raise BundleError(f"cannot write the bundle {target}: {error.strerror or error}; nothing was changed") from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def refuse_to_replace(target: Path) -> None:
    """Raise BundleError where `target` exists and is no bundle, so that no folder of somebody's is ever lost."""
    if (
        target.is_symlink()
        or target.is_file()
        or (target.is_dir() and any(target.iterdir()) and not (target / MANIFEST).is_file())
    ):
        raise BundleError(f"{target} exists and is not a bundle: choose another place")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object readably; NaN is refused."""
    path.write_text(json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_manifest(folder: Path) -> None:
    members = {}
    for member in sorted(folder.iterdir()):
        members[member.name] = {"sha256": _sha256(member), "bytes": member.stat().st_size}
        with member.open("rb") as file:
            os.fsync(file.fileno())
    write_json(folder / MANIFEST, {"format": FORMAT, "members": members})


def _move_into_place(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(old / target.name)
    try:
        folder.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _verified(folder: Path, manifest: JSON) -> set[str]:
    members = manifest.get("members")
    if not isinstance(members, dict):
        raise BundleError(f"{folder}/{MANIFEST} lists no members: the bundle was not written by comemory")
    for name, record in members.items():
        if name not in REQUIRED + OPTIONAL:
            raise BundleError(f"{folder}/{MANIFEST} lists {name!r}, which no bundle holds: refused")
        if (folder / name).is_symlink():
            raise BundleError(f"{folder}/{name} is a link: a bundle holds files only")
        if not (folder / name).is_file():
            raise BundleError(f"{folder} lacks {name}: copy the whole bundle again")
        if not isinstance(record, dict) or _sha256(folder / name) != record.get("sha256"):
            raise BundleError(f"{folder}/{name} is damaged (sha256 differs from the manifest): copy the bundle again")
    missing = [name for name in REQUIRED if name not in members]
    if missing:
        raise BundleError(f"{folder}/{MANIFEST} does not list {', '.join(missing)}: the bundle is not whole")
    return set(members)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise BundleError(f"{path} is larger than any {name} of a bundle: refused")
        return path.read_bytes()
    except OSError as error:
        if name == MANIFEST:
            raise BundleError(f"{folder} is not a bundle: {error.strerror or error} ({MANIFEST})") from None
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from None


def _object(folder: Path, name: str, content: bytes) -> JSON:
    try:
        value = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise BundleError(f"{folder}/{name} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BundleError(f"{folder}/{name} holds no JSON object: the bundle was not written by comemory")
    return value
