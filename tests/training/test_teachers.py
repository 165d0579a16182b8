"""Learning from networks that are trained already."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'comemory[train]'")

from training import made  # noqa: E402

from comemory.bundle import open_bundle  # noqa: E402
from comemory.cli import main  # noqa: E402
from comemory.errors import BundleError, ConfigError, TrainingError  # noqa: E402
from comemory.training.teachers import Teachers  # noqa: E402
from comemory.training.train import train  # noqa: E402

SHORT = ("train.epochs=1",)


@pytest.fixture(scope="module")
def teachers(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks, wider than what they teach."""
    folder = tmp_path_factory.mktemp("teachers")
    return [
        train(
            made.DATA,
            made.recipe(*SHORT, "network.base_width=6", f"train.seed={seed}"),
            folder / f"{seed}",
            cache=cache,
        ).bundle
        for seed in (0, 1)
    ]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.rand(2, 5, 1, 32, 48) * 2 - 1, torch.randn(2, 2, 32, 48)


def test_a_share_of_what_is_learned_is_theirs(teachers: list[Path], batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    frames, flow = batch
    kept = frames.clone(), flow.clone()
    whole = Teachers(teachers[:1], made.recipe("train.taught=1.0")).lay_over(frames, flow)
    quarter = Teachers(teachers[:1], made.recipe("train.taught=0.25")).lay_over(frames, flow)
    torch.testing.assert_close(quarter[1], 0.75 * flow + 0.25 * whole[1])
    torch.testing.assert_close(quarter[0][:, -1], 0.75 * frames[:, -1] + 0.25 * whole[0][:, -1])
    for given in (whole, quarter):
        assert torch.equal(given[0][:, :-1], frames[:, :-1])
        assert not torch.equal(given[0][:, -1], frames[:, -1])
    assert torch.equal(frames, kept[0])
    assert torch.equal(flow, kept[1])


def test_several_teach_their_mean(teachers: list[Path], batch: tuple[torch.Tensor, torch.Tensor]) -> None:
    whole = made.recipe("train.taught=1.0")
    both = Teachers(teachers, whole).lay_over(*batch)
    alone = [Teachers([path], whole).lay_over(*batch) for path in teachers]
    for part in range(2):
        torch.testing.assert_close(both[part], (alone[0][part] + alone[1][part]) / 2)


def test_a_training_names_its_teachers_and_learns_something_else(
    teachers: list[Path], cache: Path, tmp_path: Path
) -> None:
    taught = train(made.DATA, made.recipe(*SHORT), tmp_path / "taught", cache=cache, teachers=teachers)
    alone = train(made.DATA, made.recipe(*SHORT), tmp_path / "alone", cache=cache)
    opened = open_bundle(taught.bundle)
    assert opened.provenance["teachers"] == [open_bundle(path).digest[:16] for path in teachers]
    assert "teachers" not in open_bundle(alone.bundle).provenance
    assert str(teachers[0]) not in json.dumps([opened.config, opened.provenance])
    weights = [(path.bundle / "weights.safetensors").read_bytes() for path in (taught, alone)]
    assert weights[0] != weights[1]


def test_a_training_does_not_go_on_with_other_teachers(teachers: list[Path], cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(made.DATA, made.recipe(*SHORT), tmp_path / "one", run=run, cache=cache, teachers=teachers[:1])
    with pytest.raises(TrainingError, match="made with other footage or teachers"):
        train(made.DATA, made.recipe(*SHORT), tmp_path / "two", run=run, cache=cache, teachers=teachers, resume=True)


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("clips.n_past=3", r"clips.n_past=4, this training has 3"),
        ("clips.flow_carry=0.5", r"clips.flow_carry=0.7, this training has 0.5"),
        ("flow.preset=fast", r"flow.preset=ultrafast, this training has fast"),
    ],
)
def test_a_teacher_that_sees_something_else_is_refused(teachers: list[Path], setting: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Teachers(teachers, made.recipe(setting))


def test_a_teacher_that_knows_what_is_held_out_is_refused(teachers: list[Path], cache: Path, tmp_path: Path) -> None:
    """This training holds out the end of each video, theirs two whole ones: they have learned from the end of the third."""
    with pytest.raises(ConfigError, match=r"has learned from video that this training holds out .*one train.holdout"):
        train(made.DATA, made.recipe(*SHORT, "train.holdout=0.4"), tmp_path / "one", cache=cache, teachers=teachers)
    assert not (tmp_path / "one").exists()


def test_what_is_no_bundle_cannot_teach(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle: no such folder"):
        Teachers([tmp_path / "absent"], made.recipe())


def test_the_command_takes_teachers(teachers: list[Path], cache: Path, tmp_path: Path) -> None:
    settings = [word for setting in (*made.SETTINGS, *SHORT) for word in ("--set", setting)]
    named = [word for path in teachers for word in ("--teacher", str(path))]
    asked = ["train", "--data", made.DATA, "--cache", str(cache), "--out", str(tmp_path / "taught")]
    with pytest.raises(SystemExit) as left:
        main([*asked, *settings, *named])
    assert not left.value.code
    assert len(open_bundle(tmp_path / "taught").provenance["teachers"]) == 2
