"""The HTTP server: listening, TLS, shutdown."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI

from comemory.errors import ConfigError
from comemory.live.config import WebSettings
from comemory.server.http_protocol import TimedProtocol
from comemory.server.middleware import LOOPBACK_NAMES, is_loopback
from comemory.server.state import Proxy, close_streams

GRACE_S = 1
CERTIFICATE_CHECK_S = 10.0
log = logging.getLogger(__name__)


def allowed_hosts(settings: WebSettings) -> Iterable[str] | None:
    """The names that the page may be requested by; None for any.

    On the loopback, a name must be one of this machine's or of the settings. Elsewhere any name is allowed unless the
    settings name some: there a password is required, and its cookie is bound to the name it was set for.
    """
    named = {*settings.hosts}
    if settings.public_url and (host := urlsplit(settings.public_url).hostname):
        named.add(host)
    if is_loopback(settings.host) or settings.hosts:
        return {*named, *LOOPBACK_NAMES, settings.host}
    return None


def require_password(settings: WebSettings, required: bool) -> None:
    """Refuse to listen where others can connect and no login is required.

    Raises:
        ConfigError: that is so.
    """
    if not required and not is_loopback(settings.host):
        raise ConfigError(
            f"others can reach {settings.host}, and there is no password: set one with comemory serve --set-password, "
            "or listen on 127.0.0.1"
        )


def bind(settings: WebSettings) -> socket.socket:
    """A listening socket.

    Raises:
        ConfigError: the address is taken, not allowed or not of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((settings.host.strip("[]"), settings.port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"cannot listen on {settings.host}:{settings.port}: {reason}; choose another web.host or web.port"
        ) from None
    return listening


def page_url(settings: WebSettings, listening: socket.socket) -> str:
    """The URL of the page for a browser on this machine."""
    port = listening.getsockname()[1]
    anywhere = settings.host in ("0.0.0.0", "::")
    host = "localhost" if anywhere else settings.host.strip("[]")
    scheme = "https" if settings.certificate else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"


class Server(uvicorn.Server):
    """A server that reports when it listens, and when it shuts down."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None], on_shutdown: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready, self._on_shutdown = on_ready, on_shutdown

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then report it."""
        await super().startup(sockets=sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the streaming responses, which have no end of their own, then everything else."""
        self._on_shutdown()
        await super().shutdown(sockets=sockets)


def make_server(app: FastAPI, settings: WebSettings, on_ready: Callable[[], None] = lambda: None) -> Server:
    """A server that is not started: `run(sockets=[bind(settings)])` serves until `should_exit` is set.

    Raises:
        ConfigError: the certificate or its key cannot be used.
    """
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=32 * 1024,
        ssl_certfile=settings.certificate,
        ssl_keyfile=settings.key,
        ws="none",
        http=_protocol(settings),
        loop="asyncio",
        lifespan="on",
    )
    try:
        config.load()
    except OSError as error:
        raise ConfigError(f"cannot use the certificate {settings.certificate} and its key: {error}") from None
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    return Server(config, on_ready, lambda: close_streams(app))


def _protocol(settings: WebSettings) -> type[TimedProtocol]:
    """The protocol of the settings: a trusted proxy holds the connections of many clients."""
    return type("Protocol", (TimedProtocol,), {"exempt": frozenset(settings.trusted_proxies)})


def proxy_of(settings: WebSettings) -> Proxy:
    """The proxies of the settings."""
    is_https = (settings.public_url or "").lower().startswith("https://")
    return Proxy(frozenset(settings.trusted_proxies), settings.user_header, is_https)


def _renew_certificate(server: uvicorn.Server, settings: WebSettings) -> None:
    """Load the certificate again when its file has changed: new connections get it, open ones go on."""
    served, files = server.config.ssl, (settings.certificate, settings.key)
    loaded = _stamps(files)
    while not server.should_exit:
        time.sleep(CERTIFICATE_CHECK_S)
        if served is not None and settings.certificate is not None and (present := _stamps(files)) != loaded:
            try:
                _replace_certificate(served, settings.certificate, settings.key)
            except (OSError, ssl.SSLError) as error:
                log.error("cannot use the new certificate %s, the old one stays: %s", settings.certificate, error)
            else:
                log.warning("the certificate %s was loaded again", settings.certificate)
            loaded = present


def _replace_certificate(served: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Give all connections that begin from now on another certificate.

    Loading it into the context that is served would change certificate and key one after the other: a connection that begins in
    between fails, and a key that does not fit would leave the new certificate there.
    """
    renewed = ssl.SSLContext(served.protocol)
    renewed.load_cert_chain(certificate, key)
    renewed.verify_mode = served.verify_mode

    def use_renewed(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = renewed

    served.sni_callback = use_renewed


def _stamps(files: Iterable[Path | None]) -> list[int]:
    """Change times of files, 0 for those that are missing."""
    stamps = []
    for file in files:
        try:
            stamps.append(0 if file is None else file.stat().st_mtime_ns)
        except OSError:
            stamps.append(0)
    return stamps


@contextmanager
def serving(app: FastAPI, settings: WebSettings, on_end: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Serve in a thread, so that the main one is free for signals; gives the URL of the page once it listens.

    Args:
        app: what is served.
        settings: of the web page.
        on_end: called when the server has ended, for any reason.

    Raises:
        ConfigError: the address or the certificate cannot be used, or the server does not start.
    """
    ready = threading.Event()
    server = make_server(app, settings, ready.set)
    listening = bind(settings)

    def run() -> None:
        try:
            server.run(sockets=[listening])
        finally:
            ready.set()
            on_end()

    thread = threading.Thread(target=run, name="page", daemon=True)
    thread.start()
    if server.config.ssl is not None:
        threading.Thread(target=_renew_certificate, args=(server, settings), name="certificate", daemon=True).start()
    try:
        ready.wait()
        if not server.started:
            raise ConfigError(f"the page does not start on {settings.host}:{settings.port}: see the log above")
        yield page_url(settings, listening)
    finally:
        server.should_exit = True
        thread.join(GRACE_S + 0.2)
        listening.close()
