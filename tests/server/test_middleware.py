"""What every request passes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.server.middleware import CONTENT_POLICY, HEADERS, MAX_BODY_BYTES, SecurityMiddleware, parse_host

HOSTS = ("localhost", "127.0.0.1", "::1")


def ask(
    hosts: tuple[str, ...] | None = HOSTS,
    method: str = "GET",
    headers: dict[str, str] | None = None,
    chunks: tuple[bytes, ...] = (b"",),
    path: str = "/api/v1/cameras",
) -> tuple[int, dict[str, str]]:
    """One request through the guard to an application that reads the body and says 200; the answer's status and headers."""
    waiting = list(chunks)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": waiting.pop(0), "more_body": bool(waiting)}

    async def send(message: Any) -> None:
        sent.append(message)

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    given = {"host": "localhost:8710", **(headers or {})}
    raw = [(name.encode(), value.encode("latin-1")) for name, value in given.items()]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "scheme": "http",
        "headers": raw,
    }
    asyncio.run(SecurityMiddleware(inner, hosts)({**scope, "query_string": b""}, receive, send))
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}


class TestHosts:
    @pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8710", "127.0.0.1:1", "[::1]:8710"])
    def test_own_names_are_let_in(self, host: str) -> None:
        assert ask(headers={"host": host})[0] == 200

    @pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "evil@localhost", "", "[::1", "a b"])
    def test_other_names_are_not(self, host: str) -> None:
        assert ask(headers={"host": host})[0] == 421

    def test_where_names_do_not_matter_a_name_is_still_one(self) -> None:
        assert ask(None, headers={"host": "shelf.lan"})[0] == 200
        assert ask(None, headers={"host": "a/b"})[0] == 421

    @settings(max_examples=100, deadline=None)
    @given(st.text(max_size=80))
    def test_a_host_is_a_name_or_nothing(self, text: str) -> None:
        name = parse_host(text)
        assert name is None or not set(name) & set("/@?# \t\r\n[]")


class TestOrigins:
    @pytest.mark.parametrize(
        "headers",
        [
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "http://localhost:9"},
            {"origin": "http://[", "sec-fetch-site": "same-origin"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
        ],
    )
    def test_another_sites_change_is_refused(self, headers: dict[str, str]) -> None:
        assert ask(method="PUT", headers=headers)[0] == 403
        assert ask(method="GET", headers=headers)[0] == 200

    def test_the_pages_own_change_passes(self) -> None:
        headers = {"origin": "http://localhost:8710", "sec-fetch-site": "same-origin"}
        assert ask(method="PUT", headers=headers)[0] == 200
        assert ask(method="PUT")[0] == 200


class TestSizes:
    def test_a_large_body_is_refused_before_it_is_read(self) -> None:
        assert ask(method="POST", headers={"content-length": str(MAX_BODY_BYTES + 1)})[0] == 413
        assert ask(method="POST", headers={"content-length": "9" * 5000})[0] == 413
        assert ask(method="POST", headers={"content-length": "many"})[0] == 413

    def test_one_that_does_not_say_its_size_is_refused_on_the_way(self) -> None:
        assert ask(method="POST", chunks=(b"x" * 1024,) * 64)[0] == 200
        assert ask(method="POST", chunks=(b"x" * 1024,) * 65)[0] == 413

    def test_a_long_address_is_refused(self) -> None:
        assert ask(path="/" + "x" * 5000)[0] == 414


class TestHeaders:
    @pytest.mark.parametrize("headers", [{}, {"host": "evil.example"}, {"content-length": "many"}])
    def test_every_answer_carries_them(self, headers: dict[str, str]) -> None:
        _, given = ask(headers=headers)
        assert {name.lower() for name in HEADERS} <= {name.lower() for name in given}
        assert given["cache-control"] == "no-store"

    def test_the_policy_allows_no_inline_code(self) -> None:
        assert "unsafe" not in CONTENT_POLICY
        assert "frame-ancestors 'none'" in CONTENT_POLICY
        assert "default-src 'none'" in CONTENT_POLICY
