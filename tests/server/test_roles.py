"""Roles, reverse proxies and the audit log of a server that listens."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from stored import make_event

from comemory.live.config import WebSettings, read_live
from comemory.live.engine import Engine
from comemory.server.app import create_app
from comemory.server.audit import MAX_BYTES, AuditLog
from comemory.server.auth import Auth
from comemory.server.auth_file import add_token, remove_token, set_password
from comemory.server.serve import allowed_hosts, proxy_of, serving
from comemory.store.store import EventStore

PASSWORD = "correct horse battery"


@contextmanager
def server(folder: Path, **web: Any) -> Iterator[str]:
    """The page of an engine without cameras, with a password and one stored event."""
    settings = WebSettings(port=0, **web)
    live = read_live(None, {"model": "nowhere", "out": str(folder / "live")})
    set_password(folder / "live" / "access.json", PASSWORD)
    with EventStore.open(str(folder / "live" / "events.db"), folder / "live" / "media") as store:
        event = make_event()
        store.begin(event)
        store.end(replace(event, end=event.start + timedelta(seconds=5)))
        app = create_app(
            Engine(live, store),
            store,
            Auth(folder / "live" / "access.json", proxy_role=settings.proxy_role),
            hosts=allowed_hosts(settings),
            proxy=proxy_of(settings),
            audit=AuditLog(folder / "live" / "audit.jsonl"),
        )
        with serving(app, settings) as address:
            yield address.rstrip("/")


def with_token(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def only_event(address: str, headers: dict[str, str]) -> str:
    (event,) = httpx.get(f"{address}/api/v1/events", headers=headers, timeout=60).json()["events"]
    return str(event["id"])


def test_each_role_may_do_its_part(tmp_path: Path) -> None:
    file = tmp_path / "live" / "access.json"
    with server(tmp_path) as address:
        headers = {role: with_token(add_token(file, role, role)) for role in ("viewer", "operator", "admin")}  # type: ignore[arg-type]
        event = f"{address}/api/v1/events/{only_event(address, headers['viewer'])}"
        seen = {}
        for role, header in headers.items():
            verdict_answer = httpx.put(f"{event}/verdict", json={"verdict": "normal"}, headers=header, timeout=60)
            deleted = httpx.delete(event, headers=header, timeout=60)
            seen[role] = [verdict_answer.status_code, deleted.status_code]
        assert seen == {"viewer": [403, 403], "operator": [200, 403], "admin": [200, 204]}
        refused = httpx.put(f"{event}/verdict", json={"verdict": None}, headers=headers["viewer"], timeout=60)
        assert "needs the role operator, and viewer has the role viewer" in refused.json()["detail"]


def test_a_removed_token_and_a_changed_password_hold_at_once(tmp_path: Path) -> None:
    file = tmp_path / "live" / "access.json"
    with server(tmp_path) as address, httpx.Client(base_url=address, timeout=60) as page:
        token = with_token(add_token(file, "backup"))
        assert httpx.get(f"{address}/api/v1/cameras", headers=token, timeout=60).status_code == 200
        remove_token(file, "backup")
        assert httpx.get(f"{address}/api/v1/cameras", headers=token, timeout=60).status_code == 401
        assert page.post("/api/v1/session", json={"password": PASSWORD}).json()["role"] == "admin"
        assert page.get("/api/v1/cameras").status_code == 200
        set_password(file, "another password")
        assert page.get("/api/v1/cameras").status_code == 401
        assert page.post("/api/v1/session", json={"password": PASSWORD}).status_code == 401
        assert page.post("/api/v1/session", json={"password": "another password"}).status_code == 200


def test_a_logged_in_browser_gets_in_during_a_flood_of_guesses(tmp_path: Path) -> None:
    with server(tmp_path) as address, httpx.Client(base_url=address, timeout=60) as page:
        assert page.post("/api/v1/session", json={"password": PASSWORD}).status_code == 200
        guesses = [httpx.post(f"{address}/api/v1/session", json={"password": "wrong"}, timeout=60) for _ in range(8)]
        assert guesses[-1].status_code == 429
        assert page.post("/api/v1/session", json={"password": PASSWORD}).status_code == 200


class TestProxy:
    def test_the_public_url_makes_cookies_secure(self, tmp_path: Path) -> None:
        with server(tmp_path, public_url="https://shelf.lan/") as address:
            answer = httpx.post(f"{address}/api/v1/session", json={"password": PASSWORD}, timeout=60)
            cookies = answer.headers.get_list("set-cookie")
            assert len(cookies) == 2
            assert all("Secure" in cookie and "HttpOnly" in cookie for cookie in cookies)
            assert answer.headers["strict-transport-security"] == "max-age=31536000"

    def test_without_it_they_are_not(self, tmp_path: Path) -> None:
        with server(tmp_path) as address:
            answer = httpx.post(f"{address}/api/v1/session", json={"password": PASSWORD}, timeout=60)
            assert not any("Secure" in cookie for cookie in answer.headers.get_list("set-cookie"))
            assert "strict-transport-security" not in answer.headers

    def test_the_user_of_a_trusted_proxy_is_let_in(self, tmp_path: Path) -> None:
        web = {"trusted_proxies": ("127.0.0.1",), "user_header": "Remote-User"}
        with server(tmp_path, **web) as address, httpx.Client(base_url=address, timeout=60) as page:
            page.headers["Remote-User"], page.headers["Authorization"] = (
                "ann",
                "Basic YW5uOnB3",
            )  # as nginx forwards both
            session = page.get("/api/v1/session").json()
            assert (session["authenticated"], session["role"]) == (True, "operator")
            page.headers["X-CSRF-Token"] = session["csrf"]
            event = only_event(address, {"Remote-User": "ann"})
            verdict_answer = page.put(f"/api/v1/events/{event}/verdict", json={"verdict": "normal"})
            assert verdict_answer.status_code == 200
            del page.headers["X-CSRF-Token"]
            assert page.put(f"/api/v1/events/{event}/verdict", json={"verdict": None}).status_code == 403
        entries = read_audit(tmp_path)
        assert [(entry["action"], entry["by"]) for entry in entries] == [("verdict", "ann")]

    @pytest.mark.parametrize("web", [{}, {"user_header": "Remote-User"}, {"trusted_proxies": ("127.0.0.1",)}])
    def test_anybody_elses_header_is_ignored(self, tmp_path: Path, web: dict[str, Any]) -> None:
        if "user_header" in web:
            web = {**web, "trusted_proxies": ("192.0.2.1",)}
        with server(tmp_path, **web) as address:
            headers = {"Remote-User": "ann", "X-Forwarded-For": "192.0.2.1"}
            assert httpx.get(f"{address}/api/v1/cameras", headers=headers, timeout=60).status_code == 401

    def test_guesses_are_counted_by_the_client_behind_the_proxy(self, tmp_path: Path) -> None:
        with server(tmp_path, trusted_proxies=("127.0.0.1",)) as address:

            def guess(client: str, password: str = "wrong") -> int:
                headers = {"X-Forwarded-For": client}
                answer = httpx.post(
                    f"{address}/api/v1/session", json={"password": password}, headers=headers, timeout=60
                )
                return answer.status_code

            assert [guess("192.0.2.1") for _ in range(8)][-1] == 429
            assert guess("192.0.2.2", PASSWORD) == 200


def read_audit(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "live" / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


class TestAudit:
    def test_logins_verdicts_and_deletions_are_recorded(self, tmp_path: Path) -> None:
        with server(tmp_path) as address, httpx.Client(base_url=address, timeout=60) as page:
            page.post("/api/v1/session", json={"password": "wrong guess"})
            page.headers["X-CSRF-Token"] = page.post("/api/v1/session", json={"password": PASSWORD}).json()["csrf"]
            (event,) = page.get("/api/v1/events").json()["events"]
            page.put(f"/api/v1/events/{event['id']}/verdict", json={"verdict": "abnormal"})
            page.delete(f"/api/v1/events/{event['id']}")
            page.delete("/api/v1/session")
        entries = read_audit(tmp_path)
        assert [entry["action"] for entry in entries] == ["login failed", "login", "verdict", "delete", "logout"]
        assert (entries[2]["target"], entries[2]["value"]) == (event["id"], "abnormal")
        assert {entry["client"] for entry in entries} == {"127.0.0.1"}
        assert PASSWORD not in json.dumps(entries)
        assert stat.S_IMODE((tmp_path / "live" / "audit.jsonl").stat().st_mode) == 0o600

    def test_it_is_rotated_and_a_full_disk_stops_no_request(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "audit.jsonl"
        path.write_bytes(b"x" * (MAX_BYTES + 1))
        AuditLog(path).write("login", "page", "127.0.0.1")
        assert path.stat().st_size < 1000
        assert (tmp_path / "audit.1.jsonl").stat().st_size > MAX_BYTES
        AuditLog(tmp_path / "no" / "audit.jsonl").write("login", "page", "127.0.0.1")
        assert "cannot write" in caplog.text
