from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import cv2
import pyarrow.parquet as pq
import pytest
from archives import BUNDLE, make_archive

from comemory.cli import main
from comemory.cluster.archive import parse_cluster, score_archive
from comemory.cluster.archive_layout import Layout, RecordingPath
from comemory.cluster.archive_query import parse_period, save_thumbnails
from comemory.errors import ConfigError


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("query")
    make_archive(folder / "in", 4)
    score_archive([str(folder / "in")], parse_cluster("local:1"), bundle=str(BUNDLE), out=str(folder / "out"))
    return folder / "out"


def ask(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, object]]:
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["query", *words, "--json"])
    answer: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return answer


class TestQuery:
    def test_the_highest_events_come_first(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        every = [one for path in (results / "events").rglob("*.parquet") for one in pq.read_table(path).to_pylist()]
        highest = sorted((one["peak_score"] for one in every), reverse=True)
        assert len(highest) >= 3
        assert [one["peak_score"] for one in ask(capsys, str(results), "--top", "3")] == highest[:3]

    def test_by_camera_and_time(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        per_camera = ask(capsys, str(results), "--by-camera", "--top", "1")
        assert [one["camera"] for one in per_camera] == ["gate", "yard"]
        assert {one["camera"] for one in ask(capsys, str(results), "--camera", "yard")} == {"yard"}
        [second] = {str(one["peak_at"])[:10] for one in ask(capsys, str(results), "--in", "2026-03-02")}
        assert second == "2026-03-02"
        assert ask(capsys, str(results), "--from", "2026-03-05") == []

    def test_sql(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = "SELECT camera, count(*) AS n, min(recorded_at) AS first FROM scores GROUP BY camera ORDER BY camera"
        rows = ask(capsys, str(results), "--sql", text)
        assert [row["camera"] for row in rows] == ["gate", "yard"]
        assert rows[0]["first"] == "2026-03-01T10:00:00"
        assert ask(capsys, str(results), "--sql", "SELECT sum(frames) AS n FROM videos") == [
            {"n": sum(row["n"] for row in rows)}  # type: ignore[misc]
        ]

    def test_values_that_json_does_not_have(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = (
            "SELECT INTERVAL 1 DAY AS i, 1.5::DECIMAL(4, 2) AS d, 'nan'::DOUBLE AS n, {'a': [DATE '2026-03-01']} AS s"
        )
        assert ask(capsys, str(results), "--sql", text) == [
            {"i": "1 day, 0:00:00", "d": 1.5, "n": None, "s": {"a": ["2026-03-01"]}}
        ]

    def test_thumbnails_of_files_of_one_name_have_names_of_their_own(self, results: Path, tmp_path: Path) -> None:
        video = min((results.parent / "in").rglob("*.mp4"))
        videos = [tmp_path / day / "gate" / "10-00.mp4" for day in ("2026-03-01", "2026-03-02")]
        for path in videos:
            path.parent.mkdir(parents=True)
            path.write_bytes(video.read_bytes())
        events = [
            {"source": str(path), "camera": "gate", "peak_frame": 3, "peak_score": 1.0, "threshold": 0.5, "box": None}
            for path in videos
        ]
        images, problems = save_thumbnails(events, tmp_path / "images")
        assert problems == []
        assert len(set(images)) == len(list((tmp_path / "images").iterdir())) == 2

    def test_thumbnails_are_read_from_the_videos(
        self, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        [event] = ask(capsys, str(results), "--top", "1", "--thumbnails", str(tmp_path))
        image = cv2.imread(str(event["image"]))
        assert image is not None
        assert image.shape[1] >= 144
        assert image.shape[0] / image.shape[1] == pytest.approx(96 / 144, abs=0.01), "a still has no strip below it"

    @pytest.mark.parametrize(
        ("words", "code", "text"),
        [
            (["--in", "2026-13"], 2, "is not a time"),
            (["--in", "2026", "--from", "2026"], 2, "--in sets both --from and --to"),
            (["--sql", "SELECT nothing FROM scores"], 2, "nothing"),
            (["--sql", ""], 2, "one SELECT"),
            (["--sql", "SELEC"], 2, "SELEC"),
            (["--sql", "SELECT 1; SELECT 2"], 2, "one SELECT"),
            (["--sql", "COPY scores TO 'copied.csv'"], 2, "one SELECT"),
            (["--sql", "EXPLAIN ANALYZE COPY scores TO 'copied.csv'"], 2, "one SELECT"),
            (["--sql", "SET threads = 1"], 2, "one SELECT"),
            (["--sql", "SELECT 1", "--camera", "gate"], 2, "--sql goes without"),
            (["--sql", "SELECT 1", "--top", "10"], 2, "--sql goes without"),
            (["--from", "2026-03-02", "--to", "2026-03-01"], 2, "--from 2026-03-02 is after"),
            (["--from", ""], 2, "not a time"),
            (["--top", "99999999999999999999"], 2, "--top"),
        ],
    )
    def test_bad_questions(
        self, results: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, text: str
    ) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["query", str(results), *words])
        assert ended.value.code == code
        assert text in capsys.readouterr().err

    def test_no_results(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match=r"^1$"):
            main(["query", str(tmp_path)])
        assert "no manifest" in capsys.readouterr().err


class TestPeriod:
    @pytest.mark.parametrize(
        ("text", "end"),
        [
            ("2026", datetime(2027, 1, 1)),
            ("2026-12", datetime(2027, 1, 1)),
            ("2026-02-28", datetime(2026, 3, 1)),
            ("2026-02-28T23", datetime(2026, 3, 1)),
            ("2026-02-28 23:59", datetime(2026, 3, 1)),
        ],
    )
    def test_its_end(self, text: str, end: datetime) -> None:
        assert parse_period(text)[1] == end

    @pytest.mark.parametrize("text", ["", "march", "2026-3", "2026-02-30", "9999"])
    def test_others_are_refused(self, text: str) -> None:
        with pytest.raises(ConfigError):
            parse_period(text)


class TestLayout:
    @pytest.mark.parametrize(
        ("path", "camera", "start"),
        [
            ("s3://b/2026/03/14/gate/12-05-00.mp4", "gate", datetime(2026, 3, 14)),
            ("/archive/gate 2/2026-03-14T12:05:09.mp4", "gate 2", datetime(2026, 3, 14, 12, 5, 9)),
            ("/archive/yard/20260314_120509.mkv", "yard", datetime(2026, 3, 14, 12, 5, 9)),
            ("/archive/yard/2026-13-14.mp4", "yard", None),
            ("/archive/yard/clip.mp4", "yard", None),
        ],
    )
    def test_the_guess(self, path: str, camera: str, start: datetime | None) -> None:
        assert Layout().read(path) == RecordingPath(camera, start)

    def test_a_template(self) -> None:
        layout = Layout("%Y/%m/%d/{camera}/%H-*.mp4")
        assert layout.read("s3://b/2026/03/14/gate/12-05-00.mp4") == RecordingPath("gate", datetime(2026, 3, 14, 12))
        assert layout.read("/other/gate/clip.mp4") == RecordingPath("gate", None)
        assert layout.fits("s3://b/2026/03/14/gate/12-05-00.mp4")
        assert not layout.fits("/other/gate/clip.mp4")

    def test_web_addresses_are_decoded(self) -> None:
        url = "https://host/archive/gate%20%C3%A9ast/2026-03-14.mp4?token=a/b"
        start = datetime(2026, 3, 14)
        assert Layout().read(url) == Layout("{camera}/%Y-%m-%d.mp4").read(url) == RecordingPath("gate éast", start)
        assert Layout().read("s3://b/a%20b/1.mp4").camera == "a%20b", "a key of a store is not encoded"
