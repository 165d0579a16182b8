"""`comemory serve`: what it refuses at the start, connections, shutdown."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import re
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Running, wait_for

from comemory.cli import main
from comemory.errors import ConfigError
from comemory.live import engine as engine_module
from comemory.live import service
from comemory.live.config import WebSettings, read_live
from comemory.live.engine import Engine
from comemory.server import serve as serving_module
from comemory.server.auth import Auth
from comemory.server.auth_file import load_credentials
from comemory.server.http_protocol import TimedProtocol
from comemory.server.middleware import is_loopback
from comemory.server.serve import allowed_hosts, bind, make_server, page_url, require_password, serving

CAMERA = ("--camera", "gate=rtsp://user:hunter2@127.0.0.1:9/x", "--model", "nowhere")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["serve", *map(str, arguments)])
    assert isinstance(left.value.code, int)
    return left.value.code


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_others_are_not_let_near_without_a_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    assert run(*CAMERA, "--out", tmp_path / "live", "--host", host) == 2
    said = capsys.readouterr().err
    assert "comemory serve --set-password" in " ".join(said.split())
    assert "hunter2" not in said


def test_a_password_is_stored_as_a_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    assert run("--out", tmp_path / "live", "--set-password") == 0
    file = tmp_path / "live" / "access.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "correct horse" not in file.read_text() + "".join(capsys.readouterr())
    assert Auth(load_credentials(file)).login("correct horse battery") is not None


@pytest.mark.parametrize(("role", "is_said"), [("viewer", True), ("admin", False)])
def test_a_password_of_another_role_says_what_it_takes_from_the_others(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    role: str,
    is_said: bool,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    assert run("--out", tmp_path / "live", "--set-password", "--role", role) == 0
    said = " ".join("".join(capsys.readouterr()).split())
    assert ("only one of the role admin gives all rights" in said) is is_said


def test_a_token_is_shown_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--out", tmp_path / "live", "--add-token", "backup") == 0
    token = capsys.readouterr().out.strip()
    file = tmp_path / "live" / "access.json"
    assert token not in file.read_text()
    assert Auth(load_credentials(file)).authenticate(None, f"Bearer {token}") is not None
    assert run("--out", tmp_path / "live", "--remove-token", "backup") == 0
    assert not Auth(load_credentials(file)).is_required
    assert run("--out", tmp_path / "live", "--remove-token", "backup") == 2


def test_the_file_says_where_it_is_kept(tmp_path: Path) -> None:
    (tmp_path / "live.toml").write_text('out = "here"\n')
    assert run("--config", tmp_path / "live.toml", "--add-token", "backup") == 0
    assert (tmp_path / "here" / "access.json").is_file()


def test_a_short_password_and_a_wrong_variable_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("short\n"))
    assert run("--out", tmp_path / "live", "--set-password") == 2
    assert run(*CAMERA, "--out", tmp_path / "live", "--set", "web.password=env:NO_SUCH_VARIABLE") == 2
    assert "NO_SUCH_VARIABLE" in capsys.readouterr().err
    with (tmp_path / "password").open("wb") as file:
        file.write("größer als acht".encode("latin-1"))
    with (tmp_path / "password").open(encoding="utf-8") as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        assert run("--out", tmp_path / "live", "--set-password") == 2
    assert "not in UTF-8" in capsys.readouterr().err


def test_the_image_asks_where_it_is_told_whether_the_page_lives(running: Running) -> None:
    file = Path(__file__).resolve().parents[2] / "deploy" / "Containerfile"
    asked = re.search(r"^HEALTHCHECK .*\\\n  CMD (\[.*\])$", file.read_text(encoding="utf-8"), re.MULTILINE)
    assert asked is not None
    _, *arguments = json.loads(asked[1])

    def asked_of(url: str) -> int:
        return subprocess.run(
            [sys.executable, *arguments], env={"HEALTH_URL": url}, stderr=subprocess.DEVNULL
        ).returncode

    assert asked_of(f"{running.url}/healthz") == 0
    assert asked_of(f"{running.url}/nothing") != 0


def test_a_bundle_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*CAMERA, "--out", tmp_path / "live", "--port", 0) == 1
    assert "not a bundle" in capsys.readouterr().err


def test_a_start_that_failed_does_not_kill_the_process_later(tmp_path: Path) -> None:
    program = (
        "import time\nfrom comemory.cli import main\nfrom comemory.live import service\nservice.HARD_END_S = 0.5\n"
        "try:\n    main(['serve', *__import__('sys').argv[1:]])\nexcept SystemExit as left:\n    assert left.code == 1\n"
        "time.sleep(1.5)\nprint('alive')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *CAMERA, "--out", str(tmp_path / "live"), "--port", "0"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout.endswith("alive\n"), done.stderr
    assert not (tmp_path / "live" / service.HANG_REPORT).exists()


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            bind(WebSettings(port=port))
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"):
        bind(WebSettings(host="192.0.2.1", port=0))


def test_a_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    from fastapi import FastAPI

    (tmp_path / "shelf.pem").write_text("no certificate")
    for path in (tmp_path / "shelf.pem", tmp_path / "none.pem"):
        with pytest.raises(ConfigError, match="certificate"):
            make_server(FastAPI(), WebSettings(certificate=path, key=path))


def certificate(folder: Path, name: str) -> None:
    """A certificate of a name that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    made += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "certificate.pem")]
    subprocess.run(made, check=True, capture_output=True)


