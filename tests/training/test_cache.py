"""Prepared frames on disk: keyed by what they were made from, whole or not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from moving_disc import disc_images
from training import made

from comemory.clips.builder import ClipBuilder
from comemory.clips.config import ClipSettings
from comemory.datasets import open_dataset
from comemory.errors import SourceError, TrainingError
from comemory.flow import FlowSettings, open_flow
from comemory.training.cache import PreparedVideo, content_sha256, prepare_videos
from comemory.types import Frame, LabelledSource

CLIPS = ClipSettings(height=32, width=48, flow_height=64, flow_width=96)
FLOW = FlowSettings(preset="ultrafast")


class Made:
    """A source made in memory that counts how often it is read."""

    rate_hz: float | None = None

    def __init__(self, name: str, n_frames: int, missing: Sequence[int] = ()) -> None:
        self.name = name
        self.fingerprint: str | None = f"{name} {n_frames} {missing}"
        self.n_read = 0
        self._frames = [Frame(image, i / 10, i) for i, image in enumerate(disc_images(n_frames)) if i not in missing]

    def __iter__(self) -> Iterator[Frame]:
        self.n_read += 1
        yield from self._frames


def folder_of_frames(folder: Path, n_frames: int = 12) -> LabelledSource:
    folder.mkdir(parents=True)
    for i, image in enumerate(disc_images(n_frames)):
        assert cv2.imwrite(str(folder / f"{i:03d}.png"), image[..., ::-1])
    return LabelledSource(folder.name, str(folder))


def prepare(
    cache: Path, *videos: LabelledSource, clips: ClipSettings = CLIPS, flow: FlowSettings = FLOW
) -> tuple[list[PreparedVideo], list[str]]:
    return prepare_videos(videos, cache, clips, flow, dataset="made:", rate_hz=10.0)


def keys(cache: Path) -> set[str]:
    return {path.stem for path in cache.glob("*.json")}


def assert_equal(one: PreparedVideo, other: PreparedVideo) -> None:
    for name in ("images", "flows", "input_maps", "indices"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.name, one.sha256) == (other.name, other.sha256)


@pytest.mark.parametrize("flow_of", ["next", "seen"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_clip_from_the_cache_is_the_clip_that_a_detector_sees(tmp_path: Path, channels: int, flow_of: str) -> None:
    """Over a gap too: the flow filter restarts there and no clip spans it."""
    clips = CLIPS.model_copy(update={"channels": channels, "flow_of": flow_of})
    source = Made("gate", 24, missing=[9, 10, 17])
    (video,), problems = prepare(tmp_path, LabelledSource("gate", source), clips=clips)
    builder = ClipBuilder(clips, open_flow(FLOW))
    seen = [clip for frame in source if (clip := builder.add_frame(frame)) is not None]
    assert [int(video.indices[t]) for t in video.clip_ends(clips.n_past)] == [clip.index for clip in seen]
    assert [clip.index for clip in seen] == [4, 5, 6, 7, 8, 15, 16, 22, 23]
    for t, clip in zip(video.clip_ends(clips.n_past), seen, strict=True):
        frames, flow = video.clip(t, clips)
        np.testing.assert_array_equal(frames, clip.frames)
        np.testing.assert_array_equal(flow, clip.flow)
        np.testing.assert_array_equal(video.flow(t, clips), clip.flow)
        np.testing.assert_array_equal(video.evidence(t)["agitation"], clip.evidence["agitation"])
    assert problems == []


def test_a_second_preparation_decodes_nothing_and_reports_every_frame(tmp_path: Path) -> None:
    source = Made("gate", 8)
    reported: list[str] = []
    both = [
        prepare_videos(
            [LabelledSource("gate", source)],
            tmp_path,
            CLIPS,
            FLOW,
            dataset="made:",
            rate_hz=10.0,
            on_frame=reported.append,
        )[0][0]
        for _ in range(2)
    ]
    assert source.n_read == 1
    assert reported == ["gate"] * 16
    assert_equal(*both)


def test_rendered_sources_are_identified_by_name_and_data_set(tmp_path: Path) -> None:
    videos = [LabelledSource(name, Made(name, 8)) for name in ("gate", "yard")]
    assert content_sha256(videos[0], "a:") != content_sha256(videos[1], "a:") != content_sha256(videos[1], "b:")
    prepare(tmp_path, *videos)
    assert len(keys(tmp_path)) == 2


def test_a_training_and_a_test_video_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    dataset = open_dataset("synthetic:seed=3,frames=16,training=1,testing=1,size=60x96")
    (training,), (testing,) = dataset.training(), dataset.testing()
    assert training.name == testing.name
    prepared = [prepare(tmp_path / "shared", video)[0][0] for video in (training, testing)]
    alone = [prepare(tmp_path / video.source.name, video)[0][0] for video in (training, testing)]
    assert not np.array_equal(prepared[0].images, prepared[1].images)
    for one, other in zip(prepared, alone, strict=True):
        assert_equal(one, other)


def test_a_source_in_memory_without_a_fingerprint_is_kept_by_its_frames(tmp_path: Path) -> None:
    source, changed = Made("gate", 8), Made("gate", 8, missing=[7])
    source.fingerprint = changed.fingerprint = None
    for made_in_memory in (source, source, changed):
        prepare(tmp_path, LabelledSource("gate", made_in_memory))
    assert source.n_read == 3, "once to prepare, and each time for the hash"
    assert len(keys(tmp_path)) == 2


def test_a_changed_pixel_changes_the_key(tmp_path: Path) -> None:
    video = folder_of_frames(tmp_path / "gate")
    (before,), _ = prepare(tmp_path / "cache", video)
    path = tmp_path / "gate" / "005.png"
    image = cv2.imread(str(path))
    assert image is not None
    image[20, 20] ^= 255
    assert cv2.imwrite(str(path), image)
    (after,), _ = prepare(tmp_path / "cache", video)
    assert len(keys(tmp_path / "cache")) == 2
    assert before.sha256 != after.sha256
    assert [t for t in range(12) if not np.array_equal(before.images[t], after.images[t])] == [5]


@pytest.mark.parametrize(
    "change",
    [
        {"height": 40},
        {"width": 64},
        {"channels": 3},
        {"flow_height": 80},
        {"flow_ema_decay": 0.0},
        {"flow_shrinkage": 0.0},
        {"name": "farneback"},
        {"preset": "fine"},
    ],
)
def test_a_changed_setting_changes_the_key(tmp_path: Path, change: dict[str, int]) -> None:
    of_clips = set(change) <= set(ClipSettings.model_fields)
    clips = CLIPS.model_copy(update=change if of_clips else {})
    flow = FLOW.model_copy(update={} if of_clips else change)
    video = LabelledSource("gate", Made("gate", 8))
    prepare(tmp_path, video)
    prepare(tmp_path, video, clips=clips, flow=flow)
    assert len(keys(tmp_path)) == 2


def test_changed_flow_weights_change_the_key(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    video = LabelledSource("gate", Made("gate", 8))
    for content in (b"one", b"other", b"one"):
        weights.write_bytes(content)
        flow = FLOW.model_copy(update={"weights": str(weights)})
        prepare(tmp_path / "cache", video, flow=flow)
    assert len(keys(tmp_path / "cache")) == 2


def test_a_corrupt_frame_is_named_each_time_and_leaves_a_gap(tmp_path: Path) -> None:
    video = folder_of_frames(tmp_path / "gate", 14)
    (tmp_path / "gate" / "006.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    for _ in range(2):
        (prepared,), problems = prepare(tmp_path / "cache", video)
        assert prepared.indices.tolist() == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13]
        newest = [int(prepared.indices[t]) for t in prepared.clip_ends(4)]
        assert newest == [4, 5, 11, 12, 13]
        assert np.abs(prepared.flows[6]).max() == 0
        assert len(problems) == 1
        assert "006.png" in problems[0]


def test_unusable_videos_are_named_and_the_others_prepared(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "torn.mp4").write_bytes(b"no video at all")
    (tmp_path / "none.mp4").write_bytes(b"")
    videos = [
        LabelledSource("empty", str(tmp_path / "empty")),
        LabelledSource("torn", str(tmp_path / "torn.mp4")),
        LabelledSource("gate", Made("gate", 6)),
        LabelledSource("none", str(tmp_path / "none.mp4")),
        LabelledSource("absent", str(tmp_path / "absent.mp4")),
        LabelledSource("short", Made("short", 4)),
        LabelledSource("nothing", Made("nothing", 0)),
    ]
    prepared, problems = prepare(tmp_path / "cache", *videos)
    assert [video.name for video in prepared] == ["gate"]
    named = ["empty", "torn.mp4", "none.mp4", "absent.mp4", "short", "nothing"]
    assert all(name in problem for name, problem in zip(named, problems, strict=True))
    assert problems[-2] == "short: 4 frames are too few, 5 in a row are needed"


def test_no_usable_video_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no video to train on .*short: 3 frames are too few"):
        prepare(tmp_path, LabelledSource("short", Made("short", 3)))
    with pytest.raises(TrainingError, match="the data set lists none"):
        prepare(tmp_path)


def test_a_vanished_folder_is_reported_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="gone"):
        content_sha256(LabelledSource("gone", str(tmp_path / "gone")), "made:")


@pytest.mark.parametrize("suffix", [".images", ".flows", ".maps", ".json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_incomplete_arrays_are_prepared_again(tmp_path: Path, suffix: str, damage: str) -> None:
    source = Made("gate", 8)
    video = LabelledSource("gate", source)
    (before,), _ = prepare(tmp_path, video)
    arrays = {name: getattr(before, name).copy() for name in ("images", "flows", "input_maps")}
    before = replace(before, **arrays)
    (file,) = tmp_path.glob(f"*{suffix}")
    if damage == "cut":
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.unlink()
    (after,), _ = prepare(tmp_path, video)
    assert source.n_read == 2
    assert_equal(before, after)


KILLED = """
import sys
from pathlib import Path
from training.test_cache import CLIPS, FLOW
from comemory.training.cache import prepare_videos
from comemory.types import LabelledSource
video = LabelledSource("gate", sys.argv[1])
report = lambda name: print(name, flush=True)
prepare_videos([video], Path(sys.argv[2]), CLIPS, FLOW, dataset="made:", rate_hz=10.0, on_frame=report)
"""


def test_a_kill_while_writing_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    video = folder_of_frames(tmp_path / "gate", 150)
    command = [sys.executable, "-c", KILLED, str(video.source), str(tmp_path / "cache")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=made.environment()) as process:
        assert process.stdout is not None
        for _ in range(20):
            assert process.stdout.readline() == b"gate\n"
        process.kill()
    left = sorted(path.suffixes[0] for path in (tmp_path / "cache").iterdir())
    assert left == [".flows", ".images", ".maps"]
    assert not keys(tmp_path / "cache")
    (after,), _ = prepare(tmp_path / "cache", video)
    (clean,), _ = prepare(tmp_path / "other", video)
    assert_equal(after, clean)
    assert len(after.indices) == 150
    assert len(list((tmp_path / "cache").iterdir())) == 4, "the leftovers of the killed process are removed"


def test_files_of_a_running_process_are_left_alone(tmp_path: Path) -> None:
    video = LabelledSource("gate", Made("gate", 8))
    prepare(tmp_path, video)
    (index,) = tmp_path.glob("*.json")
    index.unlink()
    others = tmp_path / f"{index.stem}.images.{os.getppid()}"
    others.write_bytes(b"")
    prepare(tmp_path, video)
    assert others.exists()


def test_a_full_disk_is_reported_and_leaves_no_incomplete_arrays(tmp_path: Path) -> None:
    video = folder_of_frames(tmp_path / "gate", 40)
    cache = tmp_path / "cache"
    with made.small_disk(cache, 64 * 1024):
        with pytest.raises(TrainingError, match="cannot use the flow cache") as refused:
            prepare(cache, video)
        assert "\n" not in str(refused.value)
        assert list(cache.iterdir()) == []


def test_a_cache_path_that_is_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(TrainingError, match="cannot use the flow cache"):
        prepare(tmp_path / "cache", LabelledSource("gate", Made("gate", 8)))


def test_the_index_lists_the_frames_and_problems(tmp_path: Path) -> None:
    video = folder_of_frames(tmp_path / "gate", 8)
    prepare(tmp_path / "cache", video)
    (index,) = (tmp_path / "cache").glob("*.json")
    frames = list(range(8))
    expected = {"name": "gate", "indices": frames, "samples": frames, "problems": [], "notes": []}
    assert json.loads(index.read_text()) == expected
