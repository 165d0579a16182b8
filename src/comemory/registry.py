"""Registries: the only way to reach a dataset, flow estimator, runtime, model or alert sink by its name.

A registry maps a short name to `module:attribute` inside this package. Files (bundles, configs, command lines) may give a
registry's name only, never a dotted path, so that opening a file can never import foreign code.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from comemory.errors import ConfigError, RuntimeMissing, install_hint, short_repr, suggest


class Registry(Mapping[str, str]):
    """Names of one kind of thing. A class is imported when it is asked for.

    Args:
        kind: what its entries are, for error messages: `flow`, `dataset`, ...
        entries: name to `module:attribute`.
        extras: name to the extra that installs what the entry needs.

    >>> Registry("flow", {"dis": "comemory.flow.dis:Dis"})["dis"]
    'comemory.flow.dis:Dis'
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
            ConfigError: there is no such name.
            RuntimeMissing: the entry needs a package that is not installed.
        """
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {short_repr(name)}: {suggest(name, self._entries)}")
        module, attribute = self._entries[name].split(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ImportError as error:
            raise RuntimeMissing(self._explain(name, error)) from error

    def _explain(self, name: str, error: ImportError) -> str:
        extra = self._extras.get(name)
        hint = install_hint(extra or "")
        is_absent = isinstance(error, ModuleNotFoundError) and error.name
        reason = (
            f"{error.name}, which is not installed" if is_absent else f"what does not load ({short_repr(str(error))})"
        )
        return f"{self.kind} {name!r} needs {reason}: {hint}"
