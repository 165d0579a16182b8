"""Settings: frozen models made from TOML files and `--set key=value`. An unknown key is refused with the closest known one."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from comemory.errors import ConfigError, mask_password, plain_reason, short_repr, suggest

S = TypeVar("S", bound=BaseModel)


class Settings(BaseModel):
    """Base class of all settings: frozen, and it refuses unknown keys, NaN, and true and false where numbers are expected."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Pydantic takes true for 1 and false for 0: `train.epochs=true` would be a training of one epoch."""
        if (place := _truth_for_a_number(cls.model_fields[str(info.field_name)].annotation, value)) is not None:
            raise ValueError(f"expected a number, not true or false{place and f', in {place}'}")
        return value


def _truth_for_a_number(kind: Any, value: Any) -> str | None:
    """Where true or false stands in a plain value whose type expects numbers: the key inside it, `` for itself, else None."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        # Other settings of comemory check themselves. Those of a network cannot: they know nothing of this module.
        fields = {} if issubclass(kind, Settings) or not isinstance(value, Mapping) else kind.model_fields
        inside = {name: _truth_for_a_number(field.annotation, value.get(name)) for name, field in fields.items()}
        return next((f"{name}.{place}".rstrip(".") for name, place in inside.items() if place is not None), None)
    has_truth = type(value) is bool or (isinstance(value, list | tuple) and any(type(one) is bool for one in value))
    return "" if has_truth and _expects_numbers(kind) else None


def _expects_numbers(kind: Any) -> bool:
    """Whether a type has numbers in it, and neither true nor false."""
    kinds = set(_plain_types(kind))
    return bool(kinds & {int, float}) and not kinds & {bool, Any, object}


def _plain_types(kind: Any) -> Iterator[Any]:
    """The types that a type consists of: `int` and `str` of `tuple[int, ...] | str`."""
    if get_origin(kind) is Literal:
        yield from map(type, get_args(kind))
    elif get_origin(kind) is None:
        yield kind
    else:
        for part in get_args(kind):
            yield from _plain_types(part)


def build(model: type[S], values: Mapping[str, Any]) -> S:
    """Make settings from nested plain values.

    Args:
        model: class of the settings.
        values: by key, as read from TOML or JSON.

    Raises:
        ConfigError: an unknown key or an invalid value, in one line. The message does not repeat a value that is, or may
            contain, a secret (a field with `repr=False`).

    >>> class Example(Settings):
    ...     lr: float = 0.1
    >>> build(Example, {"lr": "1e-3"}).lr
    0.001
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(mask_password(describe_validation(model, error))) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file into plain nested values.

    Raises:
        ConfigError: it cannot be read, or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))  # some editors begin a file with a byte-order mark
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def apply_settings(values: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Override nested values by `key.sub=value` settings. A value is read as JSON; what is no JSON is text.

    Args:
        values: nested, as read from TOML; not changed.
        settings: `key.sub=value` each, as after `--set`.

    Raises:
        ConfigError: a setting has no `=`, has an empty key, or a key inside a value.

    >>> apply_settings({"train": {"lr": 0.1}}, ["train.lr=1e-4", "flow.name=dis"])
    {'train': {'lr': 0.0001}, 'flow': {'name': 'dis'}}
    """
    if isinstance(settings, str):
        raise ConfigError(f"settings are the text {_key_of(settings)!r}: expected a list of texts key=value")
    merged = copy.deepcopy(dict(values))
    for setting in settings:
        key, equals, text = setting.partition("=")
        parts = key.strip().split(".")
        if equals and not key.strip():
            raise ConfigError("a setting has no key before its '=': expected key=value, such as train.epochs=10")
        if not equals or not all(parts):
            raise ConfigError(
                f"cannot read the setting {_key_of(setting)!r}: expected key=value, such as train.epochs=10"
            )
        place = merged
        for part in parts[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"cannot set {key!r}: {part!r} is a value, not a group of settings")
        place[parts[-1]] = _parse(text.strip())
    return merged


def _key_of(setting: str) -> str:
    """The part of an unreadable setting that may be shown: what follows its key may be a secret."""
    shown = re.match(r"[\w.-]*", setting)
    key = shown[0] if shown else ""
    return key if key == setting else f"{key}…"


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def describe_validation(model: type[BaseModel], error: ValidationError) -> str:
    """An unknown key, else the first error of a validation, on one line, and how many more there are."""
    errors = error.errors(include_url=False)
    # A misspelt key is a setting that was not set: it explains more than a value that is merely out of range.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    path, known, is_secret = _walk(model, first["loc"])
    key = ".".join(path)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown config key {short_repr(key)}: {_suggest_key(model, path, known)}{more}"
    if first["type"] == "missing":
        return f"config key {key!r} is missing{more}"
    reason = plain_reason(first["msg"])
    if not key:
        return f"the settings are not valid: {reason}{more}"
    problem = "is not valid" if is_secret else f"does not accept {short_repr(first.get('input'))}"
    return f"config key {short_repr(key)} {problem}: {reason}{more}"


def _suggest_key(model: type[BaseModel], path: Sequence[str], known: Sequence[str]) -> str:
    """A hint for an unknown key: the same key inside a group (`epochs` is `train.epochs`), or the closest known key."""
    inside = sorted(_keys_named(model, path[-1])) if len(path) == 1 else []
    return f"did you mean {' or '.join(map(repr, inside))}?" if inside else suggest(path[-1], known)


def _keys_named(model: type[BaseModel], name: str, prefix: str = "") -> Iterator[str]:
    """The dotted keys inside the groups of a model that end in `name`; a group with free names shows as `NAME`."""
    for key, field in model.model_fields.items():
        kind: Any = field.annotation
        place = f"{prefix}{key}."
        if get_origin(kind) is dict:
            kind, place = get_args(kind)[1], f"{place}NAME."
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            if name in kind.model_fields:
                yield f"{place}{name}"
            yield from _keys_named(kind, name, place)


def _walk(model: type[BaseModel], location: Sequence[str | int]) -> tuple[list[str], list[str], bool]:
    """Follow the location of an error through the models.

    Returns:
        The keys (a location also has the names of the types that were tried), the keys known at the last of them, and
        whether the value there may be a secret.
    """
    keys: list[str] = []
    known: list[str] = []
    at: Any = model
    is_secret = False
    for part in location:
        if isinstance(at, type) and issubclass(at, BaseModel):
            known = list(at.model_fields)
            field = at.model_fields.get(str(part))
            at = field.annotation if field else None
            is_secret = is_secret or (field is not None and not field.repr)
        elif get_origin(at) in (dict, tuple, list):
            known = []
            at = get_args(at)[-1 if get_origin(at) is dict else 0]
        else:
            continue
        keys.append(str(part))
    return keys, known, is_secret or _may_hold_secrets(at)


def _may_hold_secrets(kind: Any) -> bool:
    """Whether a type, or a subclass of it, has a field with `repr=False` at any depth."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.values()
        return any(not field.repr or _may_hold_secrets(field.annotation) for field in fields) or any(
            map(_may_hold_secrets, kind.__subclasses__())
        )
    return any(map(_may_hold_secrets, get_args(kind)))
