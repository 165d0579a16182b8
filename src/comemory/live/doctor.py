"""Checks whether a live system can run on this machine, with a hint for each problem."""

from __future__ import annotations

import errno
import http.client
import json
import math
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np

from comemory.bundle import open_bundle
from comemory.detector import Detector
from comemory.errors import ComemoryError, ConfigError, RuntimeMissing, last_line, mask_password
from comemory.files import check_writable_folder
from comemory.live.capture.frame_queue import FrameQueue
from comemory.live.capture.reader import CameraReader
from comemory.live.config import LiveSettings, WebSettings
from comemory.live.recording.packet_buffer import PacketBuffer
from comemory.secret_values import resolve_secret
from comemory.store.media import is_in_use
from comemory.video.frame_sampler import FrameSampler

FRAME_WAIT_S = 12.0
"""Time limit for the first frame: more than the time limits of a connection and of the longest usual key frame interval."""
MAX_LOAD = 0.8
"""Share of the cores that may be planned for: the rest is for busy moments, recording and the page."""
N_READ, N_SETTLE, N_TIMED = 40, 5, 12
"""Frames read from a camera, those before the measurement, and frames that the pipeline is timed on."""
FREE_GB = 2.0
"""Disk space to leave free beside the media files."""
_FIX = "correct what this line reports"
ANSWER_S, MAX_ANSWER = 5.0, 1000
"""Time limit for an answer of the program at the port of the page, and how much of it is read, bytes."""
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
    yield from _models_and_cameras(settings)
    yield from _labels(settings)
    yield _disk(settings)
    yield _store(settings)
    yield from _object_store(settings)
    for name in settings.alerts:
        yield _alert(settings, name)
    yield _time()
    yield _port(settings)
    yield from _page(settings)


def _models_and_cameras(settings: LiveSettings) -> Iterator[Check]:
    """The bundles, the cameras, and whether this machine can score them all."""
    costs: dict[Path, _Cost] = {}
    for path in {settings.bundle_of(name): None for name in settings.cameras}:
        check, costs[path] = _model(settings, path)
        yield check
    load = 0.0
    for name in settings.cameras:
        check, decoding = _camera(settings, name)
        load += decoding + costs[settings.bundle_of(name)].cores(settings.cameras[name].fps)
        yield check
    if settings.cameras:
        yield _processor(settings, load)


def _processor(settings: LiveSettings, load: float) -> Check:
    n_cameras, cores = len(settings.cameras), settings.workers or len(os.sched_getaffinity(0))
    n_fit = math.floor(MAX_LOAD * cores / (load / n_cameras)) if load > 0 else n_cameras
    return Check(
        "processor",
        load <= MAX_LOAD * cores,
        f"{n_cameras} camera{'' if n_cameras == 1 else 's'} with decoding, optical flow and network need {load:.2f} of "
        f"{cores} cores; about {n_fit} such cameras fit on this machine",
        "" if load <= MAX_LOAD * cores else "lower the fps of the cameras, use a smaller model, or watch fewer cameras",
    )


@dataclass(frozen=True, slots=True)
class _Cost:
    """What scoring with a bundle costs.

    Attributes:
        frame_s: seconds of one core for a frame with motion, from the decoded image to the score.
        rate_hz: frames per second of the training.
    """

    frame_s: float = 0.0
    rate_hz: float = 1.0

    def cores(self, fps: float | None) -> float:
        """Cores for one camera. Every frame at the trained rate is prepared; `fps` saves the network only."""
        return self.frame_s * (self.rate_hz if fps is None else min(fps, self.rate_hz))


def _model(settings: LiveSettings, path: Path) -> tuple[Check, _Cost]:
    what = f"model {path.name}"
    try:
        bundle = open_bundle(path)
        detector = Detector(
            bundle, runtime=settings.runtime, precision=settings.precision, device=settings.device, threads=1
        )
    except ConfigError as error:
        return _failed(what, error, "set precision to auto", ": "), _Cost()
    except ComemoryError as error:
        return Check(what, False, str(error), "use another bundle, or copy this one again"), _Cost()
    cost = _Cost(_seconds_per_frame(detector), bundle.calibration.rate_hz)
    found = f"{cost.frame_s * 1000:.1f} ms for a frame, trained at {cost.rate_hz:g} frames per second"
    return Check(what, True, found), cost


