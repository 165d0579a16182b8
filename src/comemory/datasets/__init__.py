"""Data sets by name: normal video to train on, labelled video to test on.

The command line names a data set as `KIND:PATH`, such as `ped2:/data/UCSD_Anomaly_Dataset.v1p2`. Each kind is a class
that follows `comemory.types.Dataset`. To add one, write its file and add its line to the registry.
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
    """Open the data set that `KIND:PATH` names. Nothing is decoded yet.

    Raises:
        ConfigError: no colon, or an unknown kind.
        DatasetError: the path is missing, or does not have the layout of the kind.
    """
    kind, colon, path = spec.partition(":")
    if not colon:
        known = ", ".join(DATASETS)
        raise ConfigError(
            f"cannot read the data set {spec!r}: expected KIND:PATH, such as folder:{spec or 'PATH'} (kinds: {known})"
        )
    return cast(Dataset, DATASETS.load(kind.strip())(path))
