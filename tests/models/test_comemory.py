"""The two branches together: what reaches what, what is learned, and every memory on or off."""

from __future__ import annotations

import inspect
from itertools import product
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.models import evidence, losses  # noqa: E402
from comemory.models.comemory import CoMemory  # noqa: E402
from comemory.models.memory import update  # noqa: E402
from comemory.training.config import LossWeights, NetworkSettings, TrainingConfig  # noqa: E402

WEIGHTS = {
    "flow": 1.0,
    "prediction": 0.5,
    "motion_compactness": 0.1,
    "motion_separateness": 0.2,
    "appearance_compactness": 0.3,
    "appearance_separateness": 0.4,
}
ITEMS = list(product((0, 3), (0, 4)))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def made(**arguments: Any) -> CoMemory:
    small = {"base_width": 4, "n_past": 3, "motion_items": 3, "appearance_items": 4}
    return CoMemory(**{**small, **arguments})


def clips(channels: int = 1, n_past: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames_BTCHW = torch.rand(2, n_past + 1, channels, 32, 48, generator=generator) * 2 - 1
    return frames_BTCHW, torch.randn(2, 2, 32, 48, generator=generator)


def items_of(model: CoMemory) -> dict[str, torch.Tensor]:
    return {name: memory.items.clone() for name, memory in model.memories().items()}


def test_the_recipe_offers_the_arguments_of_the_network_and_no_others() -> None:
    arguments = {name: each.default for name, each in inspect.signature(CoMemory).parameters.items()}
    assert set(TrainingConfig().model_kwargs()) == set(arguments)
    assert set(NetworkSettings.model_fields) == set(arguments) - {"channels", "n_past"}
    paper = TrainingConfig(
        network=NetworkSettings(stem=1, base_width=64, motion_decodes="both", motion_temperature=1.0)
    ).model_kwargs()
    shared = {name: value for name, value in paper.items() if name not in ("channels", "n_past")}
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in shared.items()} == {
        name: arguments[name] for name in shared
    }


def test_the_recipe_weighs_the_terms_of_the_loss_and_no_others() -> None:
    _, parts = made().loss(*clips(), LossWeights().model_dump())
    assert set(parts) == set(LossWeights.model_fields) == set(WEIGHTS)


@pytest.mark.parametrize(("channels", "n_past"), [(1, 2), (3, 5)])
def test_explains_flow_and_frame(channels: int, n_past: int) -> None:
    model = made(channels=channels, n_past=n_past).eval()
    with torch.no_grad():
        explained = model(clips(channels, n_past)[0][:, :-1])
    assert explained.flow_B2HW.shape == (2, 2, 32, 48)
    assert explained.frame_BCHW.shape == (2, channels, 32, 48)
    assert explained.frame_BCHW.abs().max() <= 1
    assert explained.motion.weight_BKN.shape == (2, 24, 3)
    assert explained.appearance.weight_BKN.shape == (2, 24, 4)


def test_a_stem_makes_the_queries_coarser_and_keeps_the_size_of_what_is_decoded() -> None:
    model, (frames_BTCHW, flow_B2HW) = made(stem=2).eval(), clips()
    with torch.no_grad():
        explained = model(frames_BTCHW[:, :-1])
        observed = model.infer(frames_BTCHW, flow_B2HW, *items_of(model).values())
    assert explained.flow_B2HW.shape == flow_B2HW.shape
    assert explained.frame_BCHW.shape == frames_BTCHW[:, -1].shape
    assert observed["motion_distance"].shape == (2, 1, 2, 3)
    assert observed["flow_error"].shape == (2, 1, 8, 12)
    for name, found, seen in (
        ("flow_error", explained.flow_B2HW, flow_B2HW),
        ("flow_residual", explained.flow_B2HW, flow_B2HW),
        ("frame_error", explained.frame_BCHW, frames_BTCHW[:, -1]),
    ):
        torch.testing.assert_close(observed[name], getattr(evidence, name)(found, seen), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="stem=0"):
        made(stem=0)


