"""The pipeline gives the results of the plain loop, in order, and leaves no thread running whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.detector import Detector
from comemory.errors import ConfigError, SourceError
from comemory.parallel import QUEUE_LENGTH, Result, score_frames, usable_cores
from comemory.types import Frame

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def with_network(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1)


@pytest.fixture(scope="module")
def flow_alone() -> Detector:
    """One whose score needs no network."""
    found = Detector.open(REPOSITORY / "models" / "ped2-small", threads=1)
    assert not found.stages.runs_network
    return found


@pytest.fixture(scope="module", params=["with_network", "flow_alone"])
def detector(request: pytest.FixtureRequest) -> Detector:
    found: Detector = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def updating(nano_bundle: Path) -> Detector:
    return Detector.open(nano_bundle, threads=1, update="always")


@pytest.fixture(autouse=True)
def _nothing_left_running() -> Iterator[None]:
    opencv = cv2.getNumThreads()
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("frames-")] == []
    assert cv2.getNumThreads() == opencv


def key(result: Result) -> tuple[object, ...]:
    """All of a result, to be compared bit for bit."""
    frame, scored = result
    if scored is None:
        return (frame.index, None)
    score = scored.score
    maps = tuple((name, cells.tobytes()) for name, cells in sorted(scored.evidence.maps.items()))
    return (frame.index, score.index, score.time_s, score.value, score.box, scored.parts, maps)


def keys(results: Iterable[Result]) -> list[tuple[object, ...]]:
    return [key(result) for result in results]


def plain(detector: Detector, frames: Iterable[Frame]) -> list[tuple[object, ...]]:
    """The results of `Detector.step`, one frame after the other."""
    detector.reset()
    return [key((frame, detector.step(frame))) for frame in frames]


def with_static_part(scene_frames: list[Frame], n_still: int = 40) -> list[Frame]:
    """Motion, then the same image for a while, then motion again."""
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
        frames = with_static_part(scene_frames)
        expected = plain(detector, frames)
        assert keys(score_frames(detector, frames, workers)) == expected
        assert keys(score_frames(detector, frames, workers)) == expected, "a second run starts from nothing"

    @settings(deadline=None, max_examples=15)
    @given(dropped=st.sets(st.integers(0, 29), max_size=8), workers=st.integers(2, 4))
    def test_with_gaps(self, detector: Detector, scene_frames: list[Frame], dropped: set[int], workers: int) -> None:
        frames = [frame for frame in scene_frames if frame.index not in dropped]
        assert keys(score_frames(detector, frames, workers)) == plain(detector, frames)

    @settings(deadline=None, max_examples=10)
    @given(k=st.integers(0, 12))
    def test_the_first_k_frames_give_the_first_k_scores(
        self, detector: Detector, scene_frames: list[Frame], k: int
    ) -> None:
        assert keys(score_frames(detector, scene_frames[:k], 2)) == plain(detector, scene_frames[:12])[:k]

    def test_from_a_file(self, detector: Detector, walkway: Path) -> None:
        video = walkway / "testing" / "01.mp4"
        expected = plain(detector, detector.open_source(video))
        assert keys(score_frames(detector, detector.open_source(video), 2)) == expected

    def test_a_heat_map_of_each_frame_is_its_own(self, detector: Detector, scene_frames: list[Frame]) -> None:
        detector.reset()
        expected = [detector.heat_map(scored) for scored in map(detector.step, scene_frames) if scored is not None]
        results = score_frames(detector, scene_frames, 3)
        found = [detector.heat_map(scored) for _, scored in results if scored is not None]
        assert len(found) == len(expected)
        assert all(map(np.array_equal, found, expected))

    @pytest.mark.parametrize("runtime", ["onnx", "pytorch"])
    def test_on_every_runtime(self, nano_bundle: Path, scene_frames: list[Frame], runtime: str) -> None:
        pytest.importorskip("onnxruntime" if runtime == "onnx" else "torch")
        detector = Detector.open(nano_bundle, runtime=runtime, threads=1)
        assert keys(score_frames(detector, scene_frames, 2)) == plain(detector, scene_frames)


class TestBounded:
    def test_frames_are_not_read_far_ahead(self, detector: Detector, scene_frames: list[Frame]) -> None:
        n_read = 0

        def endless() -> Iterator[Frame]:
            nonlocal n_read
            while True:
                yield Frame(scene_frames[n_read % 30].image, n_read / 10, n_read)
                n_read += 1

        results = score_frames(detector, endless(), 2)
        for n_taken in range(1, 30):
            next(results)
            time.sleep(0.005)  # time in which workers could read on, if nothing stopped them
            assert n_read <= n_taken + 2 + QUEUE_LENGTH
        results.close()

    def test_an_iterator_that_is_left_ends_its_workers_and_its_source(
        self, detector: Detector, scene_frames: list[Frame]
    ) -> None:
        closed = []

        def frames() -> Iterator[Frame]:
            try:
                yield from scene_frames
            finally:
                closed.append(True)

        results = score_frames(detector, frames(), 2)
        assert next(results)[0].index == 0
        results.close()
        assert closed == [True]

    def test_an_exception_where_the_frames_are_used(self, detector: Detector, scene_frames: list[Frame]) -> None:
        def use() -> None:
            with closing(score_frames(detector, scene_frames, 2)) as results:
                for frame, _ in results:
                    if frame.index == 7:
                        raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            use()


def breaking_at(n: int, call: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """`call`, except that the n-th call raises."""
    counted = iter(range(1, 1000))

    def broken(*arguments: Any, **options: Any) -> Any:
        if next(counted) == n:
            raise error
        return call(*arguments, **options)

    return broken


STAGES = {
    "pair": lambda detector: (detector.stages, "pair"),
    "compute_features": lambda detector: (detector.stages, "compute_features"),
    "flow": lambda detector: (detector.stages.builder.preparer.estimator, "estimate"),
    "append": lambda detector: (detector.stages, "append"),
    "infer": lambda detector: (detector.stages, "infer"),
    "score": lambda detector: (detector.stages, "score"),
    "runtime": lambda detector: (detector.stages, "worker_runtime"),
}


class TestErrors:
    @pytest.mark.parametrize("kind", [SourceError, KeyboardInterrupt])
    @pytest.mark.parametrize("fixture", ["with_network", "flow_alone", "updating"])
    @pytest.mark.parametrize("stage", STAGES)
    def test_an_error_in_any_stage_is_raised_after_the_frames_before_it(
        self,
        request: pytest.FixtureRequest,
        scene_frames: list[Frame],
        monkeypatch: pytest.MonkeyPatch,
        stage: str,
        fixture: str,
        kind: type[BaseException],
    ) -> None:
        detector: Detector = request.getfixturevalue(fixture)
        if stage == "runtime" and not detector.stages.runs_network:
            pytest.skip("no runtime is opened for a worker")
        owner, name = STAGES[stage](detector)
        nth = 2 if stage == "runtime" else 8
        error = kind("broken")
        monkeypatch.setattr(owner, name, breaking_at(nth, getattr(owner, name), error))
        n_read = 0
        results: list[Result] = []

        def frames() -> Iterator[Frame]:
            nonlocal n_read
            for frame in scene_frames:
                n_read += 1
                yield frame

        with pytest.raises(kind) as raised:
            results.extend(score_frames(detector, frames(), 2))
        assert raised.value is error
        assert [frame.index for frame, _ in results] == list(range(len(results)))
        assert n_read <= len(results) + 2 + QUEUE_LENGTH

    @pytest.mark.parametrize("n_before", [0, 1, 9])
    def test_the_results_before_the_error_are_complete(
        self, detector: Detector, scene_frames: list[Frame], n_before: int
    ) -> None:
        def frames() -> Iterator[Frame]:
            yield from scene_frames[:n_before]
            raise SourceError("the disk is gone")

        results: list[Result] = []
        expected = plain(detector, scene_frames)[:n_before]
        with pytest.raises(SourceError, match="the disk is gone"):
            results.extend(score_frames(detector, frames(), 3))
        assert keys(results) == expected

    def test_after_an_error_it_can_be_used_again(self, detector: Detector, scene_frames: list[Frame]) -> None:
        expected = plain(detector, scene_frames)

        def frames() -> Iterator[Frame]:
            yield from scene_frames[:6]
            raise SourceError("gone")

        with pytest.raises(SourceError):
            list(score_frames(detector, frames(), 2))
        assert keys(score_frames(detector, scene_frames, 2)) == expected

    @pytest.mark.parametrize("workers", [1, 2])
    def test_another_source_is_refused_meanwhile(
        self, detector: Detector, scene_frames: list[Frame], workers: int
    ) -> None:
        expected = plain(detector, scene_frames)
        with closing(score_frames(detector, scene_frames, workers=2)) as first:
            begun = [key(next(first))]
            with pytest.raises(ConfigError, match="scores one source at a time"):
                next(score_frames(detector, scene_frames, workers))
            with pytest.raises(ConfigError, match="scores one source at a time"):
                detector.step(scene_frames[0])
            with pytest.raises(ConfigError, match="scores one source at a time"):
                detector.reset()
            assert begun + keys(first) == expected
        assert keys(score_frames(detector, scene_frames, workers)) == expected

    @pytest.mark.parametrize("workers", [0, -1])
    def test_no_worker_is_refused(self, detector: Detector, workers: int) -> None:
        with pytest.raises(ConfigError, match="at least 1 worker"):
            score_frames(detector, [], workers)

    def test_a_shared_runtime_has_one_worker(self, with_network: Detector, scene_frames: list[Frame]) -> None:
        sharing = Detector(with_network.bundle, runtime=with_network.stages.runtime)
        with pytest.raises(ConfigError, match="one worker"):
            list(score_frames(sharing, scene_frames, 2))


@pytest.mark.skipif(os.name != "posix", reason="sends a signal")
def test_ctrl_c_ends_the_process_with_all_of_its_threads(nano_bundle: Path) -> None:
    program = """
        import itertools, sys, threading, numpy as np
        from comemory.detector import Detector
        from comemory.parallel import score_frames
        from comemory.types import Frame

        noise = np.random.default_rng(0).integers(0, 255, (7, 96, 144, 3), np.uint8)
        frames = (Frame(noise[i % 7], i / 10, i) for i in itertools.count())
        try:
            for frame, _ in score_frames(Detector.open(sys.argv[1], threads=1), frames, 2):
                if frame.index == 20:
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


def test_usable_cores_are_no_more_than_the_machine_has() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
