"""The tree of errors, and the parts of their messages."""

from __future__ import annotations

import builtins
import inspect
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory import errors
from comemory.errors import ComemoryError, last_line, mask_password, short_repr, suggest

LEAVES = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, ComemoryError) and kind is not ComemoryError
]


class TestTree:
    @pytest.mark.parametrize("kind", LEAVES)
    def test_each_error_is_also_a_builtin_and_listed_in_the_docstring(self, kind: type[ComemoryError]) -> None:
        builtin = next(base for base in kind.__mro__ if base.__module__ == builtins.__name__)
        assert issubclass(builtin, Exception)
        assert builtin is not Exception
        (line,) = (line for line in (errors.__doc__ or "").splitlines() if f" {kind.__name__} " in line)
        assert f"({builtin.__name__})" in line

    @pytest.mark.parametrize("kind", LEAVES)
    def test_an_error_keeps_its_message(self, kind: type[ComemoryError]) -> None:
        assert str(kind("what failed: what to do")) == "what failed: what to do"

    def test_there_are_eleven_errors(self) -> None:
        assert len(LEAVES) == 11


class TestSuggest:
    @pytest.mark.parametrize("word", ["openvno", "Openvino", "openvino "])
    def test_the_closest_name_comes_first(self, word: str) -> None:
        assert suggest(word, ["onnx", "openvino", "pytorch"]).startswith("did you mean 'openvino'? (known: onnx, ")

    @given(word=st.text(max_size=30), known=st.lists(st.text(max_size=8), max_size=6))
    def test_any_word_gets_one_hint(self, word: str, known: list[str]) -> None:
        clause = suggest(word, known)
        assert clause.startswith(("known: ", "did you mean ")) if known else clause == "there are none"

    def test_a_known_word_is_its_own_closest_one(self) -> None:
        assert suggest("dis", ["dis", "raft"]).startswith("did you mean 'dis'?")


class TestShort:
    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        )
    )
    @settings(deadline=None, max_examples=100)
    def test_any_value_gives_one_short_line(self, value: object) -> None:
        text = short_repr(value)
        assert len(text.splitlines()) <= 1
        assert len(text) < 3000

    def test_long_and_deep_values_are_abbreviated(self) -> None:
        deep: list[object] = []
        for _ in range(100_000):
            deep = [deep]
        assert len(short_repr(deep)) < 100
        assert len(short_repr("x" * 10**6)) < 100
        assert len(short_repr(10**4000)) < 100
        assert len(short_repr({str(i): i for i in range(10_000)})) < 200

    def test_short_values_are_their_repr(self) -> None:
        assert [short_repr(value) for value in ("a'b", 1.5, None, [1, 2])] == ['"a\'b"', "1.5", "None", "[1, 2]"]


class TestLastLine:
    @pytest.mark.parametrize(
        ("text", "line"),
        [("a\nb", "b"), ("a\n\n  b \n\n", "b"), ("", "RuntimeError"), ("\n \n", "RuntimeError"), ("one", "one")],
    )
    def test_last_line(self, text: str, line: str) -> None:
        assert last_line(RuntimeError(text)) == line


