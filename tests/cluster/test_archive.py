from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from archives import BUNDLE, SIZE, contents, make_archive, rows

from comemory.batch import score_sources
from comemory.bundle import open_bundle
from comemory.cli import main
from comemory.cluster.archive import parse_cluster, score_archive
from comemory.cluster.archive_layout import RecordingPath
from comemory.cluster.archive_manifest import Manifest, read_manifest
from comemory.cluster.archive_results import ScoreFile
from comemory.cluster.archive_scorer import ArchiveScorer
from comemory.cluster.archive_task import ArchiveSettings, ArchiveTask, FileSegment, result_name
from comemory.cluster.paths import InputFile, OutputFolder
from comemory.detector import Detector
from comemory.errors import ConfigError, SourceError, TemporaryError
from comemory.types import JSON
from comemory.video.writer import VideoWriter

LOCAL = parse_cluster("local:2")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    make_archive(folder, 6)
    return folder


@pytest.fixture(scope="module")
def scored(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "out"
    result = score_archive([str(archive)], LOCAL, bundle=str(BUNDLE), out=str(out))
    assert (result.n_done, result.n_skipped, result.failures, result.problems) == (6, 0, [], [])
    return out


class TestScores:
    def test_they_are_those_of_one_process_to_the_last_bit(self, archive: Path, scored: Path) -> None:
        detector = Detector.open(BUNDLE, threads=1)
        values, frames = rows(scored, "score"), rows(scored)
        videos = sorted(archive.rglob("*.mp4"))
        assert len(videos) == len(values) == 6
        for video in videos:
            expected = {score.index: score.value for score in detector.run(video)}
            assert frames[video.name] == list(range(len(frames[video.name])))
            assert values[video.name] == [expected.get(frame) for frame in frames[video.name]]

    def test_events_are_those_of_score(self, archive: Path, scored: Path, tmp_path: Path) -> None:
        videos = sorted(archive.rglob("*.mp4"))
        score_sources(Detector.open(BUNDLE, threads=1), [str(video) for video in videos], tmp_path)
        expected = json.loads((tmp_path / "events.json").read_text(encoding="utf-8"))["events"]
        assert expected, "the scene has events"
        found = [event for path in (scored / "events").rglob("*.parquet") for event in pq.read_table(path).to_pylist()]
        keys = ("start_frame", "end_frame", "peak_frame", "start_s", "end_s", "peak_s", "peak_score", "box")
        as_rows = [[*(one[key] for key in keys)] for one in expected]
        assert sorted([*(one[key] for key in keys)] for one in found) == sorted(as_rows)

    def test_camera_and_time_come_from_the_path(self, scored: Path) -> None:
        assert {name: set(cameras) for name, cameras in rows(scored, "camera").items()}["2026-03-02_10-00-00.mp4"] == {
            "yard"
        }
        first = rows(scored, "started_at")["2026-03-01_10-00-00.mp4"][0]
        assert first.isoformat() == "2026-03-01T10:00:00"

    def test_a_second_run_in_another_folder_gives_the_same_bytes(
        self, archive: Path, scored: Path, tmp_path: Path
    ) -> None:
        score_archive([str(archive)], parse_cluster("local:1"), bundle=str(BUNDLE), out=str(tmp_path))
        assert contents(tmp_path) == contents(scored)


class TestRestart:
    def test_what_is_done_is_skipped(self, archive: Path, scored: Path) -> None:
        before = contents(scored)
        result = score_archive([str(archive)], LOCAL, bundle=str(BUNDLE), out=str(scored))
        assert (result.n_done, result.n_skipped) == (0, 6)
        assert contents(scored) == before

    def test_without_the_manifest_the_results_tell_what_is_done(self, archive: Path, tmp_path: Path) -> None:
        videos = [str(video) for video in sorted(archive.rglob("*.mp4"))[:2]]
        score_archive(videos, LOCAL, bundle=str(BUNDLE), out=str(tmp_path))
        [file] = (tmp_path / "manifest").iterdir()
        manifest = file.read_bytes()
        file.unlink()
        result = score_archive(videos, LOCAL, bundle=str(BUNDLE), out=str(tmp_path))
        assert result.n_skipped == 2
        assert file.read_bytes() == manifest

    def test_a_video_that_changed_is_scored_again(self, tmp_path: Path) -> None:
        make_archive(tmp_path / "in", 1)
        [video] = (tmp_path / "in").rglob("*.mp4")
        out = tmp_path / "out"
        score_archive([str(video)], LOCAL, bundle=str(BUNDLE), out=str(out))
        video.unlink()
        make_archive(tmp_path / "in", 1, n_frames=20)
        result = score_archive([str(video)], LOCAL, bundle=str(BUNDLE), out=str(out))
        assert result.n_done == 1
        assert len(rows(out)[video.name]) == 20

    def test_another_budget_is_another_result(self, archive: Path, tmp_path: Path) -> None:
        video = str(min(archive.rglob("*.mp4")))
        score_archive([video], LOCAL, bundle=str(BUNDLE), out=str(tmp_path))
        result = score_archive([video], LOCAL, bundle=str(BUNDLE), out=str(tmp_path), false_alarms="1/min")
        assert result.n_done == 1


class TestShares:
    def test_each_video_is_in_one_share_and_all_are_in_the_manifests(
        self, archive: Path, scored: Path, tmp_path: Path
    ) -> None:
        done = [
            score_archive([str(archive)], parse_cluster(f"index:{k}/3"), bundle=str(BUNDLE), out=str(tmp_path)).n_done
            for k in range(3)
        ]
        assert sum(done) == 6
        found, expected = contents(tmp_path), contents(scored)
        assert {name: text for name, text in found.items() if name.startswith(("scores", "events"))} == {
            name: text for name, text in expected.items() if name.startswith(("scores", "events"))
        }
        lines = b"".join(text for name, text in found.items() if name.startswith("manifest")).splitlines()
        assert sorted(lines) == sorted(
            b"".join(text for name, text in expected.items() if name.startswith("manifest")).splitlines()
        )

    @pytest.mark.parametrize("text", ["index:3/3", "local:0", "local", "ray://host", "kubernetes", "index:0/0"])
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(ConfigError):
            parse_cluster(text)


class TestManifest:
    """Several runs write one folder. No worker is started: the files of scores are made here."""

    def test_the_file_of_scores_tells_which_record_is_current(self, tmp_path: Path) -> None:
        out = OutputFolder(str(tmp_path))
        names = ("all", "0000-of-0002", "0000-of-0008", "0000-of-0016", "all")
        for number, part in enumerate(names):
            task = task_of("a", f"key {number}")
            manifest = Manifest(out, part)
            assert manifest.find_done([task]) == set()
            if number:
                assert read_manifest(out) == [record_of("a", f"key {number - 1}")]
            manifest.add(store(tmp_path, task))
            manifest.finish()
            assert read_manifest(out) == [record_of("a", f"key {number}")]
            assert Manifest(out, "all").find_done([task]) == {task.video.path}
        assert len(list((tmp_path / "manifest").iterdir())) == 1, "a run without shares merges all files"

    def test_a_run_that_was_killed_leaves_no_record_of_what_it_replaced(self, tmp_path: Path) -> None:
        out, old, new = OutputFolder(str(tmp_path)), task_of("a", "old"), task_of("a", "new")
        first = Manifest(out, "all")
        first.find_done([old])
        first.add(store(tmp_path, old))
        first.finish()
        Manifest(out, "all").find_done([new])
        store(tmp_path, new)  # and no `add`
        assert read_manifest(out) == [record_of("a", "new")]

    def test_runs_at_once_keep_the_records_of_each_other(self, tmp_path: Path) -> None:
        out, tasks = OutputFolder(str(tmp_path)), [task_of(name, "key") for name in "abcd"]
        runs = [Manifest(out, part) for part in ("all", "all", "0001-of-0002", "0001-of-0002")]
        for run, task in zip(runs, tasks, strict=True):
            run.find_done([task])
        for run, task in zip(runs, tasks, strict=True):
            run.add(store(tmp_path, task))
            run.flush()
        for run in runs:
            run.finish()
        assert read_manifest(out) == [record_of(name, "key") for name in "abcd"]

    def test_a_second_run_is_refused(self, tmp_path: Path) -> None:
        out = OutputFolder(str(tmp_path))
        with out.locked("0000-of-0002"), out.locked("0001-of-0002"):
            for part in ("0000-of-0002", None):
                with pytest.raises(TemporaryError, match="another run writes into"), out.locked(part):
                    pass
        with out.locked(None), pytest.raises(TemporaryError), out.locked("0000-of-0002"):
            pass


def task_of(name: str, key: str) -> ArchiveTask:
    return ArchiveTask("file", InputFile(f"/in/{name}.mp4", "1", 1), key)


def record_of(name: str, key: str) -> JSON:
    return {"source": f"/in/{name}.mp4", "key": key, "result": result_name(f"/in/{name}.mp4"), "events": 0}


def store(out: Path, task: ArchiveTask) -> JSON:
    """Write a file of scores, as a worker does."""
    record = record_of(Path(task.video.path).stem, task.key)
    path = out / "scores" / f"{record['result']}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    with ScoreFile(path, task.video.path, RecordingPath("gate", None)) as table:
        table.finish(record)
    return record


class TestBadInput:
    def test_a_name_that_is_not_utf8_is_one_failure(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4")).touch()
        (tmp_path / "two\nlines.mp4").touch()
        with pytest.raises(SystemExit, match=r"^1$"):
            main(["score", str(BUNDLE), str(tmp_path), "--cluster", "local:1", "--out", str(tmp_path / "out")])
        lines = capfd.readouterr().err.splitlines()
        problems = [line for line in lines if line.startswith("problem:")]
        assert len(problems) == 2
        assert "not UTF-8" in problems[0]
        assert "two\\nlines.mp4" in problems[1]
        assert not any("Traceback" in line for line in lines)

    def test_whatever_a_library_raises_is_a_failure_of_the_video(self, archive: Path, tmp_path: Path) -> None:
        video = str(min(archive.rglob("*.mp4")))
        scorer = ArchiveScorer(settings_of(tmp_path))
        odd = ArchiveTask("file", InputFile(video, "1", None), object())  # type: ignore[arg-type]  # json raises a TypeError
        outcome = scorer.run(odd)
        assert outcome.status == "failed"
        assert outcome.reason.startswith("TypeError: ")

    def test_what_is_said_of_a_video_is_in_its_record(self, tmp_path: Path) -> None:
        scorer, slow = ArchiveScorer(settings_of(tmp_path)), tmp_path / "slow.mp4"
        with VideoWriter(slow, SIZE, 5) as writer:
            for number in range(12):
                writer.write(np.full((*SIZE, 3), 20 * number, np.uint8), number / 5)
        whole = ArchiveTask("file", InputFile(str(slow), "1", None), "key")
        done = scorer.run(whole)
        [note] = done.record["notes"]
        assert note.startswith(f"{slow}: has 5 frames per second, the model was trained at 10")
        for number, (first, end) in enumerate([(0, 6), (6, None)]):
            part = replace(whole, kind="segment", segment=FileSegment(number, 2, 0, 0, first, end, 0.0))
            assert scorer.run(part).status == "done"
        assert scorer.run(replace(whole, kind="join", n_segments=2)).record == done.record

    def test_a_bad_video_is_reported_and_the_others_are_scored(
        self, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        good, cut = sorted(archive.rglob("*.mp4"))[:2]
        folder = tmp_path / "in"
        folder.mkdir()
        (folder / "good.mp4").write_bytes(good.read_bytes())
        (folder / "noise.mp4").write_bytes(os.urandom(5000))
        (folder / "empty.mp4").touch()
        out = tmp_path / "out"
        command = ["score", str(BUNDLE), str(folder), "--cluster", "local:2", "--out", str(out)]
        with pytest.raises(SystemExit, match=r"^1$"):
            main(command)
        printed = capsys.readouterr()
        assert "scored 1 of 3 videos" in printed.out
        assert "noise.mp4" in printed.err
        assert "the file is empty" in printed.err
        assert "Traceback" not in printed.err
        failures = [json.loads(line) for line in (out / "failures" / "all.jsonl").read_text().splitlines()]
        assert [Path(one["source"]).name for one in failures] == ["empty.mp4", "noise.mp4"]
        (folder / "noise.mp4").unlink()
        (folder / "empty.mp4").write_bytes(cut.read_bytes())
        with pytest.raises(SystemExit, match=r"^0$"):
            main(command)
        assert not (out / "failures").exists()

    @pytest.mark.parametrize(
        ("options", "code", "text"),
        [
            (["--cluster", "local:x"], 2, "expected local:N"),
            (["--cluster", "local:1", "--video"], 2, "--video"),
            (["--cluster", "local:1", "--threads", "2"], 2, "--threads"),
            (["--cluster", "local:1", "--layout", "{camera}/{camera}.mp4"], 2, "twice"),
            (["--cluster", "local:1", "--false-alarms", "many"], 2, "many"),
            (["--cluster", "local:1", "--layout", "{camera}/%Q.mp4"], 2, "'%Q'"),
            (["--cluster", "local:1", "--layout", "{place}/%Y.mp4"], 2, "'{place}'"),
            (["--cluster", "local:1", "--layout", "{camera}/%Y.avi"], 2, "the layout fits 0 of 6 paths"),
            (["--cluster", "index:0/0"], 2, "give 1 share or more"),
            (["--cluster", "ray://127.0.0.1:1"], 75, "no Ray cluster"),
            (["--layout", "{camera}/%Y.mp4", "--split", "5"], 2, "--layout, --split needs --cluster"),
            (["--time-limit", "5"], 2, "--time-limit needs --cluster"),
            (["s3://bucket/x.mp4"], 2, "source s3://bucket/x.mp4 needs --cluster"),
            (["--out", "s3://bucket/scores"], 2, "--out s3://bucket/scores needs --cluster"),
        ],
    )
    def test_options_that_cannot_be_used(
        self,
        archive: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        options: list[str],
        code: int,
        text: str,
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["score", str(BUNDLE), str(archive), "--out", str(tmp_path), *options])
        assert ended.value.code == code
        assert text in capsys.readouterr().err

    def test_nothing_to_score(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="names no video"):
            score_archive([str(tmp_path)], LOCAL, bundle=str(BUNDLE), out=str(tmp_path / "out"))
        with pytest.raises(SourceError, match="no such file"):
            score_archive([str(tmp_path / "x.mp4")], LOCAL, bundle=str(BUNDLE), out=str(tmp_path / "out"))


class TestWithoutRay:
    def test_ray_is_imported_for_ray_alone(self, archive: Path, tmp_path: Path) -> None:
        code = """
            import sys

            class Wall:
                def find_spec(self, name, path=None, target=None):
                    if name.partition(".")[0] == "ray":
                        raise ImportError("ray must not be imported here")

            sys.meta_path.insert(0, Wall())
            from comemory.cli import main
            main(sys.argv[1:])
        """
        command = [sys.executable, "-c", textwrap.dedent(code), "score", str(BUNDLE), str(min(archive.rglob("*.mp4")))]
        command += ["--out", str(tmp_path)]
        refused = subprocess.run(
            [*command, "--cluster", "auto"], capture_output=True, text=True, timeout=120, check=False
        )
        assert refused.returncode == 1
        assert "needs ray" in refused.stderr
        done = subprocess.run(
            [*command, "--cluster", "local:1"], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr


def settings_of(out: Path) -> ArchiveSettings:
    bundle = open_bundle(BUNDLE)
    return ArchiveSettings(
        bundle=str(BUNDLE),
        digest=bundle.digest,
        out=str(out),
        runtime="openvino",
        precision="fp32",
        update="off",
        gate=True,
        flow_weights=None,
        false_alarms="1/min",
        layout=None,
        split_s=0.0,
        warm_up_s=0.0,
        time_limit_s=60.0,
    )


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def command(archive: Path, tmp_path: Path) -> list[str]:
    code = "from comemory.cli import main; import sys; main(sys.argv[1:])"
    return [
        *(sys.executable, "-c", code, "score", str(BUNDLE), str(archive)),
        *("--cluster", "local:2", "--out", str(tmp_path / "out")),
    ]


def n_results(out: Path) -> int:
    return sum(1 for _ in (out / "scores").rglob("*.parquet"))


class TestKills:
    def test_of_the_driver_and_of_workers(
        self, command: list[str], archive: Path, scored: Path, tmp_path: Path
    ) -> None:
        """After each kill the next run goes on; in the end all frames are there once, with the bytes of an uninterrupted run."""
        out = tmp_path / "out"
        for n_wanted in (1, 3):
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
                deadline = time.monotonic() + 120
                while n_results(out) < n_wanted and driver.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.02)
                driver.kill()
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as driver:
            deadline = time.monotonic() + 120
            while not (workers := children(driver.pid)) and driver.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
            for worker in workers[:1]:
                os.kill(worker, signal.SIGKILL)
            assert driver.wait(120) == 0
        expected = contents(scored)
        assert contents(out) == expected, "nothing is left of what was being written"


class TestPoison:
    def test_videos_that_hang_or_kill_their_worker_end_in_the_report(self, hanging: str, tmp_path: Path) -> None:
        """A store that stops sending, a decoder that hangs in a read, and a video over which each worker is killed."""
        stuck, poison = tmp_path / "stuck.mp4", tmp_path / "poison.mp4"
        for path in (stuck, poison):
            path.write_bytes(b"a video when it is listed")
        with PipeOf(stuck) as in_stuck, PipeOf(poison) as in_poison:

            def block(*_: object) -> None:
                in_stuck.replace_file()
                in_poison.replace_file()
                in_poison.kill_readers()

            result = score_archive(
                [hanging, str(stuck), str(poison)],
                LOCAL,
                bundle=str(BUNDLE),
                out=str(tmp_path / "out"),
                time_limit_s=3,
                on_start=block,
            )
        assert (result.n_done, result.n_videos, len(result.failures)) == (0, 3, 3)
        reasons = {failure["source"]: failure["reason"] for failure in result.failures}
        assert "time limit" in reasons[hanging]
        assert "time limit" in reasons[str(stuck)]
        assert reasons[str(poison)] == "its worker was killed by signal 9, 3 times"


class PipeOf:
    """Puts a pipe in the place of a file: who opens it can, and who reads from it waits for ever. A context manager."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._open: int | None = None

    def __enter__(self) -> PipeOf:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._open is not None:
            os.close(self._open)

    def replace_file(self) -> None:
        self._path.unlink()
        os.mkfifo(self._path)
        self._open = os.open(self._path, os.O_RDWR)

    def kill_readers(self) -> None:
        """Kill each process that this one starts and that opens the pipe, until the end."""
        self._thread = threading.Thread(target=self._kill)
        self._thread.start()

    def _kill(self) -> None:
        while not self._ended.wait(0.05):
            for pid in children(os.getpid()):
                with suppress(OSError):
                    files = [path.readlink() for path in Path(f"/proc/{pid}/fd").iterdir()]
                    if self._path in files:
                        os.kill(pid, signal.SIGKILL)


@pytest.fixture
def hanging() -> Iterator[str]:
    """A video at a URL whose server answers a question for its size, and then sends nothing."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.flush()
            ended.wait(60)

        def log_message(self, *arguments: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/gate/2026-03-09.mp4"
        ended.set()
        server.shutdown()
        thread.join()
