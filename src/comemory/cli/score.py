"""Commands that score recorded video."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from comemory.cli.application import RESEARCH, START, PlainCommand, app
from comemory.cli.live_options import interrupted_by_sigterm, private_files
from comemory.cli.options import (
    ADVANCED,
    ARCHIVES,
    DEFAULT_RUNTIME,
    Budget,
    Data,
    Device,
    FlowWeights,
    Gate,
    Json,
    ModelBudget,
    Precision,
    PrecisionName,
    ProtocolName,
    Runtime,
    Update,
    UpdateName,
    Workers,
    budget_or_default,
    check_bundle_comes_first,
    console,
    error_console,
    print_json,
    print_precision,
    report_problems,
)
from comemory.cli.terminal import (
    ProgressBars,
    print_budgets,
    print_events,
    print_line,
    print_matrix,
    print_notes,
    print_results,
)
from comemory.errors import ConfigError, mask_password
from comemory.files import require_writable_file, write_text

if TYPE_CHECKING:
    from comemory.batch import BatchResult
    from comemory.detector import Detector
    from comemory.types import JSON


SPLIT_MIN, TIME_LIMIT_MIN = 60, 360
_STORE = re.compile(r"(s3|s3a|gs|gcs|abfss?|az|adl|hdfs)://", re.IGNORECASE)
_URL = re.compile(r"(?!file:)[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def _require_local(bundle: str, sources: Sequence[str], out: str) -> None:
    """Refuse what a run without `--cluster` does not read or write.

    Raises:
        ConfigError: the bundle or the output is a URL, or a source lies in an object store.
    """
    places = [("--out", out, _URL), ("the bundle", bundle, _URL), *(("the source", one, _STORE) for one in sources)]
    for name, place, pattern in places:
        if pattern.match(place):
            raise ConfigError(f"{name} {mask_password(place)} needs --cluster, such as --cluster local:4")


def open_detector(
    bundle: Path,
    runtime: str,
    precision: PrecisionName,
    flow_weights: Path | None,
    update: UpdateName,
    gate: bool,
    device: str,
    *,
    all_evidence: bool = False,
) -> Detector:
    """Open the detector that the options ask for, on one thread, and print its precision."""
    from comemory.detector import Detector

    detector = Detector.open(
        bundle,
        runtime=runtime,
        precision=precision.value,
        device=device,
        threads=1,
        flow_weights=flow_weights,
        update=update.value,
        skip_static=gate,
        all_evidence=all_evidence,
    )
    print_precision(detector.bundle, runs_network=detector.stages.runs_network)
    return detector


@app.command(rich_help_panel=START, cls=PlainCommand)
@interrupted_by_sigterm()
def score(
    bundle: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE",
            help="Folder of a bundle, as `comemory train` writes it; with `--cluster` a URL too.",
            show_default=False,
        ),
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Video files or folders of frames; with `--cluster` files, folders of videos, patterns and URLs.",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="FOLDER", help="Folder for the tables, images and annotated videos; with `--cluster` a URL too."
        ),
    ] = "scores",
    video: Annotated[bool, typer.Option("--video", help="Also write an annotated mp4 of each source.")] = False,
    false_alarms: ModelBudget = None,
    as_json: Json = False,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            help="Frames per second of folders of frames.",
            show_default="rate of the training video",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    runtime: Runtime = DEFAULT_RUNTIME,
    precision: Precision = PrecisionName.auto,
    device: Device = "CPU",
    threads: Workers = None,
    flow_weights: FlowWeights = None,
    update: Update = UpdateName.off,
    gate: Gate = True,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="WHERE",
            help="Score an archive into Parquet files, on `local:N` processes, on Ray (`auto` or `ray://HOST:PORT`), or the "
            "share I of N of it (`index:I/N`). Running it again does what is left.",
            show_default=False,
            rich_help_panel=ARCHIVES,
        ),
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="TEMPLATE",
            help="How paths end, such as `{camera}/%Y-%m-%d/%H%M%S.mp4`: gives camera and time of a video.",
            show_default="the nearest folder's name, and the last date in the path",
            rich_help_panel=ARCHIVES,
        ),
    ] = None,
    split: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            min=0,
            show_default=str(SPLIT_MIN),
            help="Length of the segments into which a video of at least twice this length is split; 0 splits none.",
            rich_help_panel=ARCHIVES,
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="MINUTES",
            min=0.01,
            show_default=str(TIME_LIMIT_MIN),
            help="Give up a video after this time, or after 5 minutes without a frame (on Ray, after this time only).",
            rich_help_panel=ARCHIVES,
        ),
    ] = None,
) -> None:
    """Score video files: write `scores.csv`, `events.json` and an image of each event.

    If the run is killed, `scores.csv.part` has the rows written so far.

    Example: `comemory score models/gate monday.mp4 tuesday.mp4 --out scores --video --false-alarms 2/day`

    An archive: `comemory score models/gate 's3://bucket/2026/**/*.mp4' --cluster local:8 --out s3://bucket/scores`
    """
    from comemory.batch import score_sources
    from comemory.parallel import n_workers

    if cluster is not None:
        if video or rate is not None:
            raise ConfigError("--cluster takes no --video and no --rate: it scores video files into Parquet")
        from comemory.cli.archive import score_to_parquet

        score_to_parquet(
            cluster,
            sources,
            as_json=as_json,
            threads=threads,
            bundle=bundle,
            out=out,
            runtime=runtime,
            precision=precision.value,
            device=device,
            update=update.value,
            gate=gate,
            flow_weights=flow_weights,
            false_alarms=false_alarms,
            layout=layout,
            split_s=60 * (SPLIT_MIN if split is None else split),
            time_limit_s=60 * (TIME_LIMIT_MIN if time_limit is None else time_limit),
        )
        return
    options = {"--layout": layout, "--split": split, "--time-limit": time_limit}
    if given := [name for name, value in options.items() if value is not None]:
        raise ConfigError(f"{', '.join(given)} needs --cluster: without it, each video is scored whole into tables")
    _require_local(bundle, sources, out)
    check_bundle_comes_first(Path(bundle), sources)
    workers = n_workers(threads)
    detector = open_detector(Path(bundle), runtime, precision, flow_weights, update, gate, device)
    # A folder that exists has the rights that its owner gave it, and so have the files in it.
    with ProgressBars(error_console) as bars, nullcontext() if Path(out).exists() else private_files():
        result = score_sources(
            detector,
            sources,
            Path(out),
            false_alarms=false_alarms,
            video=video,
            rate_hz=rate,
            workers=workers,
            on_source=bars.stage,
            on_frame=bars.advance,
        )
    if as_json:
        print_json(_as_json(result, detector))
    elif result.files:
        _print_scored(result, detector)
        notes = [*result.notes, f"{detector.bundle.path.name} was trained on {detector.bundle.coverage()}"]
        print_notes(console, notes)
    report_problems(result.problems)


def _as_json(result: BatchResult, detector: Detector) -> JSON:
    """What `--json` prints."""
    coverage = detector.bundle.coverage()
    return {
        "precision": detector.bundle.precision,
        "frames": result.n_frames,
        "false_alarms": result.false_alarms,
        "highest_score": result.highest_score,
        "event_at": result.event_at,
        "footage_s": coverage.footage_s,
        "smallest_budget": coverage.smallest_budget,
        "events": [asdict(event) for event in result.events],
        "files": [str(file) for file in result.files],
        "problems": result.problems,
        "notes": result.notes,
    }


def _print_scored(result: BatchResult, detector: Detector) -> None:
    """Print the events, what to do where there is none, and the files."""
    print_events(console, result.events, result.n_frames)
    print_line(console, f"at most {result.false_alarms} false alarms on normal video", style="dim")
    if not result.events and result.highest_score is not None:
        print_line(console, _why_no_event(result, detector))
    print_line(console, f"wrote {', '.join(str(file) for file in result.files if file.suffix != '.jpg')}")


def _why_no_event(result: BatchResult, detector: Detector) -> str:
    """How far the scores are from an event, at which budget there would be one, and how much footage would help."""
    from comemory.scoring.budgets import duration

    calibration, budget = detector.bundle.calibration, result.false_alarms
    needed = f"{calibration.settings.min_frames} frames in a row at {calibration.threshold(budget):.2f}"
    text = f"the highest score is {result.highest_score:.2f}; an event at {budget} needs {needed} or higher"
    if result.event_at is not None:
        text += f"; there would be one at --false-alarms {result.event_at}"
    missed = detector.bundle.coverage([budget]).needed_s
    if budget in missed:
        text += f"; {budget} needs about {duration(missed[budget], rounded=True)} of training footage"
    return text


@app.command(rich_help_panel=RESEARCH, cls=PlainCommand)
@interrupted_by_sigterm()
def evaluate(
    data: Data,
    bundle: Annotated[
        Path | None,
        typer.Argument(metavar="BUNDLE", help="Folder of a bundle, as `comemory train` writes it.", show_default=False),
    ] = None,
    scores_file: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Evaluate scores of any method in place of a bundle: a .npz with an array for each video, one number a frame; "
            "a folder with a .npy or .npz for each video; or one array of all videos.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="Write the metrics and the notes as JSON; `-` prints them."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a report, one self-contained HTML file.")
    ] = None,
    scores: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Write the scores of every frame, for NumPy.")
    ] = None,
    false_alarms: Budget = None,
    protocol: Annotated[
        ProtocolName,
        typer.Option(
            help="`causal` uses the scores a live system has; `paper` normalises each video, as papers do.",
            rich_help_panel=ADVANCED,
        ),
    ] = ProtocolName.both,
    matrix: Annotated[
        bool,
        typer.Option(
            "--matrix",
            help="Also print the AUC under other normalisations and smoothings, and the alarms at other budgets.",
            rich_help_panel=ADVANCED,
        ),
    ] = False,
    runtime: Runtime = DEFAULT_RUNTIME,
    precision: Precision = PrecisionName.auto,
    device: Device = "CPU",
    threads: Workers = None,
    flow_weights: FlowWeights = None,
    update: Update = UpdateName.off,
    gate: Gate = True,
) -> None:
    """Score a labelled data set and print the metrics beside those of the motion baseline, which needs no training.

    For example:

    `comemory evaluate models/ped2-small --data ped2:data/ped2 --json metrics.json --report ped2.html`

    `comemory evaluate --scores-file other-model.npz --data ped2:data/ped2`
    """
    if scores_file is not None:
        if bundle is not None or report is not None or scores is not None:
            raise ConfigError("--scores-file takes no bundle, no --report and no --scores: it needs only --data")
        if false_alarms is not None:
            raise ConfigError("--scores-file takes no --false-alarms: without normal video, scores have no threshold")
        of_network = {
            "--runtime": runtime != DEFAULT_RUNTIME,
            "--precision": precision is not PrecisionName.auto,
            "--device": device != "CPU",
            "--threads": threads is not None,
            "--flow-weights": flow_weights is not None,
            "--update": update is not UpdateName.off,
            "--no-gate": not gate,
        }
        if given := [option for option, is_given in of_network.items() if is_given]:
            raise ConfigError(f"--scores-file takes no {' and no '.join(given)}: the scores are there already")
        _evaluate_file(scores_file, data, json_file, _protocols(protocol), matrix=matrix)
        return
    bundle = _bundle_to_evaluate(bundle)
    from comemory.evaluation.evaluate import evaluate, write_evaluation_report
    from comemory.evaluation.scores_file import write_scores
    from comemory.parallel import n_workers
    from comemory.research.pseudo_anomalies.dataset import open_any_dataset

    file = None if json_file is None or str(json_file) == "-" else json_file
    targets = [target for target in (file, report, scores) if target is not None]
    for target in targets:
        require_writable_file(target)
    if report is not None:
        import comemory.evaluation.report.page  # noqa: F401 - a missing extra is reported before the scoring, not after
    workers = n_workers(threads)
    detector = open_detector(bundle, runtime, precision, flow_weights, update, gate, device, all_evidence=True)
    with ProgressBars(error_console) as bars:
        done = evaluate(
            detector,
            open_any_dataset(data),
            protocols=_protocols(protocol),
            false_alarms=budget_or_default(false_alarms),
            images=report is not None,
            workers=workers,
            on_video=bars.stage,
            on_frame=bars.advance,
        )
    if report is not None:
        write_evaluation_report(done, detector.bundle, f"{runtime}, {detector.bundle.precision}", report)
    if scores is not None:
        write_scores(scores, done.videos)
    results = {**done.results, "runtime": runtime, "precision": detector.bundle.precision}
    _print_evaluation(results, done.notes, json_file, targets, matrix=matrix)
    report_problems(done.problems)


def _protocols(chosen: ProtocolName) -> Sequence[str]:
    from comemory.evaluation.results import PROTOCOLS

    return PROTOCOLS if chosen is ProtocolName.both else (chosen.value,)


def _print_evaluation(
    results: JSON, notes: Sequence[str], json_file: Path | None, written: Sequence[Path], *, matrix: bool
) -> None:
    """Print the results as a table or as JSON with the notes; with a JSON file, print the table and write the file."""
    as_json = {**results, "notes": list(notes)}
    if json_file is not None and str(json_file) == "-":
        print_json(as_json)
        print_notes(error_console, notes)
        return
    if json_file is not None:
        write_text(json_file, json.dumps(as_json, indent=1) + "\n")
    print_results(console, results)
    if matrix:
        print_matrix(console, results["protocols"])
        if "budgets" in results:
            print_budgets(console, results["budgets"])
    print_notes(console, notes)
    if written:
        print_line(console, f"wrote {', '.join(map(str, written))}")


def _bundle_to_evaluate(bundle: Path | None) -> Path:
    """The bundle of `evaluate`.

    Raises:
        ConfigError: no bundle is given, or a file of scores is given in its place.
    """
    if bundle is None:
        raise ConfigError("nothing to evaluate: give a bundle, or --scores-file FILE.npz")
    if bundle.suffix == ".npz":
        raise ConfigError(f"{bundle} is a file of scores, not a bundle: give it as --scores-file {bundle}")
    return bundle


def _evaluate_file(
    scores_file: Path, data: str, json_file: Path | None, protocols: Sequence[str], *, matrix: bool
) -> None:
    """Print or write the metrics of the scores in a file."""
    from comemory.evaluation.released_scores import evaluate_released_scores
    from comemory.research.pseudo_anomalies.dataset import open_any_dataset

    file = None if json_file is None or str(json_file) == "-" else json_file
    if file is not None:
        require_writable_file(file)
    dataset = open_any_dataset(data)
    results, notes = evaluate_released_scores(scores_file, dataset.name, dataset.testing(), protocols=protocols)
    _print_evaluation(results, notes, json_file, [] if file is None else [file], matrix=matrix)
