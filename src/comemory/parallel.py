"""The same scores on several cores: frames are measured in parallel and finished in their order.

A frame passes the stages of `stages.Stages`. *Pair*, *append* and *score* have state and take the frames one at a
time, in order. The two expensive stages between them, *compute features* (the optical flow) and *infer* (the network), have
none, so as many frames as there are workers are in them at once. A worker takes one frame through all stages, and waits
where it comes to an ordered stage before its turn. So no core is idle while there is work, whatever each stage costs.

With memory updates the network's items depend on the frame before. Then *infer* is ordered too, and only the flow runs
ahead.

Where no neural network runs, a frame takes a few milliseconds, half of them in Python. There one thread reads the frames and
estimates their flow, ahead of the caller's thread, which does the rest: more threads would wait for Python's lock.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Literal

import cv2

from comemory.detector import Detector, ScoredFrame, with_frame_index
from comemory.errors import ConfigError
from comemory.stages import FrameInProgress, Stages
from comemory.types import Frame, Runtime
from comemory.video.frame_sampler import SourceSampler

QUEUE_LENGTH = 8
"""Scored frames that may wait for the consumer."""

MAX_WORKERS = 64
"""Largest number of workers on any machine; with many cores, four per core."""

SWITCH_S = 0.0005
"""How long a worker may hold Python's lock while another waits for it.

