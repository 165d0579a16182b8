"""Passwords, tokens, roles, sessions: what is stored, who is let in, who must wait."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from footage import at_once
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import wait_for

from comemory.errors import ConfigError
from comemory.server.auth import Auth, Caller
from comemory.server.auth_file import (
    Credentials,
    add_token,
    hash_token,
    load_credentials,
    remove_token,
    set_password,
)
from comemory.server.login_throttle import LoginThrottle, client_network

PASSWORD = "correct horse battery"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "out" / "access.json"


class TestAccessFile:
    def test_only_its_owner_can_read_it(self, file: Path) -> None:
        made = load_credentials(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert load_credentials(file) == made
        assert len(made.key) >= 32

    def test_it_holds_neither_password_nor_token(self, file: Path) -> None:
        set_password(file, PASSWORD)
        token = add_token(file, "prometheus")
        text = file.read_text()
        assert PASSWORD not in text
        assert token not in text
        assert json.loads(text)["passwords"]["admin"].startswith("$argon2id$")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert list(file.parent.iterdir()) == [file]

    def test_a_file_that_others_can_read_is_refused(self, file: Path) -> None:
        load_credentials(file)
        file.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            load_credentials(file)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            '{"key": 5}',
            '{"key": "short"}',
            "[" * 100_000,
            '{"key": "' + "k" * 40 + '", "tokens": [1]}',
            '{"key": "' + "k" * 40 + '", "passwords": {"king": "x"}}',
            '{"key": "' + "k" * 40 + '", "password": "$argon2id$"}',
        ],
    )
    def test_a_file_of_another_kind_is_refused(self, file: Path, text: str) -> None:
        file.parent.mkdir()
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(ConfigError, match="not an access file of comemory"):
            load_credentials(file)

    @pytest.mark.parametrize("password", ["", "short", "x" * 257])
    def test_a_password_has_a_length(self, file: Path, password: str) -> None:
        with pytest.raises(ConfigError, match="8 to 256 characters"):
            set_password(file, password)

    @pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65])
    def test_a_token_has_a_name(self, file: Path, name: str) -> None:
        with pytest.raises(ConfigError, match="name"):
            add_token(file, name)

    def test_two_processes_add_tokens_at_once(self, file: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from comemory.server.auth_file import add_token;"
            "[add_token(Path(sys.argv[1]), f'{sys.argv[2]}{k}') for k in range(20)]"
        )
        at_once(code, file)
        assert len(load_credentials(file).tokens) == 40

    def test_a_token_can_be_removed(self, file: Path) -> None:
        token = add_token(file, "prometheus")
        assert Auth(load_credentials(file)).authenticate(None, f"Bearer {token}") == Caller(
            "token", "prometheus", credential=hash_token(token)
        )
        remove_token(file, "prometheus")
        assert not Auth(load_credentials(file)).is_required
        with pytest.raises(ConfigError, match="known: none"):
            remove_token(file, "prometheus")


@pytest.fixture
def auth(file: Path) -> Auth:
    set_password(file, PASSWORD)
    return Auth(load_credentials(file))


class TestSessions:
    def test_the_password_starts_one(self, auth: Auth) -> None:
        cookie = auth.login(PASSWORD)
        assert cookie is not None
        caller = auth.authenticate(cookie, None)
        assert caller is not None
        assert caller.kind == "session"
        assert auth.login(PASSWORD + " ") is None
        assert auth.login("x" * 10_000) is None

    def test_logging_out_ends_it(self, auth: Auth) -> None:
        cookie = auth.login(PASSWORD)
        caller = auth.authenticate(cookie, None)
        assert caller is not None
        assert not auth.has_ended(caller)
        auth.logout(caller)
        assert auth.authenticate(cookie, None) is None
        assert auth.has_ended(caller)

    def test_an_ended_session_stays_ended_after_a_restart(self, auth: Auth, file: Path) -> None:
        ended = file.with_name("ended.json")
        before = Auth(load_credentials(file), ended=ended)
        one, other = before.login(PASSWORD), before.login(PASSWORD)
        caller = before.authenticate(one, None)
        assert caller is not None
        before.logout(caller)
        assert stat.S_IMODE(ended.stat().st_mode) == 0o600
        after = Auth(load_credentials(file), ended=ended)
        assert after.authenticate(one, None) is None
        assert after.has_ended(caller)
        assert after.authenticate(other, None) is not None
        ended.write_text("[]")
        with pytest.raises(ConfigError, match="ended"):
            Auth(load_credentials(file), ended=ended)
        ended.write_text('{"some": "when"}')
        with pytest.raises(ConfigError, match="not an access file of comemory"):
            Auth(load_credentials(file), ended=ended)

    def test_logging_out_works_where_it_cannot_be_stored(
        self, auth: Auth, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        nowhere = Auth(load_credentials(file), ended=file.parent / "folder" / "ended.json")
        (file.parent / "folder").touch()
        caller = nowhere.authenticate(nowhere.login(PASSWORD), None)
        assert caller is not None
        nowhere.logout(caller)
        assert nowhere.has_ended(caller)
        assert "after a restart" in caplog.text

    def test_an_open_stream_ends_with_its_session(self, file: Path) -> None:
        set_password(file, PASSWORD)
        brief = Auth(load_credentials(file), session_hours=2 / 3600)
        caller = brief.authenticate(brief.login(PASSWORD), None)
        assert caller is not None
        assert not brief.has_ended(caller)
        wait_for(lambda: brief.has_ended(caller))

    def test_it_survives_a_restart_but_not_a_new_password(self, auth: Auth, file: Path) -> None:
        cookie = auth.login(PASSWORD)
        assert Auth(load_credentials(file)).authenticate(cookie, None) is not None
        set_password(file, "another password")
        assert Auth(load_credentials(file)).authenticate(cookie, None) is None

    def test_it_ends_with_its_hours(self, file: Path) -> None:
        set_password(file, PASSWORD)
        brief = Auth(load_credentials(file), session_hours=-1 / 3600)
        assert brief.authenticate(brief.login(PASSWORD), None) is None

    def test_a_password_of_the_settings_counts_plain_or_hashed(self, auth: Auth, file: Path) -> None:
        loaded = load_credentials(file)
        assert Auth(loaded, password="from the settings").login("from the settings") is not None
        assert Auth(loaded, password="from the settings").login(PASSWORD) is None
        assert Auth(loaded, password=loaded.passwords["admin"]).login(PASSWORD) is not None

    def test_a_token_of_the_settings_counts(self, file: Path) -> None:
        auth = Auth(load_credentials(file), token="a token of forty characters or the like")
        assert auth.is_required
        assert not auth.has_password
        assert auth.authenticate(None, "Bearer a token of forty characters or the like") is not None
        assert auth.authenticate(None, "Bearer another") is None

    @settings(max_examples=60, deadline=None)
    @given(st.one_of(st.text(max_size=200), st.binary(max_size=100).map(lambda raw: raw.decode("latin-1"))))
    def test_no_other_cookie_or_header_is_accepted(self, text: str) -> None:
        auth = Auth(stored("$argon2id$v=19$m=65536,t=3,p=4$bm90aGluZw$bm90aGluZw"))
        assert auth.authenticate(text, None) is None
        assert auth.authenticate(None, text) is None
        assert auth.authenticate(None, f"Bearer {text}") is None


def stored(hashed: str) -> Credentials:
    return Credentials("k" * 43, {"admin": hashed})


class TestRunningServer:
    """A change of the access file holds at once."""

    def test_a_removed_token_is_refused_at_once(self, file: Path) -> None:
        set_password(file, PASSWORD)
        token = add_token(file, "prometheus", "viewer")
        auth = Auth(file)
        caller = auth.authenticate(None, f"Bearer {token}")
        assert caller is not None
        assert caller.role == "viewer"
        assert not auth.has_ended(caller)
        remove_token(file, "prometheus")
        assert auth.authenticate(None, f"Bearer {token}") is None
        assert auth.has_ended(caller), "streams that are open end too"

    def test_a_changed_password_holds_at_once(self, file: Path) -> None:
        set_password(file, PASSWORD)
        set_password(file, "a viewer's password", "viewer")
        auth = Auth(file)
        admin, viewer = auth.login(PASSWORD), auth.login("a viewer's password")
        callers = [auth.authenticate(cookie, None) for cookie in (admin, viewer)]
        assert [caller and caller.role for caller in callers] == ["admin", "viewer"]
        set_password(file, "another password")
        assert auth.login(PASSWORD) is None
        assert auth.login("another password") is not None
        assert auth.authenticate(admin, None) is None
        assert auth.authenticate(viewer, None) is not None, "sessions of another role go on"
        assert [caller is not None and auth.has_ended(caller) for caller in callers] == [True, False]

    def test_a_damaged_file_changes_nothing(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        set_password(file, PASSWORD)
        auth = Auth(file)
        file.write_text("{}")
        assert auth.login(PASSWORD) is not None
        assert "stay as they were" in caplog.text


class TestRoles:
    def test_a_role_has_those_below_it(self) -> None:
        for role, allowed in (("viewer", 1), ("operator", 2), ("admin", 3)):
            caller = Caller("token", "x", role)  # type: ignore[arg-type]
            assert [caller.has_role(wanted) for wanted in ("viewer", "operator", "admin")].count(True) == allowed

    def test_a_cookie_of_one_role_is_none_of_another(self, file: Path) -> None:
        set_password(file, PASSWORD)
        set_password(file, "a viewer's password", "viewer")
        auth = Auth(file)
        cookie = auth.login("a viewer's password")
        assert cookie is not None
        forged = cookie.replace("viewer", "admin")
        assert auth.authenticate(forged, None) is None

    def test_a_proxy_names_the_user(self, auth: Auth) -> None:
        caller = auth.authenticate(None, None, "ann")
        assert caller is not None
        assert (caller.name, caller.role) == ("ann", "operator")
        assert not auth.has_ended(caller)

    @pytest.mark.parametrize("scheme", ["Basic YW5uOnB3", "basic YW5uOnB3", "Digest username=ann", "Negotiate YII"])
    def test_only_bearer_is_a_token(self, auth: Auth, scheme: str) -> None:
        """A proxy that asks for the password itself forwards the header of its own scheme."""
        caller = auth.authenticate(None, scheme, "ann")
        assert caller is not None
        assert (caller.kind, caller.name) == ("proxy", "ann")
        assert auth.authenticate(auth.login(PASSWORD), scheme) is not None
        assert auth.authenticate(None, scheme) is None
        assert auth.authenticate(None, "bearer wrong", "ann") is None


class TestKnownDevices:
    def test_a_flood_does_not_lock_a_known_device_out(self, auth: Auth) -> None:
        device = auth.known_device(auth.new_device())
        assert device is not None
        throttle = LoginThrottle(now=lambda: 0.0)
        for k in range(200):
            throttle.record_failure(f"192.0.2.{k % 250}")
        assert throttle.wait("192.0.2.1") > 0
        with throttle.attempt("192.0.2.1", device) as wait_s:
            assert wait_s == 0
        assert auth.login(PASSWORD) is not None

    def test_a_known_device_that_guesses_waits_too(self) -> None:
        throttle = LoginThrottle(free=1, wait_s=10, now=lambda: 0.0)
        for _ in range(2):
            throttle.record_failure("192.0.2.1", "device")
        assert throttle.wait("192.0.2.1", "device") == 10
        assert throttle.wait("192.0.2.1") == 0

    @pytest.mark.parametrize("cookie", [None, "", "x", "x.y.z"])
    def test_other_cookies_are_no_device(self, auth: Auth, cookie: str | None) -> None:
        assert auth.known_device(cookie) is None


class TestCsrf:
    def test_a_change_needs_the_proof_of_its_own_session(self, auth: Auth) -> None:
        one, other = (auth.authenticate(auth.login(PASSWORD), None) for _ in range(2))
        assert one is not None
        assert other is not None
        assert auth.has_csrf_proof(one, auth.csrf_token(one))
        assert not auth.has_csrf_proof(one, auth.csrf_token(other))
        assert not auth.has_csrf_proof(one, None)
        assert not auth.has_csrf_proof(one, "ä")

    def test_a_token_is_proof_enough(self, auth: Auth) -> None:
        assert auth.has_csrf_proof(Caller("token", "prometheus"), None)

    def test_without_a_password_the_page_still_proves_itself(self, file: Path) -> None:
        auth = Auth(load_credentials(file))
        caller = auth.authenticate(None, None)
        assert caller == Caller("open", "page")
        assert not auth.has_csrf_proof(caller, None)
        assert auth.has_csrf_proof(caller, auth.csrf_token(caller))


class TestThrottle:
    def test_waits_grow_and_end(self) -> None:
        clock = [0.0]
        throttle = LoginThrottle(free=2, wait_s=10, max_wait_s=35, now=lambda: clock[0])
        waits = []
        for _ in range(6):
            throttle.record_failure("192.0.2.1")
            waits.append(throttle.wait("192.0.2.1"))
        assert waits == [0, 0, 10, 20, 35, 35]
        clock[0] = 36.0
        assert throttle.wait("192.0.2.1") == 0
        throttle.record_success("192.0.2.1")
        throttle.record_failure("192.0.2.1")
        assert throttle.wait("192.0.2.1") == 0

    def test_guesses_count_while_they_are_checked(self) -> None:
        throttle = LoginThrottle(free=1, wait_s=10, at_once=3, now=lambda: 0.0)
        with throttle.attempt("192.0.2.1") as first, throttle.attempt("192.0.2.1") as second:
            assert (first, second) == (0, 0)
            with throttle.attempt("192.0.2.1") as third, throttle.attempt("192.0.2.2") as fourth:
                assert (third, fourth) == (10, 1)
        throttle.record_success("192.0.2.1")
        with throttle.attempt("192.0.2.1") as fifth:
            assert fifth == 0

    def test_right_passwords_do_not_make_others_wait(self) -> None:
        throttle = LoginThrottle(max_per_minute=10, now=lambda: 0.0)
        for i in range(20):
            with throttle.attempt(f"192.0.2.{i}") as wait_s:
                assert wait_s == 0
            throttle.record_success(f"192.0.2.{i}")
        assert throttle.wait("198.51.100.1") == 0

    def test_many_clients_together_wait_too(self) -> None:
        clock = [0.0]
        throttle = LoginThrottle(max_per_minute=10, now=lambda: clock[0])
        for i in range(10):
            throttle.record_failure(f"192.0.2.{i}")
        assert throttle.wait("198.51.100.1") == 60
        clock[0] = 61.0
        assert throttle.wait("198.51.100.1") == 0

    def test_old_clients_are_forgotten(self) -> None:
        throttle = LoginThrottle(max_per_minute=10**9)
        for i in range(LoginThrottle.MAX_CLIENTS + 10):
            throttle.record_failure(f"place {i}")
        assert len(throttle._clients) == LoginThrottle.MAX_CLIENTS

    def test_one_subscriber_is_one_client(self) -> None:
        assert client_network("::ffff:192.0.2.1") == client_network("192.0.2.1")
        assert client_network("2001:db8:0:1::1") != client_network("2001:db8:0:2::1")
        assert client_network("fe80::1%eth0") == client_network("fe80::2")
