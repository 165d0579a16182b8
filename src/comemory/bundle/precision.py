"""A bundle's network in another precision: the same detector, calibrated anew, with figures of how near it comes."""

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
    """How near the scores come to those of fp32, each with its own calibration, on the same frames.

    Attributes:
        n_frames: that were scored by both.
        spearman, pearson: correlation of the scores' ranks, and of the scores.
        mean_difference, largest_difference: of the scores, absolute.
    """

    n_frames: int = Field(ge=2)
    spearman: float = Field(ge=-1, le=1)
    pearson: float = Field(ge=-1, le=1)
    mean_difference: float = Field(ge=0)
    largest_difference: float = Field(ge=0)


class LabelledAgreement(Agreement):
    """The same on a labelled data set, with the micro AUC of both; None where its labels are of one kind only."""

    auc: float | None = Field(None, ge=0, le=1)
    auc_fp32: float | None = Field(None, ge=0, le=1)


class VariantRecord(Settings):
    """The JSON member of a form.

    Attributes:
        calibration: fitted on this form's own evidence of the held-out ordinary video.
        held_out: agreement on that video.
        checks: agreement on labelled data sets, by `KIND:NAME`.
        made: date, versions and settings of the export, for people.
    """

    calibration: Calibration
    held_out: Agreement
    checks: dict[str, LabelledAgreement] = Field(default_factory=dict)
    created: dict[str, str | int] = Field(default_factory=dict)


@dataclass(frozen=True)
class PrecisionVariant:
    """A network in another precision for one runtime.

    Attributes:
        network: what the runtime takes in place of the bundle's.
    """

    runtime: str
    precision: str
    record: VariantRecord
    network: Network


def read_variants(
    folder: Path, contents: Mapping[str, bytes], members: set[str], network: Network, calibration: Calibration
) -> dict[tuple[str, str], PrecisionVariant]:
    """The forms that a bundle holds, by runtime and precision.

    Raises:
        BundleError: a form is not whole, cannot be read, or belongs to another decision than the bundle's.
    """
    forms = {}
    for (runtime, precision), names in VARIANT_FILES.items():
        there = members.intersection(names)
        if not there:
            continue
        if missing := sorted(set(names) - there):
            raise BundleError(f"{folder} holds {sorted(there)[0]} but not {missing[0]}: export it again")
        try:
            record = build(VariantRecord, parse_json_object(folder, names[0], contents[names[0]]))
        except ConfigError as error:
            raise BundleError(f"{folder / names[0]}: {error}") from None
        if record.calibration.settings != calibration.settings:
            raise BundleError(f"{folder / names[0]} is calibrated for another decision: export it again")
        forms[runtime, precision] = PrecisionVariant(
            runtime, precision, record, _network(folder, names, network, precision)
        )
    return forms


def _network(folder: Path, names: tuple[str, ...], network: Network, precision: str) -> Network:
    own = {Path(name).suffix: folder / name for name in names[1:]}
    return network._replace(precision=precision, graph=own.get(".onnx", network.graph), ir=own.get(".xml", network.ir))
