"""What the networks of an experiment cost, measured together in alternating rounds: a file beside the table of rows.

A row has the size and the operations of its network, and not its time: runs that follow one another on a machine that does
other work cannot be compared. `benchmarks/network_costs.py` writes the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comemory.errors import ConfigError, SourceError
from comemory.research.reproduce.rows import read_rows
from comemory.types import JSON

PARTS = ("model", "network", "clips")
"""The settings that decide what a network costs."""


def network_settings_key(config: Mapping[str, Any]) -> str:
    """Return a key of the settings that decide what a network costs."""
    parts = {name: config.get(name) for name in PARTS}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def rows_with_costs(table: Path) -> list[JSON]:
    """Read the rows of a table, each with the cost of its network where that was measured with the settings of the row.

    Raises:
        ConfigError: a line is not a row, or a file of costs is not valid.
        SourceError: a file cannot be read.
    """
    rows = read_rows(table)
    known = {name: _read_costs(table.with_name(f"{name}-costs.json")) for name in {row["experiment"] for row in rows}}
    return [_with_cost(row, known[row["experiment"]]) for row in rows]


def _with_cost(row: JSON, known: Mapping[str, JSON]) -> JSON:
    found = known.get(network_settings_key(row["config"])) if "config" in row else None
    return row if found is None else {**row, "cost": {**(row.get("cost") or {}), **found}}


def _read_costs(path: Path) -> Mapping[str, JSON]:
    """The costs of a file by the key of the network's settings; none where there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {cost["settings"]: cost for cost in content["networks"].values()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise SourceError(f"cannot read the costs {path}: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(f"{path} is not a file of costs: write it again with benchmarks/network_costs.py") from None
