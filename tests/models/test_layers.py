"""The encoder and the decoder: shapes, and which features affect the output."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from comemory.models.layers import Decoder, Encoder  # noqa: E402
from comemory.models.settings import UNET_LEVELS  # noqa: E402


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)


def encoded(seed: int = 0, height: int = 24, width: int = 40) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(2, 4 * 2**level, height // 2**level, width // 2**level, generator=generator)
        for level in range(UNET_LEVELS)
    ]


def test_every_level_halves_the_size_and_doubles_the_width() -> None:
    features = Encoder(3, 4)(torch.randn(2, 3, 24, 40))
    assert [tuple(level.shape) for level in features] == [(2, 4, 24, 40), (2, 8, 12, 20), (2, 16, 6, 10), (2, 32, 3, 5)]


def test_queries_may_be_negative_and_the_levels_before_may_not() -> None:
    *before, queries = Encoder(1, 4)(torch.randn(2, 1, 32, 32))
    assert queries.min() < 0
    assert all(level.min() >= 0 for level in before)


@pytest.mark.parametrize("skips", [True, False])
def test_a_decoder_with_skips_reads_every_level_but_the_queries(skips: bool) -> None:
    decoder = Decoder(32, 4, 2, skips=skips).eval()
    feature = torch.randn(2, 32, 3, 5)
    levels, others = encoded(0), encoded(1)
    with torch.no_grad():
        decoded = decoder(feature, levels)
        assert decoded.shape == (2, 2, 24, 40)
        for level in range(UNET_LEVELS):
            changed = [*levels[:level], others[level], *levels[level + 1 :]]
            assert torch.equal(decoder(feature, changed), decoded) == (not skips or level == UNET_LEVELS - 1)


def test_a_decoder_without_skips_needs_no_encoder() -> None:
    assert Decoder(16, 4, 3, skips=False)(torch.randn(1, 16, 4, 4), []).shape == (1, 3, 32, 32)


@pytest.mark.parametrize(("channels", "base_width"), [(0, 4), (1, 0), (-1, 4)])
def test_an_encoder_of_nothing_is_refused(channels: int, base_width: int) -> None:
    with pytest.raises(ValueError, match="needs channels and a width"):
        Encoder(channels, base_width)
