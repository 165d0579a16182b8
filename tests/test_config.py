"""TOML and settings into frozen models; every mistake is one line that says what to do."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError, model_validator

from comemory.config import Settings, apply_settings, build, read_toml
from comemory.errors import ConfigError


class Inner(Settings):
    rate: float = Field(1.0, gt=0)
    names: tuple[str, ...] = ()
    mode: Literal["one", "two"] = "one"


class Outer(Settings):
    count: int = Field(3, ge=1)
    either: int | Literal["auto"] = "auto"
    inner: Inner = Inner()
    by_name: dict[str, Inner] = {}  # noqa: RUF012 - pydantic copies it

    @model_validator(mode="after")
    def _together(self) -> Outer:
        if self.count == 13:
            raise ValueError("13 brings\nbad luck")
        return self


class Needy(Settings):
    wanted: int


class Innermost(BaseModel):
    width: float = 1


class Foreign(BaseModel):
    """Settings that know nothing of `Settings`, as those of a network."""

    width: int = 1
    inner: Innermost = Innermost()


class Numbers(Settings):
    pair: tuple[float, float] = (0, 0)
    flag: bool = False
    flag_or_number: bool | int = 0
    network: Foreign = Foreign()


def refused(values: Any, model: type[Settings] = Outer) -> str:
    with pytest.raises(ConfigError) as caught:
        build(model, values)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


class TestBuild:
    def test_defaults_and_nested_values(self) -> None:
        assert build(Outer, {}) == Outer()
        made = build(Outer, {"count": 5, "inner": {"rate": 2, "names": ["a"]}})
        assert (made.count, made.inner.rate, made.inner.names) == (5, 2.0, ("a",))

    def test_frozen(self) -> None:
        with pytest.raises(ValidationError):
            build(Outer, {}).count = 4  # type: ignore[misc]

    def test_an_unknown_key_gets_the_closest_key_of_its_group(self) -> None:
        assert refused({"cout": 1}).startswith(
            "unknown config key 'cout': did you mean 'count'? (known: by_name, count"
        )
        line = refused({"inner": {"rat": 1}})
        assert line == "unknown config key 'inner.rat': did you mean 'rate'? (known: mode, names, rate)"
        assert "did you mean 'rate'" in refused({"by_name": {"x": {"rte": 1}}})

    def test_an_invalid_value_is_shown(self) -> None:
        assert refused({"count": 0}) == ("config key 'count' does not accept 0: expected 1 or more")
        assert refused({"inner": {"mode": "three"}}).startswith("config key 'inner.mode' does not accept 'three'")
        assert refused({"inner": 3}).startswith("config key 'inner' does not accept 3")
        assert refused({"inner": {"names": ["a", 3]}}).startswith("config key 'inner.names.1' does not accept 3")
        assert refused({"by_name": {"x": {"rate": 0}}}).startswith("config key 'by_name.x.rate' does not accept 0")

    def test_the_key_of_a_union_has_no_type_names(self) -> None:
        line = refused({"either": "manual"})
        assert line.startswith("config key 'either' does not accept 'manual'")

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_numbers_must_be_finite(self, value: float) -> None:
        assert "finite number" in refused({"inner": {"rate": value}})

    @pytest.mark.parametrize("value", [True, False])
    def test_true_and_false_are_no_numbers(self, value: bool) -> None:
        assert refused({"count": value}).startswith(f"config key 'count' does not accept {value}: expected a number")
        assert "expected a number" in refused({"inner": {"rate": value}})
        assert "expected a number" in refused({"by_name": {"x": {"rate": value}}})
        assert "expected a number" in refused({"either": value})
        assert "expected a number" in refused({"pair": [1, value]}, Numbers)
        assert refused({"network": {"width": value}}, Numbers).endswith("not true or false, in width")
        assert refused({"network": {"inner": {"width": value}}}, Numbers).endswith("not true or false, in inner.width")
        assert build(Numbers, {"flag": value, "flag_or_number": value}).flag_or_number is value

    def test_an_unknown_key_is_named_before_a_wrong_value(self) -> None:
        line = refused({"count": 0, "inner": {"rate": 0}, "moed": 1})
        assert line.startswith("unknown config key 'moed': ")
        assert line.endswith("(and 2 more)")

    def test_an_error_of_a_whole_model(self) -> None:
        assert refused({"count": 13}) == "the settings are not valid: 13 brings bad luck"

    def test_a_missing_key(self) -> None:
        assert refused({}, Needy) == "config key 'wanted' is missing"

    def test_further_errors_are_counted(self) -> None:
        assert refused({"count": 0, "inner": {"rate": 0, "mode": "x"}}).endswith("(and 2 more)")

    def test_huge_values_give_short_messages(self) -> None:
        assert len(refused({"count": "x" * 10**6})) < 300
        assert len(refused({"x" * 10**6: 1})) < 600

    @given(
        st.dictionaries(
            st.sampled_from(["count", "either", "inner", "by_name", "x", "", "count.x"]) | st.text(max_size=5),
            st.recursive(
                st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                lambda inner: (
                    st.lists(inner, max_size=3)
                    | st.dictionaries(st.sampled_from(["rate", "names", "mode", "y"]), inner, max_size=3)
                ),
                max_leaves=6,
            ),
            max_size=4,
        )
    )
    @settings(deadline=None, max_examples=200)
    def test_any_values_are_accepted_or_refused_in_one_line(self, values: dict[str, Any]) -> None:
        try:
            built = build(Outer, values)
        except ConfigError as error:
            text = str(error)
        else:
            text = ""
            assert build(Outer, built.model_dump(mode="json")) == built
        assert len(text.splitlines()) <= 1
        assert len(text) < 2000


class TestToml:
    def test_it_reads_nested_values(self, tmp_path: Path) -> None:
        path = tmp_path / "a.toml"
        path.write_text('count = 4\n[inner]\nnames = ["ä"]\n', encoding="utf-8")
        assert read_toml(path) == {"count": 4, "inner": {"names": ["ä"]}}

    @pytest.mark.parametrize(
        "content",
        [b"count = ", b"\xff\xfe", b"a = 1\na = 2", b"[" * 10, b"a = " + b"[" * 100_000, b"a = " + b"1" * 5000, b"\0"],
        ids=["no value", "not utf-8", "twice", "brackets", "deep", "long number", "null"],
    )
    def test_invalid_toml_gives_one_line_with_the_path(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "a.toml"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"a\.toml is not valid TOML: ") as caught:
            read_toml(path)
        assert len(str(caught.value).splitlines()) == 1

    def test_a_byte_order_mark_is_no_part_of_it(self, tmp_path: Path) -> None:
        path = tmp_path / "a.toml"
        path.write_text("count = 4\n", encoding="utf-8-sig")
        assert read_toml(path) == {"count": 4}

    def test_an_unreadable_file(self, tmp_path: Path) -> None:
        for path in (tmp_path / "absent.toml", tmp_path, Path("/dev/null/x")):
            with pytest.raises(ConfigError, match="cannot read config"):
                read_toml(path)
        with pytest.raises(ConfigError):
            read_toml(Path("a\0b"))

    @given(st.binary(max_size=60))
    @settings(deadline=None, max_examples=100)
    def test_any_bytes_are_read_or_refused(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        path = tmp_path_factory.getbasetemp() / "any.toml"
        path.write_bytes(content)
        with suppress(ConfigError):
            assert isinstance(read_toml(path), dict)


class TestSettings:
    @pytest.mark.parametrize(
        ("setting", "value"),
        [
            ("a=1", 1),
            ("a=1e-4", 1e-4),
            ("a=true", True),
            ("a=null", None),
            ("a=dis", "dis"),
            ('a="1"', "1"),
            ("a=[1, 2]", [1, 2]),
            ('a={"b": 1}', {"b": 1}),
            ("a=", ""),
            ("a=b=c", "b=c"),
            (" a = 1 ", 1),
            ("a=[1", "[1"),
            ("a=" + "[" * 100_000, "[" * 100_000),
            ("a=" + "1" * 5000, "1" * 5000),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_a_value_is_json_or_text(self, setting: str, value: object) -> None:
        assert apply_settings({}, [setting]) == {"a": value}

    def test_the_last_setting_wins_and_the_input_is_unchanged(self) -> None:
        given_ = {"a": {"b": 1, "c": [1]}, "d": 2}
        merged = apply_settings(given_, ["a.b=2", "a.b=3", "e.f.g=4", "a.c=[2]"])
        assert merged == {"a": {"b": 3, "c": [2]}, "d": 2, "e": {"f": {"g": 4}}}
        assert given_ == {"a": {"b": 1, "c": [1]}, "d": 2}

    def test_toml_types_unknown_to_json_are_unchanged(self, tmp_path: Path) -> None:
        path = tmp_path / "a.toml"
        path.write_text("when = 2026-11-23\nhow = nan\n", encoding="utf-8")
        merged = apply_settings(read_toml(path), ["x=1"])
        assert merged["when"].year == 2026
        assert "does not accept" in refused({"count": merged["when"]})

    @pytest.mark.parametrize("setting", ["", "a", "=1", ".a=1", "a.=1", "a..b=1", " =1", "."])
    def test_a_malformed_setting_is_refused(self, setting: str) -> None:
        with pytest.raises(ConfigError, match=r"expected key=value, such as train\.epochs=10"):
            apply_settings({}, [setting])

    def test_a_key_inside_a_value_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"cannot set 'a.b.c': 'b' is a value, not a group of settings"):
            apply_settings({"a": {"b": 1}}, ["a.b.c=2"])

    @given(st.lists(st.text(max_size=12), max_size=4))
    @settings(deadline=None)
    def test_any_setting_is_applied_or_refused(self, texts: list[str]) -> None:
        try:
            assert isinstance(apply_settings({"a": {"b": 1}}, texts), dict)
        except ConfigError as error:
            if not str(error).startswith(("cannot ", "a setting has no key")):
                raise


def test_a_setting_without_a_key_is_refused_without_its_value() -> None:
    with pytest.raises(ConfigError, match=r"^a setting has no key before its '=': expected key=value") as caught:
        apply_settings({}, ["=secret"])
    assert "secret" not in str(caught.value)


def test_one_text_in_place_of_a_list_of_settings_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"settings are the text 'a…': expected a list"):
        apply_settings({}, "a=1")
