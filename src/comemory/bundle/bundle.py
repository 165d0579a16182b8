"""Opening a bundle: every member is verified, and every name in it is one that this version knows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from comemory.bundle.files import FORMAT, MANIFEST, SCENE, parse_json_object, read_member, verify_members
from comemory.bundle.precision import PrecisionVariant, read_variants
from comemory.clips.config import ClipSettings
from comemory.config import build
from comemory.errors import BundleError, ConfigError, short_repr, suggest
from comemory.flow import FlowSettings
from comemory.models import MODELS
from comemory.runtimes import AUTO, CPU, PRECISIONS, InputLayout, Network, find_device, is_faster_in, supports
from comemory.scoring import Calibration, NormalScene
from comemory.scoring.budgets import GOALS, Coverage, coverage, default_budget
from comemory.types import JSON, describe_value

_ATTEMPTS = 5
"""How often a bundle that is replaced while it is read is read again."""

S = TypeVar("S", bound=BaseModel)


class _Training(BaseModel):
    """The settings of the training that are read; the others are for people."""

    model_config = ConfigDict(strict=True)

    epochs: int = Field(ge=0)
    seed: int


class _Provenance(BaseModel):
    """The parts of the provenance that are read; the others are for people. Names of videos need not be valid UTF-8."""

    model_config = ConfigDict(strict=True)

    trained_on: dict[Any, int] | None = None
    held_out: dict[Any, int] | None = None
    dead_items: dict[Any, int] | None = None
    loss: dict[Any, float] | None = None
    cost: dict[Any, int] | None = None


@dataclass(frozen=True)
class Bundle:
    """An opened bundle. Its members are those that the manifest lists.

    Attributes:
        path: of the folder.
        digest: sha256 of the manifest, which identifies this very bundle.
        config: the member of that name.
        provenance: the member of that name.
        clips: what a clip is made of.
        flow: the flow estimator, without the path of a weight file: opening a bundle reads no file outside it.
        calibration: of the network in `precision`.
        network: in `precision`.
        items: float32 (N, D) by input name of the graph, in the graph's order.
        variants: the network in other precisions, by runtime and precision.
        scene: the camera's scene and its normal objects; None where no channel needs it.
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
    scene: NormalScene | None = None

    @property
    def precision(self) -> str:
        """The precision in which the network computes: `fp32` unless `in_precision` chose another one."""
        return self.network.precision

    @property
    def has_network(self) -> bool:
        """Whether there is a network to run, see `has_network`; True where the provenance does not say."""
        cost = self.provenance.get("cost")
        return not cost or has_network(cost)

    @property
    def n_footage_frames(self) -> int | None:
        """Frames of the normal footage that it was trained and calibrated on; None where the provenance does not say."""
        parts = [self.provenance.get(key) or {} for key in ("trained_on", "held_out")]
        return sum(sum(part.values()) for part in parts) or None

    def coverage(self, goals: Sequence[str] = GOALS) -> Coverage:
        """Which false-alarm budgets its footage supports, see `scoring.budgets`."""
        return coverage(self.calibration, self.n_footage_frames, goals)

    @property
    def default_budget(self) -> str:
        """The false-alarm budget where the user gives none, see `scoring.budgets.default_budget`."""
        return default_budget(self.calibration, self.n_footage_frames)

    def is_current(self) -> bool:
        """Whether the folder still contains this very bundle; it may have been removed or replaced."""
        try:
            return hashlib.sha256(read_member(self.path, MANIFEST)).hexdigest() == self.digest
        except BundleError:
            return False

    def in_precision(self, runtime: str, precision: str = "auto") -> Bundle:
        """Return the bundle with the network and the calibration of a precision.

        Args:
            runtime: the one that will execute the network.
            precision: `fp32`, `bf16` or `int8`. `auto` is the fastest one that the bundle has for the runtime and in which
                this CPU is faster. A bundle in another precision than fp32 stays in it.

        Raises:
            ConfigError: the runtime does not know the precision, the bundle has no network for it, or this CPU does not
                support it.
        """
        if precision == self.precision or (precision == "auto" and self.precision != "fp32"):
            return self
        if precision == "auto":
            faster = (one for one in ("int8", "bf16") if (runtime, one) in self.variants and is_faster_in(one))
            precision = next(faster, "fp32")
        if precision == "fp32":
            return self
        known = PRECISIONS.get(runtime, {})
        if precision not in known:
            raise ConfigError(
                f"the runtime {runtime!r} has no precision {precision!r}: {suggest(precision, [*known, 'auto'])}"
            )
        variant = self.variants.get((runtime, precision))
        if variant is None:
            raise ConfigError(
                f"{self.path} has no {precision} network for the runtime {runtime!r}: run comemory export {self.path} "
                f"--runtime {runtime} --precision {precision} --data KIND:PATH, or use --precision auto"
            )
        if not supports(precision):
            raise ConfigError(
                f"this CPU does not support {precision} as the calibration of {self.path} needs it: use --precision auto"
            )
        return replace(self, calibration=variant.record.calibration, network=variant.network)

    def for_runtime(self, runtime: str, precision: str = "auto", device: str = CPU) -> Bundle:
        """Return the bundle with the network and the calibration of a precision, to be run on a device.

        Args:
            runtime: the one that will execute the network.
            precision: see `in_precision`. On another device than the CPU, `auto` is fp32.
            device: see `runtimes.find_device`.

        Raises:
            ConfigError: the runtime does not find the device, or as `in_precision`.
        """
        device = find_device(runtime, device)
        if precision == "auto" and device not in (CPU, AUTO):
            precision = "fp32"
        bundle = self.in_precision(runtime, precision)
        return replace(bundle, network=bundle.network._replace(device=device))


