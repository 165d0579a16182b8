"""Webhook, Apprise and command against real servers and programs."""

from __future__ import annotations

import email.policy
import io
import json
import logging
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import Received, free_port, http_server, make_event, wait_until

from comemory.alerts import SINKS
from comemory.alerts.addresses import is_public, resolve_host
from comemory.alerts.sink import Notification, Sink, open_sink
from comemory.alerts.webhook import is_signed_by, sign
from comemory.errors import ConfigError, DeliveryError
from comemory.store.event import new_id


def message(kind: str = "new", camera: str = "gate", thumbnail: Path | None = None) -> Notification:
    id = new_id()
    after = {"state": "down", "message": "no answer"} if kind == "state" else make_event(camera=camera).to_json()
    payload = {
        "id": id,
        "kind": kind,
        "time": "2026-03-02T12:00:00.000Z",
        "camera": camera,
        "before": None,
        "after": after,
    }
    return Notification(id, kind, camera, payload, thumbnail)


@pytest.fixture
def server() -> Iterator[Received]:
    with http_server() as received:
        yield received


def hook(url: str, **settings: Any) -> Sink:
    return open_sink("hook", {"kind": "webhook", "url": url, "allow_private": True, "timeout_s": 5, **settings})


def read_request(connection: socket.socket) -> None:
    """Take a request to its last byte: who closes with bytes unread resets the connection, and the answer is lost."""
    with connection.makefile("rb") as reading:
        lines = list(iter(reading.readline, b"\r\n"))
        reading.read(next(int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-length:")))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost that signs itself, and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl to make a certificate")
    folder = tmp_path_factory.mktemp("certificate")
    made = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "key"), "-out", str(folder / "crt")]
    subprocess.run(made, check=True, capture_output=True)
    return folder / "crt", folder / "key"


