"""A bundle's network in another precision: the same detector with a calibration of its own, and how far its scores differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from comemory.bundle.files import VARIANT_FILES, VARIANT_MEMBERS, parse_json_object
from comemory.config import Settings, build
from comemory.errors import BundleError, ConfigError
from comemory.runtimes import Network
from comemory.scoring import Calibration

__all__ = [
    "VARIANT_FILES",
    "VARIANT_MEMBERS",
    "Agreement",
    "LabelledAgreement",
    "PrecisionVariant",
    "VariantRecord",
    "read_variants",
]


class Agreement(Settings):
    """How closely the scores agree with those of fp32 on the same frames, each with its own calibration."""

    n_frames: int = Field(ge=2, description="Number of frames that both scored.")
    spearman: float = Field(ge=-1, le=1, description="Correlation of the ranks of the scores.")
    pearson: float = Field(ge=-1, le=1, description="Correlation of the scores.")
    mean_difference: float = Field(ge=0, description="Mean absolute difference of the scores.")
    largest_difference: float = Field(ge=0, description="Largest absolute difference of the scores.")


class LabelledAgreement(Agreement):
    """Agreement on a labelled data set, with the micro AUC of both; None where the labels are of one class only."""

    auc: float | None = Field(None, ge=0, le=1, description="Micro AUC in this precision.")
    auc_fp32: float | None = Field(None, ge=0, le=1, description="Micro AUC in fp32.")


class VariantRecord(Settings):
    """The JSON member of a precision variant."""

    calibration: Calibration = Field(
        description="Fitted to the evidence of the held-out normal video as computed in this precision."
    )
    held_out: Agreement = Field(description="Agreement with fp32 on that video.")
    checks: dict[str, LabelledAgreement] = Field(
        default_factory=dict, description="Agreement on labelled data sets, by `KIND:NAME`."
    )
    created: dict[str, str | int] = Field(
        default_factory=dict, description="Date, versions and settings of the export, for people to read."
    )


@dataclass(frozen=True)
class PrecisionVariant:
    """A network in another precision for one runtime.

    Attributes:
        runtime: entry of `runtimes.RUNTIMES`.
        precision: `bf16` or `int8`.
        record: calibration and agreement.
        network: replaces that of the bundle.
    """

    runtime: str
    precision: str
    record: VariantRecord
    network: Network


def read_variants(
    folder: Path, contents: Mapping[str, bytes], members: set[str], network: Network, calibration: Calibration
) -> dict[tuple[str, str], PrecisionVariant]:
    """Read the precision variants of a bundle, by runtime and precision.

    Args:
        folder: of the bundle.
        contents: content of the members that are read, by name.
        members: names of all members.
        network: of the bundle.
        calibration: of the bundle.

    Raises:
        BundleError: a variant is incomplete, cannot be read, or was calibrated with other scoring settings than the bundle.
    """
    variants = {}
    for (runtime, precision), names in VARIANT_FILES.items():
        present = members.intersection(names)
        if not present:
            continue
        if missing := sorted(set(names) - present):
            raise BundleError(f"{folder} has {sorted(present)[0]} but not {missing[0]}: export it again")
        record = _read_record(folder / names[0], contents[names[0]])
        if record.calibration.settings != calibration.settings:
            raise BundleError(
                f"{folder / names[0]} was calibrated with other scoring settings than the bundle: export it again"
            )
        variants[runtime, precision] = PrecisionVariant(
            runtime, precision, record, _network(folder, names, network, precision)
        )
    return variants


def _read_record(path: Path, content: bytes) -> VariantRecord:
    try:
        return build(VariantRecord, parse_json_object(path.parent, path.name, content))
    except ConfigError as error:
        raise BundleError(f"{path}: {error}") from None


def _network(folder: Path, names: tuple[str, ...], network: Network, precision: str) -> Network:
    own = {Path(name).suffix: folder / name for name in names[1:]}
    return network._replace(precision=precision, graph=own.get(".onnx", network.graph), ir=own.get(".xml", network.ir))
