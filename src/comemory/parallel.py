"""The same scores on several cores: frames that are measured side by side and concluded in their order.

A frame goes through four steps. Three of them keep state and take the frames one at a time, in order: *look* (decode,
put the picture beside the one before), *add* (carry the flow, fill the clip) and *conclude* (score). The two that cost
most keep none, the flow between *look* and *add* and the network between *add* and *conclude*, so that as many frames as
there are workers are in them at once. A worker takes one frame through all of its steps; where it comes to an ordered step
before its turn it waits. No stage waits for a slower one while there is other work, whatever each of them costs.

With a test-time update the network's items depend on the frame before: then the network is part of *conclude*, and only
the flow runs ahead.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal

import cv2

from comemory.detector import Detector, Seen
from comemory.errors import ConfigError
from comemory.types import Frame, Runtime

AHEAD = 8
"""Scored frames that may wait for whoever takes them."""

MOST_WORKERS = 64
"""Of any machine; of one with many cores, four on each."""

SWITCH_S = 0.0005
"""How long a worker may keep Python's lock while another waits for it. A frame passes through native code dozens of times,
and wherever it comes back it would wait up to Python's own 5 ms, half of what a frame takes."""

Step = Literal["look", "add", "conclude"]


def usable_cores() -> int:
    """Cores this process may run on, fewer than the machine has inside some containers."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def workers_of(asked: int | None) -> int:
    """How many workers to score with: as many as asked for, or one on each core.

    Raises:
        ConfigError: more than could be of use; each of them holds pictures, networks and threads.
    """
    most = max(MOST_WORKERS, 4 * usable_cores())
    if asked is not None and asked > most:
        raise ConfigError(
            f"cannot score on {asked} threads: give at most {most}, this machine has {usable_cores()} cores"
        )
    return asked or usable_cores()


def watch(detector: Detector, frames: Iterable[Frame], workers: int = 1) -> Generator[Seen, None, None]:
    """Score the frames of one source, from its start, on as many cores as there are workers.

    What comes out is what `Detector.watch` gives, in the same order; frames are taken at most `workers + AHEAD` ahead. An
    error of any step is raised after the frames before it, and at once where there are none under way. Closing the
    iterator, or an exception where it is used, ends the workers before it returns.

    Args:
        detector: watches nothing else meanwhile. With more than one worker open it with `threads=1`: each worker has a
            runtime of its own.
        workers: 1 is the plain loop.

    Raises:
        ConfigError: no worker, or the detector watches another source. And what the source and the detector raise.
    """
    if workers < 1:
        raise ConfigError(f"a pipeline needs at least 1 worker, got {workers}")
    return detector.watch(frames) if workers == 1 else _watch(detector, frames, workers)


def _watch(detector: Detector, frames: Iterable[Frame], workers: int) -> Generator[Seen, None, None]:
    detector.begin()
    iterator = iter(frames)
    line = _Line(workers + AHEAD)
    threads = [
        threading.Thread(target=_Worker(detector, iterator, line, number).run, name=f"frames-{number}", daemon=True)
        for number in range(workers)
    ]
    detector.has_workers = True
    try:
        with _side_by_side():
            for thread in threads:
                thread.start()
            yield from line.results()
    finally:
        line.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        detector.has_workers = False
        if hasattr(iterator, "close"):
            iterator.close()


@contextmanager
def _side_by_side() -> Iterator[None]:
    """Keep OpenCV from starting threads of its own beside the workers, and the workers from waiting for each other."""
    n_threads, switch_s = cv2.getNumThreads(), sys.getswitchinterval()
    cv2.setNumThreads(1)
    sys.setswitchinterval(min(SWITCH_S, switch_s))
    try:
        yield
    finally:
        cv2.setNumThreads(n_threads)
        sys.setswitchinterval(switch_s)


class _Worker:
    """Takes one frame after the other through all of its steps."""

    def __init__(self, detector: Detector, frames: Iterator[Frame], line: _Line, number: int) -> None:
        self.detector, self.frames, self.line, self.number = detector, frames, line, number

    def run(self) -> None:
        line, detector = self.line, self.detector
        builder, in_order = detector.builder, detector.update != "off"
        runtime: Runtime | None = None
        while (ticket := line.next_ticket()) is not None:
            with line.errors_of(ticket):
                if runtime is None:
                    runtime = detector.worker_runtime(self.number)
                with line.turn("look", ticket):
                    frame = next(self.frames, None)
                    if frame is None:
                        line.end(ticket)
                        return
                    look = builder.look(frame)
                measured = builder.measure(look)
                with line.turn("add", ticket):
                    clip = builder.add(measured)
                maps = None
                if clip is not None and not (look.still or in_order):
                    maps = detector.observe(clip, runtime)
                with line.turn("conclude", ticket):
                    score = None
                    if clip is not None and look.still:
                        score = detector.repeat(clip, frame.image.shape)
                    elif clip is not None:
                        score = detector.conclude(clip, frame.image.shape, maps or detector.observe(clip, runtime))
                    line.give(detector.seen(frame, score))


class _Unwanted(Exception):  # noqa: N818
    """This frame is not wanted any more."""


class _Line:
    """Who is next at every step, and what has come out.

    Args:
        room: frames that may be on their way or waiting to be taken.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        lock = threading.Lock()
        self._changed, self._arrived = threading.Condition(lock), threading.Condition(lock)
        self._turns: dict[Step, int] = {"look": 0, "add": 0, "conclude": 0}
        self._n_tickets = self._n_taken = 0
        self._n_frames: int | None = None
        self._results: deque[Seen] = deque()
        self._error: tuple[int, BaseException] | None = None
        self._stopped = False

    def next_ticket(self) -> int | None:
        """The number of the next frame that nobody has taken on; None when there is no more to do."""
        with self._changed:
            if self._stopped or self._n_frames is not None or self._error is not None:
                return None
            self._n_tickets += 1
            return self._n_tickets - 1

    @contextmanager
    def turn(self, step: Step, ticket: int) -> Iterator[None]:
        """Wait until all earlier frames have passed the step, and keep the later ones waiting meanwhile."""
        with self._changed:
            self._wait(lambda: self._turns[step] == ticket and (step != "look" or self._has_room(ticket)), ticket)
        yield
        with self._changed:
            self._turns[step] += 1
            self._changed.notify_all()

    def _has_room(self, ticket: int) -> bool:
        return ticket - self._n_taken < self._room

    def _wait(self, ready: Callable[[], bool], ticket: int) -> None:
        while not ready():
            if self._is_in_vain(ticket):
                raise _Unwanted
            self._changed.wait()
        if self._is_in_vain(ticket):
            raise _Unwanted

    def _is_in_vain(self, ticket: int) -> bool:
        past_end = self._n_frames is not None and ticket >= self._n_frames
        return self._stopped or past_end or (self._error is not None and ticket > self._error[0])

    def end(self, n_frames: int) -> None:
        """The source has no more frames."""
        with self._changed:
            self._n_frames = n_frames
            self._notify_all()

    def give(self, seen: Seen) -> None:
        """Put out the next frame; called in the order of the frames."""
        with self._arrived:
            self._results.append(seen)
            self._arrived.notify()

    def stop(self) -> None:
        """Nothing more is wanted."""
        with self._changed:
            self._stopped = True
            self._notify_all()

    def errors_of(self, ticket: int) -> _Errors:
        """A context whose error is the error of this frame, to be raised where the results are taken."""
        return _Errors(self, ticket)

    def fail(self, ticket: int, error: BaseException) -> None:
        """Keep the error of the earliest frame."""
        with self._changed:
            if not isinstance(error, _Unwanted) and (self._error is None or ticket < self._error[0]):
                self._error = (ticket, error)
            self._notify_all()

    def _notify_all(self) -> None:
        self._changed.notify_all()
        self._arrived.notify_all()

    def results(self) -> Iterator[Seen]:
        """What is given, in order, until the source ends.

        Raises:
            BaseException: the error of a frame, after the frames before it.
        """
        while True:
            with self._arrived:
                while not self._results and not self._is_over():
                    self._arrived.wait()
                if not self._results:
                    break
                seen = self._results.popleft()
                if not self._has_room(self._n_tickets - 1):
                    self._changed.notify_all()
                self._n_taken += 1
            yield seen
        if self._error is not None:
            raise self._error[1]

    def _is_over(self) -> bool:
        """Whether nothing more will be given."""
        last = self._error[0] if self._error is not None else self._n_frames
        return last is not None and self._n_taken == last


class _Errors:
    """Hands the error of one frame to the line, which raises it where the results are taken."""

    def __init__(self, line: _Line, ticket: int) -> None:
        self._line, self._ticket = line, ticket

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[True]:
        if error is not None:
            self._line.fail(self._ticket, error)
        return True
