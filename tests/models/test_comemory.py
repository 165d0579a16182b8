"""The two branches together: which input affects which output, what is trained, and every memory on or off."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.models import evidence, losses  # noqa: E402
from comemory.models.comemory import MARGIN, CoMemory  # noqa: E402
from comemory.models.memory import update  # noqa: E402
from comemory.models.settings import CoMemorySettings, LossWeights  # noqa: E402
from comemory.training.config import read_training_config  # noqa: E402

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
    """A small network with the seed's choices, and other arguments over them."""
    seed = {"stem": 1, "motion_decodes": "both", "motion_temperature": 1.0, "loss_weights": WEIGHTS}
    small = {"base_width": 4, "channels": 1, "n_past": 3, "motion_items": 3, "appearance_items": 4}
    return CoMemory.from_kwargs(**{**seed, **small, **arguments})


def clips(channels: int = 1, n_past: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames_BTCHW = torch.rand(2, n_past + 1, channels, 32, 48, generator=generator) * 2 - 1
    return frames_BTCHW, torch.randn(2, 2, 32, 48, generator=generator)


def items_of(model: CoMemory) -> dict[str, torch.Tensor]:
    return {name: memory.items.clone() for name, memory in model.memories().items()}


def test_the_preset_paper_is_the_network_of_the_seed() -> None:
    settings = read_training_config("paper").network
    assert isinstance(settings, CoMemorySettings)
    assert (settings.stem, settings.base_width, settings.motion_encoder) == (1, 64, "pair")
    assert (settings.motion_decodes, settings.motion_skips, settings.motion_temperature) == ("both", True, 1)


def test_every_term_of_the_loss_has_a_weight() -> None:
    _, parts = made().loss(*clips())
    assert set(parts) == set(LossWeights.model_fields) == set(WEIGHTS)


@pytest.mark.parametrize(("channels", "n_past"), [(1, 2), (3, 5)])
def test_predicts_flow_and_frame(channels: int, n_past: int) -> None:
    model = made(channels=channels, n_past=n_past).eval()
    with torch.no_grad():
        predicted = model(clips(channels, n_past)[0][:, :-1])
    assert predicted.flow_B2HW.shape == (2, 2, 32, 48)
    assert predicted.frame_BCHW.shape == (2, channels, 32, 48)
    assert predicted.frame_BCHW.abs().max() <= 1
    assert predicted.motion.weight_BKN.shape == (2, 24, 3)
    assert predicted.appearance.weight_BKN.shape == (2, 24, 4)


def test_a_stem_makes_queries_coarser_and_keeps_the_size_of_flow_and_frame() -> None:
    model, (frames_BTCHW, flow_B2HW) = made(stem=2).eval(), clips()
    with torch.no_grad():
        predicted = model(frames_BTCHW[:, :-1])
        inferred = model.infer(frames_BTCHW, flow_B2HW, *items_of(model).values())
    assert predicted.flow_B2HW.shape == flow_B2HW.shape
    assert predicted.frame_BCHW.shape == frames_BTCHW[:, -1].shape
    assert inferred["motion_distance"].shape == (2, 1, 2, 3)
    assert inferred["flow_error"].shape == (2, 1, 8, 12)
    for name, found, seen in (
        ("flow_error", predicted.flow_B2HW, flow_B2HW),
        ("flow_residual", predicted.flow_B2HW, flow_B2HW),
        ("frame_error", predicted.frame_BCHW, frames_BTCHW[:, -1]),
    ):
        torch.testing.assert_close(inferred[name], getattr(evidence, name)(found, seen), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("motion_items", "appearance_items"), ITEMS)
@pytest.mark.parametrize("decodes", ["both", "read"])
def test_every_memory_can_be_off(motion_items: int, appearance_items: int, decodes: str) -> None:
    model = made(
        motion_items=motion_items,
        appearance_items=appearance_items,
        motion_decodes=decodes,
    )
    on = [name for name, count in (("motion", motion_items), ("appearance", appearance_items)) if count]
    assert list(model.memories()) == on
    total, parts = model.loss(*clips())
    total.backward()
    terms = {f"{name}_{term}" for name in on for term in ("compactness", "separateness")}
    assert set(parts) == {"flow", "prediction"} | terms
    assert all(parameter.grad is not None for parameter in model.parameters())
    with torch.no_grad():
        inferred = model.eval().infer(*clips(), *items_of(model).values())
    maps = {"flow_error": 1, "flow_residual": 2, "flow_mean": 2, "frame_error": 1}
    assert {name for name in inferred if not name.startswith("updated_")} == set(model.settings.evidence())
    assert {name: tuple(tensor.shape) for name, tensor in inferred.items()} == {
        **{name: (2, channels, 8, 12) for name, channels in maps.items()},
        **{f"{name}_distance": (2, 1, 4, 6) for name in on},
        **{f"updated_{name}": tuple(model.memories()[name].items.shape) for name in on},
    }


def test_the_motion_branch_sees_two_frames_and_the_appearance_branch_all_but_the_newest() -> None:
    model, (frames_BTCHW, flow_B2HW) = made().eval(), clips()
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


def test_the_motion_memory_affects_the_predicted_frame() -> None:
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
    ("motion_decodes", "motion_skips", "is_bypassed"),
    [("read", False, False), ("both", False, True), ("read", True, True)],
)
def test_only_the_query_and_skip_connections_bypass_the_memory(
    motion_decodes: str, motion_skips: bool, is_bypassed: bool
) -> None:
    """With one item every query reads the same vector, so frames can affect the flow only around the memory."""
    model = made(motion_items=1, motion_decodes=motion_decodes, motion_skips=motion_skips).eval()
    with torch.no_grad():
        one, other = (model(clips(seed=seed)[0][:, :-1]) for seed in (0, 1))
    assert not torch.equal(one.motion.query_BKD, other.motion.query_BKD)
    assert torch.equal(one.flow_B2HW, other.flow_B2HW) != is_bypassed


