"""A Ray cluster on this machine, which the tests of clusters share: starting one takes longer than most tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from object_stores import bucket, s3_server  # noqa: F401


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """The address of a cluster with one node of four cores; commands find it by `RAY_ADDRESS` and `--cluster auto`."""
    pytest.importorskip("ray", reason="needs ray: pip install '.[cluster]'")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 4, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        yield cluster.address
    finally:
        cluster.shutdown()
