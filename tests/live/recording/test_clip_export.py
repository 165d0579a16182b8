"""An exported clip: the same frames, with the time of day, the mark of the event and the outline."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import av
import numpy as np
import pytest
from stored import NOON, make_event

from comemory.errors import SourceError
from comemory.live.recording.clip_export import clip_name, export_clip
from comemory.types import Frame
from comemory.video.writer import write_video

GREY = np.full((240, 360, 3), 100, np.uint8)
EVENT = replace(
    make_event(NOON + timedelta(seconds=2), camera="gate", region=((100, 60), (200, 60), (200, 160), (100, 160))),
    end=NOON + timedelta(seconds=4),
)


def clip(folder: Path, comment: str | None) -> Path:
    """Six grey seconds, the first of them at noon, as the recorder writes them."""
    write_video((Frame(GREY, k / 5, k) for k in range(30)), folder / "plain.mp4", 5.0)
    with av.open(str(folder / "plain.mp4")) as source, av.open(str(folder / "clip.mp4"), "w") as target:
        copied = target.add_stream_from_template(source.streams.video[0])
        if comment is not None:
            target.metadata["comment"] = comment
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = copied
                target.mux(packet)
    return folder / "clip.mp4"


def frames(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]


def reddish(image: np.ndarray, rows: slice, columns: slice) -> bool:
    place = image[rows, columns]
    return bool((place[..., 0] - place[..., 2] > 60).any())


def test_event_and_outline_are_drawn_at_their_times(tmp_path: Path) -> None:
    export_clip(clip(tmp_path, "starts 2026-03-02T12:00:00.000Z"), EVENT, tmp_path / "out.mp4")
    drawn = frames(tmp_path / "out.mp4")
    assert len(drawn) == 30
    assert drawn[0].shape == (480, 720, 3)
    mark, outline = (slice(0, 60), slice(600, 720)), (slice(110, 330), slice(190, 410))
    assert [reddish(drawn[k], *mark) for k in (0, 12, 15, 19, 28)] == [False, True, True, True, False]
    assert [reddish(drawn[k], *outline) for k in (0, 10, 15, 19, 28)] == [False, False, True, False, False]
    assert drawn[0][:60, :300].min() < 60, "the time stands in the corner"


def test_a_clip_that_does_not_say_when_it_starts_shows_the_time_of_the_event(tmp_path: Path) -> None:
    export_clip(clip(tmp_path, None), EVENT, tmp_path / "out.mp4")
    drawn = frames(tmp_path / "out.mp4")
    assert not any(reddish(image, slice(0, 480), slice(0, 720)) for image in drawn)


def test_a_damaged_clip_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"x" * 1000)
    with pytest.raises(SourceError, match=r"cannot read the clip clip\.mp4"):
        export_clip(tmp_path / "clip.mp4", EVENT, tmp_path / "out.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4"]


def test_its_name_is_safe() -> None:
    name = clip_name(replace(EVENT, camera='../a "b'), ".mp4")
    assert name.startswith("..-a--b_2026-03-0")
    assert "/" not in name