A frame enters native code dozens of times. Each time it comes back it would wait up to Python's own 5 ms, which is half of
what a frame takes.
"""

Stage = Literal["pair", "append", "score"]
"""The stages that take the frames in their order."""

Result = tuple[Frame, ScoredFrame | None]
"""A frame, and what `Detector.step_sample` gives for it."""


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine has, inside some containers."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def n_workers(asked: int | None) -> int:
    """How many workers to score with: as many as asked for, or one for each core.

    Raises:
        ConfigError: more than can be useful; each of them holds frames, a network and a thread.
    """
    most = max(MAX_WORKERS, 4 * usable_cores())
    if asked is not None and asked > most:
        raise ConfigError(
            f"cannot score on {asked} threads: give at most {most}, this machine has {usable_cores()} cores"
        )
    return asked or usable_cores()


def score_frames(
    detector: Detector, frames: Iterable[Frame], workers: int = 1, *, sampler: SourceSampler | None = None
) -> Generator[Result, None, None]:
    """Score the frames of one source, from its start, on several cores.

    Frames are sampled by their times to the rate of the training, see `video.frame_sampler`; one that is left out has no
    score. Results are those of `Detector.step_sample`, in the same order. At most `workers + QUEUE_LENGTH` frames are
    read ahead. An error in any stage is raised after the results of the frames before it. Closing the generator, or an
    exception in the code that uses it, ends the workers before it returns.

    Args:
        detector: scores nothing else meanwhile. With more than one worker open it with `threads=1`: each worker has a
            runtime of its own.
        frames: of one source.
        workers: 1 is a plain loop. Where no neural network runs, any larger number is two threads.
        sampler: of this source, for code that reads its notes; None makes one.

    Raises:
        ConfigError: fewer than one worker, or the detector is scoring another source. And what the source and the
            detector raise.
    """
    if workers < 1:
        raise ConfigError(f"a pipeline needs at least 1 worker, got {workers}")
    sampler = sampler or detector.source_sampler(getattr(frames, "name", ""))
    if workers == 1:
        return _one_by_one(detector, frames, sampler)
    if not detector.stages.waits_for_a_network:
        return _with_flow_ahead(detector, frames, sampler)
    return _side_by_side(detector, frames, sampler, workers)


def _one_by_one(detector: Detector, frames: Iterable[Frame], sampler: SourceSampler) -> Generator[Result, None, None]:
    token = detector.stages.start_source()
    for frame in frames:
        detector.stages.check_source(token)
        scored = detector.step_sample(frame, sampler.sample(frame))
        detector.stages.give_back_source(token)
        yield frame, scored


def _with_flow_ahead(
    detector: Detector, frames: Iterable[Frame], sampler: SourceSampler
) -> Generator[Result, None, None]:
    stages = detector.stages
    stages.start_source()
    stages.lock(is_locked=True)
    ahead = _FlowAhead(stages, iter(frames), sampler)
    try:
        with _single_threaded_opencv():
            for frame, work in ahead.run():
                scored = None
                if work is not None:
                    stages.append(work)
                    stages.infer(work)
                    scored = stages.score(work)
                yield frame, None if scored is None else with_frame_index(scored, frame)
    finally:
        ahead.stop()
        stages.lock(is_locked=False)


class _FlowAhead:
    """A thread that reads frames and estimates their flow; at most `QUEUE_LENGTH` frames wait."""

    def __init__(self, stages: Stages, frames: Iterator[Frame], sampler: SourceSampler) -> None:
        self._stages, self._frames, self._sampler = stages, frames, sampler
        self._room = threading.Semaphore(QUEUE_LENGTH)
        self._ready: SimpleQueue[tuple[Frame, FrameInProgress | None] | BaseException | None] = SimpleQueue()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._prepare, name="frames-ahead", daemon=True)

    def run(self) -> Iterator[tuple[Frame, FrameInProgress | None]]:
        """The frames in their order, None with those that are left out. An error comes after the frames before it."""
        self._thread.start()
        while (item := self._ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            self._room.release()
            yield item

    def stop(self) -> None:
        """End the thread and the source."""
        self._is_stopped = True
        self._room.release()
        if self._thread.ident is not None:
            self._thread.join()
        if hasattr(self._frames, "close"):
            self._frames.close()

    def _prepare(self) -> None:
        with _Errors(self._ready.put):
            while self._room.acquire() and not self._is_stopped:
                frame = next(self._frames, None)
                if frame is None:
                    self._ready.put(None)
                    return
                work = _paired(self._stages, frame, self._sampler)
                if work is not None:
                    self._stages.compute_features(work)
                self._ready.put((frame, work))


def _paired(stages: Stages, frame: Frame, sampler: SourceSampler) -> FrameInProgress | None:
    """The frame with the one before it; None for one that is left out."""
    sample = sampler.sample(frame)
    return None if sample is None else stages.pair(replace(frame, index=sample.index), flow_scale=sample.flow_scale)


def _side_by_side(
    detector: Detector, frames: Iterable[Frame], sampler: SourceSampler, workers: int
) -> Generator[Result, None, None]:
    detector.stages.start_source()
    iterator = iter(frames)
    line = _Line(workers + QUEUE_LENGTH)
    threads = [
        threading.Thread(
            target=_Worker(detector, iterator, sampler, line, number).run, name=f"frames-{number}", daemon=True
        )
        for number in range(workers)
    ]
    detector.stages.lock(is_locked=True)
    try:
        with _single_threaded_opencv():
            for thread in threads:
                thread.start()
            yield from line.results()
    finally:
        line.stop()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
        detector.stages.lock(is_locked=False)
        if hasattr(iterator, "close"):
            iterator.close()


@contextmanager
def _single_threaded_opencv() -> Iterator[None]:
    """Stop OpenCV from starting threads of its own beside the workers, and let workers pass Python's lock on sooner."""
    n_threads, switch_s = cv2.getNumThreads(), sys.getswitchinterval()
    cv2.setNumThreads(1)
    sys.setswitchinterval(min(SWITCH_S, switch_s))
    try:
        yield
    finally:
        cv2.setNumThreads(n_threads)
        sys.setswitchinterval(switch_s)


class _Worker:
    """Takes one frame after the other through all stages."""

    def __init__(
        self, detector: Detector, frames: Iterator[Frame], sampler: SourceSampler, line: _Line, number: int
    ) -> None:
        self.stages, self.frames, self.sampler = detector.stages, frames, sampler
        self.line, self.number = line, number
        self._runtime: Runtime | None = None

    def run(self) -> None:
        while (ticket := self.line.next_ticket()) is not None:
            with self.line.errors_of(ticket):
                if self._runtime is None:
                    self._runtime = self.stages.worker_runtime(self.number)
                self._process(ticket, self._runtime)

    def _process(self, ticket: int, runtime: Runtime) -> None:
        stages, line = self.stages, self.line
        with line.turn("pair", ticket):
            frame = next(self.frames, None)
            if frame is None:
                line.end(ticket)
                return
            work = _paired(stages, frame, self.sampler)
        if work is None:
            self._pass_on(ticket, frame)
            return
        stages.compute_features(work)
        with line.turn("append", ticket):
            stages.append(work)
        if not stages.infers_in_order:
            stages.infer(work, runtime)
        with line.turn("score", ticket):
            if stages.infers_in_order:
                stages.infer(work, runtime)
            scored = stages.score(work)
            line.put((frame, None if scored is None else with_frame_index(scored, frame)))

    def _pass_on(self, ticket: int, frame: Frame) -> None:
        """Take a frame that is left out through its turns, without a score."""
        with self.line.turn("append", ticket):
            pass
        with self.line.turn("score", ticket):
            self.line.put((frame, None))


