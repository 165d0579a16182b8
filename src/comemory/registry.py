"""Tables of strings: the only way to reach a dataset, flow, runtime or model by name.

A table maps a short name to `module:attribute` inside this package. Files (bundles, configs, command lines) may say a
table's name only, never a dotted path, so that opening a file can never import a stranger.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from comemory.errors import ConfigError, RuntimeMissing, short, suggest


class Registry(Mapping[str, str]):
    """Names of one kind of thing, each with the place its class is imported from when it is asked for.

    Args:
        kind: what the table holds, for error messages: `flow`, `dataset`, …
        entries: name to `module:attribute`.
        extras: name to the optional-dependency group that brings what the entry needs.
    """

    def __init__(self, kind: str, entries: Mapping[str, str], extras: Mapping[str, str] | None = None) -> None:
        self.kind = kind
        self._entries = dict(entries)
        self._extras = dict(extras or {})

    def __getitem__(self, name: str) -> str:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def load(self, name: str) -> Any:
        """Import the entry called `name` and return it.

        Raises:
            ConfigError: no such name in the table.
            RuntimeMissing: the entry needs a package that is not installed.
        """
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {name!r}: {suggest(name, self._entries)}")
        module, attribute = self._entries[name].split(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            extra = self._extras.get(name)
            cure = f"pip install 'comemory[{extra}]'" if extra else "reinstall comemory"
            absent = isinstance(error, ModuleNotFoundError) and error.name
            reason = f"{error.name}, which is not installed" if absent else f"what does not load ({short(str(error))})"
            raise RuntimeMissing(f"{self.kind} {name!r} needs {reason}: {cure}") from error
