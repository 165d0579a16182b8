"""Uploads the files of ended events to the object store, in a thread of its own: recording never waits for the network."""

from __future__ import annotations

from collections.abc import Callable

from comemory.errors import ComemoryError, mask_password
from comemory.live.recording.task_queue import TaskQueue
from comemory.store.uploads import Upload, Uploads

BATCH = 32
"""Rows that are read at a time: what waits is in the database, not in memory."""
FIRST_RETRY_S, MAX_RETRY_S = 0.5, 30.0
"""Pauses after a failure, doubled each time."""


class MediaUploader:
    """Uploads what waits, and deletes the objects of deleted files, whenever it is told to look.

    What waits is in the database: a process that is killed goes on where it was. While the object store is away, the
    files wait on the disk, and one of them is tried again and again with growing pauses.

    Args:
        uploads: of the store.
        report: called with why nothing can be uploaded, and with an empty text when it can be again.
    """

    def __init__(self, uploads: Uploads, report: Callable[[str], None]) -> None:
        self._uploads, self._report = uploads, report
        self._tasks = TaskQueue("media-uploads", capacity=1)
        self._pause_s = FIRST_RETRY_S

    def start(self) -> None:
        """Start the thread, with what an earlier process did not upload."""
        self._tasks.start()
        self.look()

    def restart(self) -> None:
        """See `TaskQueue.restart`."""
        self._tasks.restart()

    def stop(self, timeout_s: float) -> bool:
        """End the thread; what is not uploaded is at the next start. False if that takes longer than `timeout_s`."""
        return self._tasks.finish(timeout_s)

    def look(self) -> None:
        """Upload and delete what waits now. Where a look waits already, it finds this too."""
        self._tasks.submit(self._look)

    def _look(self) -> None:
        """Go through what waits, again as long as something failed."""
        while not self._tasks.stopping.is_set():
            try:
                if self._upload_all() and self._remove_all():
                    return
            except ComemoryError:  # the database is away, which the event writer reports
                self._tasks.stopping.wait(MAX_RETRY_S)

    def _upload_all(self) -> bool:
        """Upload each file that waits; whether all are."""
        is_done, last = True, None
        while batch := self._uploads.pending(BATCH, last):
            for file in batch:
                if self._tasks.stopping.is_set():
                    return False
                last = file
                is_done &= self._upload(file)
        return is_done

    def _upload(self, file: Upload) -> bool:
        return self._try(lambda: self._uploads.upload(file), "images and clips wait on the disk")

    def _remove_all(self) -> bool:
        """Delete each object that is to be deleted; whether all are."""
        while batch := self._uploads.removals(BATCH):
            for path in batch:
                if self._tasks.stopping.is_set() or not self._remove(path):
                    return False
        return True

    def _remove(self, path: str) -> bool:
        return self._try(lambda: self._uploads.remove(path), "files of deleted events stay there")

    def _try(self, act: Callable[[], None], consequence: str) -> bool:
        """Do something; after a failure report it and pause."""
        try:
            act()
        except ComemoryError as error:
            self._report(f"{mask_password(str(error))}: {consequence}")
            self._tasks.stopping.wait(self._pause_s)
            self._pause_s = min(2 * self._pause_s, MAX_RETRY_S)
            return False
        self._report("")
        self._pause_s = FIRST_RETRY_S
        return True