@pytest.fixture
def https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """The address of a page with a certificate in `tmp_path`, which it reads again as soon as that changes."""
    from comemory.server.app import create_app

    monkeypatch.setattr(serving_module, "CERTIFICATE_CHECK_S", 0.1)
    certificate(tmp_path, "old.example")
    settings = WebSettings(port=0, certificate=tmp_path / "certificate.pem", key=tmp_path / "key.pem")
    engine = Engine(read_live(None, {"model": "nowhere", "out": str(tmp_path / "live")}))
    app = create_app(engine, None, Auth(load_credentials(tmp_path / "access.json")))
    with serving(app, settings) as address:
        yield "127.0.0.1", int(address.rstrip("/").rpartition(":")[2])


def test_a_renewed_certificate_is_used_without_a_restart(tmp_path: Path, https: tuple[str, int]) -> None:
    first = ssl.get_server_certificate(https)
    for name in ("new.example", "newer.example"):
        certificate(tmp_path, name)
        new = (tmp_path / "certificate.pem").read_text(encoding="ascii")
        wait_for(lambda new=new: ssl.get_server_certificate(https).split() == new.split())
        assert first.split() != new.split()


def test_a_certificate_whose_key_does_not_fit_leaves_the_old_one_in_use(
    tmp_path: Path, https: tuple[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    first = ssl.get_server_certificate(https)
    (tmp_path / "other").mkdir()
    certificate(tmp_path / "other", "new.example")
    shutil.copy(tmp_path / "other" / "certificate.pem", tmp_path)
    wait_for(lambda: "the old one stays" in caplog.text)
    assert ssl.get_server_certificate(https).split() == first.split()
    shutil.copy(tmp_path / "other" / "key.pem", tmp_path)
    new = (tmp_path / "certificate.pem").read_text(encoding="ascii")
    wait_for(lambda: ssl.get_server_certificate(https).split() == new.split())


def test_open_streams_do_not_delay_the_end(tmp_path: Path) -> None:
    from comemory.server.app import create_app

    engine = Engine(read_live(None, {"model": "nowhere", "out": str(tmp_path / "live")}))
    app = create_app(engine, None, Auth(load_credentials(tmp_path / "access.json")))
    with serving(app, WebSettings(port=0)) as address:
        connection = http.client.HTTPConnection("127.0.0.1", int(address.rstrip("/").rpartition(":")[2]), timeout=10)
        connection.request("GET", "/api/v1/stream")
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.readline()
    assert b"event: end" not in answer.read(), "it was closed, and did not wait for the end of the process"
    connection.close()


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine without cameras, not started."""
    return Engine(read_live(None, {"model": "nowhere", "out": str(tmp_path / "live")}))


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Iterator[int]:
    """Of a page that has little patience and room for few."""
    from comemory.server.app import create_app

    for name, value in (("request_timeout_s", 1.0), ("max_per_client", 8), ("max_connections", 16)):
        monkeypatch.setattr(TimedProtocol, name, value)
    app = create_app(engine, None, Auth(load_credentials(tmp_path / "access.json")))
    engine.start()
    with serving(app, WebSettings(port=0)) as address:
        yield int(address.rstrip("/").rpartition(":")[2])
    engine.stop()


def begin_requests(port: int, n: int, begun: bytes) -> list[socket.socket]:
    """Connections that send this and no more."""
    opened = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(n)]
    for one in opened:
        one.sendall(begun)
    return opened


def status(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    found = connection.getresponse().status
    connection.close()
    return found


def is_closed(one: socket.socket) -> bool:
    """Whether the server closes it within the time that it waits for a request, and a little more."""
    one.settimeout(60)
    try:
        while one.recv(65536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def health(port: int) -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    found = answer.status, json.loads(answer.read())
    connection.close()
    return found


def test_the_health_is_that_of_the_engine(port: int, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    well = (200, {"status": "ok"})
    assert health(port) == well
    monkeypatch.setattr(engine_module, "HANG_S", 2.0)
    with engine._workers._ready:  # no worker can ask for a frame
        wait_for(lambda: health(port) == (503, {"status": "no worker makes progress"}))
    wait_for(lambda: health(port) == well)
    engine.stop()
    assert health(port) == (503, {"status": "the engine has stopped"})


@pytest.mark.parametrize("length", [b"Content-Length: 5", b"content-length: 0"])
def test_a_request_with_two_ends_is_refused_and_nothing_behind_it_is_read(port: int, length: bytes) -> None:
    head = b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\n" + length + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
    behind = b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    (one,) = begin_requests(port, 1, head + behind)
    answer = b""
    while more := one.recv(65536):
        answer += more
    one.close()
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET / HTTP/1.1\r\n", b"POST /api/v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Length: 30\r\n\r\n{"],
)
def test_requests_that_never_end_are_not_waited_for(port: int, begun: bytes) -> None:
    opened = begin_requests(port, 30, begun)
    assert [status(port, path) for path in ("/healthz", "/", "/api/v1/cameras")] == [200, 200, 200]
    assert all(map(is_closed, opened))
    for one in opened:
        one.close()


def test_a_second_request_that_never_ends_is_not_waited_for_either(port: int) -> None:
    (one,) = begin_requests(port, 1, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(1.5)
    assert one.recv(65536).startswith(b"HTTP/1.1 200")
    one.sendall(b"GET / HTTP/1.1\r\n")
    assert is_closed(one)
    one.close()


def test_a_place_that_holds_too_many_streams_is_refused_all_but_the_probes(port: int) -> None:
    opened = begin_requests(port, 8, b"GET /api/v1/stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert all(one.recv(12) == b"HTTP/1.1 200" for one in opened)
    assert [status(port, path) for path in ("/", "/healthz")] == [503, 200]
    time.sleep(1.5)
    opened.pop().close()
    for one in opened:
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            assert one.recv(65536)
    deadline = time.monotonic() + 60
    while status(port, "/") != 200:
        assert time.monotonic() < deadline
    for one in opened:
        one.close()


def test_names() -> None:
    assert allowed_hosts(WebSettings(host="0.0.0.0")) is None
    assert set(allowed_hosts(WebSettings(host="0.0.0.0", hosts=("shelf.lan",))) or ()) >= {"shelf.lan", "localhost"}
    own = set(allowed_hosts(WebSettings(public_url="https://shelf.lan/page")) or ())
    assert own == {"shelf.lan", "localhost", "127.0.0.1", "::1"}


def test_addresses() -> None:
    for host, shown in (("127.0.0.1", "http://127.0.0.1"), ("0.0.0.0", "http://localhost"), ("::1", "http://[::1]")):
        settings = WebSettings(host=host, port=0)
        with bind(settings) as listening:
            assert page_url(settings, listening) == f"{shown}:{listening.getsockname()[1]}/"


def test_the_loopback_needs_no_password() -> None:
    require_password(WebSettings(), required=False)
    require_password(WebSettings(host="0.0.0.0"), required=True)
    assert [is_loopback(host) for host in ("[::1]", "127.8.8.8", "localhost", "example.org", "")] == [
        True,
        True,
        True,
        False,
        False,
    ]
