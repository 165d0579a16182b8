"""Setting alert sinks up, for admins: added, changed, tested and removed in the settings file. Secrets only go in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, HTTPException, Request, Response

from comemory.alerts.config import SinkSettings, parse_sink_settings
from comemory.alerts.dispatcher import Dispatcher, SinkHealth
from comemory.errors import ConfigError, DeliveryError, StoreError, mask_password
from comemory.live.config import LiveSettings
from comemory.live.config.settings_file import remove_table, set_table
from comemory.live.contract import ServiceContract
from comemory.secret_values import PREFIX
from comemory.server.routes.setup import REFUSED, Name, config_errors_as_400, require_service
from comemory.server.schemas import ErrorResponse
from comemory.server.setup_schemas import AlertChange, AlertSetup, NewAlert
from comemory.server.state import Admin, AppState, ServerState, get_admin

router = APIRouter(prefix="/setup/alerts", tags=["setup"], dependencies=[Depends(get_admin)], responses=REFUSED)

SECRETS = ("url", "secret", "password")
"""Settings that are never returned: also the path of a URL may hold a token."""
CONNECT_S = 5.0
"""How long a test waits for the connection of a sink that was just changed."""


@router.get("")
def alerts(state: AppState) -> list[AlertSetup]:
    """The alert sinks, and how they do."""
    settings, file = state.engine.settings, None if state.service is None else state.service.settings_file
    own = set() if file is None else set(file.names("alerts"))
    healths = _healths(state)
    return [_view(name, sink, name in own, healths.get(name)) for name, sink in settings.alerts.items()]


@router.post("", status_code=201)
def add_alert(given: NewAlert, request: Request, caller: Admin, state: AppState) -> AlertSetup:
    """Add an alert sink; it is used at once."""
    service = require_service(state)
    _dispatcher(state)
    if given.name in state.engine.settings.alerts:
        raise HTTPException(409, f"there is an alert {given.name!r} already: choose another name")
    with config_errors_as_400():
        values = {"kind": given.kind, **_values(given, None)}
        parse_sink_settings(given.name, {key: value for key, value in values.items() if value is not None})
        _write(service, given.name, values)
    state.record(request, caller, "alert added", given.name, _shown(values))
    return _stored(state, given.name)


@router.patch("/{name}")
def change_alert(name: Name, given: AlertChange, request: Request, caller: Admin, state: AppState) -> AlertSetup:
    """Change an alert sink; what waits for it is sent by the new one."""
    service, present = require_service(state), _sink(state, name)
    _dispatcher(state)
    with config_errors_as_400():
        _require_in_file(service, name)
        values = _values(given, present)
        if values:
            _write(service, name, values)
            state.record(request, caller, "alert changed", name, _shown(values))
    return _stored(state, name)


@router.delete("/{name}", status_code=204)
def remove_alert(name: Name, request: Request, caller: Admin, state: AppState) -> Response:
    """Remove an alert sink; what waits for it is not sent any more."""
    service = require_service(state)
    _sink(state, name)

    def check(settings: LiveSettings) -> None:
        if name in settings.alerts:
            raise ConfigError(f"alerts.{name} is set by an option of the command line: change it there")

    with config_errors_as_400():
        service.change_settings(lambda document: remove_table(document, "alerts", name), check)
    state.record(request, caller, "alert removed", name)
    return Response(status_code=204)


@router.post(
    "/{name}/test", status_code=204, responses={409: {"model": ErrorResponse, "description": "It did not arrive."}}
)
def test_alert(name: Name, request: Request, caller: Admin, state: AppState) -> Response:
    """Send a test alert, and wait until it has arrived."""
    _sink(state, name)
    dispatcher, until = _dispatcher(state), time.monotonic() + CONNECT_S
    state.record(request, caller, "alert tested", name)
    while True:
        try:
            dispatcher.send_test(name)
            return Response(status_code=204)
        except DeliveryError as error:
            # A broker's connection is made in the background: a sink that was just saved has none yet.
            if "no connection" not in str(error) or time.monotonic() > until:
                raise HTTPException(409, f"the test alert did not arrive: {mask_password(str(error))}") from None
            time.sleep(0.2)


def _values(given: AlertChange, present: SinkSettings | None) -> dict[str, Any]:
    """The settings to write: those that were sent and differ.

    Raises:
        ConfigError: one would be read from the environment.
    """
    sent = given.model_dump(exclude={"name", "kind"}, exclude_unset=True)
    now = {} if present is None else present.model_dump(mode="json")
    for key, value in sent.items():
        if isinstance(value, str) and value.startswith(PREFIX) and now.get(key) != value:
            raise ConfigError(f"{value!r} can be set in the settings file only: the page does not read the environment")
    return {key: value for key, value in sent.items() if now.get(key, ...) != value and (present is None or key in now)}


def _write(service: ServiceContract, name: str, values: Mapping[str, Any]) -> None:
    def check(settings: LiveSettings) -> None:
        plain = settings.alerts[name].model_dump(mode="json")
        if any(value is not None and plain.get(key) != value for key, value in values.items()):
            raise ConfigError(f"alerts.{name} is set by an option of the command line: change it there")

    service.change_settings(lambda document: set_table(document, "alerts", name, values), check)


def _require_in_file(service: ServiceContract, name: str) -> None:
    if service.settings_file is None or name not in service.settings_file.names("alerts"):
        raise ConfigError(f"alerts.{name} is set by an option of the command line: change it there")


def _dispatcher(state: ServerState) -> Dispatcher:
    if state.service is None or state.service.dispatcher is None:
        in_fleet = "the nodes of a fleet send the alerts: set them in the settings file, then reload it"
        raise HTTPException(409, in_fleet if state.nodes else "alerts need the event store: set store.enabled = true")
    return state.service.dispatcher


def _sink(state: ServerState, name: str) -> SinkSettings:
    found = state.engine.settings.alerts.get(name)
    if found is None:
        raise HTTPException(404, f"there is no alert {name!r}")
    return found


def _healths(state: ServerState) -> Mapping[str, SinkHealth]:
    if state.service is None or state.service.dispatcher is None:
        return {}
    try:
        return state.service.dispatcher.health()
    except StoreError:
        return {}


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the audit log: that a secret was set, and not which."""
    return {key: "***" if key in SECRETS and value is not None else value for key, value in values.items()}


