"""The processes of one training: how they find each other, wait for each other, and which of them reports.

Every process runs the same program. The first one writes the checkpoint, the log and the bundle, and prints; the others
only train. Processes come from torchrun, Ray Train or any launcher that sets the same variables, else from Fabric itself.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from comemory.errors import ComemoryError, TrainingError
from comemory.training.config import TrainSettings

_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun and Ray Train set. Fabric's own launcher sets fewer, and then starts the other processes itself."""

_WAIT = timedelta(days=7)
"""How long a process waits while another one prepares frames: the flow of a long recording takes more than the half hour
that torch allows for a step. A process that dies ends the wait at once."""

_MEET_S = 1800.0
"""How long processes wait for each other at the start, as torch does."""

_LOOK_S = 0.05
"""Seconds between two looks at who has arrived."""

_TEXT_BYTES = 1000
"""Length of an error that processes exchange."""

_LOST = re.compile(r"gloo|nccl|connection|timed out|socket|broken pipe|peer", re.IGNORECASE)
"""What the errors of torch's collectives say when another process is gone; their type is often a plain RuntimeError."""


class OtherProcessError(TrainingError):
    """Raised in all but the first process of a training: the first one reports the reason."""


class LostProcessError(TrainingError):
    """Another process of the training ended, or cannot be reached."""


class _Launched(TorchElasticEnvironment):
    """Processes that another program started, on nodes that may have different numbers of them."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Accept any number of processes on a node. Fabric would demand the same number on each."""


def n_launched() -> int:
    """The number of processes that a launcher has started for this training; 1 without one."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _VARIABLES) else 1


def is_restarted() -> bool:
    """Whether torchrun started the processes again because one of them was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def open_fabric(settings: TrainSettings, precision: Any) -> Fabric:
    """Fabric on the processes that a launcher has started, else on the devices of the settings.

    Raises:
        TrainingError: the settings ask for another number of devices than the launcher has started processes.
    """
    # Every process would say that it was found; only the first one is to print.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if n_launched() == 1:
        return Fabric(accelerator=settings.accelerator, devices=settings.devices, precision=precision)
    n_local = int(os.environ["LOCAL_WORLD_SIZE"])
    if settings.devices not in ("auto", n_local):
        raise TrainingError(
            f"train.devices={settings.devices}, but the launcher has started {n_local} processes on this machine: "
            "leave train.devices unset"
        )
    if not distributed.is_initialized():
        _connect(settings)
    strategy = DDPStrategy(cluster_environment=_Launched())
    return Fabric(accelerator=settings.accelerator, devices=n_local, precision=precision, strategy=strategy)


def _connect(settings: TrainSettings) -> None:
    """Connect the processes that a launcher has started. Ray Train has done it before."""
    on_gpu = settings.accelerator != "cpu" and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    rank, n_processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store, _, _ = next(rendezvous("env://", rank, n_processes))
    store = distributed.PrefixStore(_meet(store, rank, n_processes), store)  # type: ignore[attr-defined]
    distributed.init_process_group("nccl" if on_gpu else "gloo", store=store, rank=rank, world_size=n_processes)


def _meet(store: Any, rank: int, n_processes: int) -> str:
    """A name that the processes of this start have in common, and those of earlier starts had not.

    torchrun (torch 2.13) keeps its store when it starts the processes again. A process that is early would read the
    addresses of those that are gone, and fail to connect. Nothing that torchrun sets tells the starts of all nodes apart.
    """
    own = uuid.uuid4().hex
    store.set(f"name/{rank}", own)
    end_s = time.monotonic() + _MEET_S
    while time.monotonic() < end_s:
        if rank == 0:
            names = ",".join(store.get(f"name/{number}").decode() for number in range(n_processes))
            store.set("names", names)
        names = store.get("names").decode()
        if own in names:
            meeting = hashlib.sha256(names.encode()).hexdigest()
            store.set(f"ready/{meeting}/{rank}", "")
            # Only living processes say that they are ready, each to the names that it stands among.
            if store.check([f"ready/{meeting}/{number}" for number in range(n_processes)]):
                return meeting
        time.sleep(_LOOK_S)
    raise TrainingError(f"the {n_processes} processes of the training did not meet within {_MEET_S:.0f} s")


@contextmanager
def watch_processes(fabric: Fabric) -> Iterator[None]:
    """Turn the errors that torch raises when another process is gone into one line.

    Raises:
        LostProcessError: in the first process. OtherProcessError: in the others.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, ComemoryError) or fabric.world_size == 1 or not _LOST.search(str(error)):
            raise
        if not fabric.is_global_zero:
            raise OtherProcessError("another process of the training was lost") from None
        raise LostProcessError(
            f"another process of the training was lost ({_short(error)}): start the command again with --resume"
        ) from None


class Processes:
    """The processes of a training, once they have met.

    Args:
        fabric: launched.

    Attributes:
        rank: of this process, from 0.
        n_processes: of the training.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self.rank, self.n_processes = fabric.global_rank, fabric.world_size
        # A group of its own, because only these waits may take longer than a step.
        self._group: Any = distributed.new_group(backend="gloo", timeout=_WAIT) if self.n_processes > 1 else None

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    @property
    def is_first_of_node(self) -> bool:
        """Whether this process is the first one on its machine."""
        return self.n_processes == 1 or self._fabric.local_rank == 0

    @contextmanager
    def fail_together(self) -> Iterator[None]:
        """Wait at the end until all processes are there. An error in one of them ends all.

        Raises:
            ComemoryError: in the first process: its own, else that of the first process that has one.
            OtherProcessError: in the others.
        """
        if self._group is None:
            yield
            return
        error: ComemoryError | None = None
        try:
            yield
        except ComemoryError as raised:
            error = raised
        with watch_processes(self._fabric):
            texts = self._gather("" if error is None else f"{socket.gethostname()}: {error}")
        if not any(texts):
            return
        if not self.is_first:
            raise OtherProcessError(next(filter(None, texts)))
        if error is not None:
            raise error
        rank, text = next((rank, text) for rank, text in enumerate(texts) if text)
        raise TrainingError(f"process {rank} of the training, on {text}")

    def _gather(self, text: str) -> Sequence[str]:
        """A text of each process."""
        own = torch.zeros(_TEXT_BYTES, dtype=torch.uint8)
        content = text.encode()[:_TEXT_BYTES]
        own[: len(content)] = torch.tensor(list(content), dtype=torch.uint8)
        parts = [torch.empty_like(own) for _ in range(self.n_processes)]
        distributed.all_gather(parts, own, group=self._group)
        return [bytes(part.tolist()).rstrip(b"\0").decode(errors="ignore") for part in parts]


def broadcast_bytes(fabric: Fabric, content: bytes | None) -> bytes | None:
    """What the first process has, in all of them: nodes need no common disk for it."""
    if fabric.world_size == 1:
        return content
    length = fabric.to_device(torch.tensor([-1 if content is None else len(content)]))
    distributed.broadcast(length, 0)
    n_bytes = int(length.item())
    if n_bytes < 0:
        return None
    whole = torch.frombuffer(bytearray(content or bytes(n_bytes)), dtype=torch.uint8) if n_bytes else None
    if whole is None:
        return b""
    sent: Tensor = fabric.to_device(whole)
    distributed.broadcast(sent, 0)
    return bytes(sent.cpu().numpy().tobytes())


def _short(error: Exception) -> str:
    """The reason in an error of torch, without the place in its source."""
    return " ".join(re.sub(r"\[\S+:\d+\]", "", str(error).splitlines()[0]).split()).rstrip(".")[:120]
