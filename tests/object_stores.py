"""A real S3 server on the loopback, with one in front of it that can be away, and a bucket for media."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from unreliable_store import Unreliable

ACCOUNT = {
    "AWS_ACCESS_KEY_ID": "key-of-tests",
    "AWS_SECRET_ACCESS_KEY": "secret-of-tests",
    "AWS_DEFAULT_REGION": "us-east-1",
}
MEDIA_URL = "s3://media/site-1"


class Bucket:
    """The bucket `media`, and whether its store is away.

    Attributes:
        address: of the server that a client is given.
        environment: with which a client finds it.
    """

    def __init__(self, front: Unreliable, files: Any) -> None:
        self._front, self._files = front, files
        self.address = f"http://127.0.0.1:{front.server_port}"
        self.environment = {**ACCOUNT, "AWS_ENDPOINT_URL": self.address}

    def set_away(self, is_away: bool) -> None:
        """Let every request fail, or none: half of them with an error, the others without an answer."""
        self._front.share = float(is_away)

    @property
    def n_writes(self) -> int:
        """Objects that were sent so far."""
        return self._front.n_writes

    def delete(self, path: str) -> None:
        """Delete the object whose path below `MEDIA_URL` ends so, as somebody else does."""
        (found,) = (one for one in self._files.find("media") if one.endswith(path))
        self._files.rm_file(found)

    def objects(self) -> dict[str, bytes]:
        """All objects, by the path below `MEDIA_URL`."""
        self._files.invalidate_cache()
        found = {}
        for path in self._files.find("media"):
            with suppress(FileNotFoundError):  # it was deleted meanwhile
                found[path.removeprefix("media/site-1/")] = self._files.cat_file(path)
        return found


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a real S3 server."""
    moto = pytest.importorskip("moto.server", reason="needs moto: pip install '.[dev]'")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, whose address and account are in the environment."""
    import s3fs

    with Unreliable(s3_server, share=0.0) as front:
        thread = threading.Thread(target=front.serve_forever, args=(0.02,))
        thread.start()
        files = s3fs.S3FileSystem(key="key", secret="secret", endpoint_url=s3_server, use_listings_cache=False)
        files.mkdir("media")
        made = Bucket(front, files)
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        # fsspec gives one client to all who ask for the same kind: the next one reads the environment again.
        s3fs.S3FileSystem.clear_instance_cache()
        try:
            yield made
        finally:
            files.rm("media", recursive=True)
            front.shutdown()
            thread.join()
