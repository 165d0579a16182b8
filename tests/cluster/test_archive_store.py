"""Archives in an object store: a real S3 server on loopback, and one in front of it that fails one request in ten."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import BUNDLE, contents, make_archive
from unreliable_store import Unreliable

from comemory import object_store
from comemory.bundle import open_bundle
from comemory.cli import main
from comemory.cluster.archive import parse_cluster, score_archive
from comemory.cluster.archive_manifest import Manifest, read_manifest
from comemory.cluster.archive_scorer import ArchiveScorer
from comemory.cluster.archive_task import ArchiveSettings, ArchiveTask
from comemory.cluster.paths import InputFile, OutputFolder, fetch_bundle, list_input_videos
from comemory.errors import ConfigError, SourceError, TemporaryError

moto = pytest.importorskip("moto.server")
LOCAL = parse_cluster("local:2")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The URL of a real S3 server."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def unreliable(s3: str) -> Iterator[Unreliable]:
    with Unreliable(s3) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, s3: str) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": s3,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    forget_connections()


def forget_connections() -> None:
    """Let the next use of the store read the environment again."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="module")
def folder_of_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    make_archive(folder, 4)
    return folder


@pytest.fixture(scope="module")
def bucket(s3: str, folder_of_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A bucket with a bundle and four videos; and the results of these from a folder on this machine."""
    import os

    import s3fs

    os.environ.setdefault("AWS_ACCESS_KEY_ID", "key")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "secret")
    folder = folder_of_videos
    fs = s3fs.S3FileSystem(endpoint_url=s3)
    fs.mkdir("bucket")
    fs.put(str(folder), "bucket/2026", recursive=True)
    fs.put(str(BUNDLE), "bucket/models/nano", recursive=True)
    out = tmp_path_factory.mktemp("results")
    score_archive([str(folder)], LOCAL, bundle=str(BUNDLE), out=str(out))
    return contents(out)


def scores_of(url: str) -> list[Any]:
    """The scores of all videos in a folder of the store."""
    import pyarrow.parquet as pq

    folder, found = OutputFolder(url), []
    for name in folder.names("scores"):
        with folder.reading(name) as path:
            table = pq.read_table(path)
            found.append(
                (Path(table["source"][0].as_py()).name, table["frame"].to_pylist(), table["score"].to_pylist())
            )
    return sorted(found)


def local_scores(files: dict[str, bytes]) -> list[Any]:
    import io

    import pyarrow.parquet as pq

    tables = [pq.read_table(io.BytesIO(text)) for name, text in files.items() if name.startswith("scores/")]
    return sorted(
        (Path(one["source"][0].as_py()).name, one["frame"].to_pylist(), one["score"].to_pylist()) for one in tables
    )


class TestObjectStore:
    def test_bundle_videos_and_results_lie_in_it(
        self, bucket: dict[str, bytes], capsys: pytest.CaptureFixture[str]
    ) -> None:
        where = ["--cluster", "local:2", "--out", "s3://bucket/scores"]
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["score", "s3://bucket/models/nano", "s3://bucket/2026/**/*.mp4", *where])
        assert "scored 4 of 4 videos" in capsys.readouterr().out
        assert scores_of("s3://bucket/scores") == local_scores(bucket)
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["score", "s3://bucket/models/nano", "s3://bucket/2026", *where])
        assert "4 were done before" in capsys.readouterr().out
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["query", "s3://bucket/scores", "--top", "1", "--in", "2026-03", "--json"])
        [event] = json.loads(capsys.readouterr().out)
        assert event["source"].startswith("s3://bucket/2026/")

    def test_one_request_in_ten_fails_and_nothing_is_lost(
        self, s3: str, bucket: dict[str, bytes], unreliable: Unreliable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{unreliable.server_port}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # the store's own retries off: ours are tested
        forget_connections()
        result = score_archive(
            ["s3://bucket/2026"], LOCAL, bundle="s3://bucket/models/nano", out="s3://bucket/unreliable"
        )
        assert (result.n_done, result.failures) == (4, [])
        assert unreliable.n_failed > 0
        monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
        forget_connections()
        assert scores_of("s3://bucket/unreliable") == local_scores(bucket)

    def test_what_is_not_there(self, bucket: dict[str, bytes]) -> None:
        with pytest.raises(SourceError, match=r"names no video|not found"):
            list_input_videos(["s3://bucket/2027"])
        with pytest.raises(SourceError, match="not found"):
            list_input_videos(["s3://other/2026"])
        with pytest.raises(SourceError, match=r"manifest\.json: not found"):
            fetch_bundle("s3://bucket/models/none")
        with pytest.raises(ConfigError, match="choose a writable folder"):
            OutputFolder("s3://other/scores").require_writable()

    def test_a_store_that_never_answers_is_a_failure_that_may_pass(
        self, folder_of_videos: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(object_store, "FIRST_PAUSE_S", 0.01)
        monkeypatch.setattr(object_store, "ATTEMPTS", 2)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        forget_connections()
        with pytest.raises(TemporaryError, match="cannot list s3://bucket/2026") as caught:
            list_input_videos(["s3://bucket/2026"])
        assert "***" not in str(caught.value), "the query of the request is left out, not masked"
        with pytest.raises(TemporaryError, match="cannot write s3://bucket/out"):
            OutputFolder("s3://bucket/out").require_writable()
        with pytest.raises(SystemExit, match=r"^75$"):
            main(["score", str(BUNDLE), "/in", "--cluster", "local:1", "--out", "s3://bucket/out"])
        video = min(folder_of_videos.rglob("*.mp4"))
        scorer = ArchiveScorer(settings_of("s3://bucket/out"))
        for path in (str(video), "s3://bucket/2026/x.mp4"):  # one that cannot be stored, one that cannot be read
            outcome = scorer.run(ArchiveTask("file", InputFile(path, "1", None), "key"))
            assert (outcome.status, outcome.is_temporary) == ("failed", True)

    def test_an_actor_that_cannot_reach_the_store_ends_the_run_with_the_code_of_what_may_pass(
        self,
        ray_address: str,
        bucket: dict[str, bytes],
        folder_of_videos: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        away = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        away |= {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_MAX_ATTEMPTS": "1"}
        monkeypatch.setenv("RAY_ADDRESS", ray_address)
        monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps({"runtime_env": {"env_vars": away}}))
        where = ["--cluster", "auto", "--out", str(tmp_path / "out")]
        with pytest.raises(SystemExit, match=r"^75$"):
            main(["score", "s3://bucket/models/nano", str(folder_of_videos), *where])
        assert "no worker can start: cannot read s3://bucket/models/nano/manifest.json" in capsys.readouterr().err

    def test_the_failure_of_a_video_names_its_url(self, bucket: dict[str, bytes]) -> None:
        import s3fs

        s3fs.S3FileSystem().pipe("bucket/empty/none.mp4", b"")
        outcome = ArchiveScorer(settings_of("s3://bucket/out")).run(
            ArchiveTask("file", InputFile("s3://bucket/empty/none.mp4", "1", 0), "key")
        )
        assert outcome.reason == "cannot open s3://bucket/empty/none.mp4: the file is empty"
        assert not outcome.is_temporary

    def test_runs_at_once_keep_the_records_of_each_other(self, bucket: dict[str, bytes]) -> None:
        out = OutputFolder("s3://bucket/at-once")
        runs = [Manifest(out, "all") for _ in "ab"]
        for name, run in zip("ab", runs, strict=True):
            run.add({"source": name, "key": "key", "result": name})
        for run in runs:
            run.finish()
        assert [record["source"] for record in read_manifest(out)] == ["a", "b"]
        assert len(out.names("manifest")) == 1


def settings_of(out: str) -> ArchiveSettings:
    return ArchiveSettings(
        bundle=str(BUNDLE),
        digest=open_bundle(BUNDLE).digest,
        out=out,
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
