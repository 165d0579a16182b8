"""Rows, tables and experiments for tests, and the command that reads them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from comemory.research.reproduce.grid import TRAINING_VERSION, evaluation_version, result_settings
from comemory.training.config import read_training_config

ROOT = Path(__file__).resolve().parents[3]

HARDWARE = {"cpu": "Some CPU", "cores": 2, "threads": 1, "machine": "x86_64", "system": "Linux", "python": "3.11.0"}
SETTINGS = result_settings(read_training_config("nano", settings=["train.epochs=1"]))
EVALUATION_VERSION = evaluation_version(SETTINGS)
MADE_WITH = {"commit": "0123456789ab", "dirty": False, "versions": {"comemory": "0.1.0"}, "hardware": HARDWARE}

TINY = """
title = "Tiny"
preset = "nano"
seeds = [0]

[settings]
clips = { height = 32, width = 48, flow_height = 64, flow_width = 96 }
network = { base_width = 4, motion_items = 3, appearance_items = 3 }
flow.preset = "ultrafast"
train = { epochs = 1, calibration_share = 0.5 }

[data.scene]
train = "synthetic:seed=3,frames=30,training=3,testing=1,size=64x96,crowd=3"
"""


def results(auc: float, **more: Any) -> dict[str, Any]:
    """What `evaluate` gives, without the keys that no page shows."""
    return {
        "dataset": "synthetic",
        "n_videos": 2,
        "n_frames": 60,
        "n_scored": 52,
        "causal": {"auc_micro": auc, "auc_micro_ci95": [auc - 0.05, auc], "ap": 0.95, "rbdc": None},
        "paper": {"auc_micro": auc - 0.01, "auc_micro_ci95": None, "ap": 0.94, "rbdc": None},
        "thesis": {"auc_micro": auc - 0.02, "auc_micro_paper": auc - 0.03},
        "motion_baseline": {"auc_micro": 0.9},
        "false_alarm_budget": "1/h",
        "missed_anomalies": 1,
        **more,
    }


def row(variant: str = "default", seed: int = 0, auc: float = 0.95, **more: Any) -> dict[str, Any]:
    """A row as a run appends it."""
    group = more.get("group", f"group of {variant} on {more.get('data', 'scene')}")
    made = {
        "format": 1,
        "key": f"{group}, {seed}",
        "group": group,
        "experiment": "tiny",
        "data": "scene",
        "variant": variant,
        "seed": seed,
        "title": "Tiny",
        "data_title": "Synthetic scene",
        "variant_title": variant.replace("-", " "),
        "order": [0, 0],
        "preset": "nano",
        "config": SETTINGS,
        "versions": {"training": TRAINING_VERSION, "evaluation": EVALUATION_VERSION},
        "network": f"network of {variant}, {seed}",
        "selection": None,
        "reported": None,
        "date": "2026-11-23T10:00:00+00:00",
        "training": {**MADE_WITH, "gpu": None, "wall_s": 1800.0, "epochs": 1, "data_sha256": "d", "problems": []},
        "evaluation": {**MADE_WITH, "wall_s": 360.0},
        "results": results(auc),
        "further": {},
        "problems": [],
    }
    return {**made, **more}


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """A table with these rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def environment(**more: str) -> dict[str, str]:
    """For processes, without the recorded data of this machine."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "COMEMORY_DATA": "/nowhere",
        **more,
    }


def command(folder: Path, *arguments: object) -> list[str]:
    """`comemory reproduce` with its table, bundles and cache in a folder."""
    places = ["--table", folder / "rows.jsonl", "--bundles", folder / "runs", "--cache", folder / "cache"]
    return [sys.executable, "-m", "comemory", "reproduce", *map(str, arguments), *map(str, places)]


def reproduce(folder: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    asked = command(folder, *arguments)
    return subprocess.run(
        asked, env=environment(**more), cwd=ROOT, capture_output=True, text=True, timeout=900, check=False
    )
