"""What `comemory score` writes: rows, events, images, videos; and what is left when it is stopped."""

from __future__ import annotations

import csv
import json
import math
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from bundles import unfinite
from footage import FixedScores, bright_images, clip, comemory, save_frames, save_video

from comemory.batch import COLUMNS, BatchResult, score_sources
from comemory.bundle import open_bundle
from comemory.detector import Detector
from comemory.errors import ConfigError
from comemory.video.source import open_source

Row = dict[str, str]


@pytest.fixture(scope="module")
def detector(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1)


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An mp4 of a rendered walkway with anomalies."""
    return save_video(tmp_path_factory.mktemp("gate") / "gate.mp4", clip(0)[0])


@pytest.fixture(scope="module")
def compiled(nano_bundle: Path) -> FixedScores:
    return FixedScores.open(nano_bundle, threads=1)


@pytest.fixture
def fixed_scores(compiled: FixedScores, nano_bundle: Path) -> Callable[..., FixedScores]:
    """Make a detector with these values as scores, and these scoring settings."""
    opened = open_bundle(nano_bundle)

    def make(values: Sequence[float], **changed: Any) -> FixedScores:
        settings = opened.calibration.settings.model_copy(update=changed)
        calibration = opened.calibration.model_copy(update={"settings": settings, "n_alarms": None})
        compiled.stages.bundle, compiled.values = replace(opened, calibration=calibration), values
        return compiled

    return make


def budget(detector: Detector, threshold: float) -> str:
    """The false-alarm budget whose threshold this is."""
    calibration = detector.bundle.calibration
    return f"{calibration.rate_hz * 3600 / calibration.frames_per_alarm / 10**threshold!r}/h"


def rows_of(out: Path) -> list[Row]:
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def events_of(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "events.json").read_text(encoding="utf-8"))["events"])


def naive_events(
    rows: Sequence[Row], threshold: float, release: float, min_frames: int, join_s: float
) -> list[list[int]]:
    """Events as lists of frames above the threshold, straight from their definition."""
    runs: list[list[int]] = []
    held, last_s = False, -math.inf
    for row in rows:
        if not row["score"]:
            continue
        time_s, score = float(row["time_s"]), float(row["score"])
        was, held = held, score >= (threshold * release if held else threshold)
        if held:
            if was or (runs and time_s - last_s <= join_s):
                runs[-1].append(int(row["frame"]))
            else:
                runs.append([int(row["frame"])])
            last_s = time_s
    return [run for run in runs if len(run) >= min_frames]


def check(rows: Sequence[Row], events: Sequence[dict[str, Any]]) -> None:
    """Rows and events agree."""
    for row in rows:
        inside = [
            event["event"]
            for event in events
            if event["source"] == row["source"] and event["start_frame"] <= int(row["frame"]) <= event["end_frame"]
        ]
        assert row["event"] == (str(inside[0]) if inside else ""), row
        assert len(inside) <= 1
    assert [event["event"] for event in events] == list(range(1, len(events) + 1))
    for event in events:
        mine = {int(row["frame"]): row for row in rows if row["source"] == event["source"]}
        highs = [
            float(mine[i]["score"]) for i in range(event["start_frame"], event["end_frame"] + 1) if mine[i]["score"]
        ]
        assert float(mine[event["peak_frame"]]["score"]) == pytest.approx(event["peak_score"], abs=1e-6) == max(highs)
        assert float(mine[event["start_frame"]]["time_s"]) == pytest.approx(event["start_s"], abs=1e-6)
        assert float(mine[event["end_frame"]]["time_s"]) == pytest.approx(event["end_s"], abs=1e-6)


def test_one_row_for_each_frame(detector: Detector, gate: Path, tmp_path: Path) -> None:
    result = score_sources(detector, [str(gate)], tmp_path / "out", false_alarms="600/h")
    text = (tmp_path / "out" / "scores.csv").read_bytes()
    assert text.splitlines()[0].decode() == ",".join(COLUMNS) == "source,frame,time_s,score,appearance,motion,event"
    assert b"\r" not in text
    rows = rows_of(tmp_path / "out")
    assert [int(row["frame"]) for row in rows] == list(range(60))
    assert all(row["score"] == row["appearance"] == row["motion"] == "" for row in rows[:4])
    assert all(math.isfinite(float(row[key])) for row in rows[4:] for key in ("score", "appearance", "motion"))
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], np.arange(60) / 10, atol=1e-6)
    expected = [score.value for score in detector.run(str(gate))]
    np.testing.assert_allclose([float(row["score"]) for row in rows[4:]], expected, atol=1e-6)
    check(rows, events_of(tmp_path / "out"))
    assert result.n_frames == 60
    assert result.problems == []
    assert {file.relative_to(tmp_path / "out").as_posix() for file in result.files} >= {"scores.csv", "events.json"}
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.parametrize(
    ("min_frames", "join_s", "release"), [(1, 0.0, 1.0), (2, 0.35, 0.8), (3, 0.0, 0.5), (5, 1.0, 0.8), (40, 1.0, 0.8)]
)
def test_events_and_their_rows_follow_the_definition(
    fixed_scores: Callable[..., FixedScores], tmp_path: Path, min_frames: int, join_s: float, release: float
) -> None:
    source = save_frames(tmp_path / "clip", bright_images([False] * 60))
    for seed in range(2):
        values = np.random.default_rng(seed).uniform(0, 3, 60)
        values[(values < 1.5) & (np.random.default_rng(seed + 9).random(60) < 0.7)] = 0.1
        detector = fixed_scores(values.tolist(), min_frames=min_frames, join_s=join_s, release=release)
        out = tmp_path / f"out{seed}"
        score_sources(detector, [str(source)], out, false_alarms=budget(detector, 1.5))
        rows, events = rows_of(out), events_of(out)
        expected = naive_events(rows, 1.5, release, min_frames, join_s)
        assert [(event["start_frame"], event["end_frame"]) for event in events] == [(e[0], e[-1]) for e in expected]
        check(rows, events)


def test_an_event_too_short_has_no_number_and_the_next_one_is_the_first(
    fixed_scores: Callable[..., FixedScores], tmp_path: Path
) -> None:
    values = [0.0] * 60
    values[10], values[30:33] = 5.0, [5.0, 6.0, 5.0]
    source = save_frames(tmp_path / "clip", bright_images([False] * 60))
    detector = fixed_scores(values, min_frames=2, join_s=0.5)
    score_sources(detector, [str(source)], tmp_path / "out", false_alarms=budget(detector, 2.0))
    numbers = {int(row["frame"]): row["event"] for row in rows_of(tmp_path / "out") if row["event"]}
    assert numbers == {30: "1", 31: "1", 32: "1"}


def test_an_event_at_the_very_end_counts(fixed_scores: Callable[..., FixedScores], tmp_path: Path) -> None:
    source = save_frames(tmp_path / "clip", bright_images([False] * 20))
    detector = fixed_scores([0.0] * 15 + [5.0] * 5)
    score_sources(detector, [str(source)], tmp_path / "out", false_alarms=budget(detector, 2.0))
    (event,) = events_of(tmp_path / "out")
    assert (event["start_frame"], event["end_frame"]) == (15, 19)
    check(rows_of(tmp_path / "out"), [event])


@pytest.mark.parametrize("values", [[0.0] * 160, [5.0] * 160, ([0.0] * 30 + [5.0] * 50) * 2])
def test_rows_are_written_as_soon_as_they_are_final(
    fixed_scores: Callable[..., FixedScores], tmp_path: Path, values: list[float]
) -> None:
    """Neither a long quiet part nor an endless event keeps rows in memory."""
    source = save_video(tmp_path / "long.mp4", bright_images([False] * 160))
    detector = fixed_scores(values, min_frames=2, join_s=1.0)
    part, lags, n_read = tmp_path / "out" / "scores.csv.part", [], 0

    def on_frame() -> None:
        nonlocal n_read
        n_read += 1
        if n_read % 7 == 0:
            lags.append(n_read + 1 - part.read_bytes().count(b"\n"))

    score_sources(detector, [str(source)], tmp_path / "out", false_alarms=budget(detector, 2.0), on_frame=on_frame)
    assert max(lags) <= 1.0 * 10 + 2
    check(rows_of(tmp_path / "out"), events_of(tmp_path / "out"))


def test_two_sources_of_one_name_and_one_count_of_events(detector: Detector, tmp_path: Path) -> None:
    gate = save_video(tmp_path / "gate.mp4", clip(0)[0][20:40])
    other = save_frames(tmp_path / "gate", clip(1)[0][:16])
    result = score_sources(detector, [str(gate), str(other)], tmp_path / "out", false_alarms="2000/h", video=True)
    rows = rows_of(tmp_path / "out")
    assert [row["source"] for row in rows] == ["gate"] * 20 + ["gate-2"] * 16
    check(rows, events_of(tmp_path / "out"))
    assert result.problems == []
    assert sorted(path.name for path in (tmp_path / "out").glob("*.mp4")) == ["gate-2.mp4", "gate.mp4"]


def test_each_event_has_an_image_of_the_recorded_shape(
    fixed_scores: Callable[..., FixedScores], gate: Path, tmp_path: Path
) -> None:
    detector = fixed_scores([0.0] * 20 + [5.0] * 4 + [6.0] + [5.0] * 15 + [0.0] * 20)
    for video in (False, True):
        score_sources(detector, [str(gate)], tmp_path / str(video), false_alarms=budget(detector, 2.0), video=video)
        (event,) = events_of(tmp_path / str(video))
        assert event["picture"] == "events/gate-000024.jpg"
        image = cv2.imread(str(tmp_path / str(video) / event["picture"]))
        assert image.shape == (720 * 96 // 144, 720, 3)
        left, top, right, bottom = event["box"]
        assert 0 <= left < right <= 144
        assert 0 <= top < bottom <= 96
    plain, filmed = (cv2.imread(str(tmp_path / name / "events/gate-000024.jpg")) for name in ("False", "True"))
    assert np.array_equal(plain, filmed), "both show the frame at its recorded size, not at that of the detector"


def test_the_video_plays_with_the_frames_and_times_of_the_source(detector: Detector, tmp_path: Path) -> None:
    times = np.cumsum([0, *([40] * 10), *([200] * 5), *([33] * 14)]).tolist()
    source = save_video(tmp_path / "vfr.mp4", clip(0)[0][:30], times_ms=times)
    result = score_sources(detector, [str(source)], tmp_path / "out", video=True)
    assert result.problems == []
    recorded = [frame.time_s for frame in open_source(source)]
    np.testing.assert_allclose([float(row["time_s"]) for row in rows_of(tmp_path / "out")], recorded, atol=1e-6)
    np.testing.assert_allclose(recorded, np.array(times) / 1000, atol=1e-3)
    shown = [frame.time_s for frame in open_source(tmp_path / "out" / "vfr.mp4")]
    np.testing.assert_allclose(shown, recorded, atol=1e-3)


def test_a_corrupt_frame_is_reported_and_the_others_are_scored(detector: Detector, tmp_path: Path) -> None:
    source = save_frames(tmp_path / "clip", clip(0)[0][:20])
    (source / "009.png").write_bytes((source / "009.png").read_bytes()[:200])
    other = save_frames(tmp_path / "whole", clip(0)[0][:10])
    result = score_sources(
        detector, [str(source), str(tmp_path / "none.mp4"), str(other)], tmp_path / "out", video=True
    )
    rows = rows_of(tmp_path / "out")
    assert [int(row["frame"]) for row in rows if row["source"] == "clip"] == [*range(9), *range(10, 20)]
    assert [row["frame"] for row in rows if row["source"] == "clip" and row["score"]] == [
        *map(str, range(4, 9)),
        *map(str, range(14, 20)),
    ]
    assert [row["source"] for row in rows].count("whole") == 10
    assert len(result.problems) == 2
    assert "009.png" in result.problems[0]
    assert "none.mp4" in result.problems[1]
    assert json.loads((tmp_path / "out" / "events.json").read_text(encoding="utf-8"))["problems"] == result.problems
    with av.open(str(tmp_path / "out" / "clip.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 19


def test_a_size_that_changes_on_the_way_goes_on_and_the_video_keeps_its_size(
    detector: Detector, tmp_path: Path
) -> None:
    images = clip(0)[0][:24]
    small = [cv2.resize(image, (72, 48)) for image in images[12:]]
    source = save_frames(tmp_path / "clip", [*images[:12], *small])
    result = score_sources(detector, [str(source)], tmp_path / "out", video=True)
    assert result.problems == []
    assert [row["frame"] for row in rows_of(tmp_path / "out") if row["score"]] == [str(i) for i in range(4, 24)]
    with av.open(str(tmp_path / "out" / "clip.mp4")) as container:
        assert {(frame.height, frame.width) for frame in container.decode(video=0)} == {(576, 720)}


@pytest.mark.parametrize("n_frames", [1, 4])
def test_too_few_frames_for_a_score_are_a_problem(detector: Detector, tmp_path: Path, n_frames: int) -> None:
    source = save_video(tmp_path / "short.mp4", clip(0)[0][:n_frames])
    result = score_sources(detector, [str(source)], tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == n_frames
    (problem,) = result.problems
    assert f"{n_frames} were read, 5 in a row are needed" in problem


def named(path: Path) -> list[str]:
    return [str(path)]


def linked(path: Path) -> list[str]:
    link = path.parent.parent / "link.mp4"
    link.symlink_to(path)
    return [str(link)]


def second(path: Path) -> list[str]:
    other = path.parent.parent / "elsewhere" / path.name
    other.parent.mkdir()
    shutil.copyfile(path, other)
    return [str(other), str(path)]


@pytest.mark.parametrize("sources", [named, linked, second, lambda path: [f"file://{path}"]])
def test_an_input_is_never_overwritten(
    detector: Detector, gate: Path, tmp_path: Path, sources: Callable[[Path], list[str]]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    shutil.copyfile(gate, out / "link.mp4" if sources is linked else out / "gate.mp4")
    (kept,) = out.iterdir()
    with pytest.raises(ConfigError, match="it is an input"):
        score_sources(detector, sources(kept), out, video=True)
    assert list(out.iterdir()) == [kept]
    assert kept.read_bytes() == gate.read_bytes()


def test_an_input_in_the_output_folder_is_fine_when_nothing_has_its_name(
    detector: Detector, gate: Path, tmp_path: Path
) -> None:
    shutil.copyfile(gate, tmp_path / "gate.mp4")
    assert score_sources(detector, [str(tmp_path / "gate.mp4")], tmp_path).problems == []
    assert (tmp_path / "gate.mp4").read_bytes() == gate.read_bytes()


@pytest.mark.parametrize("taken", ["scores.csv/x", "events.json/x", "gate.mp4/x", "events"])
def test_a_place_that_is_taken_is_found_before_the_work(
    detector: Detector, gate: Path, tmp_path: Path, taken: str
) -> None:
    place = tmp_path / "out" / taken
    place.parent.mkdir(parents=True)
    place.write_text("")

    def on_frame() -> None:
        raise AssertionError("scored before the outputs were looked at")

    with pytest.raises(ConfigError, match="cannot write"):
        score_sources(detector, [str(gate)], tmp_path / "out", video=True, on_frame=on_frame)
    assert place.exists()


def test_a_second_run_replaces_the_first(detector: Detector, gate: Path, tmp_path: Path) -> None:
    first = score_sources(detector, [str(gate)], tmp_path)
    kept = {path.name: path.read_bytes() for path in (tmp_path / "scores.csv", tmp_path / "events.json")}
    second = score_sources(detector, [str(gate)], tmp_path)
    assert first.files == second.files
    assert kept == {name: (tmp_path / name).read_bytes() for name in kept}


def test_a_mistyped_name_leaves_the_results_before_and_a_run_removes_its_old_pictures(
    nano_bundle: Path, gate: Path, tmp_path: Path
) -> None:
    out, other = tmp_path / "out", save_video(tmp_path / "other.mp4", bright_images([False] * 12))
    arguments = ("score", nano_bundle, "--out", out, "--false-alarms", "1e7/min")
    assert comemory(*arguments, gate).returncode == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert list((out / "events").glob("gate-*.jpg"))
    mistyped = comemory(*arguments, gate.with_name("gaet.mp4"))
    assert (mistyped.returncode, mistyped.stdout) == (1, "")
    assert "gaet.mp4" in mistyped.stderr
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    own = out / "events" / "of-the-user.jpg"
    own.write_bytes(b"")
    assert comemory(*arguments, other).returncode == 0
    named = {out / event["picture"] for event in json.loads((out / "events.json").read_text())["events"]}
    assert set((out / "events").iterdir()) == named | {own}


def test_pictures_that_are_scored_themselves_are_not_removed(nano_bundle: Path, gate: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("score", nano_bundle, "--out", out, "--false-alarms", "1e7/min")
    assert comemory(*arguments, gate).returncode == 0
    pictures = {path: path.read_bytes() for path in (out / "events").iterdir()}
    assert pictures
    comemory(*arguments, out / "events")
    assert {path: path.read_bytes() for path in pictures} == pictures


def test_what_breaks_off_leaves_rows_events_and_the_reason(
    fixed_scores: Callable[..., FixedScores], gate: Path, tmp_path: Path
) -> None:
    detector = fixed_scores([5.0] * 60)
    n_read = 0

    def on_frame() -> None:
        nonlocal n_read
        n_read += 1
        if n_read == 30:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score_sources(
            detector, [str(gate)], tmp_path, false_alarms=budget(detector, 2.0), video=True, on_frame=on_frame
        )
    rows, events = rows_of(tmp_path), events_of(tmp_path)
    assert len(rows) == 30
    assert [(event["start_frame"], event["end_frame"]) for event in events] == [(4, 29)]
    check(rows, events)
    (problem,) = json.loads((tmp_path / "events.json").read_text(encoding="utf-8"))["problems"]
    assert problem.startswith("interrupted after 30 frames")
    assert not list(tmp_path.glob("*.mp4"))
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_process_that_is_stopped_leaves_whole_rows(nano_bundle: Path, tmp_path: Path, sent: signal.Signals) -> None:
    source = save_video(tmp_path / "long.mp4", bright_images([False] * 1500))
    out = tmp_path / "out"
    command = [
        sys.executable,
        "-m",
        "comemory",
        "score",
        nano_bundle,
        source,
        "--out",
        out,
        "--threads",
        "1",
        "--video",
    ]
    part = out / "scores.csv.part"
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not (part.exists() and part.read_bytes().count(b"\n") > 30) and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(sent)
        _, said = process.communicate(timeout=60)
    table = part if sent == signal.SIGKILL else out / "scores.csv"
    text = table.read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert text.endswith("\n")
    assert [int(row["frame"]) for row in rows] == list(range(len(rows)))
    assert 30 <= len(rows) < 1500
    assert all(len(row) == len(COLUMNS) and None not in row.values() for row in rows)
    if sent != signal.SIGKILL:
        assert process.returncode == 130
        assert {path.name for path in out.iterdir()} <= {"events", "events.json", "scores.csv"}
        assert said.strip() == "error: interrupted"
        assert "interrupted after" in (out / "events.json").read_text(encoding="utf-8")
    else:
        assert not (out / "scores.csv").exists()


def test_no_finite_score_is_a_problem_and_the_next_source_is_scored(
    nano_bundle: Path, gate: Path, tmp_path: Path
) -> None:
    detector = Detector.open(unfinite(nano_bundle, tmp_path, "frames", most=0.6), threads=1, skip_static=False)
    dark = save_video(tmp_path / "dark.mp4", [image // 40 for image in clip(0)[0]])
    result = score_sources(detector, [str(dark), str(gate)], tmp_path / "out")
    assert "the network gives no finite score for frame 4" in result.problems[-1]
    assert all("gate" not in Path(problem.split(":")[0]).name for problem in result.problems)
    values = [row["score"] for row in rows_of(tmp_path / "out") if row["score"]]
    assert values
    assert all(math.isfinite(float(value)) for value in values)


def test_a_result_starts_empty() -> None:
    assert BatchResult() == BatchResult(0, [], [], [], [])


def test_without_an_event_the_distance_to_one_is_printed(nano_bundle: Path, gate: Path, tmp_path: Path) -> None:
    done = comemory("score", nano_bundle, gate, "--false-alarms", "1e-9/h", "--threads", 1, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    stored = json.loads((tmp_path / "out" / "events.json").read_text(encoding="utf-8"))
    highest = max(float(row["score"]) for row in rows_of(tmp_path / "out") if row["score"])
    assert stored["highest_score"] == pytest.approx(highest, abs=1e-6)
    assert (
        f"the highest score is {highest:.2f}; an event at 1e-9/h needs 2 frames in a row at {stored['threshold']:.2f} or higher"
        in done.stdout.replace("\n", " ")
    )
