"""Encoders of the motion branch: one contract, and each reads the past frames it names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from comemory.models.comemory import CoMemory  # noqa: E402
from comemory.models.contract import Model  # noqa: E402
from comemory.models.layers import Encoder  # noqa: E402
from comemory.models.motion_encoders import MOTION_ENCODERS, ConvGRU, PairEncoder  # noqa: E402
from comemory.models.settings import UNET_LEVELS, ModelSettings  # noqa: E402
from comemory.runtimes import RUNTIMES, InputLayout  # noqa: E402
from comemory.training.config import TrainingConfig, read_training_config  # noqa: E402
from comemory.training.graph import write_graph  # noqa: E402
from comemory.types import Clip  # noqa: E402

LONG = ("recurrent", "volume")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def frames(n_past: int, channels: int = 2, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, n_past, channels, 16, 24) * 2 - 1


def network(encoder: str, **arguments: object) -> CoMemory:
    small = {"stem": 1, "base_width": 4, "motion_items": 3, "appearance_items": 3, "channels": 1, "n_past": 3}
    return CoMemory.from_kwargs(motion_encoder=encoder, **{**small, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MOTION_ENCODERS)
@given(n_past=st.integers(2, 9), channels=st.integers(1, 3), width=st.integers(1, 5))
@settings(deadline=None, max_examples=8)
def test_gives_the_features_of_every_level(name: str, n_past: int, channels: int, width: int) -> None:
    encoder = MOTION_ENCODERS[name](channels, n_past, width).eval()
    with torch.no_grad():
        features = encoder(frames(n_past, channels))
    expected = [(2, width * 2**level, 16 // 2**level, 24 // 2**level) for level in range(UNET_LEVELS)]
    assert [tuple(feature.shape) for feature in features] == expected
    assert encoder.width == width * 2 ** (UNET_LEVELS - 1)
    assert all(torch.isfinite(feature).all() for feature in features)


@pytest.mark.parametrize("n_past", [2, 3, 4, 7])
@pytest.mark.parametrize("name", LONG)
def test_sees_every_past_frame_and_its_order(name: str, n_past: int) -> None:
    encoder, past_BTCHW = MOTION_ENCODERS[name](2, n_past, 3).eval(), frames(n_past)
    with torch.no_grad():
        queries = encoder(past_BTCHW)[-1]
        for number in range(n_past):
            changed = past_BTCHW.clone()
            changed[:, number] = -changed[:, number]
            assert not torch.equal(encoder(changed)[-1], queries), number
        assert not torch.allclose(encoder(past_BTCHW.flip(1))[-1], queries)


def test_the_pair_sees_the_last_two_frames_as_the_plain_encoder_does() -> None:
    encoder, past_BTCHW = PairEncoder(2, 5, 3).eval(), frames(5)
    plain = Encoder(4, 3).eval()
    plain.load_state_dict(encoder.state_dict())
    with torch.no_grad():
        for one, other in zip(encoder(past_BTCHW), plain(past_BTCHW[:, -2:].flatten(1, 2)), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("name", MOTION_ENCODERS)
def test_clips_of_a_batch_do_not_affect_each_other(name: str) -> None:
    encoder, past_BTCHW = MOTION_ENCODERS[name](2, 4, 3).eval(), frames(4, batch=3)
    with torch.no_grad():
        together = encoder(past_BTCHW)
        for number in range(3):
            for level, alone in zip(together, encoder(past_BTCHW[number : number + 1]), strict=True):
                torch.testing.assert_close(level[number], alone[0], atol=1e-5, rtol=1e-5)


def test_the_recurrent_state_stays_within_one() -> None:
    cell = ConvGRU(3)
    state_BDHW = torch.zeros(1, 3, 4, 6)
    with torch.no_grad():
        for _ in range(20):
            state_BDHW = cell(torch.randn(1, 3, 4, 6) * 50, state_BDHW)
            assert state_BDHW.abs().max() <= 1


def test_a_closed_gate_keeps_the_state_and_an_open_one_replaces_it() -> None:
    cell = ConvGRU(2)
    state_BDHW, input_BDHW = torch.rand(1, 2, 4, 6), torch.rand(1, 2, 4, 6)
    with torch.no_grad():
        cell.gates.weight.zero_()
        cell.gates.bias[:] = torch.tensor([-40.0, -40.0, 0.0, 0.0])
        torch.testing.assert_close(cell(input_BDHW, state_BDHW), state_BDHW)
        cell.gates.bias[:] = torch.tensor([40.0, 40.0, -40.0, -40.0])
        forgot = cell(input_BDHW, state_BDHW)
        torch.testing.assert_close(forgot, cell(input_BDHW, torch.zeros_like(state_BDHW)))


@pytest.mark.parametrize("skips", [False, True])
@pytest.mark.parametrize("width", [None, 6])
@pytest.mark.parametrize("name", LONG)
def test_every_parameter_of_the_network_gets_a_gradient(name: str, width: int | None, skips: bool) -> None:
    model = network(name, motion_width=width, motion_skips=skips).to(memory_format=torch.channels_last)
    for _ in range(2):
        total, _ = model.loss(torch.rand(2, 4, 1, 32, 48) * 2 - 1, torch.randn(2, 2, 32, 48))
        model.zero_grad()
        total.backward()
        for parameter_name, parameter in model.named_parameters():
            assert torch.isfinite(parameter.grad).all(), parameter_name
            assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", LONG)
def test_the_decoded_flow_depends_on_the_oldest_frame(name: str) -> None:
    """With the query decoded too; with the encoder `pair` it does not."""
    past_BTCHW = torch.rand(1, 3, 1, 32, 48)
    changed = past_BTCHW.clone()
    changed[:, 0] = -changed[:, 0]
    with torch.no_grad():
        for encoder, depends in (("pair", False), (name, True)):
            model = network(encoder, motion_decodes="both").eval()
            assert torch.equal(model(past_BTCHW).flow_B2HW, model(changed).flow_B2HW) != depends


COARSER = ("network.appearance_stem=4", "network.appearance_levels=3", "network.appearance_width=6")


@pytest.mark.parametrize(
    ("name", "stem", "more"),
    [
        ("pair", 2, ()),
        pytest.param("pair", 2, (*COARSER, "network.appearance_predicts=change"), marks=pytest.mark.slow),
        ("recurrent", 1, ("network.appearance_stem=2",)),
        ("volume", 2, COARSER),
    ],
)
def test_every_runtime_executes_the_exported_network(
    name: str, stem: int, more: tuple[str, ...], tmp_path: Path
) -> None:
    chosen = ["network.base_width=4", f"network.stem={stem}", "network.motion_width=5", "network.motion_skips=true"]
    size = ["clips.height=32", "clips.width=48"]
    config = read_training_config("small", settings=[*chosen, *more, *size, f"network.motion_encoder={name}"])
    model = CoMemory.from_kwargs(**config.model_kwargs())
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.rand(4, 4, 1, 32, 48) * 2 - 1)
    graph = write_graph(model, config.clips, tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    frames_TCHW = rng.uniform(-1, 1, (5, 1, 32, 48)).astype(np.float32)
    flow_2HW = rng.normal(0, 1, (2, 32, 48)).astype(np.float32)
    items = {f"{key}_items": memory.items.numpy() for key, memory in model.memories().items()}
    inputs = {**InputLayout(**graph["layout"]).build_inputs(Clip.from_arrays(frames_TCHW, flow_2HW)), **items}
    assert list(inputs) == graph["inputs"]
    with torch.no_grad():
        given = (torch.from_numpy(array) for array in (frames_TCHW[None], flow_2HW[None], *items.values()))
        expected = model.infer(*given)
    pytest.importorskip("openvino")
    import openvino

    network_of = openvino.Core().compile_model(tmp_path / "model.onnx", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    results = network_of([inputs[key] for key in graph["inputs"]])
    for number, key in enumerate(graph["outputs"]):
        assert results[number] == pytest.approx(expected[key].numpy(), abs=1e-4), key
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for key, value in zip(graph["outputs"], session.run(graph["outputs"], inputs), strict=True):
        assert value == pytest.approx(expected[key].numpy(), abs=1e-4), key
    assert {"openvino", "onnx"} <= set(RUNTIMES)


def test_the_default_widths_of_the_benchmark_cost_the_same_arithmetic() -> None:
    """Multiplications of a frame of the nano network, those of convolutions, within 10 % of each other."""
    counts = {}
    for encoder, width in (("pair", 11), ("recurrent", 5), ("volume", 10)):
        chosen = [f"network.motion_encoder={encoder}", f"network.motion_width={width}"]
        config = read_training_config("nano", settings=chosen)
        counts[encoder] = multiplications(CoMemory.from_kwargs(**config.model_kwargs()).eval(), config)
    assert max(counts.values()) < 1.1 * min(counts.values()), counts


def multiplications(model: CoMemory, config: TrainingConfig) -> int:
    total = 0

    def count(layer: torch.nn.Module, given: tuple[torch.Tensor, ...], made: torch.Tensor) -> None:
        nonlocal total
        area = made.numel() if isinstance(layer, torch.nn.Conv2d) else given[0].numel()
        others = layer.weight.numel() // layer.weight.shape[0]
        total += area * others

    for layer in model.modules():
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            layer.register_forward_hook(count)
    spec = config.clips
    with torch.no_grad():
        model(torch.zeros(1, spec.n_past, spec.channels, spec.height, spec.width))
    return total


@pytest.mark.parametrize("name", ["pairs", "", "os:system"])
def test_an_unknown_encoder_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="'pair', 'recurrent' or 'volume'"):
        network(name)


class Plain(Model):
    """A model without an input layout of its own."""

    Settings = ModelSettings

    def infer(
        self, frames_BTCHW: torch.Tensor, flow_B2HW: torch.Tensor, *items: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        return {"frame_error": frames_BTCHW[:, -1] ** 2 + flow_B2HW[:, :1] ** 2}


def test_a_model_without_an_input_layout_takes_clips_without_space_to_depth(tmp_path: Path) -> None:
    config = read_training_config("medium", settings=["clips.height=32", "clips.width=48"])
    graph = write_graph(Plain.from_kwargs(channels=1, n_past=4), config.clips, tmp_path / "model.onnx")
    assert (graph["inputs"], graph["outputs"]) == (["frames", "flow"], ["frame_error"])
    assert InputLayout(**graph["layout"]) == InputLayout()
