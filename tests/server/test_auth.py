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
from comemory.server.auth import Access, Caller
from comemory.server.auth_file import Secrets, add_token, read_secrets, remove_token, set_password
from comemory.server.login_throttle import Attempts, network

PASSWORD = "correct horse battery"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "out" / "access.json"


class TestTheFile:
    def test_it_is_made_for_its_owner_alone(self, file: Path) -> None:
        kept = read_secrets(file)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert read_secrets(file) == kept
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
        read_secrets(file)
        file.chmod(0o644)
        with pytest.raises(ConfigError, match="chmod 600"):
            read_secrets(file)

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "{}", '{"key": 5}', '{"key": "short"}', "[" * 100_000, '{"key": "' + "k" * 40 + '", "tokens": [1]}'],
    )
    def test_another_file_is_refused(self, file: Path, text: str) -> None:
        file.parent.mkdir()
        file.write_text(text)
        file.chmod(0o600)
        with pytest.raises(ConfigError, match="not a file of comemory's access"):
            read_secrets(file)

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
        assert len(read_secrets(file).tokens) == 40

    def test_a_token_can_be_taken_back(self, file: Path) -> None:
        token = add_token(file, "prometheus")
        assert Access(read_secrets(file)).caller(None, f"Bearer {token}") == Caller("token", "prometheus")
        remove_token(file, "prometheus")
        assert not Access(read_secrets(file)).required
        with pytest.raises(ConfigError, match="known: none"):
            remove_token(file, "prometheus")


@pytest.fixture
def access(file: Path) -> Access:
    set_password(file, PASSWORD)
    return Access(read_secrets(file))


