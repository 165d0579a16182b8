"""Media files in an object store, each under the path that it has in the media folder."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from comemory.errors import ConfigError, SourceError, StoreError, TemporaryError, short_repr
from comemory.object_store import file_system, media_url_error, with_retries
from comemory.store.event import is_inside

_S3_OPTIONS = {"config_kwargs": {"retries": {"max_attempts": 0}}}
"""The uploads are tried again by their worker, and a page must not wait for the pauses of three layers of retries."""
AWAY_S = 5.0
"""Seconds for which nothing is read after a store did not answer: each request to a store that hangs takes a thread of the
page for 15 s."""
PROBE_S = 20.0
"""Seconds for which a single request may find out whether it answers again; longer than its time limit."""
READ_BYTES = 2**20
"""How much is read ahead of a reader, bytes."""


class MediaObjects:
    """The objects below a URL. All methods may be called from any thread; a request is tried once.

    Args:
        url: see `media_url_error`. Credentials and address come from the environment.

    Raises:
        ConfigError: it cannot be one of an object store.
        RuntimeMissing: fsspec, or its package for this kind of store, is not installed.
    """

    def __init__(self, url: str) -> None:
        if reason := media_url_error(url):
            raise ConfigError(f"store.media_url: {reason}")
        self.url = url.rstrip("/")
        is_s3 = self.url.startswith("s3://")
        self._fs, root = file_system(self.url, **(_S3_OPTIONS if is_s3 else {}))
        if is_s3:
            self._fs.retries = 1
        self._root = root.rstrip("/")
        self._reading = threading.Lock()
        self._is_away, self._retry_s = False, 0.0

    def upload(self, source: Path, path: str) -> None:
        """Store a file. Readers see it whole or not at all; one that is there is replaced.

        Raises:
            SourceError: it cannot be stored.
        """
        key = self._key(path)
        self._request(lambda: self._fs.put_file(str(source), key), f"cannot write {self.url}/{path}")

    def open(self, path: str) -> tuple[BinaryIO, int]:
        """An object for reading, and its size in bytes. It is fetched in parts as it is read.

        Raises:
            SourceError: it cannot be read; see `is_missing`.
        """
        key = self._key(path)
        opened = self._read(lambda: self._fs.open(key, "rb", block_size=READ_BYTES), f"cannot read {self.url}/{path}")
        return cast(BinaryIO, opened), int(opened.size)

    def download(self, path: str, target: Path) -> None:
        """Copy an object to a file.

        Raises:
            SourceError: it cannot be read.
        """
        key = self._key(path)
        self._read(lambda: self._fs.get_file(key, str(target)), f"cannot read {self.url}/{path}")

    def size(self, path: str) -> int | None:
        """The size of an object in bytes; None where there is none.

        Raises:
            SourceError: the store does not answer.
        """
        key = self._key(path)
        try:
            return int(self._request(lambda: self._fs.info(key), f"cannot read {self.url}/{path}")["size"])
        except SourceError as error:
            if is_missing(error):
                return None
            raise

    def delete(self, path: str) -> None:
        """Delete an object; a missing one is no error.

        Raises:
            SourceError: it cannot be deleted.
        """
        key = self._key(path)
        try:
            self._request(lambda: self._fs.rm_file(key), f"cannot delete {self.url}/{path}")
        except SourceError as error:
            if not is_missing(error):
                raise

    def check(self) -> None:
        """Write, read and delete a test object.

        Raises:
            SourceError: one of them fails.
        """
        path, content = f".comemory-{secrets.token_hex(6)}", b"test of comemory doctor\n"
        key = self._key(path)
        self._request(lambda: self._fs.pipe_file(key, content), f"cannot write {self.url}/{path}")
        try:
            found = self._request(lambda: self._fs.cat_file(key), f"cannot read {self.url}/{path}")
            if bytes(found) != content:
                raise SourceError(f"{self.url}/{path} does not have the content that was written")
        except BaseException:
            with suppress(SourceError):
                self.delete(path)
            raise
        self.delete(path)

    def _key(self, path: str) -> str:
        if not is_inside(path):
            raise StoreError(f"{short_repr(path)} is not the path of a media file")
        return f"{self._root}/{path}"

    def _read(self, call: Callable[[], Any], what: str) -> Any:
        """Read, unless the store did not answer a moment ago.

        Raises:
            TemporaryError: it does not answer.
            SourceError: it refuses, or has no such object.
        """
        with self._reading:
            if self._is_away and time.monotonic() < self._retry_s:
                raise TemporaryError(f"{what}: the object store did not answer a moment ago")
            self._retry_s = time.monotonic() + PROBE_S
        is_away = False
        try:
            return self._request(call, what)
        except TemporaryError:
            is_away = True
            raise
        finally:
            self._is_away, self._retry_s = is_away, time.monotonic() + AWAY_S

    def _request(self, call: Callable[[], Any], what: str) -> Any:
        return with_retries(call, what, attempts=1)


def is_missing(error: SourceError) -> bool:
    """Whether an object, or its bucket, does not exist."""
    return isinstance(error.__cause__, FileNotFoundError)
