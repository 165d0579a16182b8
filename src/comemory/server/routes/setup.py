"""Setting the system up, for admins: cameras are added, changed, tested and removed in the settings file."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import cv2
from fastapi import APIRouter, Depends, HTTPException, Path, Request, Response

from comemory.bundle import MANIFEST
from comemory.config import build
from comemory.errors import ComemoryError, ConfigError, mask_password
from comemory.live.config import CameraSettings, LiveSettings
from comemory.live.config.overrides import Overrides
from comemory.live.config.settings_file import remove_table, set_table
from comemory.live.contract import ServiceContract
from comemory.live.service import NO_FILE
from comemory.secret_values import PREFIX
from comemory.server.schemas import ErrorResponse
from comemory.server.setup_schemas import (
    NAME_PATTERN,
    CameraChange,
    CameraPicture,
    CameraSetup,
    CameraTest,
    NewCamera,
    Setup,
)
from comemory.server.state import Admin, AppState, ServerState, get_admin
from comemory.video.source import URL_SCHEMES

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse},
    404: {"model": ErrorResponse},
    409: {"model": ErrorResponse},
}
router = APIRouter(prefix="/setup", tags=["setup"], dependencies=[Depends(get_admin)], responses=REFUSED)

Name = Annotated[str, Path(pattern=NAME_PATTERN)]
MAX_CAMERAS = 256
MASK = "***"
QUALITY = 85


@router.get("")
def setup(state: AppState) -> Setup:
    """What is set up, and whether it can be changed here."""
    settings, file = state.engine.settings, None if state.service is None else state.service.settings_file
    own = set() if file is None else set(file.names("cameras"))
    return Setup(
        file=None if file is None else str(file.path.absolute()),
        model=None if settings.model is None else str(settings.model),
        models=_known_models(settings),
        has_alerts=state.service is not None and state.service.dispatcher is not None,
        cameras=[_view(name, camera, name in own) for name, camera in settings.cameras.items()],
    )


@router.post("/cameras/test")
def test_camera(given: CameraTest, state: AppState) -> CameraPicture:
    """Open a camera once, and show a frame of it."""
    from comemory.live.capture.probe import probe_camera

    settings = state.engine.settings
    present = settings.cameras.get(given.name or "")
    with config_errors_as_400():
        url = checked_url(given.url, None if present is None else present.url)
        camera = build(CameraSettings, {"url": url, "transport": given.transport})
        found = probe_camera(camera, settings.health)
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(found.image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    jpeg = base64.b64encode(encoded.tobytes()).decode()
    return CameraPicture(width=found.size[1], height=found.size[0], rate_hz=found.rate_hz, codec=found.codec, jpeg=jpeg)


@router.post("/cameras", status_code=201)
def add_camera(given: NewCamera, request: Request, caller: Admin, state: AppState) -> CameraSetup:
    """Add a camera, and start it."""
    service = require_service(state)
    if given.name in state.engine.settings.cameras:
        raise HTTPException(409, f"there is a camera {given.name!r} already: choose another name")
    if len(state.engine.settings.cameras) >= MAX_CAMERAS:
        raise HTTPException(409, f"there are {MAX_CAMERAS} cameras already")
    values = _values(given, None)
    with config_errors_as_400():
        _change_camera(service, given.name, values)
    state.record(request, caller, "camera added", given.name, _shown(values))
    return _stored_view(state, given.name)


@router.patch("/cameras/{name}")
def change_camera(name: Name, given: CameraChange, request: Request, caller: Admin, state: AppState) -> CameraSetup:
    """Change the settings of a camera, and start it anew."""
    service, present = require_service(state), _camera(state, name)
    values = _values(given, present)
    if values:
        with config_errors_as_400():
            _require_in_file(service, name)
            _change_camera(service, name, values)
        state.record(request, caller, "camera changed", name, _shown(values))
    return _stored_view(state, name)


@router.delete("/cameras/{name}", status_code=204)
def remove_camera(name: Name, request: Request, caller: Admin, state: AppState) -> Response:
    """Stop a camera, and remove it from the settings file. Its events stay."""
    service = require_service(state)
    _camera(state, name)

    def check(settings: LiveSettings) -> None:
        if name in settings.cameras:
            raise ConfigError(_given_elsewhere(name))

    with config_errors_as_400():
        service.change_settings(lambda document: remove_table(document, "cameras", name), check)
        Overrides(state.engine.settings.out).forget(name)
    state.record(request, caller, "camera removed", name)
    return Response(status_code=204)


@contextmanager
def config_errors_as_400() -> Iterator[None]:
    """Answer with 400 where settings cannot be used, such as a damaged bundle: that is no fault of the server."""
    try:
        yield
    except ComemoryError as error:
        raise HTTPException(400, mask_password(str(error))) from None


def checked_url(given: str, present: str | None) -> str:
    """The URL of a camera that was entered on the page.

    Args:
        given: what was entered.
        present: of the camera so far, None for a new one.

    Raises:
        ConfigError: it is of another kind, or its password was not entered.
    """
    if present is not None and given == mask_password(present):
        return present
    if MASK in given:
        raise ConfigError(f"enter the password in place of {MASK}: it is not shown, and a new URL needs it again")
    if given.startswith(PREFIX):
        raise ConfigError(f"{given!r} can be set in the settings file only: the page does not read the environment")
    if any(ord(character) < 32 or ord(character) == 127 for character in given):
        raise ConfigError("the URL has control characters")
    scheme, mark, _ = given.partition("://")
    if mark and scheme.lower() not in URL_SCHEMES:
        raise ConfigError(f"the URL begins with {scheme[:20]!r}: expected one of {', '.join(URL_SCHEMES)}")
    if not mark and not given.startswith("/"):
        raise ConfigError("expected a URL such as rtsp://user:password@host/stream, or the absolute path of a file")
    return given


def require_service(state: ServerState) -> ServiceContract:
    """The service. Raises HTTPException (409) where the settings cannot be changed."""
    if state.service is None or state.service.settings_file is None:
        raise HTTPException(409, NO_FILE)
    return state.service


def _camera(state: ServerState, name: str) -> CameraSettings:
    found = state.engine.settings.cameras.get(name)
    if found is None:
        raise HTTPException(404, f"there is no camera {name!r}")
    return found


def _values(given: CameraChange, present: CameraSettings | None) -> dict[str, Any]:
    """The settings to write: those that were sent and differ from the present ones; None where the default is wanted."""
    sent = given.model_dump(exclude={"name"}, exclude_unset=True)
    with config_errors_as_400():
        if sent.get("url") is not None:
            sent["url"] = checked_url(sent["url"], None if present is None else present.url)
        elif "url" in sent:
            raise ConfigError("a camera needs a URL")
        if sent.get("model") is not None and not sent["model"].startswith("/"):
            raise ConfigError("the model needs an absolute path, which begins with /")
        defaults = CameraSettings(url="-").model_dump(mode="json")
        now = defaults if present is None else present.model_dump(mode="json")
        wanted = {key: defaults[key] if value is None else value for key, value in sent.items()}
        plain = build(CameraSettings, {**now, **wanted}).model_dump(mode="json")
    return {
        key: None if plain[key] == defaults[key] else plain[key]
        for key in sent
        if present is None or plain[key] != now[key]
    }


def _change_camera(service: ServiceContract, name: str, values: dict[str, Any]) -> None:
    def check(settings: LiveSettings) -> None:
        """Refuse a change that does nothing, because the command line says otherwise."""
        camera = settings.cameras[name].model_dump(mode="json")
        if any(value is not None and camera[key] != value for key, value in values.items()):
            raise ConfigError(_given_elsewhere(name))

    service.change_settings(_setter("cameras", name, values), check)
    Overrides(service.engine.settings.out).forget(name, values.keys())


def _setter(group: str, name: str, values: dict[str, Any]) -> Callable[[TOMLDocument], None]:
    return lambda document: set_table(document, group, name, values)


def _require_in_file(service: ServiceContract, name: str) -> None:
    if service.settings_file is None or name not in service.settings_file.names("cameras"):
        raise ConfigError(_given_elsewhere(name))


def _given_elsewhere(name: str) -> str:
    return f"{name} is set by an option of the command line: change it there"


def _shown(values: dict[str, Any]) -> dict[str, Any]:
    """Values for the audit log."""
    return {key: mask_password(value) if isinstance(value, str) else value for key, value in values.items()}


def _stored_view(state: ServerState, name: str) -> CameraSetup:
    return _view(name, _camera(state, name), True)


def _view(name: str, camera: CameraSettings, in_file: bool) -> CameraSetup:
    shown = camera.model_dump(mode="json", include=set(CameraSetup.model_fields))
    return CameraSetup.model_validate({**shown, "name": name, "url": mask_password(camera.url), "in_file": in_file})


def _known_models(settings: LiveSettings) -> list[str]:
    """Bundles in use, and those that were trained here."""
    used = {path for path in (settings.model, *(one.model for one in settings.cameras.values())) if path is not None}
    trained = {path for place in ("models", "cameras/*/models") for path in settings.out.glob(f"{place}/*/{MANIFEST}")}
    return sorted(map(str, used | {path.parent.absolute() for path in trained}))
