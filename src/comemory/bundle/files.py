"""The members that a bundle may have. Reading one is bounded and verified, and accepts plain files only."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from pathlib import Path

from comemory.errors import BundleError, short_repr
from comemory.runtimes import PRECISIONS
from comemory.types import JSON

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
VARIANT_FILES = {
    (runtime, precision): tuple(f"{runtime}-{precision}{ending}" for ending in (".json", *endings))
    for runtime, precisions in PRECISIONS.items()
    for precision, endings in precisions.items()
    if precision != "fp32"
}
"""The members of each precision variant, by runtime and precision; the first one is its record."""
VARIANT_MEMBERS = tuple(name for names in VARIANT_FILES.values() for name in names)
SCENE = "scene.safetensors"
"""Background, heights and normal objects, where a channel measures moving objects."""
OPTIONAL = ("model.xml", "model.bin", "README.md", SCENE, *VARIANT_MEMBERS)

# Limits of the members that are read into memory, far above any real one: a hostile bundle cannot exhaust the memory.
_MAX_JSON_BYTES = 8 * 2**20
_MAX_ITEMS_BYTES = 256 * 2**20
# Of every other member: a graph in ONNX cannot be larger (protobuf), and a sparse file of any size takes no disk.
_MAX_MEMBER_BYTES = 2 * 2**30


def verify_members(folder: Path, manifest: JSON) -> tuple[set[str], dict[str, bytes]]:
    """Verify every member against the manifest.

    Returns:
        The names of all members, and the content of those that are read here (JSON and memory items).

    Raises:
        BundleError: a member is not one of a bundle, is missing, is damaged, or is no plain file.
    """
    members = manifest.get("members")
    if not isinstance(members, dict):
        raise BundleError(f"{folder}/{MANIFEST} lists no members: the bundle was not written by comemory")
    contents = {}
    for name, record in members.items():
        if name not in REQUIRED + OPTIONAL:
            raise BundleError(
                f"{folder}/{MANIFEST} lists {short_repr(name)}, which is not a member of a bundle: refused"
            )
        require_plain_file(folder / name)
        _require_size(folder / name, record)
        if name.endswith(".json") or name in ("items.safetensors", SCENE):
            contents[name] = read_member(folder, name)
            digest = hashlib.sha256(contents[name]).hexdigest()
        else:
            digest = sha256_of_file(folder / name)
        if not isinstance(record, dict) or digest != record.get("sha256"):
            raise BundleError(f"{folder}/{name} is damaged (its sha256 is not the manifest's): copy the bundle again")
    missing = [name for name in REQUIRED if name not in members]
    if missing:
        raise BundleError(f"{folder}/{MANIFEST} does not list {', '.join(missing)}: the bundle is incomplete")
    return set(members), contents


def _require_size(path: Path, record: object) -> None:
    """Refuse a member of another size than the manifest's, or of one that no bundle has, before it is read and hashed.

    Raises:
        BundleError: that is so.
    """
    size, stated = path.lstat().st_size, record.get("bytes") if isinstance(record, dict) else None
    if size > _MAX_MEMBER_BYTES:
        raise BundleError(f"{path} has more than {_MAX_MEMBER_BYTES >> 20} MiB, which no bundle needs: refused")
    if stated != size:
        raise BundleError(
            f"{path} is damaged (it has {size} bytes, and the manifest says {stated}): copy the bundle again"
        )


def require_plain_file(path: Path) -> None:
    """Refuse anything but a plain file: a link may lead out of the bundle, and reading a pipe may never end.

    Raises:
        BundleError: it is missing, or not a plain file.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        raise BundleError(f"{path.parent} has no {path.name}: copy the whole bundle again") from None
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read {path}: {error}") from None
    if stat.S_ISLNK(mode):
        raise BundleError(f"{path} is a link: a bundle contains files only")
    if not stat.S_ISREG(mode):
        raise BundleError(f"{path} is not a file: a bundle contains files only")


def sha256_of_file(path: Path) -> str:
    """The sha256 of a file in hexadecimal.

    Raises:
        BundleError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"cannot read {path}: {error.strerror or error}") from None


def read_member(folder: Path, name: str) -> bytes:
    """Read a JSON member or the memory items.

    Raises:
        BundleError: it cannot be read, or is larger than any real one.
    """
    path = folder / name
    limit = _MAX_ITEMS_BYTES if name == "items.safetensors" else _MAX_JSON_BYTES
    try:
        if name == MANIFEST and not (folder.is_dir() and os.path.lexists(path)):
            reason = f"it has no {MANIFEST}" if folder.is_dir() else "there is no such folder"
            raise BundleError(f"{folder} is not a bundle: {reason}")
        require_plain_file(path)
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"cannot read {path}: {error}") from None
    if len(content) > limit:
        raise BundleError(f"{path} has more than {limit >> 20} MiB, which no bundle needs: refused")
    return content


def parse_json_object(folder: Path, name: str, content: bytes) -> JSON:
    """Parse a JSON member.

    Raises:
        BundleError: it is not a JSON object, or has a number that is NaN or infinite.
    """
    try:
        value = json.loads(content, parse_constant=_refuse_number, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{folder}/{name} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise BundleError(f"{folder}/{name} is not a JSON object: the bundle was not written by comemory")
    return value


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text} is not a finite number")
