"""The groups of live settings beside the cameras: store, page, retention, events, health, drift, learning."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from comemory.config_model import Settings


class StoreSettings(Settings):
    """Where events are kept.

    Attributes:
        url: `sqlite:///FILE`, `postgresql+psycopg://…` or `env:NAME`; None is `OUT/events.db`.
        media: folder of thumbnails, heat maps and clips; None is `OUT/media`.
        enabled: False keeps events in `OUT/events.jsonl` alone.
    """

    url: str | None = Field(None, repr=False)
    media: Path | None = None
    enabled: bool = True


class WebSettings(Settings):
    """The page of `comemory serve`.

    Attributes:
        host, port: where it listens.
        password, token: `env:NAME` or a hash, beside those that `comemory serve --set-password` and `--add-token` keep;
            one of them is needed beyond the loopback.
        session_hours: how long a login lasts.
        public_url: how others reach the page, for links in alerts.
        hosts: names that the page may be called by, beside those of the loopback.
        certificate, key: files, PEM, for HTTPS.
    """

    host: str = "127.0.0.1"
    port: int = Field(8710, ge=0, le=65535)
    password: str | None = Field(None, repr=False)
    token: str | None = Field(None, repr=False)
    session_hours: float = Field(12.0, gt=0, le=8760)
    public_url: str | None = None
    hosts: tuple[str, ...] = ()
    certificate: Path | None = None
    key: Path | None = None


class RetentionSettings(Settings):
    """How long events and their files are kept: by whichever is reached first.

    Attributes:
        days: of events.
        gigabytes: of all files together, the oldest go first.
        free_gigabytes: of the disk that are left free; the oldest files go first when there is less.
    """

    days: float = Field(30.0, gt=0, le=36500)
    gigabytes: float = Field(10.0, gt=0, le=1e6)
    free_gigabytes: float = Field(1.0, ge=0, le=1e6)


class EventSettings(Settings):
    """What is kept of an event.

    Attributes:
        clips: keep a clip of it.
        before_s, after_s: seconds of the clip before the start and after the end.
        longest_s: an event that lasts longer is ended and begun anew.
        buffer_mb: memory for the seconds before, for each camera.
    """

    clips: bool = True
    before_s: float = Field(5.0, ge=0, le=60)
    after_s: float = Field(3.0, ge=0, le=60)
    longest_s: float = Field(300.0, ge=1, le=86400)
    buffer_mb: float = Field(32.0, gt=0, le=65536)


class HealthSettings(Settings):
    """When a camera is not well.

    Attributes:
        stalled_s: no frame for so long.
        frozen_s: identical frames for so long.
        dark_level: brightest common grey level of a black picture, 0 to 255.
        flat_deviation: largest deviation of grey levels of a blinded picture.
        settle_s: how long a picture is black, blinded or moved before the state says so.
        moved_below: a view whose edges correlate less than this with those of the learned scene is a moved one.
        attempts_per_min: connection attempts a minute, at most.
        backoff_s: longest wait between two attempts.
    """

    stalled_s: float = Field(5.0, gt=0, le=86400)
    frozen_s: float = Field(10.0, gt=0, le=86400)
    dark_level: float = Field(16.0, ge=0, le=255)
    flat_deviation: float = Field(4.0, ge=0, le=128)
    settle_s: float = Field(2.0, ge=0, le=86400)
    moved_below: float = Field(0.65, ge=0, le=1)
    attempts_per_min: int = Field(12, ge=1, le=60)
    backoff_s: float = Field(8.0, gt=0, le=300)


class DriftSettings(Settings):
    """When the scores of ordinary hours have moved away from the calibration.

    Attributes:
        hours: that are looked at together.
        decades: how far the score of the highest tenth may move: 0.5 is three times as many high frames.
        least_frames: of an hour that counts.
    """

    hours: float = Field(12.0, ge=1, le=168)
    decades: float = Field(0.5, gt=0)
    least_frames: int = Field(1000, ge=1)


class LearnSettings(Settings):
    """Learning from a camera.

    Attributes:
        gigabytes: of recorded clips, at most.
        cpu_share: of one core that training may take, 0 to 1.
        preset: of the training.
        settings: of the training beyond it, such as `train.epochs=5`.
    """

    gigabytes: float = Field(4.0, gt=0, le=1e6)
    cpu_share: float = Field(0.5, gt=0, le=1)
    preset: str = "small"
    settings: tuple[str, ...] = ()