def has_network(cost: Mapping[str, int]) -> bool:
    """Whether a model has weights or multiplies anything; else its evidence is made of the flow alone.

    Args:
        cost: see `training.cost.network_cost`.
    """
    return any(cost.get(what, 0) for what in ("macs", "parameters", "frozen_parameters"))


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and verify every member.

    A bundle that is replaced at the same moment is read again; members of two bundles are never mixed.

    Raises:
        BundleError: it is missing, damaged, unsafe or of another format, or names a model, flow estimator or setting that
            this version does not know.
    """
    if not isinstance(path, str | os.PathLike):
        raise BundleError(f"a bundle is opened by the path of its folder, got {describe_value(path)}")
    folder = Path(path)
    for _ in range(_ATTEMPTS):
        before = _identity(folder)
        manifest = read_member(folder, MANIFEST)
        try:
            bundle = _open(folder, manifest)
        except BundleError:
            if _identity(folder) == before:
                raise
        else:
            if bundle.is_current():
                return bundle
    raise BundleError(f"{folder} was replaced {_ATTEMPTS} times while it was opened: try again later")


def _identity(folder: Path) -> tuple[int, ...] | None:
    """What tells a bundle from one that replaced it, even by the same contents; None where there is no manifest."""
    try:
        found = (folder / MANIFEST).stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _open(folder: Path, manifest_bytes: bytes) -> Bundle:
    manifest = parse_json_object(folder, MANIFEST, manifest_bytes)
    if type(manifest.get("format")) is not int or manifest["format"] != FORMAT:
        raise BundleError(
            f"{folder} has bundle format {manifest.get('format')!r}, this version reads {FORMAT}: train it again"
        )
    members, contents = verify_members(folder, manifest)
    config = parse_json_object(folder, "config.json", contents["config.json"])
    fitted = parse_json_object(folder, "calibration.json", contents["calibration.json"])
    calibration = _settings(folder / "calibration.json", Calibration, fitted)
    provenance = parse_json_object(folder, "provenance.json", contents["provenance.json"])
    _settings(folder / "provenance.json", _Provenance, provenance)
    _settings(folder / "config.json", _Training, _group(folder, config, "train"))
    layout, items = _inputs(folder, config)
    network = Network(
        graph=folder / "model.onnx",
        ir=folder / "model.xml" if {"model.xml", "model.bin"} <= members else None,
        weights=folder / "weights.safetensors",
        model=_model_name(folder, config),
        model_kwargs=_group(folder, config, "network"),
        layout=layout,
    )
    clips = _settings(folder / "config.json", ClipSettings, _group(folder, config, "clips"))
    return Bundle(
        path=folder,
        digest=hashlib.sha256(manifest_bytes).hexdigest(),
        config=config,
        provenance=provenance,
        clips=clips,
        flow=_settings(folder / "config.json", FlowSettings, {**_group(folder, config, "flow"), "weights": None}),
        calibration=calibration,
        network=network,
        items=_items(folder, items, contents["items.safetensors"]),
        variants=read_variants(folder, contents, members, network, calibration),
        scene=_scene(folder, contents, calibration, clips),
    )


def _scene(
    folder: Path, contents: Mapping[str, bytes], calibration: Calibration, clips: ClipSettings
) -> NormalScene | None:
    """The scene, if a channel needs one."""
    if not calibration.settings.needs_scene:
        return None
    if SCENE not in contents:
        raise BundleError(
            f"{folder} has channels of moving objects but no {SCENE}: copy it whole again, or train it again"
        )
    try:
        memory = NormalScene.from_arrays(_load_arrays(folder / SCENE, contents[SCENE]))
    except ConfigError as error:
        raise BundleError(f"{folder / SCENE}: {error}") from None
    if memory.scene.background.shape != (clips.height, clips.width):
        raise BundleError(
            f"{folder / SCENE} is of an image of {memory.scene.background.shape}: expected {clips.height}x{clips.width}"
        )
    return memory


def _load_arrays(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    try:
        return safetensors.numpy.load(content)
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise BundleError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def _settings(path: Path, model: type[S], values: JSON) -> S:
    try:
        return build(model, values)
    except ConfigError as error:
        raise BundleError(f"{path}: {error}") from None


def _group(folder: Path, config: JSON, key: str) -> JSON:
    group = config.get(key)
    if not isinstance(group, dict):
        raise BundleError(f"{folder}/config.json has no group {key!r}: the bundle was not written by comemory")
    return group


def _inputs(folder: Path, config: JSON) -> tuple[InputLayout, list[str]]:
    """The layout in which the graph takes clips, and the names of the memory items that it takes after them."""
    graph = _group(folder, config, "graph")
    values = graph.get("layout", {})
    if not isinstance(values, dict):
        raise BundleError(f"{folder}/config.json: graph.layout is {short_repr(values)}, expected a group of settings")
    layout = _settings(folder / "config.json", InputLayout, values)
    inputs, first = graph.get("inputs"), list(layout.input_names)
    names = inputs if isinstance(inputs, list) else []
    items = [name for name in names if isinstance(name, str) and name.endswith("_items")]
    if names != [*first, *items] or len(set(items)) < len(items):
        raise BundleError(
            f"{folder}/config.json lists the graph inputs {short_repr(inputs)}: expected {', '.join(first)} and the memory items"
        )
    return layout, items


def _items(folder: Path, names: Sequence[str], content: bytes) -> dict[str, NDArray[np.float32]]:
    path = folder / "items.safetensors"
    stored = _load_arrays(path, content)
    if set(stored) != set(names):
        raise BundleError(f"{path} has {short_repr(sorted(stored))}: expected {short_repr(sorted(names))}")
    for name, items in stored.items():
        if items.dtype != np.float32 or items.ndim != 2 or not items.size or not np.isfinite(items).all():
            raise BundleError(f"{path}: {name} is {items.dtype} {items.shape}: expected finite float32 (N, D)")
    return {name: stored[name] for name in names}


def _model_name(folder: Path, config: JSON) -> str:
    name = config.get("model")
    if not isinstance(name, str) or name not in MODELS:
        raise BundleError(
            f"{folder} names the model {short_repr(name)}, which this version does not know: {suggest(str(name), MODELS)}"
        )
    return name
