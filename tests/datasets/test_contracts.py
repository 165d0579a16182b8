"""What every entry of the table must hold to, and how datasets are named."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from datasets import made

from comemory.datasets import DATASETS, open_dataset
from comemory.datasets.avenue import TEST_FRAMES
from comemory.errors import ConfigError, DatasetError
from comemory.types import DataCheck, Dataset, LabelledSource, Source


def ucsd(root: Path) -> str:
    made.image_files(root / "training" / "frames" / "01", 3)
    made.image_files(root / "testing" / "frames" / "01", 3)
    made.masks(root / "testing" / "masks" / "01", [0, 1, 0])
    return str(root)


def avenue(root: Path) -> str:
    made.video(root / "training_videos" / "01.avi", 3)
    made.video(root / "testing_videos" / "08.avi", 36)
    np.save(root / "frame_labels_avenue.npy", np.zeros(sum(TEST_FRAMES)))
    return str(root)


def shanghaitech(root: Path) -> str:
    made.video(root / "training" / "videos" / "01_001.avi", 3)
    made.image_files(root / "testing" / "frames" / "01_0014", 3)
    (root / "testing" / "test_frame_mask").mkdir()
    np.save(root / "testing" / "test_frame_mask" / "01_0014.npy", np.array([0, 1, 1]))
    return str(root)


def folder(root: Path) -> str:
    made.video(root / "training" / "a.avi", 3)
    made.video(root / "testing" / "a.avi", 3)
    return str(root)


def synthetic(_: Path) -> str:
    return "seed=1,frames=20,training=1,testing=1,size=48x64"


MADE: dict[str, Callable[[Path], str]] = {
    "ped1": ucsd,
    "ped2": ucsd,
    "avenue": avenue,
    "avenue-npy": avenue,
    "shanghaitech": shanghaitech,
    "folder": folder,
    "synthetic": synthetic,
}
RECORDED = sorted(set(MADE) - {"synthetic"})


@pytest.fixture(params=sorted(MADE))
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    return open_dataset(f"{request.param}:{MADE[request.param](tmp_path)}")


def test_every_entry_that_is_made_here_is_in_the_registry() -> None:
    """The layout of a data set that somebody adds is not known here: a function in `MADE` holds it to all of this file."""
    assert set(MADE) <= set(DATASETS)


@pytest.mark.parametrize("kind", sorted(DATASETS))
def test_every_entry_has_what_a_dataset_has(kind: str) -> None:
    entry = DATASETS.load(kind)
    assert entry.name == kind
    for method in ("training", "testing", "check"):
        assert callable(getattr(entry, method))


def test_an_opened_dataset_follows_the_protocol(dataset: Dataset) -> None:
    assert isinstance(dataset, Dataset)
    assert dataset.name in DATASETS
    assert dataset.rate_hz is None or dataset.rate_hz > 0
    for sources in (dataset.training(), dataset.testing()):
        assert sources
        assert len({source.name for source in sources}) == len(sources)
        for source in sources:
            assert isinstance(source, LabelledSource)
            assert Path(source.source).exists() if isinstance(source.source, str) else isinstance(source.source, Source)
            assert source.labels is None or source.labels.dtype == np.bool_
            assert source.labels is None or source.labels.shape == (source.n_frames,)
    assert all(source.labels is None or not source.labels.any() for source in dataset.training())


def test_a_check_counts_what_the_sources_hold(dataset: Dataset) -> None:
    report = dataset.check()
    assert isinstance(report, DataCheck)
    assert set(report.published) <= set(report.found)
    for split, sources in (("training", dataset.training()), ("testing", dataset.testing())):
        assert report.found[f"{split} videos"] == len(sources)
        assert report.found[f"{split} frames"] == sum(source.n_frames or 0 for source in sources)


@pytest.mark.parametrize("kind", RECORDED)
@pytest.mark.parametrize("path", ["", "  ", "/no/such/place"])
def test_a_missing_path_is_refused(kind: str, path: str) -> None:
    with pytest.raises(DatasetError, match=f"no path was given|{kind} dataset: No such file"):
        open_dataset(f"{kind}:{path}")


@pytest.mark.parametrize("kind", [kind for kind in RECORDED if kind != "folder"])
def test_a_file_in_place_of_a_folder_is_refused(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(DatasetError, match="file: holds no"):
        open_dataset(f"{kind}:{tmp_path / 'file'}")


def test_a_name_without_a_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match=re.escape("cannot read the data set 'clips': expected KIND:PATH")):
        open_dataset("clips")
    with pytest.raises(
        ConfigError, match=re.escape("cannot read the data set '': expected KIND:PATH, such as folder:PATH")
    ):
        open_dataset("")


def test_an_unknown_kind_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown dataset 'pde2': did you mean 'ped2'\?"):
        open_dataset("pde2:/data")


def test_readers_are_light_and_import_no_torch() -> None:
    code = (
        "import sys, comemory.datasets as d\n"
        "assert not {'av', 'cv2', 'torch'} & set(sys.modules)\n"
        "[d.DATASETS.load(kind) for kind in d.DATASETS]\n"
        "assert not {'torch', 'scipy', 'openvino'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float32, list])
def test_labels_of_any_numeric_type_are_read_to_bool(dtype: object) -> None:
    given = [0, 1, 1] if dtype is list else np.array([0, 1, 1], dtype)  # type: ignore[call-overload]
    labels = LabelledSource("01", "nowhere", 3, given).labels
    assert labels is not None
    assert (labels.dtype, labels.tolist()) == (np.bool_, [False, True, True])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2], "of video '01' have 2 at frame 1: expected 0 .normal. or 1 .abnormal."),
        ([0.5], "of video '01' have 0.5 at frame 0"),
        ([float("nan")], "of video '01' have nan at frame 0"),
        (["no"], "of video '01' are <U2 .1,.: expected one 0 or 1 for each frame"),
        ([[0, 1]], "of video '01' are int64 .1, 2.: expected one"),
        ([[0], [1, 0]], "of video '01' are object .2,.: expected one"),
        ({1, 2}, "of video '01' are object ..: expected one"),
    ],
)
def test_other_labels_are_refused_in_one_line(labels: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as refused:
        LabelledSource("01", "nowhere", 2, labels)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)
