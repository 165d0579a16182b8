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

import ctypes
import hashlib
import json
import math
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel

from comemory.config import build
from comemory.decision import Calibration
from comemory.errors import BundleError, ConfigError, nearest, short
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
_LARGEST_JSON = 8 * 2**20
_LARGEST_ITEMS = 256 * 2**20
_ATTEMPTS = 5

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle whose members are what the manifest says they are.

    Attributes:
        path: of the folder.
        digest: sha256 of the manifest, the name of this very bundle.
        config, provenance: the members of that name.
        flow: which estimator, without the path of a weight file: opening a bundle reads no file but its own.
        items: float32 (N, D) by input name of the graph, in the graph's order.
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

    def is_current(self) -> bool:
        """Whether the folder still holds this very bundle: it may be gone, or replaced by a newer one."""
        try:
            return hashlib.sha256(_read(self.path, MANIFEST)).hexdigest() == self.digest
        except BundleError:
            return False


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and verify every member. A bundle that is replaced meanwhile is read anew, never mixed.

    Raises:
        BundleError: missing, damaged, unsafe, of another format, or it names a model, flow or setting that this version
            does not know.
    """
    folder = Path(path)
    for _ in range(_ATTEMPTS):
        manifest = _read(folder, MANIFEST)
        try:
            bundle = _open(folder, manifest)
        except BundleError:
            if _read(folder, MANIFEST) == manifest:
                raise
        else:
            if bundle.is_current():
                return bundle
    raise BundleError(f"{folder} is replaced again and again: open it when that is over")


def _open(folder: Path, manifest_bytes: bytes) -> Bundle:
    manifest = _object(folder, MANIFEST, manifest_bytes)
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder} has bundle format {manifest.get('format')!r}, this version reads {FORMAT}: train it anew"
        )
    members, contents = _verified(folder, manifest)
    config = _object(folder, "config.json", contents["config.json"])
    calibration = _object(folder, "calibration.json", contents["calibration.json"])
    return Bundle(
        path=folder,
        digest=hashlib.sha256(manifest_bytes).hexdigest(),
        config=config,
        provenance=_object(folder, "provenance.json", contents["provenance.json"]),
        clips=_settings(folder / "config.json", ClipSettings, _group(folder, config, "clips")),
        flow=_settings(folder / "config.json", FlowSettings, {**_group(folder, config, "flow"), "weights": None}),
        calibration=_settings(folder / "calibration.json", Calibration, calibration),
        network=Network(
            graph=folder / "model.onnx",
            ir=folder / "model.xml" if {"model.xml", "model.bin"} <= members else None,
            weights=folder / "weights.safetensors",
            model=_model_name(folder, config),
            arguments=_group(folder, config, "network"),
        ),
        items=_items(folder, _item_names(folder, config), contents["items.safetensors"]),
    )


def _settings(path: Path, model: type[S], values: JSON) -> S:
    try:
        return build(model, values)
    except ConfigError as error:
        raise BundleError(f"{path}: {error}") from None


def _group(folder: Path, config: JSON, key: str) -> JSON:
    group = config.get(key)
    if not isinstance(group, dict):
        raise BundleError(f"{folder}/config.json lacks the group {key!r}: the bundle was not written by comemory")
    return group


def _item_names(folder: Path, config: JSON) -> list[str]:
    inputs = _group(folder, config, "graph").get("inputs")
    names = inputs if isinstance(inputs, list) else []
    items = [name for name in names if isinstance(name, str) and name.endswith("_items")]
    if names[:2] != ["frames", "flow"] or names[2:] != items or len(set(items)) < len(items):
        raise BundleError(f"{folder}/config.json lists the inputs {short(inputs)}: expected frames, flow and the items")
    return items


def _items(folder: Path, names: Sequence[str], content: bytes) -> dict[str, NDArray[np.float32]]:
    path = folder / "items.safetensors"
    try:
        stored = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    if set(stored) != set(names):
        raise BundleError(f"{path} holds {short(sorted(stored))}: expected {short(sorted(names))}")
    for name, items in stored.items():
        if items.dtype != np.float32 or items.ndim != 2 or not items.size or not np.isfinite(items).all():
            raise BundleError(f"{path}: {name} is {items.dtype} {items.shape}: expected finite float32 (N, D)")
    return {name: stored[name] for name in names}


def _model_name(folder: Path, config: JSON) -> str:
    name = config.get("model")
    if not isinstance(name, str) or name not in MODELS:
        raise BundleError(
            f"{folder} names the model {short(name)}, which is not in the table of models: {nearest(str(name), MODELS)}"
        )
    return name


@contextmanager
def bundle_writer(path: str | Path) -> Iterator[Path]:
    """Give an empty folder to fill with members; at the end write the manifest and move the whole into place.

    Until then the bundle at `path`, if there is one, stays as it was; after an error it still is, and no half bundle lies
    beside it. Replaces a bundle; refuses to replace anything else.

    Raises:
        BundleError: the place is taken by something else, the members are not those of a bundle, or writing failed (a
            full disk, say).
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
    except (OSError, safetensors.SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise BundleError(f"cannot write the bundle {target}: {reason or error}; nothing was changed") from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def refuse_to_replace(target: Path) -> None:
    """Raise BundleError where `target` exists and is no bundle, so that no folder of somebody's is ever lost.

    An empty folder may be replaced. A bundle is a folder with a manifest that says so and nothing but members.
    """
    try:
        mode = target.lstat().st_mode
        entries = {entry.name for entry in target.iterdir()} if stat.S_ISDIR(mode) else None
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot write the bundle {target}: {error}") from None
    if entries is None or (entries and not _is_manifest(target)):
        raise BundleError(f"{target} exists and is not a bundle: choose another place")
    if strangers := sorted(entries - {MANIFEST, *REQUIRED, *OPTIONAL}):
        raise BundleError(
            f"{target} also holds {short(strangers[0])}, which is no part of a bundle: move it away first"
        )


def _is_manifest(folder: Path) -> bool:
    try:
        return {"format", "members"} <= _object(folder, MANIFEST, _read(folder, MANIFEST)).keys()
    except BundleError:
        return False


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object readably. Text that is no UTF-8, as in odd file names, is kept as escapes.

    Raises:
        BundleError: it holds what JSON has no form for, such as NaN.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    except (TypeError, ValueError) as error:
        raise BundleError(f"cannot write {path.name}: {error}") from None
    path.write_bytes(text.encode("utf-8", "backslashreplace"))


def _write_manifest(folder: Path) -> None:
    names = {member.name for member in folder.iterdir()}
    if names - {*REQUIRED, *OPTIONAL} or not names.issuperset(REQUIRED):
        raise BundleError(f"a bundle is made of {', '.join(REQUIRED)}, got {', '.join(sorted(names)) or 'nothing'}")
    members = {}
    for member in sorted(folder.iterdir()):
        members[member.name] = {"sha256": _sha256(member), "bytes": member.stat().st_size}
        member.chmod(0o644)
        _to_disk(member)
    write_json(folder / MANIFEST, {"format": FORMAT, "members": members})
    _to_disk(folder / MANIFEST)
    _to_disk(folder)


def _to_disk(path: Path) -> None:
    """Wait until the disk has it, so that a loss of power cannot leave a bundle of empty files."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _move_into_place(folder: Path, target: Path) -> None:
    if not target.exists():
        folder.rename(target)
    elif not _exchange(folder, target):
        _move_aside(folder, target)
    _to_disk(target.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step, so that at no moment there is no bundle; False where the system cannot (not Linux)."""
    call = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    here, swap = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    return call is not None and call(here, os.fsencode(one), here, os.fsencode(other), swap) == 0


def _move_aside(folder: Path, target: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
    target.rename(old / target.name)
    try:
        folder.rename(target)
    except OSError:
        (old / target.name).rename(target)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _verified(folder: Path, manifest: JSON) -> tuple[set[str], dict[str, bytes]]:
    """Check every member; give their names, and the contents of those that are read here."""
    members = manifest.get("members")
    if not isinstance(members, dict):
        raise BundleError(f"{folder}/{MANIFEST} lists no members: the bundle was not written by comemory")
    contents = {}
    for name, record in members.items():
        if name not in REQUIRED + OPTIONAL:
            raise BundleError(f"{folder}/{MANIFEST} lists {short(name)}, which no bundle holds: refused")
        _refuse_strange(folder / name)
        if name.endswith(".json") or name == "items.safetensors":
            contents[name] = _read(folder, name)
            digest = hashlib.sha256(contents[name]).hexdigest()
        else:
            digest = _sha256(folder / name)
        if not isinstance(record, dict) or digest != record.get("sha256"):
            raise BundleError(f"{folder}/{name} is damaged (sha256 differs from the manifest): copy the bundle again")
    missing = [name for name in REQUIRED if name not in members]
    if missing:
        raise BundleError(f"{folder}/{MANIFEST} does not list {', '.join(missing)}: the bundle is not whole")
    return set(members), contents


def _refuse_strange(path: Path) -> None:
    """Raise BundleError unless there is a plain file: a link may lead out of the bundle, a pipe never ends."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise BundleError(f"{path.parent} lacks {path.name}: copy the whole bundle again") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read {path}: {error}") from None
    if stat.S_ISLNK(mode):
        raise BundleError(f"{path} is a link: a bundle holds files only")
    if not stat.S_ISREG(mode):
        raise BundleError(f"{path} is not a file: a bundle holds files only")


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from None


def _read(folder: Path, name: str) -> bytes:
    path = folder / name
    largest = _LARGEST_ITEMS if name == "items.safetensors" else _LARGEST_JSON
    try:
        if name == MANIFEST and not (folder.is_dir() and os.path.lexists(path)):
            reason = f"no {MANIFEST} in it" if folder.is_dir() else "no such folder"
            raise BundleError(f"{folder} is not a bundle: {reason}")
        _refuse_strange(path)
        with path.open("rb") as file:
            content = file.read(largest + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"cannot read {path}: {error}") from None
    if len(content) > largest:
        raise BundleError(f"{path} is larger than the {name} of any bundle: refused")
    return content


def _object(folder: Path, name: str, content: bytes) -> JSON:
    try:
        value = json.loads(content, parse_constant=_refuse_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder}/{name} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BundleError(f"{folder}/{name} holds no JSON object: the bundle was not written by comemory")
    return value


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text} is not a number")
