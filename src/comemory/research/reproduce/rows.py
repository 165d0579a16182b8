"""The table of rows: JSON lines that are only ever appended to, and intact after a kill at any moment."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from io import BufferedRandom
from pathlib import Path
from typing import Any

from comemory.errors import ConfigError, SourceError
from comemory.types import JSON

FORMAT = 1
REQUIRED_KEYS = ("format", "key", "group", "experiment", "data", "variant", "seed", "results")


def read_rows(path: Path) -> list[JSON]:
    """Read the rows of a table; none where there is no file. A last line that a kill cut short is left out.

    Raises:
        ConfigError: a line is not a row of this format; the text names the line.
        SourceError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SourceError(f"cannot read the table {path}: {error.strerror or error}") from None
    return _parse(path, content[: _intact_length(content)])


def append_row(path: Path, row: Mapping[str, Any]) -> bool:
    """Append a row and wait until it is on the disk.

    A lock admits one process at a time. A last line that a kill cut short is removed first.

    Returns:
        False where the experiment has a row of this key already; the table is then unchanged.

    Raises:
        ConfigError: the row holds a value that JSON cannot represent, or the table is damaged.
        SourceError: the file cannot be written; the table is then unchanged.
    """
    try:
        line = json.dumps(row, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"cannot store a row of {row.get('variant')!r}: {error}") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return _append(path, file, line, row)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"cannot write the table {path}: {error.strerror or error}; it is unchanged") from None


def _append(path: Path, file: BufferedRandom, line: bytes, row: Mapping[str, Any]) -> bool:
    content = file.read()
    end = _intact_length(content)
    if any(_is_same(row, other) for other in _parse(path, content[:end])):
        return False
    newline = b"\n" if end and content[end - 1 : end] != b"\n" else b""
    file.truncate(end)
    try:
        file.seek(end)
        file.write(newline + line)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), end)
        raise
    return True


def _is_same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(row[name] == other[name] for name in ("experiment", "data", "variant", "key"))


def _intact_length(content: bytes) -> int:
    """Where the last intact line ends; a last line without a newline counts when it holds a whole object."""
    end = content.rfind(b"\n") + 1
    try:
        return len(content) if isinstance(json.loads(content[end:]), dict) else end
    except ValueError:
        return end


def _parse(path: Path, content: bytes) -> list[JSON]:
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or any(name not in row for name in REQUIRED_KEYS):
            raise ConfigError(f"{path}, line {number}: not a row of results; remove the line, or restore the file")
        if row["format"] != FORMAT:
            raise ConfigError(f"{path}, line {number}: a row of format {row['format']!r}; this version reads {FORMAT}")
        rows.append(row)
    return rows
