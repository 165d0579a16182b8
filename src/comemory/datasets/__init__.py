"""Datasets by name: ordinary video to train on, labelled video to test on.

A dataset is named on the command line as `KIND:PATH`, such as `ped2:/data/UCSD_Anomaly_Dataset.v1p2`. Each kind is a
class that follows `comemory.types.Dataset`; to add one, write its file and its line in the table.
"""

from __future__ import annotations

from typing import cast

from comemory.errors import ConfigError
from comemory.registry import Registry
from comemory.types import Dataset

DATASETS = Registry(
    "dataset",
    {
        "ped1": "comemory.datasets.ucsd:Ped1",
        "ped2": "comemory.datasets.ucsd:Ped2",
        "avenue": "comemory.datasets.avenue:Avenue",
        "avenue-npy": "comemory.datasets.avenue:AvenueNpy",
        "shanghaitech": "comemory.datasets.shanghaitech:ShanghaiTech",
        "folder": "comemory.datasets.folder:Folder",
        "synthetic": "comemory.datasets.synthetic:Synthetic",
    },
)


def open_dataset(spec: str) -> Dataset:
    """Open the dataset that `KIND:PATH` names. Nothing is decoded yet.

    Raises:
        ConfigError: no colon, or a kind that the table does not have.
        DatasetError: the path is missing, or does not hold what the kind promises.
    """
    kind, colon, path = spec.partition(":")
    if not colon:
        known = ", ".join(DATASETS)
        raise ConfigError(
            f"cannot read the dataset {spec!r}: expected KIND:PATH, such as folder:{spec} (kinds: {known})"
        )
    return cast(Dataset, DATASETS.load(kind.strip())(path))