def _stored(state: ServerState, name: str) -> AlertSetup:
    return _view(name, _sink(state, name), True, _healths(state).get(name))


def _view(name: str, sink: SinkSettings, in_file: bool, health: SinkHealth | None) -> AlertSetup:
    plain = sink.model_dump(mode="json")
    kept = {key: plain.get(key) for key in AlertSetup.model_fields}
    known = {
        "name": name,
        "target": _target(plain),
        "stored": [key for key in SECRETS if plain.get(key)],
        "in_file": in_file and plain["kind"] != "command",
        "pending": health and health.pending,
        "delivered": health and health.delivered,
        "failed": health and health.failed,
        "last_error": health and health.last_error and mask_password(health.last_error),
        "last_delivery": health and health.last_delivery,
    }
    return AlertSetup.model_validate({**kept, **known})


def _target(plain: Mapping[str, Any]) -> str:
    """Where a sink sends, as far as it is no secret.

    >>> _target({"kind": "webhook", "url": "https://desk.lan/hook/secret"})
    'https://desk.lan'
    """
    if plain["kind"] == "mqtt":
        return f"{plain['host']}:{plain['port'] or (8883 if plain['tls'] else 1883)}"
    if plain["kind"] == "command":
        return str(plain["argv"][0])
    url = str(plain["url"])
    if url.startswith(PREFIX):
        return url
    if plain["kind"] == "apprise":
        return f"{url.partition('://')[0][:20]}://…"
    return f"{urlsplit(url).scheme}://{urlsplit(url).hostname}"
