"""Of long footage, minutes spread over all of it are used."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from footage import save_video
from moving_disc import disc_images
from training.test_cache import CLIPS, FLOW, Made, keys

from comemory.bundle import open_bundle
from comemory.training import footage_sampling, used_frames
from comemory.training.cache import PreparedVideo, prepare_videos
from comemory.training.config import read_training_config
from comemory.training.footage_sampling import choose_sampling
from comemory.training.recalibrate import recalibrate
from comemory.training.train import train
from comemory.types import LabelledSource
from comemory.video.packet_index import PacketIndex


def videos_of(*counts: int | None) -> list[LabelledSource]:
    return [LabelledSource(f"{number:04d}", "nowhere", count) for number, count in enumerate(counts)]


def used_of(videos: list[LabelledSource], rate_hz: float, most: int) -> list[list[int]]:
    """The used frames of each video."""
    chosen = choose_sampling(videos, rate_hz, most)
    return [
        [t for t in range(video.n_frames or 0) if video.name in chosen and chosen[video.name].uses(t)]
        for video in videos
    ]


@given(
    counts=st.lists(st.integers(1, 3000), min_size=1, max_size=40),
    rate_hz=st.sampled_from([0.5, 2.0, 5.0]),
    most=st.integers(100, 20_000),
)
def test_whole_minutes_spread_evenly_over_all_videos(counts: list[int], rate_hz: float, most: int) -> None:
    used = used_of(videos_of(*counts), rate_hz, most)
    if sum(counts) <= most:
        assert [len(frames) for frames in used] == counts
        return
    length = round(60 * rate_hz)
    starts = [(number, start) for number, count in enumerate(counts) for start in range(0, count, length)]
    selected = [start in used[number] for number, start in starts]
    places = [place for place, is_used in enumerate(selected) if is_used]
    assert len({b - a for a, b in pairwise(places)}) <= 1, "one segment in always the same number of them"
    for (number, start), is_used in zip(starts, selected, strict=True):
        segment = range(start, min(start + length, counts[number]))
        assert all((t in used[number]) == is_used for t in segment), "a segment is used as a whole or not at all"


def test_a_day_is_brought_to_the_number_that_is_asked_for() -> None:
    for videos in (videos_of(864_000), videos_of(*[36_000] * 24), videos_of(*[600] * 1440), videos_of(*[200] * 4320)):
        n_used = sum(map(len, used_of(videos, 10.0, 100_000)))
        assert 85_000 < n_used <= 101_000


def test_footage_of_unknown_length_is_used_whole() -> None:
    (chosen,) = choose_sampling(videos_of(None), 10.0, 1000).values()
    assert all(chosen.uses(t) for t in range(10_000))


def test_only_the_used_frames_are_prepared_and_no_clip_spans_what_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footage_sampling, "SEGMENT_S", 1.0)
    sources = [Made("gate", 35), Made("yard", 8), Made("door", 15)]
    videos = [LabelledSource(source.name, source, n) for source, n in zip(sources, (35, 8, 15), strict=True)]
    chosen = choose_sampling(videos, 10.0, 20)
    found, problems = prepare_videos(videos, tmp_path, CLIPS, FLOW, dataset="made:", rate_hz=10.0, sampling=chosen)
    assert problems == []
    assert [(video.name, video.indices.tolist()) for video in found] == [
        ("gate", [*range(10), *range(30, 35)]),
        ("door", list(range(10, 15))),
    ]
    assert [found[0].indices[t] for t in found[0].clip_ends(4)] == [4, 5, 6, 7, 8, 9, 34]
    assert sources[1].n_read == 0, "a video of which nothing is used is not decoded"
    whole, _ = prepare_videos(videos[:1], tmp_path, CLIPS, FLOW, dataset="made:", rate_hz=10.0)
    assert len(whole[0].indices) == 35
    assert len(keys(tmp_path)) == 3, "the part and the whole have names of their own"


def test_a_training_on_a_part_says_so_and_is_calibrated_again_on_the_same_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footage_sampling, "SEGMENT_S", 3.0)
    for name in ("a", "b"):
        save_video(tmp_path / "data" / "training" / f"{name}.mp4", disc_images(150, 64, 96))
    settings = ["clips.height=32", "clips.width=48", "network.base_width=4", "train.epochs=1", "train.max_frames=160"]
    config = read_training_config("nano", settings=settings)
    data = f"folder:{tmp_path / 'data'}"
    result = train(data, config, tmp_path / "model", cache=tmp_path / "cache")
    assert "one minute in 2 of the footage was used, spread over all of it: train.max_frames=160" in result.notes
    bundle = open_bundle(result.bundle)
    assert sum(bundle.provenance["trained_on"].values()) + sum(bundle.provenance["held_out"].values()) == 150
    again = recalibrate(result.bundle, data, config.scoring, tmp_path / "again", cache=tmp_path / "cache")
    assert open_bundle(again.bundle).calibration == bundle.calibration


@pytest.mark.parametrize(("rate_hz", "used_hz"), [(10, 10.0), (25, 10.0), (5, 10.0)])
@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_segments_are_read_from_key_frames_with_the_numbers_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, rate_hz: int, used_hz: float
) -> None:
    """Pictures, indices and samples are those of reading everything; an AVI is read whole."""
    path = save_video(tmp_path / f"gate.{ending}", disc_images(240, 64, 96), rate_hz, g="12", bf="2")
    video = LabelledSource("gate", str(path), 240)
    monkeypatch.setattr(footage_sampling, "SEGMENT_S", 2.0)
    chosen = choose_sampling([video], used_hz, 70)
    reported: list[str] = []

    def prepared(folder: str) -> PreparedVideo:
        reported.clear()
        (found,), problems = prepare_videos(
            [video],
            tmp_path / folder,
            CLIPS,
            FLOW,
            dataset="made:",
            rate_hz=used_hz,
            sampling=chosen,
            on_frame=reported.append,
        )
        assert problems == []
        assert len(reported) == 240
        return found

    starts = []
    start_before = PacketIndex.start_before
    monkeypatch.setattr(
        PacketIndex, "start_before", lambda self, number: starts.append(start_before(self, number)) or starts[-1]
    )
    part = prepared("part")
    assert any(start is not None for start in starts) == (ending != "avi")
    monkeypatch.setattr(used_frames, "read_packet_index", lambda path: None)
    whole = prepared("whole")
    assert 0 < len(part.indices) < 150
    for name in ("indices", "samples", "images", "flows", "input_maps"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name), err_msg=name)
    assert part.notes == whole.notes
