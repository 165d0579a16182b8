"""The files of a fleet on its shared path: the plan of the placing process, and what the group of each node says.

OUT/fleet/plan.json                 who watches what, with which settings; written by the placing process alone
OUT/fleet/viewed.json               cameras that somebody looks at now
OUT/fleet/NODE/heartbeat.json       written each second by the group of the node
OUT/fleet/NODE/pictures/CAMERA.npz  newest image of a camera that somebody looks at
OUT/fleet/NODE/site.json            name and place of the node's media folder, see `store.sites`
OUT/fleet/NODE/media, events.jsonl  as in the output folder of one machine

Each file is written whole or not at all, and has one writer.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from comemory.cluster.placement import NodeState
from comemory.config import build
from comemory.errors import ConfigError, SourceError
from comemory.files import write_bytes
from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState, CameraStatus, Message, Metrics, Snapshot

if TYPE_CHECKING:
    from pydantic import TypeAdapter

PICTURE_QUALITY = 85


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node as the placing process sees it.

    Attributes:
        capacity: cameras that it may watch.
        state: see `placement.NodeHealth`.
    """

    capacity: int
    state: NodeState


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What the groups are to do. A group that cannot read it goes on with the last one that it read.

    Attributes:
        number: counts the plans; a group takes a higher one only.
        settings: of the system, with all cameras.
        nodes: by name.
        cameras: camera to the node that watches it; cameras without room are missing.
        pauses: as in `pauses.json`.
        verdicts: by camera, counts the verdicts on its events: a group reads them again when it changes.
        views: by camera, counts the times that its reference view was reset.
        is_stopped: the fleet ends: groups stop, and are not started again.
        settings_error: why `settings` are not those of the file but older ones; empty where they are.
    """

    number: int
    settings: LiveSettings
    nodes: Mapping[str, PlannedNode] = field(default_factory=dict)
    cameras: Mapping[str, str] = field(default_factory=dict)
    pauses: Mapping[str, Mapping[str, Mapping[str, str | None]]] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)
    views: Mapping[str, int] = field(default_factory=dict)
    is_stopped: bool = False
    settings_error: str = ""

    def to_json(self) -> str:
        """One line. It may hold passwords of cameras."""
        plain = {
            name: getattr(self, name) for name in ("number", "cameras", "pauses", "verdicts", "views", "is_stopped")
        }
        plain["nodes"] = {name: asdict(node) for name, node in self.nodes.items()}
        plain["settings"] = self.settings.model_dump(mode="json", serialize_as_any=True)
        return json.dumps(plain) + "\n"

    @staticmethod
    def from_json(text: str, fallback: LiveSettings | None = None) -> FleetPlan:
        """Read `to_json`.

        Args:
            text: of the file.
            fallback: settings to use where those of the plan are not valid for this version of comemory: a node that was
                not updated yet must still see which cameras were moved, and that the fleet is stopped.

        Raises:
            ConfigError: the settings are not valid for this version of comemory.
            ValueError, TypeError, LookupError: it is no plan.
        """
        plain = json.loads(text)
        nodes = {name: PlannedNode(**node) for name, node in plain.pop("nodes").items()}
        values, error = plain.pop("settings"), ""
        try:
            settings = build(LiveSettings, values)
        except ConfigError as failure:
            if fallback is None:
                raise
            settings, error = fallback, f"the settings are of another version of comemory: {failure}"
        return FleetPlan(settings=settings, nodes=nodes, settings_error=error, **plain)


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the group of a node says of itself, once a second.

    Attributes:
        node: its name.
        host: name of the machine.
        pid: of the group's process.
        started: when the process started, UTC.
        count: of heartbeats since then.
        time: now, by the clock of the node, UTC.
        plan: number of the plan in force; 0 before the first.
        version: of comemory.
        cores: that the process may use.
        load: mean number of busy cores of the machine in the last minute.
        memory_total_bytes: of the machine; None where it does not say.
        memory_available_bytes: of the machine.
        process_bytes: memory of the group.
        cameras: the status of each camera that it watches.
        metrics: of its engine; None before it runs.
        messages: of the last seconds, each with a number that no other message of the process has.
        error: what does not work, in one line.
    """

    node: str
    host: str
    pid: int
    started: datetime
    count: int
    time: datetime
    plan: int
    version: str
    cores: int
    load: float
    memory_total_bytes: int | None
    memory_available_bytes: int | None
    process_bytes: int
    cameras: tuple[CameraStatus, ...] = ()
    metrics: Metrics | None = None
    messages: tuple[tuple[int, Message], ...] = ()
    error: str = ""

    @property
    def beat(self) -> tuple[str, int]:
        """Differs from one heartbeat to the next."""
        return self.started.isoformat(), self.count

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self), default=lambda moment: moment.isoformat()) + "\n"


@cache
def _heartbeats() -> TypeAdapter[Heartbeat]:
    from pydantic import TypeAdapter

    return TypeAdapter(Heartbeat)


