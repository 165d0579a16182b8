"""TOML files and `--set key=value` into frozen models; an unknown key is refused with the nearest known one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from comemory.errors import ConfigError, nearest

S = TypeVar("S", bound=BaseModel)


def build(model: type[S], values: Mapping[str, Any]) -> S:
    """Make `model` from nested plain values.

    Raises:
        ConfigError: an unknown key (with the nearest known one) or a value that does not fit; one line.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(_describe(model, error)) from None


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file into plain nested values."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read config {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from None


def apply_settings(values: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Lay `key.sub=value` settings over nested values; a value is read as JSON, else taken as text.

    Raises:
        ConfigError: a setting without `=` or with an empty key.

    >>> apply_settings({"train": {"lr": 0.1}}, ["train.lr=1e-4", "flow.name=dis"])
    {'train': {'lr': 0.0001}, 'flow': {'name': 'dis'}}
    """
    merged = json.loads(json.dumps(dict(values)))
    for setting in settings:
        key, equals, text = setting.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            raise ConfigError(f"cannot read the setting {setting!r}: expected key=value, such as train.epochs=10")
        place = merged
        for part in parts[:-1]:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise ConfigError(f"cannot set {key!r}: {part!r} is a value, not a group of settings")
        place[parts[-1]] = _parse(text.strip())
    return dict(merged)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _describe(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, [str(part) for part in first["loc"][:-1]])
        return f"unknown config key {key!r}: {nearest(str(first['loc'][-1]), known)}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"config key {key!r} does not accept {first.get('input')!r}: {first['msg']}{more}"


def _fields_at(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return []
        model = field.annotation
    return list(model.model_fields)
