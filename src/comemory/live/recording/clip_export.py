"""A clip to hand on: encoded again, with the time of day, the mark of the event and the outline drawn into the frames."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import av
from av.video.reformatter import VideoReformatter

from comemory.errors import SourceError
from comemory.live.recording.packet_buffer import LIBRARY_ERRORS, STARTED
from comemory.store.event import StoredEvent, utc
from comemory.types import Frame, Score
from comemory.video.image_folder import upright_rgb
from comemory.video.overlay import draw_score
from comemory.video.writer import write_video

OUTLINED_S = 0.75
"""The outline belongs to the peak: it is drawn so long before and after it, seconds."""


def export_clip(clip: Path, event: StoredEvent, target: Path) -> None:
    """Write a clip with its overlay.

    Args:
        clip: of the event, as it was recorded.
        event: what is drawn.
        target: an mp4 file.

    Raises:
        SourceError: the clip cannot be read, or the target not be written.
    """
    try:
        with av.open(str(clip)) as container:
            stream = container.streams.video[0]
            rate_hz = float(stream.average_rate) if stream.average_rate else None
            started = started_at(container.metadata.get("comment", ""))
            write_video(_drawn(container.decode(stream), event, started), target, rate_hz)
    except LIBRARY_ERRORS as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"cannot read the clip {clip.name}: {getattr(error, 'strerror', None) or error}") from error


def clip_name(event: StoredEvent, suffix: str, part: str = "") -> str:
    """A file name of the camera and the local time of an event.

    Args:
        event: an event.
        suffix: with its dot.
        part: what the file shows, where it is not the clip.
    """
    said = f"{event.camera}_{event.start.astimezone():%Y-%m-%d_%H-%M-%S}"
    return "".join(letter if letter.isalnum() or letter in "_.-" else "-" for letter in said) + part + suffix


def started_at(comment: str) -> datetime | None:
    """When the first frame was taken, from the comment in the file; None where it does not say.

    >>> started_at("starts 2026-01-02T03:04:05.000Z")
    datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
    """
    if not comment.startswith(STARTED):
        return None
    try:
        return utc(datetime.fromisoformat(comment.removeprefix(STARTED))).replace(tzinfo=UTC)
    except ValueError:
        return None


def _drawn(decoded: Iterator[av.VideoFrame], event: StoredEvent, started: datetime | None) -> Iterator[Frame]:
    reformatter, end = VideoReformatter(), event.end or event.peak
    for index, image in enumerate(decoded):
        time_s = float(image.time or 0.0)
        at = None if started is None else started + timedelta(seconds=time_s)
        is_peak = at is not None and abs((at - event.peak).total_seconds()) <= OUTLINED_S
        score = Score(index, time_s, event.peak_score, event.appearance, event.motion, event.box)
        drawn = draw_score(
            upright_rgb(image, None, reformatter),
            score if is_peak else None,
            event=at is not None and event.start <= at <= end,
            outline=event.region if is_peak else None,
            clock=f"{event.camera}  {(at or event.start).astimezone():%Y-%m-%d %H:%M:%S}",
            strip=False,
        )
        yield Frame(drawn, time_s, index)
