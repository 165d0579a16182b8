"""The nodes of a fleet, as the page and the API show them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from comemory.server.schemas import ResponseBody


class Node(ResponseBody):
    """A machine of a fleet; null where it has not said so yet."""

    name: str
    host: str | None = Field(description="Name of the machine.")
    state: Literal["starting", "up", "settling", "lost"] = Field(
        description="`settling` is back, and gets its cameras after a time without a gap; `lost` does not answer."
    )
    capacity: int = Field(description="Cameras that it may watch.")
    placed: list[str] = Field(description="The cameras that it is to watch.")
    watched: list[str] = Field(description="The cameras that it says it watches.")
    cores: int | None = Field(description="Cores that it may use.")
    load: float | None = Field(description="Mean number of busy cores in the last minute.")
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    process_bytes: int | None = Field(description="Memory of its group of cameras.")
    last_heartbeat: datetime | None = Field(description="By the clock of the node.")
    age_s: float | None = Field(description="Seconds since the last heartbeat.")
    version: str | None = Field(description="Of comemory on it.")
    error: str = Field(description="What does not work, in one line.")


class Nodes(ResponseBody):
    """The nodes; null where comemory runs on one machine."""

    nodes: list[Node] | None