def _seconds_per_frame(detector: Detector) -> float:
    """Seconds of one core for a frame in which everything moves: static frames cost less."""
    spec = detector.bundle.clips
    texture = np.random.default_rng(0).integers(0, 256, (spec.flow_height, spec.flow_width, 3), np.uint8)
    texture = np.asarray(cv2.GaussianBlur(texture, (0, 0), 3), np.uint8)
    times = []
    for k in range(spec.n_past + 1 + N_TIMED):
        image = np.roll(texture, k, axis=1)
        start = time.process_time()
        if detector.step(image, k / detector.bundle.calibration.rate_hz) is not None:
            times.append(time.process_time() - start)
    return float(np.median(times)) if times else 0.0


def _camera(settings: LiveSettings, name: str) -> tuple[Check, float]:
    """The check of a camera, and the cores that reading and decoding it takes."""
    camera = settings.cameras[name].model_copy(update={"realtime": True})
    queue, what = FrameQueue(32, lossless=False), f"camera {name}"
    reader = CameraReader(name, camera, settings.health, FrameSampler(10.0), queue, PacketBuffer.unused())
    reader.start()
    start = time.monotonic()
    cores, since = 0.0, None
    while reader.frames < N_READ and not reader.finished and time.monotonic() - start < FRAME_WAIT_S:
        if reader.attempts > 1:
            break
        if reader.frames >= N_SETTLE:  # opening the connection is not part of the load
            since = since or (time.monotonic(), _thread_time(reader))
            passed = time.monotonic() - since[0]
            cores = (_thread_time(reader) - since[1]) / passed if passed > 0 else 0.0
        time.sleep(0.05)
    reader.stop()
    shown = mask_password(camera.url)
    if reader.frames == 0:
        found = reader.message or f"{shown}: no frame in {FRAME_WAIT_S:.0f} s"
        return _explained(what, found), 0.0
    size = reader.size or (0, 0)
    rate = f", {reader.sampler.camera_hz:.1f} frames per second" if reader.sampler.camera_hz else ""
    return Check(what, True, f"{shown}: {size[1]}x{size[0]}{rate}"), max(0.0, cores)


def _thread_time(thread: threading.Thread) -> float:
    """Seconds of CPU that a thread has used; 0 for one that has ended, or where the system does not tell."""
    if thread.ident is None or not thread.is_alive() or not hasattr(time, "pthread_getcpuclockid"):
        return 0.0
    with suppress(OSError):
        return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return 0.0


def _explained(what: str, message: str, hint: str = "") -> Check:
    """A failed check with one hint: by default the one that fits the message."""
    return Check(what, False, message.removesuffix(": set it"), hint or _hint(message))


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


def _labels(settings: LiveSettings) -> Iterator[Check]:
    """Whether the detector that labels events can be read, and finds its way through an image; no check without one."""
    if settings.labels.file is None:
        return
    from comemory.live.labels import PADDING, Labeller

    what = f"labels {settings.labels.file.name}"
    try:
        labeller = Labeller(settings.labels)
        start = time.process_time()
        labeller.find(np.full((*labeller.size, 3), PADDING, np.uint8), None)
        cost_s = time.process_time() - start
    except RuntimeMissing as error:
        yield Check(what, False, last_line(error), "install it, or remove labels.file: events get no labels without it")
    except ComemoryError as error:
        yield Check(what, False, str(error), "name another file, or remove labels.file: events get no labels meanwhile")
    else:
        height, width = labeller.size
        found = (
            f"{len(labeller.names)} names, layout {labeller.layout}, {width}x{height}, {cost_s * 1000:.1f} ms an event"
        )
        yield Check(what, True, found)


def _failed(name: str, error: BaseException, hint: str, mark: str = "; ") -> Check:
    """A failed check. A hint in the message of the error, after `mark`, takes the place of `hint`."""
    found, _, own = mask_password(last_line(error)).partition(mark)
    return Check(name, False, found, own or hint)


def _disk(settings: LiveSettings) -> Check:
    try:
        free_gb = shutil.disk_usage(check_writable_folder(settings.out)).free / 1e9
    except (ComemoryError, OSError) as error:
        return _failed("disk", error, "choose another folder with --out")
    needed = settings.retention.max_gb + FREE_GB
    hint = (
        "" if free_gb >= needed else f"free some space, or set retention.max_gb below {max(0.0, free_gb - FREE_GB):.0f}"
    )
    return Check("disk", free_gb >= needed, f"{free_gb:.0f} GB free of {needed:.0f} needed at {settings.out}", hint)


