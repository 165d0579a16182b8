"""What of an archive is done, so that a restart skips it.

The truth is in the results: each file of scores has the record of its video in its metadata, and is there whole or not at
all. The manifest is an index of these records, written now and then. A restart reads it, and then the metadata of those
results alone that it does not list.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from comemory.cluster.archive_results import read_record
from comemory.cluster.archive_task import Task, result_name
from comemory.cluster.paths import OutputFolder
from comemory.errors import SourceError
from comemory.types import JSON

FLUSH_RECORDS, FLUSH_S = 1000, 30.0
"""The manifest is written after so many records or seconds."""
N_READERS = 16
"""Results whose metadata is read at a time."""


class Manifest:
    """The records of an archive's videos that this run has made, or that a run before it made under the same name.

    Args:
        out: the folder of the results.
        part: name of this run's share: `all`, or `0003-of-0016`.
    """

    def __init__(self, out: OutputFolder, part: str) -> None:
        self._out, self._part = out, part
        self._records: dict[str, JSON] = {}
        self._passing: list[str] = []
        self._new: list[JSON] = []
        self._flushed_s = time.monotonic()

    def find_done(self, tasks: Sequence[Task]) -> set[str]:
        """Read what is done already.

        Args:
            tasks: of this run.

        Returns:
            The paths of the videos whose results are there, with the task's key.
        """
        known: dict[str, JSON] = {}
        for name in sorted(self._out.names("manifest")):
            records = list(_parse(self._out.read_bytes(name)))
            known |= {record["source"]: record for record in records}
            if name == f"manifest/{self._part}.jsonl" or name.startswith(f"manifest/{self._part}."):
                self._records |= {record["source"]: record for record in records}
                if name != f"manifest/{self._part}.jsonl":
                    self._passing.append(name)
        results = self._out.names("scores")
        candidates = [task for task in tasks if f"scores/{result_name(task.video.path)}.parquet" in results]
        unlisted = [task for task in candidates if known.get(task.video.path, {}).get("key") != task.key]
        with ThreadPoolExecutor(N_READERS) as readers:
            found = list(readers.map(self._read, unlisted))
        for task, record in zip(unlisted, found, strict=True):
            if record is not None and record.get("key") == task.key:
                known[task.video.path] = record
        done = {task.video.path for task in candidates if known.get(task.video.path, {}).get("key") == task.key}
        self._records |= {path: known[path] for path in done}
        return done

    def _read(self, task: Task) -> JSON | None:
        name = f"scores/{result_name(task.video.path)}.parquet"
        if self._out.file_system is None:
            return read_record(Path(self._out.url(name)))
        with self._out.opened(name) as file:
            return read_record(file)

    def add(self, record: JSON) -> None:
        """Add the record of a video that is done."""
        self._new.append(record)
        if len(self._new) >= FLUSH_RECORDS or time.monotonic() - self._flushed_s >= FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Write the newest records into a file of their own."""
        if self._new:
            name = f"manifest/{self._part}.{time.time_ns():020d}.jsonl"
            self._out.write_bytes(name, _lines(self._new))
            self._passing.append(name)
            self._records |= {record["source"]: record for record in self._new}
            self._new = []
        self._flushed_s = time.monotonic()

    def finish(self) -> None:
        """Put all records into one file, sorted: the same results give the same bytes."""
        self._records |= {record["source"]: record for record in self._new}
        self._new = []
        self._out.write_bytes(
            f"manifest/{self._part}.jsonl", _lines(self._records[path] for path in sorted(self._records))
        )
        for name in self._passing:
            self._out.delete(name)
        self._passing = []


def _lines(records: Iterable[JSON]) -> bytes:
    return "".join(json.dumps(record, sort_keys=True) + "\n" for record in records).encode()


def _parse(content: bytes) -> Iterable[JSON]:
    for line in content.decode("utf-8", "replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "source" in record and "key" in record:
            yield record


def read_manifest(out: OutputFolder) -> list[JSON]:
    """The records of all videos, sorted by path.

    Raises:
        SourceError: there is no manifest.
    """
    records: dict[str, JSON] = {}
    for name in sorted(out.names("manifest")):
        records |= {record["source"]: record for record in _parse(out.read_bytes(name))}
    if not records:
        raise SourceError(f"{out.location} has no manifest: expected the folder of an archive's results")
    return [records[path] for path in sorted(records)]
