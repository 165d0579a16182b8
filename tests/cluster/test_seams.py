from __future__ import annotations

from pathlib import Path

import pytest
from archives import BUNDLE, SIZE, contents

from comemory.bundle import open_bundle
from comemory.cluster import archive
from comemory.cluster.archive import parse_cluster, score_archive
from comemory.cluster.seams import frame_at, plan_segments, warm_up_s
from comemory.datasets import open_dataset
from comemory.video.source import open_source
from comemory.video.writer import VideoWriter

RATE_HZ, CALM = 10, 320


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """84 s: motion, a calm of 32 s, motion and calm again; with a key frame every 25 s."""
    data = f"synthetic:seed=5,frames=220,training=1,testing=1,size={SIZE[0]}x{SIZE[1]}"
    frames = [frame.image for frame in open_dataset(data).testing()[0].source]
    images = [*frames[:100], *([frames[99]] * CALM), *frames[100:], *([frames[-1]] * (CALM - 20))]
    path = tmp_path_factory.mktemp("seams") / "long.mp4"
    with VideoWriter(path, SIZE, RATE_HZ) as writer:
        for number, image in enumerate(images):
            writer.write(image, number / RATE_HZ)
    return path


@pytest.fixture(scope="module")
def in_one_piece(video: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("whole")
    result = score_archive([str(video)], parse_cluster("local:1"), bundle=str(BUNDLE), out=str(out), split_s=0)
    assert (result.n_done, result.n_split) == (1, 0)
    return contents(out)


class TestPlan:
    def test_segments_begin_at_key_frames_and_cover_the_file(self, video: Path) -> None:
        segments = plan_segments(video, split_s=40, warm_up_s=24)
        assert segments[0].first == 0
        assert len(segments) == 2
        assert segments[0].end == segments[1].first
        assert segments[1].end is None
        assert segments[1].key_frame <= segments[1].first - 24 * RATE_HZ

    def test_short_files_and_damaged_ones_are_not_split(self, video: Path, tmp_path: Path) -> None:
        assert plan_segments(video, split_s=60, warm_up_s=10) == ()
        cut = tmp_path / "cut.mp4"
        cut.write_bytes(video.read_bytes()[:-1000])
        assert plan_segments(cut, split_s=10, warm_up_s=10) == ()

    def test_a_memory_without_an_end_has_no_warm_up(self) -> None:
        assert warm_up_s(open_bundle(BUNDLE)) == 120
        assert warm_up_s(open_bundle(BUNDLE.parent / "ped2-small")) is None


class TestSplitFiles:
    def test_segments_give_the_bytes_of_one_run(
        self, video: Path, in_one_piece: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archive, "warm_up_s", lambda bundle: 24.0)
        result = score_archive(
            [str(video)], parse_cluster("local:2"), bundle=str(BUNDLE), out=str(tmp_path), split_s=40
        )
        assert (result.n_done, result.n_split, result.notes) == (1, 1, [])
        assert contents(tmp_path) == in_one_piece

    def test_segments_that_differ_are_scored_in_one_piece(
        self, video: Path, in_one_piece: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(archive, "warm_up_s", lambda bundle: 0.0)
        result = score_archive(
            [str(video)], parse_cluster("local:2"), bundle=str(BUNDLE), out=str(tmp_path), split_s=40
        )
        assert (result.n_done, result.n_split) == (1, 0)
        assert "in one piece: its segments differ at seam 1 of 1" in result.notes[0]
        assert contents(tmp_path) == in_one_piece


@pytest.mark.parametrize("number", [0, 7, 260, 510])
def test_a_frame_is_read_from_the_key_frame_before_it(video: Path, number: int) -> None:
    expected = next(frame for frame in open_source(video) if frame.index == number)
    found = frame_at(video, number)
    assert (found.index, found.time_s) == (expected.index, expected.time_s)
    assert (found.image == expected.image).all()