@pytest.mark.parametrize(("motion_items", "appearance_items"), ITEMS)
@pytest.mark.parametrize("decodes", ["both", "read"])
def test_every_memory_may_be_off(motion_items: int, appearance_items: int, decodes: str) -> None:
    model = made(
        motion_items=motion_items,
        appearance_items=appearance_items,
        motion_decodes=decodes,
        appearance_decodes=decodes,
    )
    on = [name for name, count in (("motion", motion_items), ("appearance", appearance_items)) if count]
    assert list(model.memories()) == on
    total, parts = model.loss(*clips(), WEIGHTS)
    total.backward()
    terms = {f"{name}_{term}" for name in on for term in ("compactness", "separateness")}
    assert set(parts) == {"flow", "prediction"} | terms
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        observed = model.eval().infer(*clips(), *items_of(model).values())
    maps = {"flow_error": 1, "flow_residual": 2, "flow_mean": 2, "frame_error": 1}
    assert {name: tuple(tensor.shape) for name, tensor in observed.items()} == {
        **{name: (2, channels, 8, 12) for name, channels in maps.items()},
        **{f"{name}_distance": (2, 1, 4, 6) for name in on},
        **{f"updated_{name}": tuple(model.memories()[name].items.shape) for name in on},
    }


def test_the_motion_branch_sees_two_frames_and_the_appearance_branch_all_but_the_newest() -> None:
    model, (frames_BTCHW, flow_B2HW) = made(appearance_decodes="both").eval(), clips()
    others_BTCHW = clips(seed=1)[0]

    def with_other(number: int) -> torch.Tensor:
        changed = frames_BTCHW.clone()
        changed[:, number] = others_BTCHW[:, number]
        return changed

    items = list(items_of(model).values())
    with torch.no_grad():
        whole = model(frames_BTCHW[:, :-1])
        first = model(with_other(0)[:, :-1])
        assert torch.equal(first.flow_B2HW, whole.flow_B2HW)
        assert not torch.equal(first.frame_BCHW, whole.frame_BCHW)
        for number in (1, 2):
            changed = model(with_other(number)[:, :-1])
            assert not torch.equal(changed.flow_B2HW, whole.flow_B2HW)
            assert not torch.equal(changed.frame_BCHW, whole.frame_BCHW)
        before, after = (model.infer(frames, flow_B2HW, *items) for frames in (frames_BTCHW, with_other(3)))
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"frame_error"}


def test_the_motion_memory_reaches_the_predicted_frame() -> None:
    model, past_BTCHW = made().eval(), clips()[0][:, :-1]
    items = items_of(model)
    with torch.no_grad():
        whole = model(past_BTCHW, items)
        moved = model(past_BTCHW, {**items, "motion": items["motion"].flip(1)})
        seen = model(past_BTCHW, {**items, "appearance": items["appearance"].flip(1)})
        assert torch.equal(model(past_BTCHW).frame_BCHW, whole.frame_BCHW)
    assert not torch.equal(moved.flow_B2HW, whole.flow_B2HW)
    assert not torch.equal(moved.frame_BCHW, whole.frame_BCHW)
    assert torch.equal(seen.flow_B2HW, whole.flow_B2HW)
    assert not torch.equal(seen.frame_BCHW, whole.frame_BCHW)


@pytest.mark.parametrize(
    ("motion_decodes", "motion_skips", "by_passed"),
    [("read", (), False), ("both", (), True), ("read", (0,), True), ("read", (2,), True)],
)
def test_nothing_by_passes_a_memory_that_alone_is_decoded(
    motion_decodes: str, motion_skips: tuple[int, ...], by_passed: bool
) -> None:
    """With one item every query reads the same, so that frames can reach the flow by another way only."""
    model = made(motion_items=1, motion_decodes=motion_decodes, motion_skips=motion_skips).eval()
    with torch.no_grad():
        one, other = (model(clips(seed=seed)[0][:, :-1]) for seed in (0, 1))
    assert not torch.equal(one.motion.query_BKD, other.motion.query_BKD)
    assert torch.equal(one.flow_B2HW, other.flow_B2HW) != by_passed


