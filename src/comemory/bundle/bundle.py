"""An opened bundle: verified, and only what this version knows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from comemory.bundle.files import FORMAT, MANIFEST, parse_json_object, read_member, verify_members
from comemory.bundle.precision import PrecisionVariant, read_variants
from comemory.clips.config import ClipSettings
from comemory.config import build
from comemory.errors import BundleError, ConfigError, short, suggest
from comemory.flow import FlowSettings
from comemory.models import MODELS
from comemory.runtimes import PRECISIONS, InputLayout, Network, is_faster_in, supports
from comemory.scoring import Calibration
from comemory.types import JSON

_ATTEMPTS = 5

S = TypeVar("S", bound=BaseModel)


class _Training(BaseModel):
    """What is told of the training; what else stands there is for people."""

    model_config = ConfigDict(strict=True)

    epochs: int = Field(ge=0)
    seed: int


class _Provenance(BaseModel):
    """What is counted with of a provenance; what else stands there is for people. Names need be no UTF-8."""

    model_config = ConfigDict(strict=True)

    trained_on: dict[Any, int] | None = None
    held_out: dict[Any, int] | None = None
    dead_items: dict[Any, int] | None = None
    loss: dict[Any, float] | None = None


@dataclass(frozen=True)
class Bundle:
    """An opened bundle whose members are what the manifest says they are.

    Attributes:
        path: of the folder.
        digest: sha256 of the manifest, the name of this very bundle.
        config, provenance: the members of that name.
        flow: which estimator, without the path of a weight file: opening a bundle reads no file but its own.
        calibration, network: those of `precision`.
        items: float32 (N, D) by input name of the graph, in the graph's order.
        forms: the network in other precisions, by runtime and precision.
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
    variants: Mapping[tuple[str, str], PrecisionVariant] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """What the network computes in: `fp32` until `in_precision` chose another one."""
        return self.network.precision

    def is_current(self) -> bool:
        """Whether the folder still holds this very bundle: it may be gone, or replaced by a newer one."""
        try:
            return hashlib.sha256(read_member(self.path, MANIFEST)).hexdigest() == self.digest
        except BundleError:
            return False

    def in_precision(self, runtime: str, precision: str = "auto") -> Bundle:
        """The bundle with the network and the calibration of a precision.

        Args:
            runtime: that is to execute the network.
            precision: `fp32`, `bf16` or `int8`; `auto` takes the fastest that the bundle holds for the runtime and that
                this CPU gains by. A bundle that is in another precision than fp32 stays in it.

        Raises:
            ConfigError: no such precision for the runtime, none in the bundle, or one that this CPU does not have.
        """
        if precision == self.precision or (precision == "auto" and self.precision != "fp32"):
            return self
        if precision == "auto":
            gaining = (one for one in ("int8", "bf16") if (runtime, one) in self.variants and is_faster_in(one))
            precision = next(gaining, "fp32")
        if precision == "fp32":
            return self
        known = PRECISIONS.get(runtime, {})
        if precision not in known:
            raise ConfigError(
                f"the runtime {runtime!r} has no precision {precision!r}: {suggest(precision, [*known, 'auto'])}"
            )
        form = self.variants.get((runtime, precision))
        if form is None:
            raise ConfigError(
                f"{self.path} holds no {precision} for the runtime {runtime!r}: make it with comemory export {self.path} "
                f"--runtime {runtime} --precision {precision} --data KIND:PATH, or take --precision auto"
            )
        if not supports(precision):
            raise ConfigError(
                f"this CPU does not compute in {precision} as the calibration of {self.path} needs it: take --precision auto"
            )
        return replace(self, calibration=form.record.calibration, network=form.network)


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and verify every member. A bundle that is replaced meanwhile is read anew, never mixed.

    Raises:
        BundleError: missing, damaged, unsafe, of another format, or it names a model, flow or setting that this version
            does not know.
    """
    folder = Path(path)
    for _ in range(_ATTEMPTS):
        manifest = read_member(folder, MANIFEST)
        try:
            bundle = _open(folder, manifest)
        except BundleError:
            if read_member(folder, MANIFEST) == manifest:
                raise
        else:
            if bundle.is_current():
                return bundle
    raise BundleError(f"{folder} is replaced again and again: open it when that is over")


def _open(folder: Path, manifest_bytes: bytes) -> Bundle:
    manifest = parse_json_object(folder, MANIFEST, manifest_bytes)
    if manifest.get("format") != FORMAT:
        raise BundleError(
            f"{folder} has bundle format {manifest.get('format')!r}, this version reads {FORMAT}: train it anew"
        )
    members, contents = verify_members(folder, manifest)
    config = parse_json_object(folder, "config.json", contents["config.json"])
    fitted = parse_json_object(folder, "calibration.json", contents["calibration.json"])
    calibration = _settings(folder / "calibration.json", Calibration, fitted)
    provenance = parse_json_object(folder, "provenance.json", contents["provenance.json"])
    _settings(folder / "provenance.json", _Provenance, provenance)
    _settings(folder / "config.json", _Training, _group(folder, config, "train"))
    squares, items = _inputs(folder, config)
    network = Network(
        graph=folder / "model.onnx",
        ir=folder / "model.xml" if {"model.xml", "model.bin"} <= members else None,
        weights=folder / "weights.safetensors",
        model=_model_name(folder, config),
        model_kwargs=_group(folder, config, "network"),
        layout=squares,
    )
    return Bundle(
        path=folder,
        digest=hashlib.sha256(manifest_bytes).hexdigest(),
        config=config,
        provenance=provenance,
        clips=_settings(folder / "config.json", ClipSettings, _group(folder, config, "clips")),
        flow=_settings(folder / "config.json", FlowSettings, {**_group(folder, config, "flow"), "weights": None}),
        calibration=calibration,
        network=network,
        items=_items(folder, items, contents["items.safetensors"]),
        variants=read_variants(folder, contents, members, network, calibration),
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


def _inputs(folder: Path, config: JSON) -> tuple[InputLayout, list[str]]:
    """How the graph takes clips, and the names of the items that it takes after them."""
    graph = _group(folder, config, "graph")
    taken = graph.get("layout", {})
    if not isinstance(taken, dict):
        raise BundleError(f"{folder}/config.json says of the squares of the graph {short(taken)}: expected a group")
    squares = _settings(folder / "config.json", InputLayout, taken)
    inputs, first = graph.get("inputs"), list(squares.input_names)
    names = inputs if isinstance(inputs, list) else []
    items = [name for name in names if isinstance(name, str) and name.endswith("_items")]
    if names != [*first, *items] or len(set(items)) < len(items):
        raise BundleError(
            f"{folder}/config.json lists the inputs {short(inputs)}: expected {', '.join(first)} and the items"
        )
    return squares, items


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
            f"{folder} names the model {short(name)}, which is not in the table of models: {suggest(str(name), MODELS)}"
        )
    return name
