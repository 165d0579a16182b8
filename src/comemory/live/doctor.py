"""Checks whether a live system can run on this machine, with a hint for each problem."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from comemory.bundle import open_bundle
from comemory.detector import Detector
from comemory.errors import ComemoryError, ConfigError, last_line, mask_password
from comemory.files import require_writable_folder
from comemory.live.capture.frame_queue import FrameQueue
from comemory.live.capture.reader import CameraReader
from comemory.live.config import LiveSettings
from comemory.live.recording.packet_buffer import PacketBuffer
from comemory.secret_values import resolve_secret
from comemory.video.frame_sampler import FrameSampler

FRAME_WAIT_S = 12.0
"""Time limit for the first frame: more than the time limits of a connection and of the longest usual key frame interval."""
FREE_GB = 2.0
"""Disk space to leave free beside the media files."""
_FIX = "fix what the line names"
FIRST_YEAR = 2025
"""A clock before this year was never set."""
SYNCHRONISED = (Path("/run/systemd/timesync/synchronized"), Path("/run/chrony/chronyd.pid"), Path("/run/ntpd.pid"))


@dataclass(frozen=True, slots=True)
class Check:
    """The result of one check.

    Attributes:
        name: such as `camera gate`.
        ok: None if it cannot be found out.
        found: what was found, in one line.
        hint: what to do if it is not ok, else empty.
    """

    name: str
    ok: bool | None
    found: str
    hint: str = ""


def run_checks(settings: LiveSettings) -> Iterator[Check]:
    """Check everything that a live system needs, one after the other."""
    yield from _models(settings)
    for name in settings.cameras:
        yield _camera(settings, name)
    yield _disk(settings)
    yield _store(settings)
    for name in settings.alerts:
        yield _alert(settings, name)
    yield _time()
    yield _port(settings)
    yield from _page(settings)


def _models(settings: LiveSettings) -> Iterator[Check]:
    cameras_of: dict[Path, list[str]] = {}
    for name in settings.cameras:
        cameras_of.setdefault(settings.bundle_of(name), []).append(name)
    load = 0.0
    for path, names in cameras_of.items():
        check, frame_s, rate_hz = _model(settings, path)
        load += sum(frame_s * min(settings.cameras[name].fps or rate_hz, rate_hz) for name in names)
        yield check
    cores = settings.workers or len(os.sched_getaffinity(0))
    yield Check(
        "processor",
        load <= 0.8 * cores,
        f"{len(settings.cameras)} cameras need about {load:.2f} of {cores} cores",
        "" if load <= 0.8 * cores else "lower the fps of the cameras, or use a smaller model",
    )


def _model(settings: LiveSettings, path: Path) -> tuple[Check, float, float]:
    """The check of a bundle, its seconds per frame, and its frames a second."""
    try:
        bundle = open_bundle(path)
        detector = Detector(bundle, runtime=settings.runtime, precision=settings.precision, threads=1)
    except ConfigError as error:
        return Check(f"model {path.name}", False, str(error), "or set precision to auto"), 0.0, 1.0
    except ComemoryError as error:
        return Check(f"model {path.name}", False, str(error), "use another bundle, or copy this one again"), 0.0, 1.0
    inputs, times = detector.stages.example_inputs(), []
    for _ in range(5):
        start = time.perf_counter()
        detector.stages.runtime.run(inputs)
        times.append(time.perf_counter() - start)
    rate_hz = bundle.calibration.rate_hz
    found = f"{min(times) * 1000:.1f} ms for the network, trained at {rate_hz:g} frames a second"
    return Check(f"model {path.name}", True, found), min(times) * 1.6, rate_hz


def _camera(settings: LiveSettings, name: str) -> Check:
    camera = settings.cameras[name].model_copy(update={"realtime": True})
    queue, what = FrameQueue(32, lossless=False), f"camera {name}"
    reader = CameraReader(name, camera, settings.health, FrameSampler(10.0), queue, PacketBuffer.unused())
    reader.start()
    start = time.monotonic()
    while reader.frames < 20 and not reader.finished and time.monotonic() - start < FRAME_WAIT_S:
        if reader.attempts > 1:
            break
        time.sleep(0.05)
    reader.stop()
    shown = mask_password(camera.url)
    if reader.frames == 0:
        return Check(what, False, reader.message or f"{shown}: no frame in {FRAME_WAIT_S:.0f} s", _hint(reader.message))
    size = reader.size or (0, 0)
    rate = f", {reader.sampler.camera_hz:.1f} frames a second" if reader.sampler.camera_hz else ""
    return Check(what, True, f"{shown}: {size[1]}x{size[0]}{rate}")


def _hint(message: str) -> str:
    words = message.lower()
    hints: tuple[tuple[str, str], ...] = (
        ("unauthorized", "check user and password"),
        ("401", "check user and password"),
        ("refused", "check address and port, and that the camera serves RTSP"),
        ("not found", "check the path of the stream in the camera's manual"),
        ("no such file", "check the path"),
        ("environment", "set that variable before starting"),
    )
    return next((hint for word, hint in hints if word in words), "check its power, its network and its address")


def _disk(settings: LiveSettings) -> Check:
    try:
        require_writable_folder(settings.out)
        free_gb = shutil.disk_usage(settings.out).free / 1e9
    except (ComemoryError, OSError) as error:
        return Check("disk", False, last_line(error), "choose another folder with --out")
    needed = settings.retention.max_gb + FREE_GB
    hint = (
        "" if free_gb >= needed else f"free some space, or set retention.max_gb below {max(0.0, free_gb - FREE_GB):.0f}"
    )
    return Check("disk", free_gb >= needed, f"{free_gb:.0f} GB free of {needed:.0f} needed at {settings.out}", hint)


def _store(settings: LiveSettings) -> Check:
    if not settings.store.enabled:
        return Check("store", True, "events go to events.jsonl only")
    try:
        from comemory.store.store import EventStore

        with EventStore.open(settings.store_url, settings.media, shared=True) as store:
            return Check("store", True, f"{store.url}: {store.counts().events} events")
    except (ComemoryError, ImportError) as error:
        return Check("store", False, last_line(error), "fix what the line names; events.jsonl is written in any case")


def _alert(settings: LiveSettings, name: str) -> Check:
    """Whether a sink can be opened; nothing is sent."""
    what = f"alert {name}"
    try:
        from comemory.alerts.sink import open_sink

        open_sink(name, settings.alerts[name]).close()
    except (ComemoryError, ImportError) as error:
        return Check(what, False, last_line(error), _hint(str(error)) if "environment" in str(error) else _FIX)
    if not settings.store.enabled:
        return Check(what, False, "alerts are not sent without a store", "remove --store none, or the alert")
    return Check(what, True, "its settings are valid; nothing was sent")


def _time() -> Check:
    now = datetime.now(UTC)
    if now.year < FIRST_YEAR:
        return Check(
            "time", False, f"the clock says {now:%Y-%m-%d %H:%M} UTC", "set the clock: events are stored with its time"
        )
    service = next((path for path in SYNCHRONISED if path.exists()), None)
    found = f"{now:%Y-%m-%d %H:%M} UTC"
    if service is None:
        return Check("time", None, f"{found}, no time service seen", "enable one: timedatectl set-ntp true")
    return Check("time", True, f"{found}, synchronised")


def _port(settings: LiveSettings) -> Check:
    host, port = settings.web.host, settings.web.port
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or last_line(error)
        return Check(
            "port",
            False,
            f"{host}:{port}: {reason}",
            "choose another with --set web.port=…, or stop the program that uses it",
        )
    return Check("port", True, f"{host}:{port} is free")


def _page(settings: LiveSettings) -> Iterator[Check]:
    """Whether the password, token and certificate of `comemory serve` can be read; no check where none is set."""
    web, used = settings.web, []
    try:
        for value, what in ((web.password, "the page's password"), (web.token, "the API's token")):
            if value is not None:
                resolve_secret(value, what)
                used.append(what)
        if web.certificate is not None:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(web.certificate, web.key)
            used.append("the certificate")
    except ConfigError as error:
        yield Check("page", False, str(error), _hint(str(error)))
    except OSError as error:
        yield Check("page", False, f"the certificate {web.certificate} and its key: {last_line(error)}", _FIX)
    else:
        if used:
            yield Check("page", True, f"{', '.join(used)} can be read")
