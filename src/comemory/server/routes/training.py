"""Starting and stopping the training of a camera's model, for admins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import Field

from comemory.errors import ConfigError
from comemory.live.learning.trainer import Trainer
from comemory.server.routes.cameras import Name
from comemory.server.routes.setup import REFUSED, config_errors_as_400
from comemory.server.schemas import RequestBody
from comemory.server.state import Admin, AppState, ServerState

router = APIRouter(prefix="/cameras", tags=["setup"], responses=REFUSED)


class TrainingStart(RequestBody):
    """What to train on: video that is recorded now, what was recorded before, or a folder on the server."""

    source: Literal["record", "recorded", "folder"]
    minutes: Annotated[float, Field(ge=0.1, le=10080, strict=True)] | None = Field(
        None, description="How long to record."
    )
    folder: Annotated[str, Field(min_length=1, max_length=1024)] | None = Field(None, description="Its absolute path.")


@router.post("/{name}/training", status_code=202, response_class=Response)
def start_training(name: Name, given: TrainingStart, request: Request, caller: Admin, state: AppState) -> Response:
    """Start a training, in a process of its own; `GET /system` and the stream tell how it goes. One at a time."""
    state.camera_status(name)
    trainer = _trainer(state)
    with config_errors_as_400():
        if given.source == "record":
            if given.minutes is None:
                raise ConfigError("minutes are missing: how long to record")
            trainer.start(name, record_s=given.minutes * 60)
        else:
            trainer.start(name, footage=_footage(trainer, name, given))
    state.record(request, caller, "training started", name, given.model_dump(exclude_none=True))
    return Response(status_code=202)


@router.delete("/{name}/training", status_code=204)
def stop_training(name: Name, request: Request, caller: Admin, state: AppState) -> Response:
    """Stop a training that was started here; the camera keeps its model."""
    state.camera_status(name)
    with config_errors_as_400():
        _trainer(state).stop(name)
    state.record(request, caller, "training stopped", name)
    return Response(status_code=204)


def _footage(trainer: Trainer, camera: str, given: TrainingStart) -> Path:
    if given.source == "recorded":
        folder = trainer.recorded(camera)
        if not folder.is_dir():
            raise ConfigError(f"nothing was recorded of {camera} yet: record it, or name a folder")
        return folder
    if given.folder is None or not given.folder.startswith("/"):
        raise ConfigError("expected the absolute path of a folder on the server, which begins with /")
    if not Path(given.folder).is_dir():
        raise ConfigError(f"there is no folder {given.folder}")
    return Path(given.folder)


def _trainer(state: ServerState) -> Trainer:
    if state.trainer is None:
        raise HTTPException(409, "no training can be started here: use comemory learn")
    return state.trainer
