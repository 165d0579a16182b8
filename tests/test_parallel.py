"""The pipeline gives what the plain loop gives, in order, and nothing is left running whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.detector import Detector, Seen
from comemory.errors import ConfigError, SourceError
from comemory.parallel import AHEAD, usable_cores, watch
from comemory.types import Frame


@pytest.fixture(scope="module")
def detector(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1)


@pytest.fixture(scope="module")
def updating(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1, update="always")


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    opencv = cv2.getNumThreads()
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("frames-")] == []
    assert cv2.getNumThreads() == opencv


def key(seen: Seen) -> tuple[object, ...]:
    """Everything that was seen, to be compared bit for bit."""
    score = seen.score
    if score is None:
        return (seen.frame.index, None, seen.judgement, dict(seen.maps))
    maps = tuple((name, cells.tobytes()) for name, cells in sorted(seen.maps.items()))
    return (seen.frame.index, score.index, score.time_s, score.value, score.box, seen.judgement, maps)


def keys(frames: Iterator[Seen]) -> list[tuple[object, ...]]:
    return [key(seen) for seen in frames]


def standing(scene_frames: list[Frame], n_still: int = 40) -> list[Frame]:
    """Motion, then the last picture for a while, then motion again."""
    images = [frame.image for frame in scene_frames[:10]]
    images += [images[-1]] * n_still + [frame.image for frame in scene_frames[10:]]
    return [Frame(image, i / 10, i) for i, image in enumerate(images)]


class TestSameAsThePlainLoop:
    @pytest.mark.parametrize("workers", [1, 2, 3, 5])
    @pytest.mark.parametrize("update", ["off", "gated", "always", "bounded"])
    def test_bit_for_bit_and_in_order(
        self, nano_bundle: Path, scene_frames: list[Frame], update: Any, workers: int
    ) -> None:
        detector = Detector.open(nano_bundle, threads=1, update=update)
        frames = standing(scene_frames)
        expected = keys(detector.watch(frames))
        assert keys(watch(detector, frames, workers)) == expected
        assert keys(watch(detector, frames, workers)) == expected, "a second run begins anew"

    @settings(deadline=None, max_examples=15)
    @given(dropped=st.sets(st.integers(0, 29), max_size=8), workers=st.integers(2, 4))
    def test_with_gaps(self, detector: Detector, scene_frames: list[Frame], dropped: set[int], workers: int) -> None:
        frames = [frame for frame in scene_frames if frame.index not in dropped]
        assert keys(watch(detector, frames, workers)) == keys(detector.watch(frames))

    @settings(deadline=None, max_examples=10)
    @given(k=st.integers(0, 12))
    def test_the_first_k_frames_give_the_first_k_scores(
        self, detector: Detector, scene_frames: list[Frame], k: int
    ) -> None:
        assert keys(watch(detector, scene_frames[:k], 2)) == keys(detector.watch(scene_frames[:12]))[:k]

    def test_from_a_file(self, detector: Detector, walkway: Path) -> None:
        video = walkway / "testing" / "01.mp4"
        expected = keys(detector.watch(detector.open_source(video)))
        assert keys(watch(detector, detector.open_source(video), 2)) == expected

    def test_a_heat_map_of_each_frame_is_its_own(self, detector: Detector, scene_frames: list[Frame]) -> None:
        expected = [detector.heat(seen.maps) for seen in detector.watch(scene_frames) if seen.score is not None]
        found = [detector.heat(seen.maps) for seen in watch(detector, scene_frames, 3) if seen.score is not None]
        assert all(map(np.array_equal, found, expected))

    @pytest.mark.parametrize("runtime", ["onnx", "pytorch"])
    def test_on_every_runtime(self, nano_bundle: Path, scene_frames: list[Frame], runtime: str) -> None:
        pytest.importorskip("onnxruntime" if runtime == "onnx" else "torch")
        detector = Detector.open(nano_bundle, runtime=runtime, threads=1)
        assert keys(watch(detector, scene_frames, 2)) == keys(detector.watch(scene_frames))


class TestBounded:
    def test_frames_are_not_taken_far_ahead(self, detector: Detector, scene_frames: list[Frame]) -> None:
        n_read = 0

        def endless() -> Iterator[Frame]:
            nonlocal n_read
            while True:
                yield Frame(scene_frames[n_read % 30].image, n_read / 10, n_read)
                n_read += 1

        seen = watch(detector, endless(), 2)
        for n_taken in range(1, 30):
            next(seen)
            time.sleep(0.005)
            assert n_read <= n_taken + 2 + AHEAD
        seen.close()

    def test_an_iterator_that_is_left_ends_its_workers_and_its_source(
        self, detector: Detector, scene_frames: list[Frame]
    ) -> None:
        closed = []

        def frames() -> Iterator[Frame]:
            try:
                yield from scene_frames
            finally:
                closed.append(True)

        seen = watch(detector, frames(), 2)
        assert next(seen).frame.index == 0
        seen.close()
        assert closed == [True]

    def test_an_exception_where_the_frames_are_used(self, detector: Detector, scene_frames: list[Frame]) -> None:
        def use() -> None:
            with closing(watch(detector, scene_frames, 2)) as frames:
                for seen in frames:
                    if seen.frame.index == 7:
                        raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            use()


def breaking_at(n: int, call: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """`call`, but the n-th time it raises."""
    counted = iter(range(1, 1000))

    def broken(*arguments: Any, **options: Any) -> Any:
        if next(counted) == n:
            raise error
        return call(*arguments, **options)

    return broken


STAGES = {
    "look": lambda detector: (detector.builder, "look"),
    "measure": lambda detector: (detector.builder, "measure"),
    "flow": lambda detector: (detector.builder.preparation.estimator, "estimate"),
    "add": lambda detector: (detector.builder, "add"),
    "network": lambda detector: (detector, "observe"),
    "conclude": lambda detector: (detector, "conclude"),
    "seen": lambda detector: (detector, "seen"),
    "runtime": lambda detector: (detector, "worker_runtime"),
}


class TestErrors:
    @pytest.mark.parametrize("kind", [ValueError, SourceError, SystemExit, KeyboardInterrupt, MemoryError])
    @pytest.mark.parametrize("watching", ["detector", "updating"])
    @pytest.mark.parametrize("stage", STAGES)
    def test_an_error_of_any_stage_comes_out_at_once(
        self,
        request: pytest.FixtureRequest,
        scene_frames: list[Frame],
        monkeypatch: pytest.MonkeyPatch,
        stage: str,
        watching: str,
        kind: type[BaseException],
    ) -> None:
        detector: Detector = request.getfixturevalue(watching)
        owner, name = STAGES[stage](detector)
        nth = 2 if stage == "runtime" else 8
        error = kind("broken")
        monkeypatch.setattr(owner, name, breaking_at(nth, getattr(owner, name), error))
        n_read = 0
        seen: list[Seen] = []

        def frames() -> Iterator[Frame]:
            nonlocal n_read
            for frame in scene_frames:
                n_read += 1
                yield frame

        began = time.monotonic()
        with pytest.raises(kind) as raised:
            seen.extend(watch(detector, frames(), 2))
        assert raised.value is error
        assert time.monotonic() - began < 10
        assert [one.frame.index for one in seen] == list(range(len(seen)))
        assert n_read <= len(seen) + 2 + AHEAD

    @pytest.mark.parametrize("n_before", [0, 1, 9])
    def test_the_frames_before_the_error_are_given(
        self, detector: Detector, scene_frames: list[Frame], n_before: int
    ) -> None:
        def frames() -> Iterator[Frame]:
            yield from scene_frames[:n_before]
            raise SourceError("the disk is gone")

        seen: list[Seen] = []
        expected = keys(detector.watch(scene_frames))[:n_before]
        with pytest.raises(SourceError, match="the disk is gone"):
            seen.extend(watch(detector, frames(), 3))
        assert list(map(key, seen)) == expected

    def test_after_an_error_it_can_be_used_again(self, detector: Detector, scene_frames: list[Frame]) -> None:
        expected = keys(detector.watch(scene_frames))

        def frames() -> Iterator[Frame]:
            yield from scene_frames[:6]
            raise SourceError("gone")

        with pytest.raises(SourceError):
            list(watch(detector, frames(), 2))
        assert keys(watch(detector, scene_frames, 2)) == expected

    @pytest.mark.parametrize("workers", [1, 2])
    def test_another_source_meanwhile_is_refused(
        self, detector: Detector, scene_frames: list[Frame], workers: int
    ) -> None:
        plain = keys(detector.watch(scene_frames))
        with closing(watch(detector, scene_frames, workers=2)) as first:
            begun = [key(next(first))]
            with pytest.raises(ConfigError, match="watches one source at a time"):
                next(watch(detector, scene_frames, workers))
            assert begun + keys(first) == plain
        assert keys(watch(detector, scene_frames, workers)) == plain

    @pytest.mark.parametrize("workers", [0, -1])
    def test_no_worker_is_refused(self, detector: Detector, workers: int) -> None:
        with pytest.raises(ConfigError, match="at least 1 worker"):
            watch(detector, [], workers)

    def test_a_runtime_that_is_shared_has_one_worker(self, detector: Detector, scene_frames: list[Frame]) -> None:
        sharing = Detector(detector.bundle, runtime=detector.runtime)
        with pytest.raises(ConfigError, match="one worker"):
            list(watch(sharing, scene_frames, 2))


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_ends_the_process_with_all_of_its_threads(nano_bundle: Path) -> None:
    program = """
        import itertools, sys, threading, numpy as np
        from comemory.detector import Detector
        from comemory.parallel import watch
        from comemory.types import Frame

        noise = np.random.default_rng(0).integers(0, 255, (7, 96, 144, 3), np.uint8)
        frames = (Frame(noise[i % 7], i / 10, i) for i in itertools.count())
        try:
            for seen in watch(Detector.open(sys.argv[1], threads=1), frames, 2):
                if seen.frame.index == 20:
                    print("running", flush=True)
        except KeyboardInterrupt:
            print(sum(thread.name.startswith("frames-") for thread in threading.enumerate()), flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(nano_bundle)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "running\n"
            process.send_signal(signal.SIGINT)
            said, errors = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (said, errors, process.returncode) == ("0\n", "", 0)


def test_cores_are_counted() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
