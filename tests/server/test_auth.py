"""Passwords, tokens, sessions: what is kept, who is let in, who waits."""

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
from comemory.server.auth_file import Credentials, add_token, load_credentials, remove_token, set_password
from comemory.server.login_throttle import LoginThrottle, client_network

PASSWORD = "correct horse battery"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "out" / "access.json"


class TestTheFile:
    def test_it_is_made_for_its_owner_alone(self, file: Path) -> None:
        kept = load_credentials(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert load_credentials(file) == kept
        assert len(kept.key) >= 32

    def test_it_holds_neither_password_nor_token(self, file: Path) -> None:
        set_password(file, PASSWORD)
        token = add_token(file, "prometheus")
        text = file.read_text()
        assert PASSWORD not in text
        assert token not in text
        assert json.loads(text)["password"].startswith("$argon2id$")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert list(file.parent.iterdir()) == [file]

    def test_one_that_others_may_read_is_refused(self, file: Path) -> None:
        load_credentials(file)
        file.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            load_credentials(file)

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", '{"key": 5}', '{"key": "short"}', "[" * 100_000, '{"key": "' + "k" * 40 + '", "tokens": [1]}'],
    )
    def test_another_file_is_refused(self, file: Path, text: str) -> None:
        file.parent.mkdir()
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(ConfigError, match="not a file of comemory's access"):
            load_credentials(file)

    @pytest.mark.parametrize("password", ["", "short", "x" * 257])
    def test_a_password_has_a_length(self, file: Path, password: str) -> None:
        with pytest.raises(ConfigError, match="8 to 256 characters"):
            set_password(file, password)

    @pytest.mark.parametrize("name", ["", "a b", "../x", "x" * 65])
    def test_a_token_has_a_name(self, file: Path, name: str) -> None:
        with pytest.raises(ConfigError, match="name"):
            add_token(file, name)

    def test_two_processes_lose_nothing_of_each_other(self, file: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from comemory.server.auth_file import add_token;"
            "[add_token(Path(sys.argv[1]), f'{sys.argv[2]}{k}') for k in range(20)]"
        )
        at_once(code, file)
        assert len(load_credentials(file).tokens) == 40

    def test_a_token_can_be_taken_back(self, file: Path) -> None:
        token = add_token(file, "prometheus")
        assert Auth(load_credentials(file)).authenticate(None, f"Bearer {token}") == Caller("token", "prometheus")
        remove_token(file, "prometheus")
        assert not Auth(load_credentials(file)).is_required
        with pytest.raises(ConfigError, match="known: none"):
            remove_token(file, "prometheus")


@pytest.fixture
def access(file: Path) -> Auth:
    set_password(file, PASSWORD)
    return Auth(load_credentials(file))


class TestSessions:
    def test_the_password_begins_one(self, access: Auth) -> None:
        cookie = access.login(PASSWORD)
        assert cookie is not None
        caller = access.authenticate(cookie, None)
        assert caller is not None
        assert caller.kind == "session"
        assert access.login(PASSWORD + " ") is None
        assert access.login("x" * 10_000) is None

    def test_logging_out_ends_it(self, access: Auth) -> None:
        cookie = access.login(PASSWORD)
        caller = access.authenticate(cookie, None)
        assert caller is not None
        assert not access.has_ended(caller)
        access.logout(caller)
        assert access.authenticate(cookie, None) is None
        assert access.has_ended(caller)

    def test_one_that_was_ended_is_over_after_a_restart_too(self, access: Auth, file: Path) -> None:
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
        with pytest.raises(ConfigError, match="is damaged, and stays as it is"):
            Auth(load_credentials(file), ended=ended)
        ended.write_text('{"some": "when"}')
        with pytest.raises(ConfigError, match="not a file of comemory's access"):
            Auth(load_credentials(file), ended=ended)

    def test_logging_out_works_where_it_cannot_be_kept(
        self, access: Auth, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        nowhere = Auth(load_credentials(file), ended=file.parent / "folder" / "ended.json")
        (file.parent / "folder").touch()
        caller = nowhere.authenticate(nowhere.login(PASSWORD), None)
        assert caller is not None
        nowhere.logout(caller)
        assert nowhere.has_ended(caller)
        assert "after a restart" in caplog.text

    def test_what_was_let_in_is_over_with_its_hours(self, file: Path) -> None:
        set_password(file, PASSWORD)
        brief = Auth(load_credentials(file), session_hours=2 / 3600)
        caller = brief.authenticate(brief.login(PASSWORD), None)
        assert caller is not None
        assert not brief.has_ended(caller)
        wait_for(lambda: brief.has_ended(caller), 5)

    def test_it_outlives_a_restart_but_not_a_new_password(self, access: Auth, file: Path) -> None:
        cookie = access.login(PASSWORD)
        assert Auth(load_credentials(file)).authenticate(cookie, None) is not None
        set_password(file, "another password")
        assert Auth(load_credentials(file)).authenticate(cookie, None) is None

    def test_it_ends_with_its_hours(self, file: Path) -> None:
        set_password(file, PASSWORD)
        brief = Auth(load_credentials(file), session_hours=-1 / 3600)
        assert brief.authenticate(brief.login(PASSWORD), None) is None

    def test_a_password_of_the_settings_counts_plain_or_hashed(self, access: Auth, file: Path) -> None:
        kept = load_credentials(file)
        assert Auth(kept, password="from the settings").login("from the settings") is not None
        assert Auth(kept, password="from the settings").login(PASSWORD) is None
        assert Auth(kept, password=kept.password).login(PASSWORD) is not None

    def test_a_token_of_the_settings_counts(self, file: Path) -> None:
        access = Auth(load_credentials(file), token="a token of forty characters or the like")
        assert access.is_required
        assert not access.has_password
        assert access.authenticate(None, "Bearer a token of forty characters or the like") is not None
        assert access.authenticate(None, "Bearer another") is None

    @settings(max_examples=60, deadline=None)
    @given(st.one_of(st.text(max_size=200), st.binary(max_size=100).map(lambda raw: raw.decode("latin-1"))))
    def test_no_other_cookie_or_header_lets_anybody_in(self, text: str) -> None:
        access = Auth(stored("$argon2id$v=19$m=65536,t=3,p=4$bm90aGluZw$bm90aGluZw"))
        assert access.authenticate(text, None) is None
        assert access.authenticate(None, text) is None
        assert access.authenticate(None, f"Bearer {text}") is None


def stored(hashed: str) -> Credentials:
    return Credentials("k" * 43, hashed)


class TestProof:
    def test_a_change_needs_the_proof_of_its_own_session(self, access: Auth) -> None:
        one, other = (access.authenticate(access.login(PASSWORD), None) for _ in range(2))
        assert one is not None
        assert other is not None
        assert access.has_csrf_proof(one, access.csrf_token(one))
        assert not access.has_csrf_proof(one, access.csrf_token(other))
        assert not access.has_csrf_proof(one, None)
        assert not access.has_csrf_proof(one, "ä")

    def test_a_token_is_proof_enough(self, access: Auth) -> None:
        assert access.has_csrf_proof(Caller("token", "prometheus"), None)

    def test_without_a_password_the_page_still_proves_itself(self, file: Path) -> None:
        access = Auth(load_credentials(file))
        caller = access.authenticate(None, None)
        assert caller == Caller("open", "page")
        assert not access.has_csrf_proof(caller, None)
        assert access.has_csrf_proof(caller, access.csrf_token(caller))


class TestAttempts:
    def test_waits_grow_and_end(self) -> None:
        clock = [0.0]
        attempts = LoginThrottle(free=2, wait_s=10, longest_s=35, now=lambda: clock[0])
        waits = []
        for _ in range(6):
            attempts.record_failure("192.0.2.1")
            waits.append(attempts.wait("192.0.2.1"))
        assert waits == [0, 0, 10, 20, 35, 35]
        clock[0] = 36.0
        assert attempts.wait("192.0.2.1") == 0
        attempts.record_success("192.0.2.1")
        attempts.record_failure("192.0.2.1")
        assert attempts.wait("192.0.2.1") == 0

    def test_guesses_count_while_they_are_looked_at(self) -> None:
        attempts = LoginThrottle(free=1, wait_s=10, at_once=3, now=lambda: 0.0)
        with attempts.attempt("192.0.2.1") as first, attempts.attempt("192.0.2.1") as second:
            assert (first, second) == (0, 0)
            with attempts.attempt("192.0.2.1") as third, attempts.attempt("192.0.2.2") as fourth:
                assert (third, fourth) == (10, 1)
        attempts.record_success("192.0.2.1")
        with attempts.attempt("192.0.2.1") as fifth:
            assert fifth == 0

    def test_right_passwords_do_not_make_others_wait(self) -> None:
        attempts = LoginThrottle(everywhere=10, now=lambda: 0.0)
        for i in range(20):
            with attempts.attempt(f"192.0.2.{i}") as wait_s:
                assert wait_s == 0
            attempts.record_success(f"192.0.2.{i}")
        assert attempts.wait("198.51.100.1") == 0

    def test_many_places_together_wait_too(self) -> None:
        clock = [0.0]
        attempts = LoginThrottle(everywhere=10, now=lambda: clock[0])
        for i in range(10):
            attempts.record_failure(f"192.0.2.{i}")
        assert attempts.wait("198.51.100.1") == 60
        clock[0] = 61.0
        assert attempts.wait("198.51.100.1") == 0

    def test_places_are_forgotten_in_time(self) -> None:
        attempts = LoginThrottle(everywhere=10**9)
        for i in range(LoginThrottle.MAX_CLIENTS + 10):
            attempts.record_failure(f"place {i}")
        assert len(attempts._clients) == LoginThrottle.MAX_CLIENTS

    def test_one_subscriber_is_one_place(self) -> None:
        assert client_network("::ffff:192.0.2.1") == client_network("192.0.2.1")
        assert client_network("2001:db8:0:1::1") != client_network("2001:db8:0:2::1")
        assert client_network("fe80::1%eth0") == client_network("fe80::2")