def _store(settings: LiveSettings) -> Check:
    if not settings.store.enabled:
        return Check("store", True, "events go to events.jsonl only")
    try:
        from comemory.store.database import count_events, parse_url, safe_url_of

        check_writable_folder(settings.media)
        n_events, url = count_events(settings.store_url), safe_url_of(parse_url(settings.store_url))
    except (ComemoryError, ImportError) as error:
        return _failed("store", error, "correct what this line reports; events.jsonl is written in any case")
    return Check("store", True, f"{url}: {'made at the first start' if n_events is None else f'{n_events} events'}")


def _object_store(settings: LiveSettings) -> Iterator[Check]:
    """Whether a test object can be written, read and deleted; no check without an object store."""
    if settings.store.media_url is None:
        return
    from comemory.store.objects import MediaObjects

    try:
        MediaObjects(settings.store.media_url).check()
    except RuntimeMissing as error:
        yield _failed("object store", error, "install it", ": ")
    except ComemoryError as error:
        hint = "check store.media_url, and the credentials and the address in the environment"
        yield Check("object store", False, mask_password(last_line(error)), hint)
    else:
        found = f"{settings.store.media_url}: a test object was written, read and deleted"
        yield Check("object store", True, found)


def _alert(settings: LiveSettings, name: str) -> Check:
    """Whether a test alert reaches a sink."""
    what = f"alert {name}"
    if not settings.store.enabled:
        return Check(what, False, "alerts are not sent without a store", "remove --store none, or the alert")
    try:
        _send_test(settings, name)
    except (ConfigError, RuntimeMissing) as error:
        return _explained(what, last_line(error), "" if "environment" in str(error) else _FIX)
    except (ComemoryError, OSError) as error:
        return Check(what, False, f"the test alert did not arrive: {mask_password(last_line(error))}", _FIX)
    return Check(what, True, "a test alert was sent and has arrived")


def _send_test(settings: LiveSettings, name: str) -> None:
    from comemory.alerts.sink import Notification, TestableSink, open_sink
    from comemory.store.event import iso, new_id

    sink = open_sink(name, settings.alerts[name])
    try:
        now = datetime.now(UTC)
        id, camera = new_id(now), next(iter(settings.cameras), "test")
        payload = {"id": id, "kind": "test", "time": iso(now), "camera": camera, "before": None, "after": None}
        notification = Notification(id, "test", camera, payload)
        if isinstance(sink, TestableSink):
            sink.deliver_once(notification)
        else:
            sink.deliver(notification)
    finally:
        sink.close()


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
            probe.bind((host.strip("[]"), port))
    except (OSError, OverflowError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE and _is_comemory(settings.web):
            return _port_of_comemory(settings)
        reason = getattr(error, "strerror", None) or last_line(error)
        return Check(
            "port",
            False,
            f"{host}:{port}: {reason}",
            "choose another with --set web.port=…, or stop the program that uses it",
        )
    return Check("port", True, f"{host}:{port} is free")


def _port_of_comemory(settings: LiveSettings) -> Check:
    """The port is taken by `comemory serve`: that of these settings, if a process owns their media folder."""
    where = f"{settings.web.host}:{settings.web.port}"
    if settings.store.enabled and not is_in_use(settings.media):
        hint = "choose another port with --set web.port=…, or stop the other one"
        return Check("port", False, f"{where}: comemory serves another output folder than {settings.out} there", hint)
    return Check("port", True, f"{where}: comemory serve is running and answers there")


def _is_comemory(web: WebSettings) -> bool:
    """Whether comemory's own server answers at the address of the page: its `/readyz` has these two keys."""
    host = web.host.strip("[]")
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    if web.certificate is None:
        connection = http.client.HTTPConnection(host, web.port, timeout=ANSWER_S)
    else:
        unverified = ssl.create_default_context()
        unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, web.port, timeout=ANSWER_S, context=unverified)
    try:
        connection.request("GET", "/readyz", headers={"Host": "localhost"})
        found = json.loads(connection.getresponse().read(MAX_ANSWER))
    except (OSError, ValueError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return isinstance(found, dict) and found.keys() == {"engine", "store"}


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
        yield _explained("page", str(error))
    except OSError as error:
        yield Check("page", False, f"the certificate {web.certificate} and its key: {last_line(error)}", _FIX)
    else:
        if used:
            yield Check("page", True, f"{', '.join(used)} can be read")