def test_the_scale_of_the_raw_queries_reaches_nothing() -> None:
    model, past_BTCHW = made(motion_decodes="read", appearance_skips=()).eval(), clips()[0][:, :-1]
    with torch.no_grad():
        whole = model(past_BTCHW)
        for encoder in (model.motion_encoder, model.appearance_encoder):
            encoder.levels[-1].register_forward_hook(lambda module, given, made: 3 * made)
        scaled = model(past_BTCHW)
    torch.testing.assert_close(scaled.flow_B2HW, whole.flow_B2HW, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scaled.frame_BCHW, whole.frame_BCHW, atol=1e-5, rtol=1e-5)


def test_the_order_of_the_items_does_not_matter() -> None:
    model = made().eval()
    motion, appearance = items_of(model).values()
    with torch.no_grad():
        one = model.infer(*clips(), motion, appearance)
        other = model.infer(*clips(), motion.flip(0), appearance.flip(0))
    for name, value in one.items():
        swapped = other[name].flip(0) if name.startswith("updated_") else other[name]
        torch.testing.assert_close(swapped, value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("momentum", [None, 0.9])
def test_observes_what_it_explains(momentum: float | None) -> None:
    model, (frames_BTCHW, flow_B2HW) = made(momentum=momentum).eval(), clips()
    items = items_of(model)
    with torch.no_grad():
        explained = model(frames_BTCHW[:, :-1])
        observed = model.infer(frames_BTCHW, flow_B2HW, *items.values())
    expected = {
        "flow_error": evidence.flow_error(explained.flow_B2HW, flow_B2HW),
        "flow_residual": evidence.flow_residual(explained.flow_B2HW, flow_B2HW),
        "flow_mean": evidence.cell_means(flow_B2HW),
        "frame_error": evidence.frame_error(explained.frame_BCHW, frames_BTCHW[:, -1]),
        "motion_distance": evidence.memory_distance(explained.motion, items["motion"], 4, 6),
        "appearance_distance": evidence.memory_distance(explained.appearance, items["appearance"], 4, 6),
        "updated_motion": update(explained.motion.query_BKD.flatten(0, 1), items["motion"], momentum),
        "updated_appearance": update(explained.appearance.query_BKD.flatten(0, 1), items["appearance"], momentum),
    }
    assert list(observed) == [
        *("flow_error", "flow_residual", "flow_mean", "frame_error"),
        *("motion_distance", "updated_motion", "appearance_distance", "updated_appearance"),
    ]
    for name, value in expected.items():
        torch.testing.assert_close(observed[name], value)
    assert all(torch.equal(memory.items, items[name]) for name, memory in model.memories().items())


def test_observing_wants_the_items_of_every_memory() -> None:
    model = made().eval()
    with pytest.raises(ValueError, match="zip"):
        model.infer(*clips(), model.motion_memory.items)


def test_the_loss_is_the_weighted_sum_with_the_items_as_they_were() -> None:
    model, (frames_BTCHW, flow_B2HW) = made(margin=0.7).train(), clips()
    items = items_of(model)
    total, parts = model.loss(frames_BTCHW, flow_B2HW, WEIGHTS)
    twin = made(margin=0.7).train()
    twin.load_state_dict(model.state_dict())
    explained = twin(frames_BTCHW[:, :-1], items)
    torch.testing.assert_close(parts["flow"], losses.flow_loss(explained.flow_B2HW, flow_B2HW))
    torch.testing.assert_close(parts["prediction"], losses.prediction_loss(explained.frame_BCHW, frames_BTCHW[:, -1]))
    for name, items_ND in items.items():
        reading = getattr(explained, name)
        torch.testing.assert_close(parts[f"{name}_compactness"], losses.compactness_loss(reading, items_ND))
        torch.testing.assert_close(parts[f"{name}_separateness"], losses.separateness_loss(reading, items_ND, 0.7))
        torch.testing.assert_close(
            model.memories()[name].items, update(reading.query_BKD.detach().flatten(0, 1), items_ND)
        )
    torch.testing.assert_close(total, sum(WEIGHTS[name] * part for name, part in parts.items()))


def test_only_training_moves_the_items() -> None:
    model = made().eval()
    items = items_of(model)
    with torch.no_grad():
        model.loss(*clips(), WEIGHTS)
    assert all(torch.equal(memory.items, items[name]) for name, memory in model.memories().items())
    model.train().loss(*clips(), WEIGHTS)
    assert not any(torch.equal(memory.items, items[name]) for name, memory in model.memories().items())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("decodes", ["both", "read"])
def test_gradients_reach_every_parameter(precision: torch.dtype, decodes: str) -> None:
    model = made(motion_decodes=decodes, appearance_decodes=decodes).to(memory_format=torch.channels_last)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            total, _ = model.loss(*clips(), WEIGHTS)
        model.zero_grad()
        total.backward()
        for name, parameter in model.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name
    for memory in model.memories().values():
        assert memory.items.dtype == torch.float32
        torch.testing.assert_close(memory.items.norm(dim=1), torch.ones(len(memory.items)))


def test_a_single_item_has_nothing_to_be_separate_from() -> None:
    total, parts = made(motion_items=1, appearance_items=1).loss(*clips(), WEIGHTS)
    total.backward()
    assert parts["motion_separateness"] == parts["appearance_separateness"] == 0


def test_a_few_steps_lower_the_loss() -> None:
    model = made(motion_decodes="read", motion_temperature=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(12):
        total, _ = model.loss(*clips(), WEIGHTS)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]


def test_the_state_rebuilds_the_network() -> None:
    model = made(momentum=0.5)
    model.loss(*clips(), WEIGHTS)
    twin = made(momentum=0.5)
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        one, other = (each.infer(*clips(), *items_of(each).values()) for each in (model.eval(), twin.eval()))
    assert {"motion_memory.items", "appearance_memory.items"} <= set(model.state_dict())
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(RuntimeError, match="motion_memory"):
        made(motion_items=0, motion_decodes="read").load_state_dict(model.state_dict())


class Louder(torch.nn.Module):
    """An encoder whose queries are a thousand times as long."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, frames: torch.Tensor) -> list[torch.Tensor]:
        *finer, queries = self.encoder(frames)
        return [*finer, 1000 * queries]


@pytest.mark.parametrize(("items", "unit", "matters"), [(0, False, True), (0, True, False), (4, False, False)])
def test_the_length_of_a_query_says_nothing_where_it_is_taken_off(items: int, unit: bool, matters: bool) -> None:
    model = made(motion_items=items, appearance_items=items, unit_queries=unit).eval()
    frames, _ = clips()
    with torch.no_grad():
        before = model(frames[:, :-1])
        model.motion_encoder = Louder(model.motion_encoder)
        model.appearance_encoder = Louder(model.appearance_encoder)
        after = model(frames[:, :-1])
    assert torch.allclose(before.flow_B2HW, after.flow_B2HW, atol=1e-5) != matters
    assert torch.allclose(before.frame_BCHW, after.frame_BCHW, atol=1e-5) != matters


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n_past": 1}, "two past frames"),
        ({"motion_decodes": "query"}, "'both' or 'read'"),
        ({"appearance_decodes": ""}, "'both' or 'read'"),
        ({"appearance_predicts": "flow"}, "'frame' or 'change'"),
        ({"motion_encoder": "triple"}, "a motion encoder is one of"),
        ({"stem": 0}, "the stem is 1 pixel or more"),
        ({"stem": 2, "appearance_stem": 1}, "a multiple of stem=2"),
        ({"stem": 2, "appearance_stem": 3}, "a multiple of stem=2"),
        ({"stem": 2, "appearance_levels": 3}, "are made of those of motion"),
        ({"motion_skips": (3,)}, "skips are levels"),
        ({"appearance_skips": (0, -1)}, "skips are levels"),
        ({"motion_items": -1}, "at least one item"),
        ({"appearance_items": -2}, "at least one item"),
        ({"motion_temperature": 0}, "temperature must be positive"),
        ({"appearance_temperature": -1.0}, "temperature must be positive"),
        ({"momentum": 1.5}, "momentum must be"),
        ({"base_width": 0}, "channels and a width"),
        ({"channels": 0}, "channels and a width"),
    ],
)
def test_what_makes_no_network_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**arguments)
