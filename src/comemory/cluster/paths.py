"""Files on this machine or in an object store (fsspec): listed with their version, fetched, and written whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from comemory.errors import ConfigError, SourceError, TemporaryError, mask_password
from comemory.files import flush_to_disk, require_writable_folder, sync_folder, write_bytes
from comemory.object_store import file_system, is_remote, with_retries
from comemory.video.formats import VIDEO_SUFFIXES

_UNFINISHED = ".comemory-"
"""How the names of files begin that are being written; they end with `.part`."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """One video of an archive.

    Attributes:
        path: an absolute path, or a URL.
        etag: its version: it changes when the file does.
        size: bytes; None where the server does not say.
    """

    path: str
    etag: str
    size: int | None


def local_path(location: str) -> Path:
    """The absolute path of a location on this machine, a path or a `file://` URL."""
    text = unquote(urlsplit(location).path) if location.lower().startswith("file://") else location
    return Path(text).absolute()


def list_input_videos(locations: Sequence[str]) -> list[InputFile]:
    """The videos that the locations name, each once, sorted by path.

    Args:
        locations: paths and URLs: of files, of folders, which stand for all videos in them, or patterns with `*`, `?`, `**`.

    Raises:
        SourceError: a location names nothing, or cannot be listed.
    """
    found: dict[str, InputFile] = {}
    for location in locations:
        videos = _list_remote(location) if is_remote(location) else _list_local(location)
        if not videos:
            raise SourceError(
                f"{mask_password(location)} names no video: expected video files, a folder of them or a pattern"
            )
        found |= {video.path: video for video in videos}
    return [found[path] for path in sorted(found)]


def _list_local(location: str) -> list[InputFile]:
    path = local_path(location)
    try:
        if path.is_file():
            files = [path]
        elif path.is_dir():
            files = [one for one in path.rglob("*") if one.suffix.lower() in VIDEO_SUFFIXES and one.is_file()]
        elif any(mark in str(path) for mark in "*?["):
            start = Path(path.anchor)
            files = [one for one in start.glob(str(path.relative_to(start))) if one.is_file()]
        else:
            raise SourceError(f"cannot open {path}: no such file or folder")
        return [_local_file(one) for one in files]
    except (OSError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise SourceError(f"cannot list {path}: {error}") from None


def _local_file(path: Path) -> InputFile:
    status = path.stat()
    return InputFile(str(path), f"{status.st_size:x}-{status.st_mtime_ns:x}", status.st_size)


def _list_remote(location: str) -> list[InputFile]:
    fs, path = file_system(location)

    def listing() -> dict[str, Any]:
        fs.invalidate_cache()
        if any(mark in path for mark in "*?["):
            return dict(fs.glob(path, detail=True))
        info = fs.info(path)
        if info.get("type") != "directory":
            return {path: info}
        found = fs.find(path, detail=True)
        return {name: one for name, one in found.items() if PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES}

    found = with_retries(listing, f"cannot list {mask_password(location)}")
    return [
        InputFile(_url(fs, location, name), _etag(info), info.get("size"))
        for name, info in found.items()
        if info.get("type", "file") == "file"
    ]


def _url(fs: Any, location: str, name: str) -> str:
    return name if "://" in name else str(fs.unstrip_protocol(name))


def _etag(info: dict[str, Any]) -> str:
    """The version of a remote file: its ETag, else what else tells it from another one."""
    for key in ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "mtime"):
        if info.get(key):
            return str(info[key]).strip('"')
    return f"{info.get('size')}"


@contextmanager
def fetch_file(location: str) -> Iterator[Path]:
    """A file on this machine with the contents of a location: a local file itself, a remote one as a temporary copy.

    Raises:
        SourceError: it cannot be read.
    """
    if not is_remote(location):
        yield local_path(location)
        return
    fs, path = file_system(location)
    with tempfile.TemporaryDirectory(prefix="comemory-") as folder:
        target = Path(folder) / (PurePosixPath(urlsplit(location).path).name or "video")
        with_retries(lambda: fs.get_file(path, str(target)), f"cannot read {mask_password(location)}")
        yield target


class OutputFolder:
    """The folder of an archive's results, on this machine or in an object store.

    Args:
        location: a path or a URL.
    """

    def __init__(self, location: str) -> None:
        self.location = location.rstrip("/") if is_remote(location) else str(local_path(location))
        self._fs: Any = None
        self._root = self.location
        if is_remote(location):
            self._fs, root = file_system(self.location)
            self._root = root.rstrip("/")

    def require_writable(self) -> None:
        """Check that files can be written.

        Raises:
            ConfigError: they cannot.
            TemporaryError: the store does not answer.
        """
        if self._fs is None:
            require_writable_folder(Path(self._root))
            return
        try:
            self.write_bytes(".comemory", b"results of comemory\n")
        except TemporaryError:
            raise
        except SourceError as error:
            raise ConfigError(f"{error}; choose a writable folder") from None

    def url(self, name: str) -> str:
        """The location of one of its files."""
        return f"{self.location}/{name}"

    @property
    def file_system(self) -> Any:
        """The fsspec file system; None on this machine."""
        return self._fs

    def names(self, folder: str) -> set[str]:
        """The files in one of its folders and the folders in that, named from this one on; none where there is no such folder."""
        if self._fs is None:
            root = Path(self._root)
            found = (root / folder).rglob("*")
            return {
                path.relative_to(root).as_posix() for path in found if path.is_file() and not path.name.startswith(".")
            }
        fs = self._fs

        def listing() -> list[str]:
            fs.invalidate_cache()
            return list(fs.find(f"{self._root}/{folder}"))

        try:
            paths = with_retries(listing, f"cannot list {mask_password(self.url(folder))}")
        except SourceError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return set()
            raise
        return {path.removeprefix(f"{self._root}/") for path in paths}

    def read_bytes(self, name: str) -> bytes:
        """The contents of a file.

        Raises:
            SourceError: it cannot be read.
        """
        if self._fs is None:
            try:
                return (Path(self._root) / name).read_bytes()
            except OSError as error:
                raise SourceError(f"cannot read {self.url(name)}: {error.strerror or error}") from error
        fs = self._fs
        content = with_retries(
            lambda: fs.cat_file(f"{self._root}/{name}"), f"cannot read {mask_password(self.url(name))}"
        )
        return bytes(content)

    def read_bytes_if_there(self, name: str) -> bytes | None:
        """The contents of a file; None where there is none.

        Raises:
            SourceError: it cannot be read.
        """
        if self._fs is None and not (Path(self._root) / name).exists():
            return None
        try:
            return self.read_bytes(name)
        except SourceError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return None
            raise

    @contextmanager
    def locked(self, part: str | None) -> Iterator[None]:
        """Keep other runs out of a folder on this machine, or of a part of it. An object store has no locks: they merge there.

        Args:
            part: that this run writes, while others may write other parts; None for all of it.

        Raises:
            TemporaryError: another run is at work.
        """
        if self._fs is not None:
            yield
            return
        folder = Path(self._root) / ".locks"
        try:
            with ExitStack() as stack:
                folder.mkdir(exist_ok=True)
                every = stack.enter_context((folder / "all").open("ab"))
                _lock(every, fcntl.LOCK_EX if part is None else fcntl.LOCK_SH)
                if part is not None:
                    _lock(stack.enter_context((folder / part).open("ab")), fcntl.LOCK_EX)
                held = stack.pop_all()
        except BlockingIOError:
            text = f"another run writes into {self.location}: wait for its end, or choose another --out"
            raise TemporaryError(text) from None
        except OSError as error:
            raise SourceError(f"cannot write {folder}: {error.strerror or error}") from None
        with held:
            yield

    def delete_unfinished(self) -> None:
        """Delete the files that runs before were writing when they were killed, not those that a process writes now."""
        if self._fs is not None:
            return  # an object store shows nothing of an upload that broke off
        for folder in ("scores", "events", "segments"):
            for path in (Path(self._root) / folder).rglob(f"{_UNFINISHED}*.part"):
                with suppress(OSError), path.open("ab") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()

    @contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        """A path on this machine with the contents of a file.

        Raises:
            SourceError: it cannot be read.
        """
        with fetch_file(self.url(name)) as path:
            yield path

    @contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """A file of an object store, opened for reading parts of it.

        Raises:
            SourceError: it cannot be opened.
        """
        fs = self._fs
        what = f"cannot read {mask_password(self.url(name))}"
        with with_retries(lambda: fs.open(f"{self._root}/{name}", "rb", block_size=2**16), what) as file:
            yield file

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a small file whole, or leave the old one.

        Raises:
            SourceError: it cannot be written.
        """
        if self._fs is None:
            path = Path(self._root) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)
            return
        fs = self._fs
        what = f"cannot write {mask_password(self.url(name))}"
        with_retries(lambda: fs.pipe_file(f"{self._root}/{name}", content), what)

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path on this machine to write to. When the context ends, the file appears under its name, whole.

        After an error inside the context nothing is left, and an old file stays.

        Raises:
            SourceError: it cannot be written.
        """
        if self._fs is None:
            with self._writing_here(Path(self._root) / name) as beside:
                yield beside
            return
        with tempfile.TemporaryDirectory(prefix="comemory-") as folder:
            passing = Path(folder) / "result"
            yield passing
            self._upload(passing, name)

    @contextmanager
    def _writing_here(self, target: Path) -> Iterator[Path]:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            beside = target.with_name(f"{_UNFINISHED}{secrets.token_hex(6)}.part")
            # The lock says that a process still writes the file, see `delete_unfinished`.
            with beside.open("xb") as file:
                with suppress(OSError):
                    fcntl.flock(file, fcntl.LOCK_EX)
                try:
                    yield beside
                    flush_to_disk(beside)
                    beside.replace(target)
                finally:
                    beside.unlink(missing_ok=True)
        except OSError as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"cannot write {target}: {error.strerror or error}") from None
        sync_folder(target.parent)

    def _upload(self, passing: Path, name: str) -> None:
        fs = self._fs
        # An object store shows an object when its upload is complete, and a broken one never.
        what = f"cannot write {mask_password(self.url(name))}"
        with_retries(lambda: fs.put_file(str(passing), f"{self._root}/{name}"), what)

    def delete(self, name: str) -> None:
        """Delete a file, if it is there, and folders that are empty then."""
        if self._fs is None:
            path = Path(self._root) / name
            path.unlink(missing_ok=True)
            with suppress(OSError):  # one that is not empty stays
                for folder in path.relative_to(self._root).parents[:-1]:
                    (Path(self._root) / folder).rmdir()
            return
        fs = self._fs
        try:
            with_retries(lambda: fs.rm_file(f"{self._root}/{name}"), f"cannot delete {mask_password(self.url(name))}")
        except SourceError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise


def _lock(file: BinaryIO, kind: int) -> None:
    """Lock a file, where its file system can.

    Raises:
        BlockingIOError: somebody else has locked it.
    """
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return


def fetch_bundle(location: str) -> Path:
    """A bundle on this machine: a local folder itself; one at a URL is copied, once for each version.

    Raises:
        SourceError: it cannot be read.
        BundleError: its manifest is none.
    """
    if not is_remote(location):
        return local_path(location)
    from comemory.bundle.files import MANIFEST, parse_json_object

    remote = OutputFolder(location)
    manifest = remote.read_bytes(MANIFEST)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "comemory" / "bundles"
    name = PurePosixPath(urlsplit(location).path).name or "bundle"
    target = cache / hashlib.sha256(manifest).hexdigest()[:16] / name
    if target.is_dir():
        return target
    members = parse_json_object(Path(name), MANIFEST, manifest).get("members")
    target.parent.mkdir(parents=True, exist_ok=True)
    passing = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        for member in members if isinstance(members, dict) else ():
            if PurePosixPath(member).name == member:  # a bundle has no folders: nothing is written outside this one
                (passing / member).write_bytes(remote.read_bytes(member))
        (passing / MANIFEST).write_bytes(manifest)
        _move_into_place(passing, target)
    finally:
        shutil.rmtree(passing, ignore_errors=True)
    return target


def _move_into_place(passing: Path, target: Path) -> None:
    try:
        passing.replace(target)
    except OSError:  # another worker of this machine was faster
        if not target.is_dir():
            raise