def test_the_length_of_the_raw_queries_has_no_effect_with_a_memory() -> None:
    model, past_BTCHW = made(motion_decodes="read").eval(), clips()[0][:, :-1]
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


def test_infer_gives_the_errors_of_what_it_predicts() -> None:
    model, (frames_BTCHW, flow_B2HW) = made().eval(), clips()
    items = items_of(model)
    with torch.no_grad():
        predicted = model(frames_BTCHW[:, :-1])
        inferred = model.infer(frames_BTCHW, flow_B2HW, *items.values())
    expected = {
        "flow_error": evidence.flow_error(predicted.flow_B2HW, flow_B2HW),
        "flow_residual": evidence.flow_residual(predicted.flow_B2HW, flow_B2HW),
        "flow_mean": evidence.cell_means(flow_B2HW),
        "frame_error": evidence.frame_error(predicted.frame_BCHW, frames_BTCHW[:, -1]),
        "motion_distance": evidence.memory_distance(predicted.motion, items["motion"], 4, 6),
        "appearance_distance": evidence.memory_distance(predicted.appearance, items["appearance"], 4, 6),
        "updated_motion": update(predicted.motion.query_BKD.flatten(0, 1), items["motion"]),
        "updated_appearance": update(predicted.appearance.query_BKD.flatten(0, 1), items["appearance"]),
    }
    assert list(inferred) == [
        *("flow_error", "flow_residual", "flow_mean", "frame_error"),
        *("motion_distance", "updated_motion", "appearance_distance", "updated_appearance"),
    ]
    for name, value in expected.items():
        torch.testing.assert_close(inferred[name], value)
    assert all(torch.equal(memory.items, items[name]) for name, memory in model.memories().items())


def test_infer_needs_the_items_of_every_memory() -> None:
    model = made().eval()
    with pytest.raises(ValueError, match="zip"):
        model.infer(*clips(), model.motion_memory.items)


def test_the_loss_is_the_weighted_sum_with_the_items_as_they_were() -> None:
    model, (frames_BTCHW, flow_B2HW) = made().train(), clips()
    items = items_of(model)
    total, parts = model.loss(frames_BTCHW, flow_B2HW)
    twin = made().train()
    twin.load_state_dict(model.state_dict())
    predicted = twin(frames_BTCHW[:, :-1], items)
    torch.testing.assert_close(parts["flow"], losses.flow_loss(predicted.flow_B2HW, flow_B2HW))
    torch.testing.assert_close(parts["prediction"], losses.prediction_loss(predicted.frame_BCHW, frames_BTCHW[:, -1]))
    for name, items_ND in items.items():
        memory_read = getattr(predicted, name)
        torch.testing.assert_close(parts[f"{name}_compactness"], losses.compactness_loss(memory_read, items_ND))
        torch.testing.assert_close(
            parts[f"{name}_separateness"], losses.separateness_loss(memory_read, items_ND, MARGIN)
        )
        torch.testing.assert_close(
            model.memories()[name].items, update(memory_read.query_BKD.detach().flatten(0, 1), items_ND)
        )
    torch.testing.assert_close(total, sum(WEIGHTS[name] * part for name, part in parts.items()))


