"""Webhook, e-mail and command against real servers and programs."""

from __future__ import annotations

import email.policy
import json
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
from comemory.alerts.addresses import is_public, resolve
from comemory.alerts.mail import write_mail
from comemory.alerts.sink import Message, Sink, open_sink
from comemory.alerts.webhook import is_genuine, sign
from comemory.errors import ConfigError, DeliveryError
from comemory.store.event import new_id


def message(kind: str = "new", camera: str = "gate", thumbnail: Path | None = None) -> Message:
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
    return Message(id, kind, camera, payload, thumbnail)


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
        assert is_genuine(b"s3cret", headers, body)
        assert not is_genuine(b"other", headers, body)
        assert not is_genuine(b"s3cret", headers, body + b" ")
        assert not is_genuine(b"s3cret", headers, body, now=time.time() + 301)
        assert not is_genuine(b"s3cret", {**headers, "X-Comemory-Timestamp": "²"}, body)
        assert "s3cret" not in repr(sink.settings)

    def test_without_a_secret_there_is_no_signature(self, server: Received) -> None:
        hook(f"http://127.0.0.1:{server.port}").deliver(message())
        assert "X-Comemory-Signature" not in server.requests[0][0]

    @settings(max_examples=30, deadline=None)
    @given(st.binary(max_size=50), st.binary(min_size=1, max_size=50), st.integers(0, 2**40))
    def test_signatures_verify(self, body: bytes, secret: bytes, stamp: int) -> None:
        headers = sign(secret, "1", body, stamp)
        assert is_genuine(secret, headers, body, now=stamp)
        assert not is_genuine(secret + b"x", headers, body, now=stamp)

    @pytest.mark.parametrize(
        ("status", "complaint"), [(500, "500: expected 2xx"), (404, "404"), (302, "redirects are not")]
    )
    def test_other_answers_are_failures(self, server: Received, status: int, complaint: str) -> None:
        server.statuses, server.location = [status], f"http://127.0.0.1:{server.port}/other"
        with pytest.raises(DeliveryError, match=complaint):
            hook(f"http://127.0.0.1:{server.port}/in?token=hunter2").deliver(message())
        assert len(server.requests) == 1

    def test_private_targets_need_leave(self, server: Received) -> None:
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
            resolve("host.example", 80, allow_private=False)
        assert resolve("host.example", 80, allow_private=True) == ["93.184.216.34", "10.0.0.7"]

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
            "x",
        ],
    )
    def test_what_is_not_public(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::8.8.8.8"])
    def test_what_is_public(self, address: str) -> None:
        assert is_public(address)

    def test_a_slow_server_is_given_up_in_time(self, server: Received) -> None:
        server.delay_s = 3.0
        start = time.monotonic()
        with pytest.raises(DeliveryError, match=r"no answer within 0\.3 s|timed out"):
            hook(f"http://127.0.0.1:{server.port}/", timeout_s=0.3).deliver(message())
        assert time.monotonic() - start < 2

    def test_a_server_that_never_comes_to_an_end_is_given_up_in_time(self) -> None:
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
            thread.join(5)
            assert not thread.is_alive()

    @pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 99999 x\r\n\r\n", b"\0" * 100_000])
    def test_a_server_that_talks_nonsense(self, answer: bytes) -> None:
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
            thread.join(5)

    def test_nobody_there(self) -> None:
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
            thread.join(5)

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
    def test_what_cannot_be_opened(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match=r"of \[alerts\.hook\]"):
            hook(**{"url": "http://localhost/", **settings})


class Mailbox:
    """What an SMTP server took."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.answer = "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        if self.answer.startswith("250"):
            self.mails.append(BytesParser(policy=email.policy.default).parsebytes(envelope.content))  # type: ignore[arg-type]
        return self.answer


@pytest.fixture
def smtp(certificate: tuple[Path, Path]) -> Iterator[tuple[Mailbox, int]]:
    """A real SMTP server that wants STARTTLS and a password."""
    controllers = pytest.importorskip("aiosmtpd.controller", reason="needs aiosmtpd: pip install 'comemory[dev]'")
    from aiosmtpd.smtp import AuthResult

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
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


def mailer(port: int, ca_file: Path | None, **changes: Any) -> Sink:
    told = {
        "kind": "email",
        "host": "localhost",
        "port": port,
        "sender": "box@example.org",
        "to": ["a@example.org", "b@example.org"],
    }
    login = {"username": "me", "password": "hunter2", "ca_file": ca_file, "timeout_s": 5}
    return open_sink("mail", {**told, **login, **changes})


class TestEmail:
    def test_a_message_with_its_thumbnail(
        self, smtp: tuple[Mailbox, int], certificate: tuple[Path, Path], tmp_path: Path
    ) -> None:
        mailbox, port = smtp
        thumbnail = tmp_path / "x.jpg"
        thumbnail.write_bytes(b"\xff\xd8picture")
        sent = message(camera="Tür\r\nBcc: evil@example.org", thumbnail=thumbnail)
        mailer(port, certificate[0]).deliver(sent)
        (mail,) = mailbox.mails
        assert mail["Subject"] == "comemory: Tür Bcc: evil@example.org: something unusual"
        assert mail["Bcc"] is None
        assert mail["To"] == "a@example.org, b@example.org"
        assert mail["Message-ID"] == f"<{sent.id}@comemory.invalid>"
        text, picture = mail.iter_parts()
        assert "score: 4.5" in text.get_content()
        assert json.loads("{" + text.get_content().partition("{")[2]) == sent.payload
        assert picture.get_content_type() == "image/jpeg"
        assert picture.get_content() == b"\xff\xd8picture"

    def test_refusals(self, smtp: tuple[Mailbox, int], certificate: tuple[Path, Path]) -> None:
        mailbox, port = smtp
        with pytest.raises(DeliveryError, match=r"did not take the message: .*535") as failure:
            mailer(port, certificate[0], password="hunter3").deliver(message())
        assert "hunter3" not in str(failure.value)
        with pytest.raises(DeliveryError, match=r"(?i)certificate verify failed"):
            mailer(port, None).deliver(message())
        mailbox.answer = "451 try again later"
        with pytest.raises(DeliveryError, match="try again later"):
            mailer(port, certificate[0]).deliver(message())
        with pytest.raises(DeliveryError, match="refused"):
            mailer(free_port(), certificate[0]).deliver(message())

    @pytest.mark.parametrize("security", ["none", "starttls", "ssl"])
    def test_a_server_whose_greeting_never_ends(self, security: str) -> None:
        over = threading.Event()

        def drip() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                while not over.wait(0.2):
                    connection.send(b"\x16" if security == "ssl" else b"2")

        with socket.create_server(("localhost", 0)) as listening:
            thread = threading.Thread(target=drip)
            thread.start()
            login = {"username": None, "password": None}
            port = listening.getsockname()[1]
            sink = mailer(port, None, security=security, timeout_s=1, **login)
            start = time.monotonic()
            with pytest.raises(DeliveryError, match="did not take the message"):
                sink.deliver(message())
            assert time.monotonic() - start < 2.5
            over.set()
            thread.join()

    @settings(max_examples=30, deadline=None)
    @given(st.text(max_size=60), st.sampled_from(["new", "update", "end", "state", "test"]))
    def test_any_camera_makes_a_message(self, camera: str, kind: str) -> None:
        mail = write_mail(message(kind, camera), "a@example.org", ["b@example.org"])
        assert len([name for name in mail if name.lower() in ("to", "bcc", "cc")]) == 1
        assert "\n" not in mail["Subject"]


def command(*argv: str, **settings: Any) -> Sink:
    return open_sink("siren", {"kind": "command", "argv": list(argv), "timeout_s": 5, **settings})


class TestCommand:
    def test_it_gets_the_json(self, tmp_path: Path) -> None:
        code = "import os, sys; open(sys.argv[1], 'w').write(os.environ['COMEMORY_ALERT_KIND'] + sys.stdin.read())"
        sent = message()
        command(sys.executable, "-c", code, str(tmp_path / "out; rm -rf $HOME")).deliver(sent)
        text = (tmp_path / "out; rm -rf $HOME").read_text(encoding="utf-8")
        assert text.startswith("new{")
        assert json.loads(text[3:]) == sent.payload

    def test_failures(self) -> None:
        with pytest.raises(DeliveryError, match="'/bin/false' ended with status 1: it said nothing"):
            command("/bin/false").deliver(message())
        with pytest.raises(DeliveryError, match="status 3: worse"):
            command("/bin/sh", "-c", "echo bad >&2; echo worse >&2; exit 3").deliver(message())
        with pytest.raises(DeliveryError, match="cannot run '/not/there': No such file"):
            command("/not/there").deliver(message())
        with pytest.raises(DeliveryError, match="cannot run"):
            command(__file__).deliver(message())

    def test_one_that_reads_nothing_and_talks_much(self) -> None:
        sent = message()
        sent.payload["after"]["cells"] = [0.5] * 200_000
        command("/bin/sh", "-c", "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2").deliver(sent)

    def test_one_that_takes_too_long_is_killed_with_its_children(self, tmp_path: Path) -> None:
        script = f"sleep 60 & echo $! > {tmp_path}/child; wait"
        start = time.monotonic()
        with pytest.raises(DeliveryError, match=r"took longer than 0\.5 s"):
            command("/bin/sh", "-c", script, timeout_s=0.5).deliver(message())
        assert time.monotonic() - start < 4
        child = Path("/proc") / (tmp_path / "child").read_text(encoding="ascii").strip()
        wait_until(lambda: not child.exists() or "Z" in (child / "stat").read_text().split()[2], 5)

    def test_closing_ends_one_that_runs(self) -> None:
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
        thread.join(5)
        assert len(failures) == 1


def test_every_sink_has_settings_of_its_kind() -> None:
    told = {
        "webhook": {"url": "http://localhost/"},
        "mqtt": {"host": "localhost"},
        "email": {"host": "localhost", "sender": "a@x", "to": ["b@x"]},
        "command": {"argv": ["/bin/true"]},
    }
    assert set(told) == set(SINKS)
    for kind, values in told.items():
        sink = open_sink("one", {"kind": kind, **values})
        assert sink.name == "one"
        assert sink.settings.kind == kind  # type: ignore[attr-defined]
        sink.close()