URLS = {
    "rtsp://user:secret@host/stream": "rtsp://user:***@host/stream",
    "rtsp://:secret@host/stream": "rtsp://:***@host/stream",
    "rtsp://user:@host/stream": "rtsp://user:***@host/stream",
    "rtsp://user:se:cr@et@host:554/live": "rtsp://user:***@host:554/live",
    "rtsp://user:se/cr/et@host/live": "rtsp://user:***@host/live",
    "rtsp://host:554/a@b": "rtsp://host:554/a@b",
    "http://host:8080/live": "http://host:8080/live",
    "http://host/live?token=secret": "http://host/live?token=***",
    "http://host/live?token=secret&channel=1": "http://host/live?token=***&channel=***",
    "http://host/live?a=1;token=secret": "http://host/live?a=***;token=***",
    "http://host/live?secret": "http://host/live?***",
    "http://host?token=a=b==": "http://host?token=***",
    "http://host/live?token=": "http://host/live?token=***",
    "http://host/live?": "http://host/live?",
    "http://host/#access_token=secret": "http://host/#access_token=***",
    "http://host/x?token=a?b": "http://host/x?token=***?***",
    "http://u:p@host/x?next=http://v:q@other/": "http://u:***@host/x?next=***",
    "rtsp://user:sec ret@host:554/live": "rtsp://user:***@host:554/live",
    "rtsp://a user:sec ret @host/live": "rtsp://a user:***@host/live",
    "rtsp://user:se @c ret@host/live": "rtsp://user:***@host/live",
    "rtsp://user:se cr/et@host/live": "rtsp://user:***@host/live",
    "no rtsp://user:sec ret@host/live: a@b was reported": "no rtsp://user:***@host/live: a@b was reported",
    "http://host: a@b was reported": "http://host: a@b was reported",
    "http://host:80: a@b was reported": "http://host:80: a@b was reported",
    "rtsp://host:554/user=admin&password=secret&channel=1&stream=0.sdp?x": (
        "rtsp://host:554/user=admin&password=***&channel=1&stream=0.sdp?***"
    ),
    "rtsp://host/user=admin_passWord=secret_channel=1": "rtsp://host/user=admin_passWord=***",
    "http://host/pwd=se/cret;1": "http://host/pwd=***;1",
    "two: rtsp://a:b@c/ and http://d/?e=f": "two: rtsp://a:***@c/ and http://d/?e=***",
    "/videos/gate.mp4": "/videos/gate.mp4",
    "C:\\videos\\a@b:c?d=e": "C:\\videos\\a@b:c?d=e",
    "what? token=secret is no URL": "what? token=secret is no URL",
    "": "",
}


class TestMaskPassword:
    @pytest.mark.parametrize("url", URLS)
    def test_examples(self, url: str) -> None:
        assert mask_password(url) == URLS[url]

    @given(
        secret=st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=6, max_size=20),
        user=st.sampled_from(["", "user", "a.b-c"]),
        rest=st.sampled_from(["", "/", "/live/1", "/live?x=1", ":554/live"]),
    )
    @settings(max_examples=200)
    def test_a_quoted_password_is_hidden(self, secret: str, user: str, rest: str) -> None:
        shown = mask_password(f"rtsp://{user}:{quote(secret, safe='')}@camera.lan{rest}")
        before = f"rtsp://{user}:***@camera.lan"
        assert shown.startswith(before)
        assert quote(secret, safe="") not in shown.removeprefix(before)

    @given(secret=st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"], exclude_characters="@?#/"), min_size=6))
    @settings(max_examples=200)
    def test_an_unquoted_password_is_hidden(self, secret: str) -> None:
        if not secret[:5].isdigit() and secret not in "rtsp://someone:***@camera.lan/live":
            assert secret not in mask_password(f"rtsp://someone:{secret}@camera.lan/live")

    @given(st.lists(st.text(st.characters(categories=["L"]), min_size=3, max_size=8), min_size=2, max_size=4))
    @settings(max_examples=100)
    def test_a_password_with_spaces_is_hidden(self, words: list[str]) -> None:
        said = f"cannot open rtsp://someone:{' '.join(words)}@camera.lan/live: refused"
        assert mask_password(said) == "cannot open rtsp://someone:***@camera.lan/live: refused"

    @given(value=st.text(st.characters(exclude_categories=["Cc", "Cs", "Z"]), min_size=6, max_size=20))
    @settings(max_examples=200)
    def test_a_value_of_the_query_is_hidden(self, value: str) -> None:
        quoted = quote(value, safe="")
        shown = mask_password(f"https://camera.lan/live?token={quoted}&channel=2")
        assert shown == "https://camera.lan/live?token=***&channel=***"

    @given(st.text() | st.sampled_from(list(URLS)) | st.from_regex(r"[a-z]+://[^ ]{0,40}", fullmatch=True))
    @settings(max_examples=300)
    def test_masking_twice_changes_nothing(self, text: str) -> None:
        once = mask_password(text)
        assert mask_password(once) == once
