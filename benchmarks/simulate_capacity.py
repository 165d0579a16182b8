"""How many machines a fleet or an archive takes: a simulation of discrete events with the measured costs of one core.

    python benchmarks/simulate_capacity.py node --cameras 8
    python benchmarks/simulate_capacity.py fleet --set cameras=1000
    python benchmarks/simulate_capacity.py archive --set hours=10000 --set workers=16
    python benchmarks/simulate_capacity.py check
    python benchmarks/simulate_capacity.py plan
    python benchmarks/simulate_capacity.py inputs

    node      every frame of one machine
    fleet     a day of cameras: nodes that are lost and come back, scenes that are busier by day, bursts of events, a receiver
              of alerts that is away
    archive   files on many workers: losses of workers, nodes and the driver, requests that fail, slow nodes
    check     the small end beside what was measured: predicted and measured in a table
    plan      the tables of docs/explanation/capacity.md; a minute
    inputs    every input with its value, unit and source

`--set NAME=VALUE` changes an input, `--costs FILE` takes other unit costs, such as those that `unit_costs.py` measures on your
machine. The same inputs and seed give the same result.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from capacity_archive import ArchiveResult, core_s_of_an_hour, simulate_archive
from capacity_fleet import FleetResult, drop_curve, simulate_fleet, simulate_node
from capacity_inputs import GIB, RESULTS, UNIT_COSTS, Archive, Costs, Fleet, Prices, describe, with_settings

MONTH_H = 730.0
TOLERANCE = 1.3
"""By which factor a prediction may miss a measurement on a machine that is shared."""
EIGHT_CAMERAS = RESULTS / "2026-11-23-eight-cameras.json"
SERVE = [RESULTS / "2026-11-24-live-load.json", RESULTS / "2026-11-23-live-load.json"]
DECODE_MS, SCORED_MS = 1.0, 8.4
"""Of that machine in those days: docs/explanation/speed.md, "Where the time goes": 1.0, and 4.0 + 1.0 + 2.4 + 0.5 + 0.5."""
RATIO = 514.7 / 290.6
"""200 videos with one process and with two: docs/how-to/archives.md, "Speed"."""
DERIVED_FROM = 6
"""Cameras in the step of the first of `SERVE` that gave `Fleet.live_ms`."""
FLEETS = {10: 7.0, 1000: 1.0, 100_000: 1.0}
"""Days that are simulated, by cameras: a small fleet loses a node seldom."""
DEADLINE_DAYS = 30
MAX_CELLS, RUNS = 1, 100
"""Cells of a fleet that are simulated for `plan`, and runs into which its archive is divided, of which one is simulated."""

Row = Sequence[object]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(text_of, line))} |" for line in lines)


def text_of(value: object) -> str:
    """A number for people: three digits that count, thousands apart.

    >>> text_of(1234.5), text_of(0.123456), text_of(0.00001), text_of(0.0)
    ('1,230', '0.123', '0.00001', '0')
    """
    if isinstance(value, float):
        if not value or not math.isfinite(value):
            return f"{value:.0f}"
        digits = 2 - math.floor(math.log10(abs(value)))
        return (
            f"{round(value, digits):,.{max(0, digits)}f}".rstrip("0").rstrip(".")
            if digits > 0
            else (f"{round(value, digits):,.0f}")
        )
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def percentile(values: Sequence[float], percent: float) -> float:
    """A percentile, the nearest value; 0 without values."""
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))] if values else 0.0


def times(found: FleetResult, factor: float) -> FleetResult:
    """The result of so many times the cells: they do not know of each other."""
    sums = (
        "cells nodes frames_due frames_scored frames_dropped frames_unwatched cores_mean cores_peak losses moves events "
        "events_missed alerts alerts_delivered alert_tries writes_mean_s network_mbit_s media_gib_a_day database_gib_a_day"
    )
    return replace(found, **{name: type(getattr(found, name))(getattr(found, name) * factor) for name in sums.split()})


def fleet_row(found: FleetResult) -> dict[str, object]:
    """The results of a fleet by their names in the tables."""
    return {
        "cells": found.cells,
        "nodes": found.nodes,
        "cameras a node": found.cameras_a_node,
        "cores busy, mean": found.cores_mean,
        "cores busy, busiest hour": found.cores_peak,
        "load of the fullest node": found.busy_peak,
        "losses of nodes": found.losses,
        "cameras moved": found.moves,
        "longest gap, s": found.longest_gap_s,
        "camera time watched, %": f"{100 * found.watched_share:.4f}",
        "frames dropped, %": 100 * found.dropped_share,
        "events": found.events,
        "events while unwatched": found.events_missed,
        "database writes a second, mean": found.writes_mean_s,
        "database writes a second, busiest minute of a cell": found.writes_peak_s,
        "longest wait for a database, s": found.backlog_s,
        "alerts delivered, of": f"{found.alerts_delivered:,} of {found.alerts:,}",
        "tries an alert": found.alert_tries / max(found.alerts, 1),
        "alerts that wait, most in a cell": found.alerts_waiting_peak,
        "delay of an alert, median, s": percentile(found.alert_delay_s, 50),
        "delay of an alert, 99 %, s": percentile(found.alert_delay_s, 99),
        "delay of an alert, longest, s": max(found.alert_delay_s, default=0.0),
        "network from cameras, Mbit/s": found.network_mbit_s,
        "network of a node, Mbit/s": found.node_mbit_s,
        "media, GiB a day": found.media_gib_a_day,
        "database, GiB a day": found.database_gib_a_day,
    }


def archive_row(found: ArchiveResult) -> dict[str, object]:
    """The results of an archive by their names in the tables."""
    return {
        "files": found.n_files,
        "done once": int((found.done == 1).sum()),
        "in the report": found.failed,
        "days": found.makespan_h / 24,
        "hours of video an hour": found.hours_an_hour,
        "losses of workers": found.worker_losses,
        "losses of nodes": found.node_losses,
        "losses of the driver": found.driver_losses,
        "work lost, %": 100 * found.wasted_share,
        "starting, %": 100 * found.starting_share,
        "idle, %": 100 * found.idle_share,
        "tail, h": found.tail_h,
        "driver busy, %": 100 * found.driver_busy,
        "requests to the store a second": found.requests_s,
        "from the store, Mbit/s": found.fetch_mbit_s,
        "results, GiB": found.result_bytes / GIB,
    }


def fleet_money(fleet: Fleet, found: FleetResult, costs: Costs, prices: Prices) -> dict[str, float]:
    """Money a month by component."""
    media_gib = found.media_gib_a_day * fleet.media_days
    scores_gib = fleet.cameras * costs.day_of_scores_bytes * fleet.scores_days / GIB
    files = 4 * found.events / fleet.days * MONTH_H / 24
    return {
        "nodes": found.nodes * fleet.cores * prices.core_h * MONTH_H,
        "databases": found.cells * prices.database_month if found.nodes > 2 else 0.0,
        "disks of databases": scores_gib * prices.block_gib_month,
        "media": media_gib * prices.object_gib_month,
        "requests": files / 1000 * prices.write_1000,
        "network from cameras": found.network_mbit_s * 1e6 / 8 * MONTH_H * 3600 / GIB * prices.ingress_gib,
    }


def archive_money(archive: Archive, found: ArchiveResult, prices: Prices) -> dict[str, float]:
    """Money by component: once, but for the storage of a month."""
    videos_gib = archive.hours * 3600 * archive.mbit_s * 1e6 / 8 / GIB
    return {
        "workers": archive.workers * found.makespan_h * prices.spot_core_h,
        "requests": found.requests / 1000 * max(prices.read_1000, prices.write_1000),
        "results, a month": found.result_bytes / GIB * prices.object_gib_month,
        "the videos themselves, a month": videos_gib * prices.object_gib_month,
    }


def check(costs: Costs) -> list[dict[str, Any]]:
    """The small end: what the simulation says of runs that were measured, beside the measurement."""
    return [*check_cameras(), *check_serve(), *check_archive(costs)]


def compared(what: str, predicted: float, found: float, unit: str) -> dict[str, Any]:
    """One line of the check."""
    return {"what": what, "unit": unit, "predicted": predicted, "measured": found, "ratio": predicted / found}


def check_cameras() -> list[dict[str, Any]]:
    """Eight files that play in real time, from the stages that were measured on that machine that day."""
    run = json.loads(EIGHT_CAMERAS.read_text(encoding="utf-8"))
    service_ms = 25.0 / run["asked_fps"] * DECODE_MS + SCORED_MS
    found = simulate_node(
        run["cameras"], run["threads"], run["asked_fps"], service_ms, seconds=run["seconds"], spaced=True
    )
    what = f"{run['cameras']} cameras, {run['date']}"
    return [
        compared(f"{what}: cores busy", found.busy * run["threads"], run["cpu_share"] * run["threads"], "cores"),
        compared(f"{what}: half of the frames scored within", found.latency_ms(50), run["latency_ms"]["p50"], "ms"),
        compared(f"{what}: 95 % within", found.latency_ms(95), run["latency_ms"]["p95"], "ms"),
        compared(
            f"{what}: frames scored",
            found.n_scored / found.n_due,
            1 - run["dropped"] / (run["cameras"] * run["asked_fps"] * run["seconds"]),
            "share",
        ),
    ]


def check_serve() -> list[dict[str, Any]]:
    """`comemory serve` with more cameras than the six from which `Fleet.live_ms` was derived, and on another day."""
    rows = []
    for file in SERVE:
        run = json.loads(file.read_text(encoding="utf-8"))
        for step in run["steps"]:
            if not step["holds"] or (file == SERVE[0] and step["cameras"] == DERIVED_FROM):
                continue
            each_ms = step["fps_in_lowest"] * (DECODE_MS + Fleet().live_ms) + step["fps_scored_mean"] * SCORED_MS
            what = f"serve, {step['cameras']} cameras, {file.name[:10]}: cores busy"
            rows.append(compared(what, step["cameras"] * each_ms / 1000, step["cpu_cores"], "cores"))
    return rows


def check_archive(costs: Costs) -> list[dict[str, Any]]:
    """Short videos with one process and with two, in three batches. The machine was shared, so only the ratio can be compared."""
    hours = {}
    for workers in (1, 2):
        hours[workers] = simulate_archive(small_archive(workers), costs).makespan_h
    return [compared("200 videos, 2 processes against one", hours[1] / hours[2], RATIO, "times as fast")]


def small_archive(workers: int) -> Archive:
    """One batch of `bench_archive.py` as inputs: 67 equal files of 50 frames, nothing is lost, no store."""
    file_min = 50 / 10 / 60
    return Archive(
        hours=67 * file_min / 60,
        file_min=file_min,
        file_spread=0.0,
        video="144x96",
        fps=10.0,
        scored_fps=10.0,
        busy_share=1.0,
        workers=workers,
        slow_share=0.0,
        worker_lost_h=math.inf,
        node_lost_h=math.inf,
        driver_lost_h=math.inf,
        failed_requests=0.0,
        fetch_mbit_s=0.0,
    )


def plan(fleet: Fleet, archive: Archive, costs: Costs, prices: Prices) -> str:
    """The tables of the page."""
    parts, rows, money = [], [], []
    curve = None  # it depends on the node alone, not on the number of nodes
    for n_cameras, days in FLEETS.items():
        cell = min(fleet.cameras_a_cell, n_cameras)
        factor = max(1.0, n_cameras / cell / MAX_CELLS)
        asked = replace(fleet, cameras=round(n_cameras / factor), cameras_a_cell=cell, days=days)
        curve = drop_curve(asked, costs) if curve is None else curve
        found = times(simulate_fleet(asked, costs, curve), factor)
        rows.append(fleet_row(found))
        money.append(fleet_money(replace(asked, cameras=n_cameras), found, costs, prices))
    head = ["fleet", *(f"{n:,} cameras" for n in FLEETS)]
    days = ["days simulated", *FLEETS.values()]
    parts.append(table(head, [days, *([name, *(row[name] for row in rows)] for name in rows[0])]))
    parts.append(_money_table(["money a month", *head[1:]], money))
    needed = math.ceil(archive.hours * core_s_of_an_hour(archive, costs) / (DEADLINE_DAYS * 86400 * 0.95))
    asked_archive = replace(archive, workers=math.ceil(needed / archive.cores) * archive.cores)
    done = simulate_archive(asked_archive, costs)
    parts.append(
        table(
            ["archive", f"{archive.hours:,.0f} hours"], [["cores", asked_archive.workers], *archive_row(done).items()]
        )
    )
    parts.append(_money_table(["money", "once"], [archive_money(asked_archive, done, prices)]))
    return "\n\n".join(parts)


def _money_table(head: Row, money: Sequence[dict[str, float]]) -> str:
    rows = [[name, *(f"{one[name]:,.0f}" for one in money)] for name in money[0]]
    return table(head, [*rows, ["together", *(f"{sum(one.values()):,.0f}" for one in money)]])


def main() -> None:
    """Read the command line, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("node", "fleet", "archive", "check", "plan", "inputs"))
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change an input")
    parser.add_argument("--costs", type=Path, default=UNIT_COSTS, metavar="FILE", help="of unit_costs.py")
    parser.add_argument("--cameras", type=int, default=8, help="of `node` (default 8)")
    args = parser.parse_args()
    try:
        costs = Costs.read(args.costs)
        fleet, archive, prices, costs = with_settings([Fleet(), Archive(), Prices(), costs], args.set)
    except (OSError, KeyError) as error:
        parser.error(f"--costs {args.costs}: not a file of unit_costs.py: {error}")
    except ValueError as error:
        parser.error(str(error))
    if args.cameras < 1:
        parser.error("--cameras is 1 or more")
    if args.what == "node":
        service_ms = 1000 * fleet.camera_cores(costs, fleet.busy_share_day) / fleet.scored_fps
        one = simulate_node(args.cameras, fleet.cores, fleet.scored_fps, service_ms, seed=fleet.seed)
        latencies = {f"{p} % scored within, ms": one.latency_ms(p) for p in (50, 95, 99)}
        values = {"due": one.n_due, "scored": one.n_scored, "dropped": one.n_dropped, "busy": one.busy, **latencies}
        print(table(["frames", ""], values.items()))
    elif args.what == "fleet":
        found = simulate_fleet(fleet, costs)
        print(table([f"{fleet.days:g} days of", f"{fleet.cameras:,} cameras"], fleet_row(found).items()))
        print("\n" + _money_table(["money a month", ""], [fleet_money(fleet, found, costs, prices)]))
    elif args.what == "archive":
        done = simulate_archive(archive, costs)
        print(table(["archive", f"{archive.hours:,.0f} hours"], archive_row(done).items()))
        print("\n" + _money_table(["money", "once"], [archive_money(archive, done, prices)]))
    elif args.what == "check":
        rows = check(costs)
        print(table(list(rows[0]), [list(row.values()) for row in rows]))
    elif args.what == "plan":
        print(plan(fleet, archive, costs, prices))
    else:
        rows_of = [describe(one) for one in (costs, fleet, archive, prices)]
        print(table(["input", "value", "unit", "source"], [list(row) for rows in rows_of for row in rows]))


if __name__ == "__main__":
    main()
