"""What makes each published baseline itself, and what all of them must do: learn a clip, and score an intruder higher."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.models import MODELS  # noqa: E402
from comemory.models.baselines import parts  # noqa: E402
from comemory.models.baselines.ammc import QuantisedMemory  # noqa: E402

HEIGHT, WIDTH = 32, 64
BASELINES = sorted(name for name in MODELS if name != "comemory")
LEARNING = [name for name in BASELINES if name not in ("motion-baseline", "any-shot", "cluster-attention")]
"""Those whose loss falls on one clip. A contrast needs other clips, and the other two have no loss."""
RECURRENT = ("convlstm-ae", "stacked-rnn", "tsc")
WITH_FEATURES = ["any-shot", "cluster-attention", "stacked-rnn", "tsc"]


def class_of(name: str) -> Any:
    module, attribute = MODELS[name].split(":")
    return getattr(importlib.import_module(module), attribute)


def build(name: str, n_past: int | None = None, **settings: Any) -> Any:
    torch.manual_seed(0)
    model = class_of(name)
    values = model.Settings(**settings).model_dump(mode="json")
    return model.from_kwargs(channels=1, n_past=n_past or int(model.Settings.clips.get("n_past", 4)), **values)


def clip(n_frames: int, intruder: bool = False) -> tuple[Any, Any]:
    """A grey square that moves a pixel a frame; the intruder is a bright bar that jumps. Frames and flow of one clip."""
    frames = np.full((n_frames, 1, HEIGHT, WIDTH), -0.5, np.float32)
    flow = np.zeros((2, HEIGHT, WIDTH), np.float32)
    for number in range(n_frames):
        left = 8 + number
        frames[number, 0, 8:20, left : left + 10] = 0.2
    flow[0, 8:20, left - 1 : left + 9] = 1
    if intruder:
        frames[-1, 0, 4:28, 40:56] = 1
        frames[-2, 0, 4:28, 32:48] = 1
        flow[0, 4:28, 32:56] = 8
    return torch.from_numpy(frames)[None], torch.from_numpy(flow)[None]


def evidence_of(model: Any, frames: Any, flow: Any) -> dict[str, Any]:
    model.eval()
    with torch.no_grad():
        found: dict[str, Any] = model.infer(frames, flow, *(memory.items for memory in model.memories().values()))
    return found


@pytest.mark.parametrize("name", BASELINES)
def test_infer_gives_the_evidence_that_the_settings_name(name: str) -> None:
    model = build(name)
    frames, flow = clip(model.n_past + 1)
    found = evidence_of(model, frames, flow)
    assert {key for key in found if not key.startswith("updated_")} == set(model.settings.evidence())
    for key, value in found.items():
        assert value.dtype == torch.float32
        assert torch.isfinite(value).all(), key
        if not key.startswith("updated_"):
            assert value.shape == (1,) or (value.ndim == 4 and HEIGHT % value.shape[2] == 0), key


@pytest.mark.parametrize("name", LEARNING)
def test_overfits_a_clip_and_scores_an_intruder_higher(name: str) -> None:
    model = build(name)
    frames, flow = clip(model.n_past + 1)
    optimizer = model.make_optimizer(2e-3)
    model.train()
    first = last = 0.0
    for step in range(20):
        loss, terms = model.loss(frames, flow)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        learned = sum(
            float(term.detach()) for key, term in terms.items() if key not in ("adversarial", "discriminator")
        )
        first, last = (learned, learned) if step == 0 else (first, learned)
    assert last < first
    usual, strange = evidence_of(model, frames, flow), evidence_of(model, *clip(model.n_past + 1, intruder=True))
    channels = [*(model.settings.motion_channels or ()), *(model.settings.appearance_channels or ())]
    for key in {channel.partition(":")[0] for channel in channels} & set(usual):
        assert strange[key].max() > usual[key].max(), key


@pytest.mark.parametrize("name", BASELINES)
def test_every_clip_of_a_batch_is_scored_alone(name: str) -> None:
    model = build(name)
    pairs = [clip(model.n_past + 1), clip(model.n_past + 1, intruder=True)]
    together = evidence_of(model, *(torch.cat(arrays) for arrays in zip(*pairs, strict=True)))
    for number, (frames, flow) in enumerate(pairs):
        alone = evidence_of(model, frames, flow)
        for key in model.settings.evidence():
            torch.testing.assert_close(together[key][number], alone[key][0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_the_graph_gives_the_numbers_of_torch(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install '.[onnx]'")
    from comemory.clips.config import ClipSettings
    from comemory.training.graph import write_graph

    # A graph holds the steps of a recurrent network one after the other: three frames have all that ten have.
    model = build(name, n_past=3 if name in RECURRENT else None).eval()
    clips = ClipSettings(height=HEIGHT, width=WIDTH, channels=1, n_past=model.n_past)
    graph = write_graph(model, clips, tmp_path / "model.onnx")
    frames, flow = clip(model.n_past + 1, intruder=True)
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    items = {f"{key}_items": memory.items.numpy() for key, memory in model.memories().items()}
    given = {"frames": frames.numpy(), "flow": flow.numpy(), **items}
    found = dict(zip(graph["outputs"], session.run(None, {key: given[key] for key in graph["inputs"]}), strict=True))
    expected = evidence_of(model, frames, flow)
    for key in model.settings.evidence():
        np.testing.assert_allclose(found[key], expected[key].numpy(), rtol=1e-3, atol=1e-4, err_msg=key)


class TestFramePrediction:
    def test_has_no_batch_normalisation(self) -> None:
        model = build("frame-prediction")
        assert not [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]

    def test_without_its_adversarial_loss_there_is_no_discriminator(self) -> None:
        model = build("frame-prediction", adversarial=0)
        assert model.discriminator is None
        assert set(model.loss(*clip(5))[1]) == {"intensity", "gradient"}

    def test_generator_and_discriminator_do_not_train_each_other(self) -> None:
        model = build("frame-prediction", intensity=0, gradient=0)
        frames, _ = clip(5)
        generator, discriminator = parts.least_squares_losses(model.discriminator, frames[:, -1], model(frames[:, :-1]))
        torch.autograd.backward([generator], retain_graph=True)
        assert all(weight.grad is None for weight in model.discriminator.parameters())
        model.zero_grad()
        torch.autograd.backward([discriminator])
        assert all(weight.grad is None for weight in model.network.parameters())

    def test_the_discriminator_learns_at_a_tenth_of_the_rate(self) -> None:
        groups = build("frame-prediction").make_optimizer(1e-3).param_groups
        assert [group.get("lr_scale", 1.0) for group in groups] == [1.0, 0.1]


class TestMemae:
    def test_reads_few_items_whose_weights_sum_to_one(self) -> None:
        model = build("memae", items=50, shrinkage=0.02)
        _, weight = model.read(torch.randn(1, 6, 32) * 4)
        torch.testing.assert_close(weight.sum(dim=-1), torch.ones(1, 6))
        assert (weight == 0).any()

    def test_refuses_a_clip_that_is_no_multiple_of_eight_frames(self) -> None:
        model = class_of("memae")
        with pytest.raises(ValueError, match=r"clips of a multiple of 8 frames, got clips\.n_past=4: set it to 15"):
            model.from_kwargs(channels=1, n_past=4, **model.Settings().model_dump(mode="json"))


def test_convlstm_state_depends_on_the_past() -> None:
    model = build("convlstm-ae").eval()
    frames, flow = clip(10)
    changed = frames.clone()
    changed[:, 0] = 1
    now, other = evidence_of(model, frames, flow), evidence_of(model, changed, flow)
    assert not torch.equal(now["frame_error"], other["frame_error"])


def test_am_correspondence_has_skips_in_the_flow_decoder_only() -> None:
    model = build("am-correspondence")
    assert model.flow_decoder.skips
    assert not model.frame_decoder.skips
    frames, flow = clip(5)
    changed = frames.clone()
    changed[:, :3] = 1  # frames that one input frame cannot see
    first, second = evidence_of(model, frames, flow), evidence_of(model, changed, flow)
    assert torch.equal(first["flow_error"], second["flow_error"])


def test_ammc_codes_are_moving_averages_without_gradient() -> None:
    torch.manual_seed(0)
    codes = QuantisedMemory(4, 8, 3).train()
    before = codes.codes_ND.clone()
    feature, commitment = codes(torch.randn(2, 4, 3, 3))
    assert feature.shape == (2, 4, 3, 3)
    assert commitment.shape == (2,)
    assert not torch.equal(codes.codes_ND, before)
    assert not codes.codes_ND.requires_grad


def test_cdae_weighs_the_error_by_the_distance_to_the_clusters() -> None:
    model = build("cdae")
    frames, flow = clip(5)
    before = evidence_of(model, frames, flow)["clip_error"]
    with torch.no_grad():
        model.centres_KD.mul_(3)  # farther from every embedding
    assert evidence_of(model, frames, flow)["clip_error"] > before


def test_abnormal_gan_compares_in_both_directions() -> None:
    found = evidence_of(build("abnormal-gan"), *clip(5, intruder=True))
    assert found["largest_flow_difference"].shape == (1,)
    assert (found["flow_difference"] >= 0).all()
    assert (found["appearance_difference"] >= 0).all()


def test_motion_baseline_is_the_length_of_the_flow() -> None:
    frames, flow = clip(5)
    found = evidence_of(build("motion-baseline"), frames, flow)
    lengths = flow.pow(2).sum(dim=1).sqrt()[0].numpy().reshape(HEIGHT // 4, 4, WIDTH // 4, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(found["flow_length"][0, 0].numpy(), lengths, atol=1e-6)


@pytest.mark.parametrize("name", WITH_FEATURES)
def test_frozen_features_have_no_gradient(name: str) -> None:
    model = build(name)
    model.train()
    model.loss(*clip(model.n_past + 1))[0].backward()
    assert all(weight.grad is None for weight in model.network.parameters())


class TestTsc:
    def test_pools_the_features_at_21_places(self) -> None:
        assert build("tsc").pooled(clip(3)[0]).shape == (1, 3, 21, 1280)

    def test_a_code_is_pulled_towards_the_code_of_the_frame_before(self) -> None:
        frames = clip(10)[0]
        changed = frames.clone()
        changed[:, :-1] = 0.9
        free, pulled = build("tsc", coherence=0), build("tsc", coherence=5)
        for model in (free, pulled):
            model.eval()
        now, other = pulled.errors(frames)[:, -1], pulled.errors(changed)[:, -1]
        assert not torch.allclose(now, other)

    def test_more_sparsity_leaves_fewer_atoms(self) -> None:
        model = build("tsc")
        feature = model.pooled(clip(1)[0])[:, 0]
        zero = torch.zeros(1, 21, model.settings.atoms)
        used = [
            int((model._code(feature, zero, 1.0, sparsity, torch.zeros(1, 21, 1)) != 0).sum())
            for sparsity in (0.0, 0.1, 1000.0)
        ]
        assert used[0] >= used[1] > used[2]

    def test_only_its_dictionary_is_learned(self) -> None:
        learned = [name for name, weight in build("tsc").named_parameters() if weight.requires_grad]
        assert learned == ["dictionary_DN"]

    def test_the_stacked_rnn_learns_a_decoder_and_its_weights_too(self) -> None:
        learned = [name for name, weight in build("stacked-rnn").named_parameters() if weight.requires_grad]
        assert learned == ["dictionary_DN", "decoder_DN", "gamma", "sparsity", "coherence"]


class TestClusterAttention:
    def test_the_key_encoder_follows_by_momentum_only(self) -> None:
        model = build("cluster-attention", momentum=0.5).train()
        model.loss(*clip(8))[0].backward()
        assert all(weight.grad is None for weight in model.key_encoder.parameters())
        with torch.no_grad():
            model.encoder.centre_GE.add_(1.0)
        before = model.key_encoder.centre_GE.clone()
        model.loss(*clip(8))
        torch.testing.assert_close(model.key_encoder.centre_GE, before.lerp(model.encoder.centre_GE, 0.5))

    def test_the_newest_keys_replace_the_oldest(self) -> None:
        model = build("cluster-attention", keys=16).train()
        model.keys_QE[:15] = before = torch.nn.functional.normalize(torch.randn(15, model.keys_QE.shape[1]), dim=1)
        model.n_keys.fill_(15)
        for _ in range(2):
            model.loss(*clip(8))
        assert int(model.n_keys) == 17
        assert (model.keys_QE.norm(dim=1) > 0.99).all()
        assert not torch.equal(model.keys_QE[0], before[0])
        assert torch.equal(model.keys_QE[1:15], before[1:])

    def test_scores_an_intruder_higher_than_what_it_was_trained_on(self) -> None:
        model = build("cluster-attention", keys=64, momentum=0.9).train()
        frames, flow = clip(8)
        optimizer = model.make_optimizer(1e-3)
        for _ in range(4):
            loss, _ = model.loss(torch.cat([frames, frames.flip(-1)]), flow)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        usual, strange = evidence_of(model, frames, flow), evidence_of(model, *clip(8, intruder=True))
        assert strange["key_distance"].item() > usual["key_distance"].item()

    def test_a_snippet_that_is_a_key_has_no_distance(self) -> None:
        model = build("cluster-attention").eval()
        frames, flow = clip(8)
        with torch.no_grad():
            model.keys_QE[0] = model.key_encoder(model.snippet(frames))[0]
        assert evidence_of(model, frames, flow)["key_distance"].item() == pytest.approx(0, abs=1e-5)


@pytest.fixture(scope="module")
def any_shot() -> Any:
    model = build("any-shot", stored=32).train()
    torch.manual_seed(0)
    for _ in range(20):
        frames, flow = clip(5)
        model.loss(frames + 0.02 * torch.randn_like(frames), flow * (1 + 0.1 * torch.randn(())))
    return model.eval()


class TestAnyShot:
    @pytest.fixture
    def learned(self, any_shot: Any) -> Any:
        return copy.deepcopy(any_shot)

    def test_scores_an_intruder_higher(self, learned: Any) -> None:
        usual, strange = evidence_of(learned, *clip(5)), evidence_of(learned, *clip(5, intruder=True))
        assert strange["excess"].item() > max(0, usual["excess"].item())

    def test_frames_that_the_operator_calls_normal_no_longer_exceed(self, learned: Any) -> None:
        frames, flow = clip(5, intruder=True)
        before = evidence_of(learned, frames, flow)["excess"].item()
        for _ in range(16):
            learned.append(frames[:, -1], flow)
        assert evidence_of(learned, frames, flow)["excess"].item() < before

    def test_a_frame_in_which_nothing_moves_has_no_distance(self, learned: Any) -> None:
        frames, flow = clip(5)
        assert evidence_of(learned, frames, torch.zeros_like(flow))["distance"].item() == 0

    def test_the_threshold_is_exceeded_by_the_chosen_share(self, learned: Any) -> None:
        distances = learned._distances(learned.vectors_ND[::2], learned.vectors_ND[1::2], learned.vectors_ND)
        assert (distances > learned.threshold).float().mean().item() == pytest.approx(0.05, abs=0.05)