class _Unwanted(Exception):  # noqa: N818
    """This frame is no longer wanted."""


class _Line:
    """Gives the workers their turns in the ordered stages, and collects the results.

    Args:
        room: frames that may be in progress or waiting for the consumer.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        lock = threading.Lock()
        self._changed, self._arrived = threading.Condition(lock), threading.Condition(lock)
        self._turns: dict[Stage, int] = {"pair": 0, "append": 0, "score": 0}
        self._n_tickets = self._n_consumed = 0
        self._n_frames: int | None = None
        self._results: deque[Result] = deque()
        self._error: tuple[int, BaseException] | None = None
        self._stopped = False

    def next_ticket(self) -> int | None:
        """The number of the next frame that no worker has; None when there is no more to do."""
        with self._changed:
            if self._stopped or self._n_frames is not None or self._error is not None:
                return None
            self._n_tickets += 1
            return self._n_tickets - 1

    @contextmanager
    def turn(self, stage: Stage, ticket: int) -> Iterator[None]:
        """Wait until all earlier frames have passed the stage; later ones wait until the context ends."""
        with self._changed:
            self._wait(lambda: self._turns[stage] == ticket and (stage != "pair" or self._has_room(ticket)), ticket)
        yield
        with self._changed:
            self._turns[stage] += 1
            self._changed.notify_all()

    def _has_room(self, ticket: int) -> bool:
        return ticket - self._n_consumed < self._room

    def _wait(self, ready: Callable[[], bool], ticket: int) -> None:
        while not ready():
            if self._is_unwanted(ticket):
                raise _Unwanted
            self._changed.wait()
        if self._is_unwanted(ticket):
            raise _Unwanted

    def _is_unwanted(self, ticket: int) -> bool:
        past_end = self._n_frames is not None and ticket >= self._n_frames
        return self._stopped or past_end or (self._error is not None and ticket > self._error[0])

    def end(self, n_frames: int) -> None:
        """The source has ended after so many frames."""
        with self._changed:
            self._n_frames = n_frames
            self._notify_all()

    def put(self, result: Result) -> None:
        """Add the next result; called in the order of the frames."""
        with self._arrived:
            self._results.append(result)
            self._arrived.notify()

    def stop(self) -> None:
        """No more results are wanted."""
        with self._changed:
            self._stopped = True
            self._notify_all()

    def errors_of(self, ticket: int) -> _Errors:
        """A context in which an error counts as the error of this frame; `results` raises it."""
        return _Errors(partial(self.fail, ticket))

    def fail(self, ticket: int, error: BaseException) -> None:
        """Record the error of a frame; that of the earliest frame wins."""
        with self._changed:
            if not isinstance(error, _Unwanted) and (self._error is None or ticket < self._error[0]):
                self._error = (ticket, error)
            self._notify_all()

    def _notify_all(self) -> None:
        self._changed.notify_all()
        self._arrived.notify_all()

    def results(self) -> Iterator[Result]:
        """The results in order, until the source ends.

        Raises:
            BaseException: the error of a frame, after the results of the frames before it.
        """
        while True:
            with self._arrived:
                while not self._results and not self._is_over():
                    self._arrived.wait()
                if not self._results:
                    break
                result = self._results.popleft()
                if not self._has_room(self._n_tickets - 1):
                    self._changed.notify_all()
                self._n_consumed += 1
            yield result
        if self._error is not None:
            raise self._error[1]

    def _is_over(self) -> bool:
        """Whether no more results will come."""
        last = self._error[0] if self._error is not None else self._n_frames
        return last is not None and self._n_consumed == last


class _Errors:
    """Passes an error to where the results are consumed, which raises it."""

    def __init__(self, pass_on: Callable[[BaseException], None]) -> None:
        self._pass_on = pass_on

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Literal[True]:
        if error is not None:
            self._pass_on(error)
        return True
