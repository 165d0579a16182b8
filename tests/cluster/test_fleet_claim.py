"""One process of a machine is the group of a node, and anybody can ask which one."""

from __future__ import annotations

import os
from pathlib import Path

from comemory.cluster.fleet_claim import claim, running_pid


def test_a_group_is_claimed_once_and_found_as_often_as_asked(tmp_path: Path) -> None:
    assert running_pid(tmp_path, "a") is None
    holding = claim(tmp_path, "a")
    assert holding is not None
    assert claim(tmp_path, "a") is None
    assert {running_pid(tmp_path, "a") for _ in range(3000)} == {os.getpid()}
    assert running_pid(tmp_path, "b") is None
    other = claim(tmp_path, "b")
    assert other is not None
    other.close()
