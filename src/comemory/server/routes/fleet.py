"""The nodes of a fleet."""

from __future__ import annotations

from fastapi import APIRouter

from comemory.server.nodes import Nodes
from comemory.server.state import AppState

router = APIRouter(prefix="/nodes", tags=["system"])


@router.get("")
def nodes(state: AppState) -> Nodes:
    """The nodes of the fleet, by name; null without a fleet."""
    return Nodes(nodes=None if state.nodes is None else state.nodes())
