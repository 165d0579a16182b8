"""Fixtures of all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from comemory import errors
from comemory.files import file_lock
from comemory.types import Frame

# Several workers of pytest share the cores: threads of OpenMP that wait for each other would make some tests 30 times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test asserts elapsed time: a busy machine takes longer for an example.
settings.register_profile("local", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("local"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")

# A shell makes its background jobs ignore Ctrl-C, and processes that the tests start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


SLOW_TESTS = "COMEMORY_SLOW_TESTS"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the slow tests, unless they are asked for."""
    if os.environ.get(SLOW_TESTS):
        return
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.skip(reason=f"slow: run scripts/test --slow, or set {SLOW_TESTS}=1"))


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """Forget the secrets that a test made known: they would be masked in the texts of all later ones."""
    before = set(errors._SECRETS)
    yield
    errors._SECRETS.clear()
    errors._SECRETS.update(before)


REPOSITORY = Path(__file__).resolve().parent.parent


def real_data() -> Path | None:
    """The folder of recorded data sets, if it is there: `COMEMORY_DATA`, else `../shared/data` beside the repository."""
    folder = Path(os.environ.get("COMEMORY_DATA") or REPOSITORY.parent / "shared" / "data")
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of recorded data sets; the test is skipped without it."""
    folder = real_data()
    if folder is None:
        pytest.skip("needs the real data: set COMEMORY_DATA to a folder with ped2/ and avenue/")
    return folder


_TINY = (
    "clips.height=32",
    "clips.width=48",
    "clips.flow_height=64",
    "clips.flow_width=96",
    "train.epochs=1",
    "train.threads=1",
)


@pytest.fixture(scope="session")
def nano_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny model, trained in seconds on rendered walkers; its learned channels have no penalty."""
    scoring = (
        "scoring.fusion=maximum",
        'scoring.motion=["flow_speed:8", "relative_speed:8", "agitation:12", "flow_residual:8"]',
        'scoring.appearance=["frame_error:16"]',
        "scoring.smoothing_s=0",
        "scoring.motion_penalty=0",
        "scoring.appearance_penalty=0",
    )
    return _trained(tmp_path_factory, "nano", *_TINY, "network.base_width=4", *scoring)


@pytest.fixture(scope="session")
def autoencoder_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of a tiny network that gives one number a frame, and whose authors have a score of their own."""
    return _trained(tmp_path_factory, "autoencoder", *_TINY, "model=autoencoder", "network.width=4")


def _trained(tmp_path_factory: pytest.TempPathFactory, name: str, *settings: str) -> Path:
    pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    from comemory.training.config import read_training_config
    from comemory.training.train import train

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # that of all workers: the first one trains
    path = folder / name
    with file_lock(folder):
        if not path.exists():
            data = "synthetic:seed=1,frames=60,training=3,testing=1,size=96x144"
            train(data, read_training_config("nano", settings=settings), path)
    return path


@pytest.fixture(scope="session")
def scene_frames() -> list[Frame]:
    """30 read-only frames of a rendered scene that `nano_bundle` was not trained on; some are abnormal."""
    from comemory.datasets import open_dataset

    video = open_dataset("synthetic:seed=9,frames=30,training=1,testing=1,size=96x144").testing()[0]
    frames = list(video.source)
    for frame in frames:
        frame.image.setflags(write=False)
    assert video.labels is not None
    assert np.any(video.labels)
    return frames


@pytest.fixture(scope="session")
def walkway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled data set of the kind `folder`: `testing/01.mp4`, the frames `testing/02/`, and their labels."""
    from footage import clip, save_frames, save_labels, save_video

    folder = tmp_path_factory.mktemp("walkway") / "testing"
    (first, labels), (second, other_labels) = clip(0), clip(1)
    save_video(folder / "01.mp4", first)
    save_frames(folder / "02", second[:40])
    save_labels(folder / "labels" / "01.csv", labels)
    save_labels(folder / "labels" / "02.csv", other_labels[:40])
    return folder.parent
