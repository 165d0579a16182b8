"""The table of rows: JSON lines, only ever appended to, whole after a kill at any moment."""

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
NEEDED = ("format", "key", "group", "experiment", "data", "variant", "seed", "figures")


def read_rows(path: Path) -> list[JSON]:
    """The rows of a table; none where there is no file. A last line that a kill has torn is left out.

    Raises:
        ConfigError: a line that is no row of this format; it names the line.
        SourceError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SourceError(f"cannot read the table {path}: {error.strerror or error}") from None
    return _rows(path, content[: _whole(content)])


def append_row(path: Path, row: Mapping[str, Any]) -> bool:
    """Append a row and wait until the disk has it. One process at a time; a torn last line is taken away first.

    Returns:
        False where the experiment has a row of this key already; the table is then as it was.

    Raises:
        ConfigError: the row holds what JSON has no form for, or the table is damaged.
        SourceError: the file cannot be written; the table is then as it was.
    """
    try:
        line = json.dumps(row, allow_nan=False, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
    except (TypeError, ValueError) as error:
        raise ConfigError(f"cannot keep a row of {row.get('variant')!r}: {error}") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            return _append(path, file, line, row)
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"cannot write the table {path}: {error.strerror or error}; it is as it was") from None


def _append(path: Path, file: BufferedRandom, line: bytes, row: Mapping[str, Any]) -> bool:
    content = file.read()
    end = _whole(content)
    if any(_same(row, other) for other in _rows(path, content[:end])):
        return False
    mended = b"\n" if end and content[end - 1 : end] != b"\n" else b""
    file.truncate(end)
    try:
        file.seek(end)
        file.write(mended + line)
        file.flush()
        os.fsync(file.fileno())
    except OSError:
        os.ftruncate(file.fileno(), end)
        raise
    return True


def _same(row: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all(row[name] == other[name] for name in ("experiment", "data", "variant", "key"))


def _whole(content: bytes) -> int:
    """Where the last whole line ends; a last line without an end counts when it holds a whole object."""
    end = content.rfind(b"\n") + 1
    try:
        return len(content) if isinstance(json.loads(content[end:]), dict) else end
    except ValueError:
        return end


def _rows(path: Path, content: bytes) -> list[JSON]:
    rows = []
    for number, line in enumerate(content.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict) or any(name not in row for name in NEEDED):
            raise ConfigError(f"{path}, line {number}: not a row of results; take the line out, or restore the file")
        if row["format"] != FORMAT:
            raise ConfigError(f"{path}, line {number}: a row of format {row['format']!r}, this version reads {FORMAT}")
        rows.append(row)
    return rows
