"""Whether a live system can run here, and what cures what is wrong."""

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
from comemory.files import require_folder
from comemory.live.capture.frame_queue import Slot
from comemory.live.capture.frame_sampler import Pace
from comemory.live.capture.reader import Reader
from comemory.live.config import LiveSettings
from comemory.live.recording.packet_buffer import Footage
from comemory.secret_values import reveal

FRAME_WAIT_S = 12.0
FREE_GB = 2.0
_MEND = "mend what the line names"
FIRST_YEAR = 2025
SYNCHRONISED = (Path("/run/systemd/timesync/synchronized"), Path("/run/chrony/chronyd.pid"), Path("/run/ntpd.pid"))


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at.

    Attributes:
        what: such as `camera gate`.
        well: None where it cannot be told.
        found: what was seen, one line.
        cure: what to do where it is not well, else empty.
    """

    what: str
    well: bool | None
    found: str
    cure: str = ""


def examine(settings: LiveSettings) -> Iterator[Check]:
    """Look at everything that a live system needs, one check after the other."""
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
    wanted: dict[Path, list[str]] = {}
    for name in settings.cameras:
        wanted.setdefault(settings.bundle_of(name), []).append(name)
    load = 0.0
    for path, names in wanted.items():
        check, frame_s, rate_hz = _model(settings, path)
        load += sum(frame_s * min(settings.cameras[name].fps or rate_hz, rate_hz) for name in names)
        yield check
    cores = settings.workers or len(os.sched_getaffinity(0))
    yield Check(
        "processor",
        load <= 0.8 * cores,
        f"{len(settings.cameras)} cameras need about {load:.2f} of {cores} cores",
        "" if load <= 0.8 * cores else "lower fps of the cameras, or take a smaller model",
    )


def _model(settings: LiveSettings, path: Path) -> tuple[Check, float, float]:
    """The check of a bundle, its seconds a frame, and its rate."""
    try:
        bundle = open_bundle(path)
        detector = Detector(bundle, runtime=settings.runtime, precision=settings.precision, threads=1)
    except ConfigError as error:
        return Check(f"model {path.name}", False, str(error), "or leave precision at auto"), 0.0, 1.0
    except ComemoryError as error:
        return Check(f"model {path.name}", False, str(error), "give another bundle, or copy this one again"), 0.0, 1.0
    inputs, times = detector.example_inputs(), []
    for _ in range(5):
        start = time.perf_counter()
        detector.runtime.run(inputs)
        times.append(time.perf_counter() - start)
    rate_hz = bundle.calibration.rate_hz
    found = f"{min(times) * 1000:.1f} ms for the network, trained at {rate_hz:g} frames a second"
    return Check(f"model {path.name}", True, found), min(times) * 1.6, rate_hz


def _camera(settings: LiveSettings, name: str) -> Check:
    camera = settings.cameras[name].model_copy(update={"realtime": True})
    slot, what = Slot(32, lossless=False), f"camera {name}"
    reader = Reader(name, camera, settings.health, Pace(10.0), slot, Footage(0, 0, 0, lambda _: True, _none, _none))
    reader.start()
    start = time.monotonic()
    while reader.frames < 20 and not reader.finished and time.monotonic() - start < FRAME_WAIT_S:
        if reader.attempts > 1:
            break
        time.sleep(0.05)
    reader.stop()
    shown = mask_password(camera.url)
    if reader.frames == 0:
        return Check(what, False, reader.message or f"{shown}: no frame in {FRAME_WAIT_S:.0f} s", _cure(reader.message))
    size = reader.size or (0, 0)
    rate = f", {reader.pace.camera_hz:.1f} frames a second" if reader.pace.camera_hz else ""
    return Check(what, True, f"{shown}: {size[1]}x{size[0]}{rate}")


def _cure(message: str) -> str:
    words = message.lower()
    cures: tuple[tuple[str, str], ...] = (
        ("unauthorized", "check user and password"),
        ("401", "check user and password"),
        ("refused", "check address and port, and that the camera serves RTSP"),
        ("not found", "check the path of the stream in the camera's manual"),
        ("no such file", "check the path"),
        ("environment", "set that variable before starting"),
    )
    return next((cure for word, cure in cures if word in words), "check its power, its network and its address")


def _disk(settings: LiveSettings) -> Check:
    try:
        require_folder(settings.out)
        free_gb = shutil.disk_usage(settings.out).free / 1e9
    except (ComemoryError, OSError) as error:
        return Check("disk", False, last_line(error), "choose another folder with --out")
    wanted = settings.retention.gigabytes + FREE_GB
    cure = (
        ""
        if free_gb >= wanted
        else f"free some space, or set retention.gigabytes under {max(0.0, free_gb - FREE_GB):.0f}"
    )
    return Check("disk", free_gb >= wanted, f"{free_gb:.0f} GB free of {wanted:.0f} wanted at {settings.out}", cure)


def _store(settings: LiveSettings) -> Check:
    if not settings.store.enabled:
        return Check("store", True, "events go to events.jsonl alone")
    try:
        from comemory.store.store import EventStore

        with EventStore.open(settings.store_url, settings.media, shared=True) as store:
            return Check("store", True, f"{store.url}: {store.counts().events} events")
    except (ComemoryError, ImportError) as error:
        return Check("store", False, last_line(error), "see what the line says; events.jsonl is written in any case")


def _alert(settings: LiveSettings, name: str) -> Check:
    """Whether a sink can be opened; nothing is sent."""
    what = f"alert {name}"
    try:
        from comemory.alerts.sink import open_sink

        open_sink(name, settings.alerts[name]).close()
    except (ComemoryError, ImportError) as error:
        return Check(what, False, last_line(error), _cure(str(error)) if "environment" in str(error) else _MEND)
    if not settings.store.enabled:
        return Check(what, False, "no alert is sent without a store", "leave --store none out, or the alert")
    return Check(what, True, "its settings can be used; nothing was sent")


def _time() -> Check:
    now = datetime.now(UTC)
    if now.year < FIRST_YEAR:
        return Check("time", False, f"the clock says {now:%Y-%m-%d %H:%M} UTC", "set the clock: events carry its time")
    known = next((path for path in SYNCHRONISED if path.exists()), None)
    found = f"{now:%Y-%m-%d %H:%M} UTC"
    if known is None:
        return Check("time", None, f"{found}, no time service seen", "switch one on: timedatectl set-ntp true")
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
            "port", False, f"{host}:{port}: {reason}", "choose another with --set web.port=…, or end what holds it"
        )
    return Check("port", True, f"{host}:{port} is free")


def _page(settings: LiveSettings) -> Iterator[Check]:
    """Whether the page of `comemory serve` has what it is told of; nothing where it is told nothing."""
    web, used = settings.web, []
    try:
        for value, what in ((web.password, "the page's password"), (web.token, "the API's token")):
            if value is not None:
                reveal(value, what)
                used.append(what)
        if web.certificate is not None:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(web.certificate, web.key)
            used.append("the certificate")
    except ConfigError as error:
        yield Check("page", False, str(error), _cure(str(error)))
    except OSError as error:
        yield Check("page", False, f"the certificate {web.certificate} and its key: {last_line(error)}", _MEND)
    else:
        if used:
            yield Check("page", True, f"{', '.join(used)} can be used")


def _none(*_: object) -> None:
    """Nothing follows from it."""