class FleetFolder:
    """The folder `OUT/fleet`.

    Args:
        out: the output folder, on a path that is the same on all nodes.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.absolute() / "fleet"

    def node(self, name: str) -> Path:
        """The folder of a node."""
        return self.path / name

    def nodes(self) -> list[str]:
        """The nodes that have said something."""
        return sorted(path.parent.name for path in self.path.glob("*/heartbeat.json"))

    def lock(self) -> IO[str]:
        """Claim the fleet for this process, until the file is closed or the process ends.

        Raises:
            ConfigError: another process places its cameras.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = (self.path / ".lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.close()
            raise ConfigError(
                f"another comemory serve --cluster runs the fleet in {self.path}: stop that one, or choose another --out"
            ) from None
        return handle

    def write_plan(self, plan: FleetPlan) -> None:
        """Replace the plan.

        Raises:
            SourceError: it cannot be written.
        """
        write_bytes(self.path / "plan.json", plan.to_json().encode(), private=True)

    def read_plan(self, fallback: LiveSettings | None = None) -> FleetPlan | None:
        """The plan; None before the first. See `FleetPlan.from_json`.

        Raises:
            SourceError: it cannot be read.
            ConfigError: it is not one of this version of comemory.
        """
        path = self.path / "plan.json"
        try:
            return FleetPlan.from_json(path.read_text(encoding="utf-8"), fallback)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SourceError(f"cannot read {path}: {error.strerror or error}") from None
        except ConfigError:
            raise
        except (ValueError, TypeError, LookupError, AttributeError):
            raise ConfigError(
                f"{path} is not a plan of this version of comemory: stop the fleet, and delete it"
            ) from None

    def plan_stamp(self) -> tuple[int, int]:
        """Changes with the plan; zeros where it cannot be seen."""
        return _stamp(self.path / "plan.json")

    def write_heartbeat(self, heartbeat: Heartbeat) -> None:
        """Replace the heartbeat of a node, without waiting for the disk.

        Raises:
            OSError: it cannot be written.
        """
        _replace(self.node(heartbeat.node) / "heartbeat.json", heartbeat.to_json().encode())

    def read_heartbeat(self, node: str) -> Heartbeat | None:
        """The last heartbeat of a node; None where there is none that can be read."""
        try:
            text = (self.node(node) / "heartbeat.json").read_text(encoding="utf-8")
            return _heartbeats().validate_python(json.loads(text))
        except (OSError, ValueError):
            return None

    def write_viewed(self, cameras: list[str]) -> None:
        """Say which cameras somebody looks at now. The file changes with each call."""
        with suppress(OSError):
            _replace(self.path / "viewed.json", json.dumps(cameras).encode())

    def read_viewed(self) -> tuple[tuple[int, int], list[str]]:
        """What changes with each `write_viewed`, and the cameras."""
        path = self.path / "viewed.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return _stamp(path), [str(camera) for camera in found]
        except (OSError, ValueError, TypeError):
            return (0, 0), []

    def write_picture(self, node: str, camera: str, snapshot: Snapshot) -> None:
        """Write the newest image of a camera.

        Raises:
            OSError: it cannot be written.
        """
        import cv2
        import numpy as np

        _, jpeg = cv2.imencode(".jpg", snapshot.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, PICTURE_QUALITY])
        about = {"time": snapshot.time.isoformat(), "state": str(snapshot.state), "score": snapshot.score}
        parts = {"jpeg": jpeg, "about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
        if snapshot.heat is not None:
            parts["heat"] = np.round(255 * snapshot.heat).astype(np.uint8)
        content = BytesIO()
        np.savez(content, allow_pickle=False, **parts)
        _replace(self._picture(node, camera), content.getvalue())

    def read_picture(self, node: str, camera: str) -> Snapshot | None:
        """The image that `write_picture` wrote last; None where there is none."""
        import cv2
        import numpy as np

        try:
            with np.load(BytesIO(self._picture(node, camera).read_bytes()), allow_pickle=False) as parts:
                about: dict[str, Any] = json.loads(parts["about"].tobytes())
                image = cv2.imdecode(parts["jpeg"], cv2.IMREAD_COLOR_RGB)
                heat = parts["heat"].astype(np.float32) / 255 if "heat" in parts else None
            if image is None:
                return None
            time, state = datetime.fromisoformat(about["time"]), CameraState(about["state"])
            return Snapshot(np.asarray(image, np.uint8), heat, about["score"], time, state)
        except (OSError, ValueError, LookupError, TypeError, EOFError):
            return None

    def remove_picture(self, node: str, camera: str) -> None:
        """Delete the image of a camera."""
        with suppress(OSError):
            self._picture(node, camera).unlink(missing_ok=True)

    def _picture(self, node: str, camera: str) -> Path:
        return self.node(node) / "pictures" / f"{camera}.npz"


def utc_now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def _stamp(path: Path) -> tuple[int, int]:
    """Changes with the file. It is opened for that: a network file system asks its server then, and not for `stat` alone."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_ino)


def _replace(path: Path, content: bytes) -> None:
    """Write a small file whole or not at all. It need not survive a power cut: the next one comes in a second."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}-{secrets.token_hex(6)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
