"""Measure what every network of an experiment costs: parameters, operations, and CPU time for a frame, by turns.

    python benchmarks/network_costs.py comparison --json docs/results/comparison-costs.json

The networks have random weights, which changes neither. Each is exported, and OpenVINO runs it on one thread. The CPU time of the
process is measured in place of wall-clock time: it is the same on a quiet machine, and other work on the machine hardly
changes it. `comemory reproduce --render` shows the file beside the rows of the experiment.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from comemory.bench import measurement_environment
from comemory.research.reproduce.costs import network_settings_key
from comemory.research.reproduce.experiment import find_experiment, find_root, read_experiment
from comemory.research.reproduce.grid import list_runs
from comemory.runtimes import RUNTIMES, InputLayout, Network
from comemory.training.config import TrainingConfig, model_class
from comemory.training.cost import network_cost
from comemory.training.graph import write_graph
from comemory.types import JSON, Clip


def runner(config: TrainingConfig, folder: Path) -> Callable[[], object]:
    """One run of the network of a configuration, on one thread of OpenVINO."""
    model = model_class(config.model).from_kwargs(**config.model_kwargs())
    folder.mkdir()
    graph = write_graph(model, config.clips, folder / "model.onnx")
    layout, spec = InputLayout(**graph["layout"]), config.clips
    network = Network(
        folder / "model.onnx",
        None,
        folder / "none",
        config.model,
        config.model_kwargs(),
        layout=layout,
        with_updates=False,
    )
    runtime = RUNTIMES.load("openvino")(network, threads=1)
    frames = np.random.default_rng(0).uniform(-1, 1, (spec.n_past + 1, spec.channels, spec.height, spec.width))
    clip = Clip.from_arrays(frames.astype(np.float32), np.zeros((2, spec.height, spec.width), np.float32))
    items = {f"{name}_items": memory.items.numpy() for name, memory in model.memories().items()}
    inputs = {**layout.build_inputs(clip), **items}
    return lambda: runtime.run(inputs)


def cpu_ms_by_turns(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, JSON]:
    """CPU milliseconds of each call: median and lowest of the rounds. Every second round has the reverse order."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for number in range(rounds):
        for name in list(calls) if number % 2 == 0 else reversed(calls):
            begun = time.process_time()
            calls[name]()
            samples[name].append(1000 * (time.process_time() - begun))
    return {
        name: {"cpu_ms": round(statistics.median(taken), 3), "lowest_cpu_ms": round(min(taken), 3), "rounds": rounds}
        for name, taken in samples.items()
    }


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", help="name of a file in experiments/, or a path to one")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    options = parser.parse_args()
    path = find_experiment(options.experiment, find_root())
    configs = {run.variant.name: run.config for run in list_runs(path.stem, read_experiment(path), 1)}
    with tempfile.TemporaryDirectory() as folder:
        calls = {name: runner(config, Path(folder, name)) for name, config in configs.items()}
        timed = cpu_ms_by_turns(calls, options.rounds)
    networks = {
        name: {"settings": network_settings_key(config.model_dump(mode="json")), **network_cost(config), **timed[name]}
        for name, config in configs.items()
    }
    measured = {"what": f"networks of {path.stem}", "networks": networks, **measurement_environment()}
    options.json.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    for name, cost in networks.items():
        print(f"{name:24} {cost['parameters']:>10,} {cost['macs'] / 1e6:>8,.0f} M {cost['cpu_ms']:>8.2f} ms")


if __name__ == "__main__":
    main()