class TestSessions:
    def test_the_password_begins_one(self, access: Access) -> None:
        cookie = access.login(PASSWORD)
        assert cookie is not None
        caller = access.caller(cookie, None)
        assert caller is not None
        assert caller.kind == "session"
        assert access.login(PASSWORD + " ") is None
        assert access.login("x" * 10_000) is None

    def test_logging_out_ends_it(self, access: Access) -> None:
        cookie = access.login(PASSWORD)
        caller = access.caller(cookie, None)
        assert caller is not None
        assert not access.is_over(caller)
        access.logout(caller)
        assert access.caller(cookie, None) is None
        assert access.is_over(caller)

    def test_one_that_was_ended_is_over_after_a_restart_too(self, access: Access, file: Path) -> None:
        ended = file.with_name("ended.json")
        before = Access(read_secrets(file), ended=ended)
        one, other = before.login(PASSWORD), before.login(PASSWORD)
        caller = before.caller(one, None)
        assert caller is not None
        before.logout(caller)
        assert stat.S_IMODE(ended.stat().st_mode) == 0o600
        after = Access(read_secrets(file), ended=ended)
        assert after.caller(one, None) is None
        assert after.is_over(caller)
        assert after.caller(other, None) is not None
        ended.write_text("[]")
        with pytest.raises(ConfigError, match="is damaged, and stays as it is"):
            Access(read_secrets(file), ended=ended)
        ended.write_text('{"some": "when"}')
        with pytest.raises(ConfigError, match="not a file of comemory's access"):
            Access(read_secrets(file), ended=ended)

    def test_logging_out_works_where_it_cannot_be_kept(
        self, access: Access, file: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        nowhere = Access(read_secrets(file), ended=file.parent / "folder" / "ended.json")
        (file.parent / "folder").touch()
        caller = nowhere.caller(nowhere.login(PASSWORD), None)
        assert caller is not None
        nowhere.logout(caller)
        assert nowhere.is_over(caller)
        assert "after a restart" in caplog.text

    def test_what_was_let_in_is_over_with_its_hours(self, file: Path) -> None:
        set_password(file, PASSWORD)
        brief = Access(read_secrets(file), session_hours=2 / 3600)
        caller = brief.caller(brief.login(PASSWORD), None)
        assert caller is not None
        assert not brief.is_over(caller)
        wait_for(lambda: brief.is_over(caller), 5)

    def test_it_outlives_a_restart_but_not_a_new_password(self, access: Access, file: Path) -> None:
        cookie = access.login(PASSWORD)
        assert Access(read_secrets(file)).caller(cookie, None) is not None
        set_password(file, "another password")
        assert Access(read_secrets(file)).caller(cookie, None) is None

    def test_it_ends_with_its_hours(self, file: Path) -> None:
        set_password(file, PASSWORD)
        brief = Access(read_secrets(file), session_hours=-1 / 3600)
        assert brief.caller(brief.login(PASSWORD), None) is None

    def test_a_password_of_the_settings_counts_plain_or_hashed(self, access: Access, file: Path) -> None:
        kept = read_secrets(file)
        assert Access(kept, password="from the settings").login("from the settings") is not None
        assert Access(kept, password="from the settings").login(PASSWORD) is None
        assert Access(kept, password=kept.password).login(PASSWORD) is not None

    def test_a_token_of_the_settings_counts(self, file: Path) -> None:
        access = Access(read_secrets(file), token="a token of forty characters or the like")
        assert access.required
        assert not access.has_password
        assert access.caller(None, "Bearer a token of forty characters or the like") is not None
        assert access.caller(None, "Bearer another") is None

    @settings(max_examples=60, deadline=None)
    @given(st.one_of(st.text(max_size=200), st.binary(max_size=100).map(lambda raw: raw.decode("latin-1"))))
    def test_no_other_cookie_or_header_lets_anybody_in(self, text: str) -> None:
        access = Access(stored("$argon2id$v=19$m=65536,t=3,p=4$bm90aGluZw$bm90aGluZw"))
        assert access.caller(text, None) is None
        assert access.caller(None, text) is None
        assert access.caller(None, f"Bearer {text}") is None


def stored(hashed: str) -> Secrets:
    return Secrets("k" * 43, hashed)


class TestProof:
    def test_a_change_needs_the_proof_of_its_own_session(self, access: Access) -> None:
        one, other = (access.caller(access.login(PASSWORD), None) for _ in range(2))
        assert one is not None
        assert other is not None
        assert access.proves(one, access.csrf(one))
        assert not access.proves(one, access.csrf(other))
        assert not access.proves(one, None)
        assert not access.proves(one, "ä")

    def test_a_token_is_proof_enough(self, access: Access) -> None:
        assert access.proves(Caller("token", "prometheus"), None)

    def test_without_a_password_the_page_still_proves_itself(self, file: Path) -> None:
        access = Access(read_secrets(file))
        caller = access.caller(None, None)
        assert caller == Caller("open", "page")
        assert not access.proves(caller, None)
        assert access.proves(caller, access.csrf(caller))


class TestAttempts:
    def test_waits_grow_and_end(self) -> None:
        clock = [0.0]
        attempts = Attempts(free=2, wait_s=10, longest_s=35, now=lambda: clock[0])
        waits = []
        for _ in range(6):
            attempts.failed("192.0.2.1")
            waits.append(attempts.wait("192.0.2.1"))
        assert waits == [0, 0, 10, 20, 35, 35]
        clock[0] = 36.0
        assert attempts.wait("192.0.2.1") == 0
        attempts.succeeded("192.0.2.1")
        attempts.failed("192.0.2.1")
        assert attempts.wait("192.0.2.1") == 0

    def test_guesses_count_while_they_are_looked_at(self) -> None:
        attempts = Attempts(free=1, wait_s=10, at_once=3, now=lambda: 0.0)
        with attempts.guess("192.0.2.1") as first, attempts.guess("192.0.2.1") as second:
            assert (first, second) == (0, 0)
            with attempts.guess("192.0.2.1") as third, attempts.guess("192.0.2.2") as fourth:
                assert (third, fourth) == (10, 1)
        attempts.succeeded("192.0.2.1")
        with attempts.guess("192.0.2.1") as fifth:
            assert fifth == 0

    def test_right_passwords_do_not_make_others_wait(self) -> None:
        attempts = Attempts(everywhere=10, now=lambda: 0.0)
        for i in range(20):
            with attempts.guess(f"192.0.2.{i}") as wait_s:
                assert wait_s == 0
            attempts.succeeded(f"192.0.2.{i}")
        assert attempts.wait("198.51.100.1") == 0

    def test_many_places_together_wait_too(self) -> None:
        clock = [0.0]
        attempts = Attempts(everywhere=10, now=lambda: clock[0])
        for i in range(10):
            attempts.failed(f"192.0.2.{i}")
        assert attempts.wait("198.51.100.1") == 60
        clock[0] = 61.0
        assert attempts.wait("198.51.100.1") == 0

    def test_places_are_forgotten_in_time(self) -> None:
        attempts = Attempts(everywhere=10**9)
        for i in range(Attempts.N_PLACES + 10):
            attempts.failed(f"place {i}")
        assert len(attempts._places) == Attempts.N_PLACES

    def test_one_subscriber_is_one_place(self) -> None:
        assert network("::ffff:192.0.2.1") == network("192.0.2.1")
        assert network("2001:db8:0:1::1") != network("2001:db8:0:2::1")
        assert network("fe80::1%eth0") == network("fe80::2")
