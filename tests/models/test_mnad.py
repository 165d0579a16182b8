"""MNAD: the published network, and the contract of a model."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.models.baselines.mnad import Mnad, MnadReconstruction  # noqa: E402
from comemory.models.memory import update  # noqa: E402


def made(channels: int = 3, n_past: int = 4, **settings: Any) -> Mnad:
    return Mnad.from_kwargs(channels=channels, n_past=n_past, **settings)


@pytest.fixture(scope="module")
def network() -> Mnad:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return made().eval()


def clips(batch: int = 1, side: int = 64, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    frames_BTCHW = torch.rand(batch, 5, 3, side, side, generator=generator) * 2 - 1
    return frames_BTCHW, torch.randn(batch, 2, side, side, generator=generator)


def test_has_the_published_number_of_parameters(network: Mnad) -> None:
    assert sum(value.numel() for value in network.parameters()) == 15_650_819


def test_items_are_a_buffer_of_the_state(network: Mnad) -> None:
    assert network.state_dict()["memory.items"].shape == (10, 512)
    assert "memory.items" not in dict(network.named_parameters())


def test_predicts_a_frame_of_the_published_size(network: Mnad) -> None:
    with torch.inference_mode():
        predicted = network(torch.zeros(1, 4, 3, 256, 256))
    assert predicted.frame_BCHW.shape == (1, 3, 256, 256)
    assert predicted.frame_BCHW.abs().max() <= 1
    assert predicted.appearance.query_BKD.shape == (1, 32 * 32, 512)


@pytest.mark.parametrize(("channels", "n_past", "height", "width"), [(1, 4, 40, 64), (3, 2, 64, 32)])
def test_predicts_frames_of_other_kinds(channels: int, n_past: int, height: int, width: int) -> None:
    network = made(channels, n_past, items=3).eval()
    with torch.inference_mode():
        predicted = network(torch.zeros(2, n_past, channels, height, width))
    assert predicted.frame_BCHW.shape == (2, channels, height, width)
    assert predicted.appearance.weight_BKN.shape == (2, height * width // 64, 3)


def test_queries_have_unit_norm_and_read_weights_sum_to_one(network: Mnad) -> None:
    with torch.inference_mode():
        memory_read = network(clips()[0][:, :-1]).appearance
    torch.testing.assert_close(memory_read.query_BKD.norm(dim=-1), torch.ones(1, 64))
    torch.testing.assert_close(memory_read.weight_BKN.sum(dim=-1), torch.ones(1, 64))
    assert (memory_read.weight_BKN >= 0).all()
    torch.testing.assert_close(memory_read.read_BKD, memory_read.weight_BKN @ network.memory.items)


def test_equal_input_gives_equal_output(network: Mnad) -> None:
    frames_BTCHW, flow_B2HW = clips()
    again = made().eval()
    again.load_state_dict(network.state_dict())
    with torch.inference_mode():
        first = network.infer(frames_BTCHW, flow_B2HW, network.memory.items)
        second = again.infer(frames_BTCHW, flow_B2HW, again.memory.items)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_every_skip_connection_and_the_memory_affect_the_prediction(network: Mnad) -> None:
    past_BTCHW = clips()[0][:, :-1]
    with torch.inference_mode():
        whole = network(past_BTCHW).frame_BCHW
        without_memory = network(past_BTCHW, torch.zeros_like(network.memory.items)).frame_BCHW
        assert not torch.equal(whole, without_memory)
        for index in range(3):
            hook = network.encoder[index].register_forward_hook(lambda module, given, made: torch.zeros_like(made))
            assert not torch.equal(network(past_BTCHW).frame_BCHW, whole)
            hook.remove()


def test_the_order_of_the_items_does_not_matter(network: Mnad) -> None:
    past_BTCHW = clips()[0][:, :-1]
    with torch.inference_mode():
        first = network(past_BTCHW, network.memory.items).frame_BCHW
        second = network(past_BTCHW, network.memory.items.flip(0)).frame_BCHW
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


def test_infer_gives_the_evidence_it_names_and_updated_items(network: Mnad) -> None:
    frames_BTCHW, flow_B2HW = clips(batch=2)
    with torch.inference_mode():
        inferred = network.infer(frames_BTCHW, flow_B2HW, network.memories()["appearance"].items)
    assert {name: tuple(value.shape) for name, value in inferred.items()} == {
        "flow_mean": (2, 2, 16, 16),
        "frame_error": (2, 1, 16, 16),
        "appearance_distance": (2, 1, 8, 8),
        "negative_psnr": (2,),
        "query_distance": (2,),
        "updated_appearance": (10, 512),
    }
    assert {name for name in inferred if not name.startswith("updated_")} == set(network.settings.evidence())
    assert inferred["frame_error"].min() >= 0
    torch.testing.assert_close(inferred["updated_appearance"].norm(dim=1), torch.ones(10))


def test_training_lowers_the_prediction_loss_of_one_clip() -> None:
    torch.manual_seed(0)
    network = made(1, 2, items=4).train()
    frames_BTCHW = clips(side=32)[0][:, :3, :1]
    flow_B2HW = torch.zeros(1, 2, 32, 32)
    items = network.memory.items.clone()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    terms = []
    for _ in range(12):
        total, parts = network.loss(frames_BTCHW, flow_B2HW)
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        terms.append(float(parts["prediction"].detach()))
    assert set(parts) == {"prediction", "appearance_compactness", "appearance_separateness"}
    assert terms[-1] < 0.6 * terms[0]
    assert not torch.equal(network.memory.items, items)
    torch.testing.assert_close(network.memory.items.norm(dim=1), torch.ones(4))


def test_evaluation_mode_leaves_the_items_unchanged(network: Mnad) -> None:
    items = network.memory.items.clone()
    with torch.no_grad():
        network.loss(*clips())
    assert torch.equal(network.memory.items, items)


def test_the_code_variant_divides_by_the_highest_weight_of_all_queries() -> None:
    items_ND = torch.eye(2)
    query_KD = torch.nn.functional.normalize(torch.tensor([[1.0, 0.9], [0.9, 1.0], [0.2, 1.0]]), dim=1)
    similarity = query_KD @ items_ND.T
    expected = []
    for item, mine in enumerate(([0], [1, 2])):
        weights = torch.exp(similarity[mine, item] - similarity[:, item].max())
        expected.append(items_ND[item] + (weights[:, None] * query_KD[mine]).sum(dim=0))
    expected_ND = torch.nn.functional.normalize(torch.stack(expected), dim=1)
    torch.testing.assert_close(update(query_KD, items_ND, over_all=True), expected_ND)


def test_the_update_is_a_setting() -> None:
    assert not made(items=3).memory.over_all
    assert made(items=3, update="code").memory.over_all


class TestReconstruction:
    def test_sees_the_newest_frame_only(self) -> None:
        network = MnadReconstruction.from_kwargs(channels=1, n_past=4, width=4).eval()
        frames_BTCHW, flow_B2HW = clips()
        frames_BTCHW = frames_BTCHW[:, :, :1]
        changed = frames_BTCHW.clone()
        changed[:, :-1] = 0
        with torch.inference_mode():
            first = network.infer(frames_BTCHW, flow_B2HW, network.memory.items)
            second = network.infer(changed, flow_B2HW, network.memory.items)
        assert torch.equal(first["frame_error"], second["frame_error"])

    def test_reaches_the_decoder_through_the_memory_level_only(self) -> None:
        network = MnadReconstruction.from_kwargs(channels=1, n_past=4, width=4).eval()
        frame = clips()[0][:, -1:, :1]
        with torch.inference_mode():
            whole = network(frame).frame_BCHW
            hook = network.encoder[3].register_forward_hook(lambda module, given, made: torch.ones_like(made))
            other = network(frame * 0.5).frame_BCHW
            again = network(frame).frame_BCHW
            hook.remove()
        assert torch.equal(other, again)
        assert not torch.equal(whole, again)