def test_items_are_updated_in_training_mode_only() -> None:
    model = made().eval()
    items = items_of(model)
    with torch.no_grad():
        model.loss(*clips())
    assert all(torch.equal(memory.items, items[name]) for name, memory in model.memories().items())
    model.train().loss(*clips())
    assert not any(torch.equal(memory.items, items[name]) for name, memory in model.memories().items())


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("decodes", ["both", "read"])
def test_gradients_reach_every_parameter(precision: torch.dtype, decodes: str) -> None:
    model = made(motion_decodes=decodes).to(memory_format=torch.channels_last)
    for _ in range(2):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision is torch.bfloat16):
            total, _ = model.loss(*clips())
        model.zero_grad()
        total.backward()
        for name, parameter in model.named_parameters():
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name
    for memory in model.memories().values():
        assert memory.items.dtype == torch.float32
        torch.testing.assert_close(memory.items.norm(dim=1), torch.ones(len(memory.items)))


def test_a_single_item_has_nothing_to_be_separate_from() -> None:
    total, parts = made(motion_items=1, appearance_items=1).loss(*clips())
    total.backward()
    assert parts["motion_separateness"] == parts["appearance_separateness"] == 0


def test_a_few_steps_lower_the_loss() -> None:
    model = made(motion_decodes="read", motion_temperature=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    totals = []
    for _ in range(12):
        total, _ = model.loss(*clips())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    assert totals[-1] < 0.8 * totals[0]


def test_the_state_rebuilds_the_network() -> None:
    model = made()
    model.loss(*clips())
    twin = made()
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        one, other = (each.infer(*clips(), *items_of(each).values()) for each in (model.eval(), twin.eval()))
    assert {"motion_memory.items", "appearance_memory.items"} <= set(model.state_dict())
    assert all(torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(RuntimeError, match="motion_memory"):
        made(motion_items=0, motion_decodes="read").load_state_dict(model.state_dict())


class LongQueries(torch.nn.Module):
    """An encoder whose queries are a thousand times as long."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, frames: torch.Tensor) -> list[torch.Tensor]:
        *finer, queries = self.encoder(frames)
        return [*finer, 1000 * queries]


@pytest.mark.parametrize(("items", "has_effect"), [(0, True), (4, False)])
def test_the_length_of_a_query_has_an_effect_only_without_a_memory(items: int, has_effect: bool) -> None:
    model = made(motion_items=items, appearance_items=items).eval()
    frames, _ = clips()
    with torch.no_grad():
        before = model(frames[:, :-1])
        model.motion_encoder = LongQueries(model.motion_encoder)
        model.appearance_encoder = LongQueries(model.appearance_encoder)
        after = model(frames[:, :-1])
    assert torch.allclose(before.flow_B2HW, after.flow_B2HW, atol=1e-5) != has_effect
    assert torch.allclose(before.frame_BCHW, after.frame_BCHW, atol=1e-5) != has_effect


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"n_past": 1}, "two past frames"),
        ({"channels": 0}, "channels and a width"),
        ({"motion_decodes": "query"}, "motion_decodes"),
        ({"appearance_predicts": "flow"}, "appearance_predicts"),
        ({"motion_encoder": "triple"}, "motion_encoder"),
        ({"stem": 0}, "stem"),
        ({"stem": 2, "appearance_stem": 1}, "must not be finer"),
        ({"stem": 2, "appearance_stem": 3}, "appearance_stem"),
        ({"stem": 2, "appearance_levels": 3}, "must not be finer"),
        ({"motion_items": -1}, "motion_items"),
        ({"appearance_items": -2}, "appearance_items"),
        ({"motion_temperature": 0}, "motion_temperature"),
        ({"base_width": 0}, "base_width"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_arguments_that_make_no_network_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(**arguments)