class TestWebhook:
    def test_a_signed_post(self, server: Received, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOOK_KEY", "s3cret")
        monkeypatch.setenv("HOOK_TOKEN", "Bearer t0ken")
        url = f"http://localhost:{server.port}/in/ü?x=1&y=a b".replace(" ", "%20")
        sink = hook(url, secret="env:HOOK_KEY", headers={"Authorization": "env:HOOK_TOKEN"})
        sent = message()
        sink.deliver(sent)
        ((headers, body),) = server.requests
        assert json.loads(body) == sent.payload
        assert server.paths == ["/in/%C3%BC?x=1&y=a%20b"]
        assert headers["Host"] == f"localhost:{server.port}"
        assert headers["Authorization"] == "Bearer t0ken"
        assert headers["Content-Type"] == "application/json"
        assert headers["X-Comemory-Id"] == sent.id
        assert is_signed_by(b"s3cret", headers, body)
        assert not is_signed_by(b"other", headers, body)
        assert not is_signed_by(b"s3cret", headers, body + b" ")
        assert not is_signed_by(b"s3cret", headers, body, now=time.time() + 301)
        assert not is_signed_by(b"s3cret", {**headers, "X-Comemory-Timestamp": "²"}, body)
        assert "s3cret" not in repr(sink.settings)

    def test_without_a_secret_there_is_no_signature(self, server: Received) -> None:
        hook(f"http://127.0.0.1:{server.port}").deliver(message())
        assert "X-Comemory-Signature" not in server.requests[0][0]

    @settings(max_examples=30, deadline=None)
    @given(st.binary(max_size=50), st.binary(min_size=1, max_size=50), st.integers(0, 2**40))
    def test_signatures_verify(self, body: bytes, secret: bytes, stamp: int) -> None:
        headers = sign(secret, "1", body, stamp)
        assert is_signed_by(secret, headers, body, now=stamp)
        assert not is_signed_by(secret + b"x", headers, body, now=stamp)

    @pytest.mark.parametrize(
        ("status", "expected"), [(500, "500: expected 2xx"), (404, "404"), (302, "redirects are not")]
    )
    def test_other_statuses_are_failures(self, server: Received, status: int, expected: str) -> None:
        server.statuses, server.location = [status], f"http://127.0.0.1:{server.port}/other"
        with pytest.raises(DeliveryError, match=expected):
            hook(f"http://127.0.0.1:{server.port}/in?token=hunter2").deliver(message())
        assert len(server.requests) == 1

    def test_private_addresses_are_refused_unless_allowed(self, server: Received) -> None:
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            with pytest.raises(DeliveryError, match=r"private address|cannot find"):
                hook(f"http://{host}:{server.port}/", allow_private=False).deliver(message())
        assert server.requests == []

    def test_the_address_is_looked_up_once(self, server: Received, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = iter(["127.0.0.1"])

        def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
            if host != "rebinding.example":
                return asked(host, port, *_, **__)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

        asked = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        hook(f"http://rebinding.example:{server.port}/").deliver(message())
        assert server.requests[0][0]["Host"] == f"rebinding.example:{server.port}"
        assert next(answers, None) is None

    def test_one_private_address_among_public_ones_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.7")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
        with pytest.raises(DeliveryError, match=r"private address 10\.0\.0\.7: set allow_private = true"):
            resolve_host("host.example", 80, allow_private=False)
        assert resolve_host("host.example", 80, allow_private=True) == ["93.184.216.34", "10.0.0.7"]

    @pytest.mark.parametrize(
        "address",
        [
            "10.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "192.168.0.1",
            "172.16.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fd00::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "64:ff9b::10.0.0.1",
            "2002:a00:1::",
            "192.88.99.1",
            "x",
        ],
    )
    def test_addresses_that_are_not_public(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::8.8.8.8"])
    def test_addresses_that_are_public(self, address: str) -> None:
        assert is_public(address)

    def test_a_slow_server_is_given_up(self, server: Received) -> None:
        server.delay_s = 3.0
        with pytest.raises(DeliveryError, match=r"no answer within 0\.3 s|timed out"):
            hook(f"http://127.0.0.1:{server.port}/", timeout_s=0.3).deliver(message())

    def test_a_server_that_never_finishes_is_given_up(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def drip() -> None:
                connection, _ = listening.accept()
                with connection:
                    try:
                        while True:
                            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                            time.sleep(0.05)
                    except OSError:
                        return

            thread = threading.Thread(target=drip)
            thread.start()
            with pytest.raises(DeliveryError, match=r"no answer within 0\.5 s"):
                hook(f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout_s=0.5).deliver(message())
            thread.join(60)
            assert not thread.is_alive()

    @pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 99999 x\r\n\r\n", b"\0" * 100_000])
    def test_a_server_that_does_not_speak_http(self, answer: bytes) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:

            def reply() -> None:
                connection, _ = listening.accept()
                with connection:
                    read_request(connection)
                    connection.sendall(answer)

            thread = threading.Thread(target=reply)
            thread.start()
            with pytest.raises(DeliveryError, match="did not answer"):
                hook(f"http://127.0.0.1:{listening.getsockname()[1]}/").deliver(message())
            thread.join(60)

    def test_a_port_without_a_listener(self) -> None:
        with pytest.raises(DeliveryError, match="refused"):
            hook(f"http://127.0.0.1:{free_port()}/").deliver(message())

    def test_certificates_are_checked_against_the_name(self, certificate: tuple[Path, Path]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]

            def reply() -> None:
                for _ in range(3):
                    connection, _ = listening.accept()
                    try:
                        with context.wrap_socket(connection, server_side=True) as secured:
                            read_request(secured)
                            secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                    except OSError:
                        continue

            thread = threading.Thread(target=reply)
            thread.start()
            hook(f"https://localhost:{port}/", ca_file=certificate[0]).deliver(message())
            with pytest.raises(DeliveryError, match=r"(?i)certificate verify failed"):
                hook(f"https://localhost:{port}/").deliver(message())
            with pytest.raises(DeliveryError, match=r"(?i)mismatch"):
                hook(f"https://127.0.0.1:{port}/", ca_file=certificate[0]).deliver(message())
            thread.join(60)

    @pytest.mark.parametrize(
        "settings",
        [
            {"headers": {"X-Comemory-Id": "1"}},
            {"headers": {"A": "b\r\nHost: evil"}},
            {"headers": {"A\r\nB": "c"}},
            {"secret": "env:NOT_SET_ANYWHERE"},
            {"ca_file": "/not/there.pem", "url": "https://localhost/"},
            {"url": "env:NOT_SET_ANYWHERE"},
        ],
    )
    def test_settings_that_cannot_be_used_are_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=r"of \[alerts\.hook\]"):
            hook(**{"url": "http://localhost/", **settings})


class Mailbox:
    """The messages that an SMTP server received."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            self.mails.append(BytesParser(policy=email.policy.default).parsebytes(envelope.content))  # type: ignore[arg-type]
        return self.answer


@pytest.fixture
def smtp(certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Mailbox, int]]:
    """A real SMTP server that needs STARTTLS and a password, and whose certificate the system trusts."""
    controllers = pytest.importorskip("aiosmtpd.controller", reason="needs aiosmtpd: pip install '.[dev]'")
    from aiosmtpd.smtp import AuthResult

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    mailbox = Mailbox()

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: Any, login: Any) -> Any:
        return AuthResult(success=(login.login, login.password) == (b"me", b"hunter2"), handled=False)

    controller = controllers.Controller(
        mailbox,
        hostname="localhost",
        port=free_port(),
        tls_context=context,
        require_starttls=True,
        auth_required=True,
        authenticator=authenticate,
    )
    controller.start()
    yield mailbox, controller.port
    controller.stop()


def apprise_sink(url: str, **settings: Any) -> Sink:
    pytest.importorskip("apprise", reason="needs apprise: pip install '.[alerts]'")
    return open_sink("desk", {"kind": "apprise", "url": url, "timeout_s": 20, **settings})


def mail_url(port: int, password: str = "hunter2") -> str:
    return (
        f"mailtos://me:{password}@localhost:{port}/?from=box@example.org&to=a@example.org,b@example.org&mode=starttls"
    )


class TestEmail:
    def test_a_message_with_its_thumbnail(self, smtp: tuple[Mailbox, int], tmp_path: Path) -> None:
        mailbox, port = smtp
        thumbnail = tmp_path / "x.jpg"
        thumbnail.write_bytes(b"\xff\xd8picture")
        sent = message(camera="Tür\r\nBcc: evil@example.org", thumbnail=thumbnail)
        apprise_sink(mail_url(port)).deliver(sent)
        assert {mail["To"] for mail in mailbox.mails} == {"a@example.org", "b@example.org"}
        for mail in mailbox.mails:
            assert mail["Subject"] == "comemory: Tür Bcc: evil@example.org: event"
            assert mail["Bcc"] is None
            text = mail.get_body(("plain", "html"))
            assert text is not None
            assert "score: 4.5" in text.get_content()
            assert sent.id in text.get_content()
            (picture,) = (part for part in mail.iter_attachments() if part.get_content_type() == "image/jpeg")
            assert picture.get_content() == b"\xff\xd8picture"

    def test_a_refusal_gives_the_reason_without_the_password(self, smtp: tuple[Mailbox, int]) -> None:
        mailbox, port = smtp
        with pytest.raises(DeliveryError, match=r"did not accept the alert: .*535") as failure:
            apprise_sink(mail_url(port, "hunter3")).deliver(message())
        assert "hunter3" not in str(failure.value)
        mailbox.answer = "451 try again later"
        with pytest.raises(DeliveryError, match="did not accept the alert"):
            apprise_sink(mail_url(port)).deliver(message())
        with pytest.raises(DeliveryError, match=r"(?i)refused"):
            apprise_sink(mail_url(free_port())).deliver(message())
        assert mailbox.mails == []

    def test_an_untrusted_certificate_is_refused(
        self, smtp: tuple[Mailbox, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("SSL_CERT_FILE")
        with pytest.raises(DeliveryError, match=r"(?i)certificate verify failed"):
            apprise_sink(mail_url(smtp[1])).deliver(message())
        assert smtp[0].mails == []

    def test_a_server_whose_greeting_never_ends_is_given_up(self) -> None:
        is_over = threading.Event()

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                while not is_over.wait(0.2):
                    connection.send(b"2")

        with socket.create_server(("localhost", 0)) as listening:
            thread = threading.Thread(target=drip)
            thread.start()
            with pytest.raises(DeliveryError, match="did not finish within"):
                apprise_sink(mail_url(listening.getsockname()[1]), timeout_s=1).deliver(message())
            is_over.set()
            thread.join()


class TestApprise:
    def test_json_to_a_server(self, server: Received) -> None:
        sent = message("state")
        apprise_sink(f"json://127.0.0.1:{server.port}/in").deliver(sent)
        (payload,) = server.payloads
        assert payload["title"] == "comemory: gate is down"
        assert "message: no answer" in payload["message"]
        assert payload["type"] == "failure"

    def test_an_attempt_is_one_request(self, server: Received) -> None:
        server.statuses = [500]
        url = f"json://127.0.0.1:{server.port}/secret-path?retry=3&wait=0.1&+X-Token=hunter2"
        with pytest.raises(DeliveryError, match="did not accept the alert") as failure:
            apprise_sink(url).deliver(message())
        assert len(server.requests) == 1
        assert "hunter2" not in str(failure.value)

    @pytest.mark.parametrize("url", ["nosuch://hunter2/token", "tgram://hunter2", "hunter2"])
    def test_an_unknown_url_is_refused_without_its_secrets(self, url: str) -> None:
        logged = io.StringIO()
        handler = logging.StreamHandler(logged)
        logging.getLogger().addHandler(handler)
        with pytest.raises(
            ConfigError, match=r"the url of \[alerts\.desk\].* is not one that Apprise can use"
        ) as failure:
            apprise_sink(url)
        logging.getLogger().removeHandler(handler)
        assert "hunter2" not in str(failure.value) + logged.getvalue()

    def test_the_url_may_be_in_the_environment(self, server: Received, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DESK_URL", f"json://127.0.0.1:{server.port}/")
        sink = apprise_sink("env:DESK_URL")
        sink.deliver(message("test"))
        assert len(server.requests) == 1
        with pytest.raises(ConfigError, match="NOT_SET_ANYWHERE"):
            apprise_sink("env:NOT_SET_ANYWHERE")

    @settings(max_examples=30, deadline=None)
    @given(st.text(max_size=60), st.sampled_from(["new", "update", "end", "state", "test"]))
    def test_any_camera_makes_a_title_of_one_line(self, camera: str, kind: str) -> None:
        alert_title = pytest.importorskip("comemory.alerts.apprise").alert_title
        title = alert_title(message(kind, camera))
        assert title.startswith("comemory: ")
        assert "\n" not in title


def command(*argv: str, **settings: Any) -> Sink:
    return open_sink("siren", {"kind": "command", "argv": list(argv), "timeout_s": 5, **settings})


class TestCommand:
    def test_the_program_gets_the_json(self, tmp_path: Path) -> None:
        code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['COMEMORY_ALERT_KIND'] + sys.stdin.read())"
        sent = message()
        command(sys.executable, "-c", code, str(tmp_path / "out; rm -rf $HOME")).deliver(sent)
        text = (tmp_path / "out; rm -rf $HOME").read_text(encoding="utf-8")
        assert text.startswith("new{")
        assert json.loads(text[3:]) == sent.payload

    def test_failures(self) -> None:
        with pytest.raises(DeliveryError, match="'/bin/false' ended with status 1: no error text"):
            command("/bin/false").deliver(message())
        with pytest.raises(DeliveryError, match="status 3: worse"):
            command("/bin/sh", "-c", "echo bad >&2; echo worse >&2; exit 3").deliver(message())
        with pytest.raises(DeliveryError, match="cannot run '/not/there': No such file"):
            command("/not/there").deliver(message())
        with pytest.raises(DeliveryError, match="cannot run"):
            command(__file__).deliver(message())

    def test_a_program_that_reads_nothing_and_writes_much(self) -> None:
        sent = message()
        sent.payload["after"]["cells"] = [0.5] * 200_000
        command("/bin/sh", "-c", "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2").deliver(sent)

    def test_a_program_that_takes_too_long_is_killed_with_its_children(self, tmp_path: Path) -> None:
        script = f"sleep 60 & echo $! > {tmp_path}/child; wait"
        with pytest.raises(DeliveryError, match=r"took longer than 0\.5 s"):
            command("/bin/sh", "-c", script, timeout_s=0.5).deliver(message())
        child = Path("/proc") / (tmp_path / "child").read_text(encoding="ascii").strip()
        wait_until(lambda: not child.exists() or "Z" in (child / "stat").read_text().split()[2])

    def test_closing_kills_a_running_program(self) -> None:
        sink = command("/bin/sleep", "60", timeout_s=60)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                sink.deliver(message())
            except DeliveryError as error:
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        wait_until(lambda: sink._running is not None)  # type: ignore[attr-defined]
        sink.close()
        thread.join(60)
        assert len(failures) == 1


def test_every_sink_has_settings_of_its_kind() -> None:
    pytest.importorskip("apprise", reason="needs apprise: pip install '.[alerts]'")
    examples = {
        "webhook": {"url": "http://localhost/"},
        "mqtt": {"host": "localhost"},
        "apprise": {"url": "json://localhost/"},
        "command": {"argv": ["/bin/true"]},
    }
    for kind in SINKS:
        assert SINKS.load(kind).Settings.model_fields["kind"].default == kind
    for kind, values in examples.items():
        sink = open_sink("one", {"kind": kind, **values})
        assert sink.name == "one"
        assert sink.settings.kind == kind  # type: ignore[attr-defined]
        sink.close()
