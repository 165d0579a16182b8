"""The settings file, changed while the system runs: comments stay, the file is whole at all times, the last version is kept."""

from __future__ import annotations

import os
import secrets
import stat
import threading
from collections.abc import Callable, Mapping, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from comemory.errors import ConfigError, RuntimeMissing, install_hint
from comemory.files import file_lock, write_bytes
from comemory.live.config.live import LiveSettings

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

Result = TypeVar("Result")
OTHERS = stat.S_IRWXO | stat.S_IXUSR | stat.S_IXGRP
"""Permissions that a changed file never has: it may hold passwords."""


class SettingsFile:
    """The TOML file of `--config`.

    Args:
        path: of the file; a link is followed.
        read: reads settings from a file in the same folder, with the options of the command laid over them.
    """

    def __init__(self, path: Path, read: Callable[[Path], LiveSettings]) -> None:
        self.path = path
        self._read = read
        self._lock = threading.Lock()

    @property
    def backup(self) -> Path:
        """The version before the last change: the file with `.bak` at its end."""
        return self.path.with_name(f"{self.path.name}.bak")

    def names(self, group: str) -> list[str]:
        """The keys of a group of tables, such as the cameras that the file itself names.

        Raises:
            ConfigError: the file cannot be read.
        """
        found = self._parse(self._content()).unwrap().get(group)
        return list(found) if isinstance(found, Mapping) else []

    def change(self, edit: Callable[[TOMLDocument], None], apply: Callable[[LiveSettings], Result]) -> Result:
        """Change the file.

        The new settings are read and applied first. The file is replaced only where that worked.

        Args:
            edit: changes the document.
            apply: applies the new settings; where it raises, nothing has changed.

        Raises:
            ConfigError: the file cannot be read or written, or the new settings are not valid.
            ComemoryError: they cannot be applied.
        """
        with self._lock, file_lock(self.path.resolve().parent):
            content = self._content()
            document = self._parse(content)
            edit(document)
            target = self.path.resolve()
            candidate = target.with_name(f".comemory-{secrets.token_hex(6)}.toml")
            try:
                write_bytes(candidate, document.as_string().encode(), private=True)
                self._adopt_owner(candidate, target)
                settings = self._read(candidate)
                write_bytes(self.backup, content, private=True)
                result = apply(settings)
                candidate.replace(target)
            except OSError as error:
                if error.strerror is None:  # an error of our own, which says what failed
                    raise
                raise ConfigError(f"cannot write {self.path}: {error.strerror}") from None
            finally:
                candidate.unlink(missing_ok=True)
        return result

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise ConfigError(f"cannot read config {self.path}: {error.strerror or error}") from None

    def _parse(self, content: bytes) -> TOMLDocument:
        try:
            import tomlkit
        except ImportError:
            raise RuntimeMissing(f"tomlkit is not installed: {install_hint('web')}") from None
        try:
            return tomlkit.parse(content.decode())
        except ValueError as error:
            raise ConfigError(f"{self.path} is not valid TOML: {error}") from None

    def _adopt_owner(self, candidate: Path, target: Path) -> None:
        """Give a new file the owner, the group and the permissions of the old one, without those of everybody."""
        status = target.stat()
        with suppress(OSError):
            os.chown(candidate, status.st_uid, status.st_gid)
        candidate.chmod(stat.S_IMODE(status.st_mode) & ~OTHERS | stat.S_IRUSR | stat.S_IWUSR)


def set_table(document: TOMLDocument, group: str, name: str, values: Mapping[str, Any]) -> None:
    """Set values of `[group.name]`; None removes one. Other values, and comments, stay.

    Raises:
        ConfigError: the file writes the group in a form that holds no tables.
    """
    import tomlkit

    tables = document.setdefault(group, tomlkit.table(is_super_table=True))
    if not isinstance(tables, MutableMapping):
        raise ConfigError(f"{group} is not a group of tables")
    if name not in tables:
        is_inline = isinstance(tables, tomlkit.items.InlineTable)
        table = tomlkit.inline_table() if is_inline else tomlkit.table()
        table.update({key: value for key, value in values.items() if value is not None})
        if not is_inline:
            table.add(tomlkit.nl())
        tables[name] = table
        return
    for key, value in values.items():
        if value is None:
            tables[name].pop(key, None)
        else:
            tables[name][key] = value


def remove_table(document: TOMLDocument, group: str, name: str) -> None:
    """Remove `[group.name]`.

    Raises:
        ConfigError: the file has none.
    """
    if name not in document.get(group, {}):
        raise ConfigError(f"the settings file has no [{group}.{name}]: it was given on the command line")
    del document[group][name]
    if not document[group]:
        del document[group]
