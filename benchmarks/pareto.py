"""Plot AUC over milliseconds per frame for networks of several widths, depths and resolutions.

    comemory reproduce pareto --bundles networks
    python benchmarks/pareto.py --bundles networks --train ped2:data/ped2 --json FILE --plot docs/pareto.svg

Every network is exported to int8 with its own training video and timed on one thread, alternating with the others.
The AUC of each point comes from the table of rows.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from comemory.bench import interleave, measurement_environment, network_gflop
from comemory.bundle import open_bundle
from comemory.detector import Detector
from comemory.export import export
from comemory.research.reproduce.rows import read_rows
from comemory.types import JSON

RUNS = 10
"""Network runs in a round."""


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The Pareto front: the points (cost, value) that no other point beats in both, the cheapest first.

    >>> front({"a": (1, 0.9), "b": (2, 0.8), "c": (3, 0.95)})
    ['a', 'c']
    """
    found: list[str] = []
    for name in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not found or points[name][1] > points[found[-1]][1]:
            found.append(name)
    return found


def in_int8(bundle: Path, data: str, cache: Path | None, folder: Path) -> Detector:
    """A copy of the bundle in int8, ready to run on one thread."""
    copy = folder / bundle.name
    shutil.copytree(bundle, copy)
    export(copy, precision="int8", data=data, cache=cache, min_correlation=0.0)
    return Detector.open(copy, threads=1, precision="int8")


def runs(detector: Detector) -> Callable[[], object]:
    """What is timed in a round."""
    inputs = detector.stages.example_inputs()

    def call() -> None:
        for _ in range(RUNS):
            detector.stages.runtime.run(inputs)

    return call


def measure(bundles: Mapping[str, Path], data: str, cache: Path | None, rounds: int) -> dict[str, JSON]:
    """Milliseconds of a frame in int8 and in fp32, and the work in it."""
    with tempfile.TemporaryDirectory() as folder:
        detectors = {}
        for name, path in bundles.items():
            detectors[f"{name} int8"] = in_int8(path, data, cache, Path(folder) / name)
            detectors[f"{name} fp32"] = Detector.open(path, threads=1, precision="fp32")
            print(f"ready: {name}", flush=True)
        timings = interleave({name: runs(detector) for name, detector in detectors.items()}, rounds)
        return {
            name: {
                "int8_ms": round(timings[f"{name} int8"].median_ms / RUNS, 3),
                "fp32_ms": round(timings[f"{name} fp32"].median_ms / RUNS, 3),
                "gflop": round(
                    network_gflop(open_bundle(path).network.graph, detectors[f"{name} fp32"].stages.example_inputs()), 3
                ),
            }
            for name, path in bundles.items()
        }


def draw(points: Mapping[str, JSON], path: Path) -> None:
    """Plot both AUCs over the cost in int8; the front is a line."""
    with mpl.rc_context({"svg.hashsalt": "comemory", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained", facecolor="white")
        numbers = {name: number for number, name in enumerate(sorted(points, key=lambda n: points[n]["int8_ms"]), 1)}
        pair = figure.subplots(1, 2)
        titles = {"auc": "the whole score", "auc_learned": "learned evidence alone"}
        for axis, (worth, title), colour in zip(pair, titles.items(), ("#0b5394", "#b45f06"), strict=True):
            places = {name: (point["int8_ms"], point[worth]) for name, point in points.items() if point.get(worth)}
            best = front(places)
            axis.plot(*zip(*(places[name] for name in best), strict=True), "-", color=colour, alpha=0.4)
            for name, place in places.items():
                axis.plot(*place, "o", color=colour, markersize=5)
                axis.annotate(str(numbers[name]), place, xytext=(3, 4), textcoords="offset points", fontsize=8)
            axis.set(title=title, xlabel="network in int8, ms a frame", ylabel="Ped2 micro AUC")
            axis.grid(alpha=0.3)
            axis.margins(x=0.2, y=0.15)
        figure.supxlabel("   ".join(f"{number} {name}" for name, number in numbers.items()), fontsize=8)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="pareto")
    parser.add_argument("--data", default="ped2", help="the data set of the experiment, by its name there")
    parser.add_argument("--table", type=Path, default=Path("docs/results/rows.jsonl"))
    parser.add_argument("--bundles", type=Path, required=True, help="the folder that `reproduce --bundles` was given")
    parser.add_argument("--train", required=True, metavar="KIND:PATH", help="the data set of the trainings, for int8")
    parser.add_argument("--cache", type=Path, help="prepared frames, as that of train")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    found = [
        row
        for row in read_rows(options.table)
        if (row["experiment"], row["data"]) == (options.experiment, options.data)
    ]
    if not found:
        raise SystemExit(f"{options.table} has no row of {options.experiment} on {options.data}: run it first")
    aucs = {row["variant"]: row["results"]["causal"]["auc_micro"] for row in found}
    names = [name for name in aucs if "+" not in name]
    folder = options.bundles / options.experiment / options.data
    written = {open_bundle(path.parent).digest[:16]: path.parent for path in folder.rglob("manifest.json")}
    bundles = {row["variant"]: written[row["bundle"]] for row in found if row["variant"] in names}
    points = measure(bundles, options.train, options.cache, options.rounds)
    for name, point in points.items():
        point.update({"auc": aucs[name], "auc_learned": aucs.get(f"{name}+learned")})
    if options.json:
        options.json.write_text(json.dumps({"points": points, **measurement_environment()}, indent=1) + "\n")
    if options.plot:
        draw(points, options.plot)
    for name in front({name: (point["int8_ms"], point["auc"]) for name, point in points.items()}):
        print(f"{name}: {points[name]}")


if __name__ == "__main__":
    main()
