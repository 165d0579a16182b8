"""What of an archive is done, so that a restart skips it.

The truth is in the results: each file of scores has the record of its video in its metadata, and is there whole or not at
all. The manifest is an index of these records. Where it has several records of one video, because that was scored with
other settings, the file of scores tells which of them is current.

Several runs may write the manifest at once, also in an object store, which has no locks. So a file of it never changes: its
name is that of its content, and it is deleted only when another one has what it says.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from comemory.cluster.archive_results import read_record
from comemory.cluster.archive_task import ArchiveTask, result_name
from comemory.cluster.paths import OutputFolder
from comemory.errors import SourceError, mask_password
from comemory.types import JSON

FLUSH_RECORDS, FLUSH_S = 1000, 30.0
"""The manifest is written after this many new records or seconds, whichever comes first."""
N_READERS = 16
"""Results whose metadata is read at a time."""
ALL = "all"
"""The part of a run that has no share: it merges those of all others."""


class Manifest:
    """The records of an archive's videos, as one run reads and extends them.

    Args:
        out: the folder of the results.
        part: name of this run's share: `ALL`, or `0003-of-0016`.
    """

    def __init__(self, out: OutputFolder, part: str) -> None:
        self._out, self._part = out, part
        self._records: dict[str, JSON] = {}
        self._new: list[JSON] = []
        self._flushed_s = time.monotonic()

    def find_done(self, tasks: Sequence[ArchiveTask]) -> set[str]:
        """Read what is done already.

        Results that will be made anew are announced in the manifest: if this run is killed, their records are not trusted.

        Args:
            tasks: of this run.

        Returns:
            The paths of the videos whose results are there, with the task's key.
        """
        versions = _versions(_read_files(self._out).values())
        results = self._out.names("scores")
        candidates = [task for task in tasks if _scores_of(result_name(task.video.path)) in results]
        listed = {task.video.path: _sole(versions.get(task.video.path, [])) for task in candidates}
        unlisted = [task for task in candidates if (listed[task.video.path] or {}).get("key") != task.key]
        read = _read_results(self._out, [result_name(task.video.path) for task in unlisted])
        current = listed | dict(zip([task.video.path for task in unlisted], read, strict=True))
        for task in candidates:
            record = current[task.video.path]
            if record is not None and record.get("key") == task.key:
                self._records[task.video.path] = record
        stale = [task for task in candidates if task.video.path not in self._records]
        self._write(
            {"source": task.video.path, "key": task.key, "result": result_name(task.video.path), "announced": True}
            for task in stale
        )
        return set(self._records)

    def add(self, record: JSON) -> None:
        """Add the record of a video that is done."""
        self._new.append(record)
        if len(self._new) >= FLUSH_RECORDS or time.monotonic() - self._flushed_s >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write the newest records into a file of their own."""
        self._write(self._new)
        self._records |= {record["source"]: record for record in self._new}
        self._new = []
        self._flushed_s = time.monotonic()

    def finish(self) -> None:
        """Put the records into one file, sorted: the same results give the same bytes.

        A run without shares puts those of all files into it; a share puts its own, of this run and of runs before.
        """
        self._records |= {record["source"]: record for record in self._new}
        self._new = []
        # Read again: other runs may have written meanwhile.
        files = _read_files(self._out)
        versions = _versions([*files.values(), self._records.values()])
        own = {
            record["source"]
            for name, records in files.items()
            if self._part == ALL or name.startswith((f"manifest/{self._part}-", f"manifest/{self._part}."))
            for record in records
        }
        # Of the other files, those that may be out of date in all they say: after a change of the shares.
        outdated = {
            record["source"]
            for records in files.values()
            if all(len(versions[record["source"]]) > 1 for record in records)
            for record in records
        }
        current = _resolve(self._out, versions, own | outdated | set(self._records))
        mine = {path: current[path] for path in sorted(own | set(self._records)) if path in current}
        written = self._write(mine.values())

        def is_needless(record: JSON) -> bool:
            """Whether the file that was written has the record, or another one shows that it is out of date."""
            path = record["source"]
            if path not in current:
                return "announced" in record
            return path in mine or (record != current[path] and current[path] in versions[path])

        for name, records in files.items():
            if name != written and all(map(is_needless, records)):
                self._out.delete(name)

    def _write(self, records: Iterable[JSON]) -> str | None:
        """Write records into a file that is named by them, and give its name; None without a record."""
        content = "".join(map(_line, records)).encode()
        if not content:
            return None
        name = f"manifest/{self._part}-{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
        self._out.write_bytes(name, content)
        return name


Versions = list[JSON]
"""The different records of one video."""


def _line(record: JSON) -> str:
    return json.dumps(record, sort_keys=True) + "\n"


def _read_files(out: OutputFolder) -> dict[str, list[JSON]]:
    """The records of each file of the manifest, by the file's name."""
    names = sorted(out.names("manifest"))
    with ThreadPoolExecutor(N_READERS) as readers:
        contents = list(readers.map(out.read_bytes_if_there, names))
    return {name: list(_parse(text)) for name, text in zip(names, contents, strict=True) if text is not None}


def _parse(content: bytes) -> Iterable[JSON]:
    for line in content.decode("utf-8", "replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and {"source", "key", "result"} <= record.keys():
            yield record


def _versions(files: Iterable[Iterable[JSON]]) -> dict[str, Versions]:
    found: dict[str, Versions] = {}
    for records in files:
        for record in records:
            known = found.setdefault(record["source"], [])
            if record not in known:
                known.append(record)
    return found


def _sole(versions: Versions) -> JSON | None:
    """The one record of a video that the manifest has; None where the result must tell."""
    return versions[0] if len(versions) == 1 and "announced" not in versions[0] else None


def _resolve(out: OutputFolder, versions: Mapping[str, Versions], paths: Iterable[str]) -> dict[str, JSON]:
    """The current record of each of these videos; none of one that has no result."""
    current = {path: _sole(versions[path]) for path in paths}
    unclear = [path for path, record in current.items() if record is None]
    read = _read_results(out, [versions[path][0]["result"] for path in unclear])
    current |= dict(zip(unclear, read, strict=True))
    return {path: record for path, record in current.items() if record is not None}


def _scores_of(result: str) -> str:
    return f"scores/{result}.parquet"


def _read_results(out: OutputFolder, results: Sequence[str]) -> list[JSON | None]:
    """The records in the metadata of results; None of one that is missing or damaged."""

    def read(result: str) -> JSON | None:
        name = _scores_of(result)
        if out.file_system is None:
            return read_record(Path(out.url(name)))
        try:
            with out.opened(name) as file:
                return read_record(file)
        except SourceError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    if not results:
        return []
    with ThreadPoolExecutor(N_READERS) as readers:
        return list(readers.map(read, results))


def read_manifest(out: OutputFolder) -> list[JSON]:
    """The records of all videos, sorted by path.

    Raises:
        SourceError: there is no manifest.
    """
    versions = _versions(_read_files(out).values())
    records = _resolve(out, versions, versions)
    if not records:
        raise SourceError(f"{mask_password(out.location)} has no manifest: expected the folder of an archive's results")
    return [records[path] for path in sorted(records)]
