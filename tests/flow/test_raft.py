"""RAFT-small: its parts against slow clear versions, and its weight file against everything else."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.errors import ConfigError  # noqa: E402
from comemory.flow import FlowSettings, open_flow  # noqa: E402
from comemory.flow.raft import Raft, RaftSmall, correlation_pyramid, sample_correlations  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def untrained(tmp_path: Path) -> str:
    torch.manual_seed(0)
    path = tmp_path / "untrained.pth"
    torch.save({f"module.{name}": value for name, value in RaftSmall().state_dict().items()}, path)
    return str(path)


def refusal(weights: str | None) -> str:
    with pytest.raises(ConfigError) as caught:
        open_flow(FlowSettings(name="raft", weights=weights))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_has_the_published_number_of_parameters() -> None:
    assert sum(value.numel() for value in RaftSmall().parameters()) == 990_162


def test_opens_with_and_without_the_prefix_of_parallel_training(untrained: str, tmp_path: Path) -> None:
    plain = {name.removeprefix("module."): value for name, value in torch.load(untrained).items()}
    torch.save(plain, tmp_path / "plain.pth")
    image = np.random.default_rng(0).integers(0, 256, (64, 72, 3), dtype=np.uint8)
    first, second = (Raft(FlowSettings(name="raft", weights=str(w))) for w in (untrained, tmp_path / "plain.pth"))
    np.testing.assert_array_equal(first.estimate(image, image[::-1]), second.estimate(image, image[::-1]))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 64), (61, 130), (64, 64), (67, 71)])
def test_the_flow_has_the_size_of_the_images(untrained: str, height: int, width: int) -> None:
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    flow = Raft(FlowSettings(name="raft", weights=untrained), iterations=2).estimate(image, image)
    assert flow.shape == (height, width, 2)
    assert np.isfinite(flow).all()


def test_images_that_need_too_much_memory_are_refused(untrained: str) -> None:
    image = np.zeros((2160, 3840, 3), np.uint8)
    with pytest.raises(ConfigError, match=r"GiB to correlate images of 2160x3840"):
        Raft(FlowSettings(name="raft", weights=untrained)).estimate(image, image)


def test_without_weights_the_error_says_what_to_set() -> None:
    assert "set flow.weights" in refusal(None)


def test_missing_weights_are_named(tmp_path: Path) -> None:
    assert "No such file" in refusal(str(tmp_path / "none.pth"))
    assert "Is a directory" in refusal(str(tmp_path))


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    for content in (b"", b"\x00" * 100, b"not weights at all", b"\x80\x02}q\x00."):
        path.write_bytes(content)
        assert str(path) in refusal(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not a file of tensors" in refusal(str(path))


def test_code_in_the_file_is_never_executed(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"fnet.conv1.weight": Trap()}, tmp_path / "trap.pth")
    assert "not a file of tensors" in refusal(str(tmp_path / "trap.pth"))
    assert not (tmp_path / "sprung").exists()


def test_a_truncated_file_is_refused(untrained: str, tmp_path: Path) -> None:
    content = Path(untrained).read_bytes()
    for share in (0.1, 0.5, 0.99):
        path = tmp_path / "cut.pth"
        path.write_bytes(content[: int(len(content) * share)])
        assert str(path) in refusal(str(path))


def test_weights_of_another_network_are_refused(untrained: str, tmp_path: Path) -> None:
    state = torch.load(untrained)
    path = tmp_path / "other.pth"
    name = "module.fnet.conv1.weight"
    for wrong in (
        {key: value for key, value in state.items() if key != name},
        state | {name: torch.zeros(64, 3, 7, 7)},
        state | {name: "text"},
        state | {"module.extra": torch.zeros(1)},
        [1, 2, 3],
    ):
        torch.save(wrong, path)
        assert "do not fit RAFT-small" in refusal(str(path))


def test_correlations_are_scaled_dot_products() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(1, 16, 8, 10), torch.randn(1, 16, 8, 10)
    pyramid = correlation_pyramid(first, second)
    assert [tuple(level.shape) for level in pyramid] == [(80, 1, 8, 10), (80, 1, 4, 5), (80, 1, 2, 2), (80, 1, 1, 1)]
    expected = float((first[0, :, 3, 7] * second[0, :, 5, 2]).sum() / 4)
    assert float(pyramid[0][3 * 10 + 7, 0, 5, 2]) == pytest.approx(expected, abs=1e-5)
    assert float(pyramid[1][0, 0, 1, 2]) == pytest.approx(float(pyramid[0][0, 0, 2:4, 4:6].mean()), abs=1e-5)


def test_look_up_agrees_with_a_slow_version() -> None:
    torch.manual_seed(1)
    height, width = 8, 9
    pyramid = correlation_pyramid(torch.randn(1, 4, height, width), torch.randn(1, 4, height, width))
    flow = torch.randn(1, 2, height, width) * 3
    found = sample_correlations(pyramid, flow)
    for y, x in ((0, 0), (3, 5), (7, 8)):
        expected = [
            bilinear(
                level[y * width + x, 0].numpy(),
                (x + float(flow[0, 0, y, x])) / 2**power + across,
                (y + float(flow[0, 1, y, x])) / 2**power + down,
            )
            for power, level in enumerate(pyramid)
            for across in range(-3, 4)
            for down in range(-3, 4)
        ]
        np.testing.assert_allclose(found[0, :, y, x].numpy(), expected, atol=1e-4)


def bilinear(grid: np.ndarray, x: float, y: float) -> float:
    total = 0.0
    for row in (int(np.floor(y)), int(np.floor(y)) + 1):
        for column in (int(np.floor(x)), int(np.floor(x)) + 1):
            if 0 <= row < grid.shape[0] and 0 <= column < grid.shape[1]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * float(grid[row, column])
    return total


def test_more_iterations_converge(raft_weights: str) -> None:
    rng = np.random.default_rng(0)
    image = np.repeat(np.repeat(rng.integers(0, 256, (8, 10, 3), dtype=np.uint8), 8, axis=0), 8, axis=1)
    moved = np.roll(image, 4, axis=1)
    settings = FlowSettings(name="raft", weights=raft_weights)
    short, long, longer = (Raft(settings, iterations=n).estimate(image, moved) for n in (1, 12, 24))
    assert np.abs(long - longer).mean() < np.abs(long - short).mean()
