"""The split into training and calibration, and the scales that are fitted on the calibration part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")

from training import made  # noqa: E402

from comemory.models.comemory import CoMemory  # noqa: E402
from comemory.scoring import Calibration, Scorer, normalise  # noqa: E402
from comemory.training.cache import PreparedVideo  # noqa: E402
from comemory.training.calibrate import calibrate, infer_evidence, split_videos  # noqa: E402
from comemory.training.split import MIN_CALIBRATION_CLIPS  # noqa: E402
from comemory.types import INPUT_MAPS  # noqa: E402

N_PAST = 4


def video(number: int, n_frames: int, gaps: Sequence[int] = ()) -> PreparedVideo:
    """A video whose pixels are the numbers of video and frame."""
    frames = np.arange(n_frames)
    images = np.stack([np.full(n_frames, number), frames // 256, frames % 256], axis=1).astype(np.uint8)
    indices = np.delete(np.arange(n_frames + len(gaps)), gaps).astype(np.int64)
    flows = np.zeros((n_frames, 2, 1, 1), np.float16)
    maps = np.zeros((n_frames, len(INPUT_MAPS), 1, 1), np.float16)
    return PreparedVideo(f"{number:02d}", images[:, :, None, None], flows, maps, indices, indices, f"content {number}")


def frames_of(videos: Sequence[PreparedVideo]) -> list[tuple[int, ...]]:
    return [tuple(image.ravel().tolist()) for each in videos for image in each.images]


def n_clips(videos: Sequence[PreparedVideo]) -> int:
    return sum(len(each.clip_ends(N_PAST)) for each in videos)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(N_PAST + 1, 120), min_size=1, max_size=24), st.floats(0.01, 0.89), st.sampled_from([2, 4, 9])
)
def test_every_frame_is_in_exactly_one_part(lengths: list[int], share: float, n_past: int) -> None:
    videos = [video(number, length) for number, length in enumerate(lengths)]
    trained, held = split_videos(videos, share, n_past)
    assert sorted(frames_of(trained) + frames_of(held)) == sorted(frames_of(videos))
    assert held
    assert trained or len(videos) == 1
    for part in (*trained, *held):
        assert len(part.images) == len(part.flows) == len(part.indices)
        assert (np.diff(part.indices) == 1).all()
        assert part.sha256 == f"content {int(part.name)}"


@pytest.mark.parametrize("n_videos", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("n_frames", [130, 400])
def test_about_the_share_is_held_out_and_enough_of_it(n_videos: int, n_frames: int) -> None:
    videos = [video(number, n_frames) for number in range(n_videos)]
    trained, held = split_videos(videos, 0.2, N_PAST)
    assert n_clips(held) >= MIN_CALIBRATION_CLIPS
    assert 0.15 < len(frames_of(held)) / (n_videos * n_frames) < 0.25
    whole = {each.name for each in held}.isdisjoint(each.name for each in trained)
    assert whole == (n_videos == 16)


def test_parts_of_all_videos_are_held_out_where_whole_ones_are_too_short() -> None:
    videos = [video(number, 7 if number in (4, 9) else 200) for number in range(10)]
    trained, held = split_videos(videos, 0.2, N_PAST)
    assert n_clips(held) >= MIN_CALIBRATION_CLIPS
    assert {"04", "09"} <= {each.name for each in trained}
    assert len(held) == 8


def test_the_last_video_is_held_out_where_none_can_be_cut() -> None:
    videos = [video(number, 2 * N_PAST) for number in range(3)]
    trained, held = split_videos(videos, 0.2, N_PAST)
    assert [each.name for each in trained] == ["00", "01"]
    assert [each.name for each in held] == ["02"]


def test_short_videos_among_long_ones_are_trained_on_whole() -> None:
    trained, held = split_videos([video(0, 6), video(1, 200)], 0.2, N_PAST)
    assert [(each.name, len(each.indices)) for each in trained] == [("00", 6), ("01", 160)]
    assert [(each.name, len(each.indices)) for each in held] == [("01", 40)]


def test_a_part_keeps_the_gaps_of_its_frames() -> None:
    (trained,), (held,) = split_videos([video(0, 100, gaps=[30, 90])], 0.2, N_PAST)
    assert trained.indices.tolist() == [*range(30), *range(31, 81)]
    assert held.indices.tolist() == [*range(81, 90), *range(91, 102)]
    assert len(held.clip_ends(N_PAST)) == len(held.indices) - 2 * N_PAST


@pytest.fixture(scope="module")
def network() -> CoMemory:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return CoMemory.from_kwargs(**made.config().model_kwargs()).eval()


def test_the_evidence_of_a_clip_does_not_depend_on_other_clips(network: CoMemory, cache: Path) -> None:
    config, (first, *_) = made.config(), made.videos(cache)
    reported: list[None] = []
    evidence = list(infer_evidence(network, first, config, lambda: reported.append(None)))
    places = first.clip_ends(config.clips.n_past)
    assert len(evidence) == len(reported) == len(places) == 26
    frames, flow = first.clip(places[7], config.clips)
    items = [memory.items for memory in network.memories().values()]
    with torch.no_grad():
        expected = network.infer(torch.from_numpy(frames)[None], torch.from_numpy(flow)[None], *items)
    given = first.evidence(places[7])
    assert set(evidence[7]) == {*given, *(name for name in expected if not name.startswith("updated_"))}
    for name, value in evidence[7].items():
        np.testing.assert_array_equal(value, given[name] if name in given else expected[name].numpy())


def test_a_tenth_of_the_held_out_frames_scores_above_one(network: CoMemory, cache: Path) -> None:
    config, videos = made.config(), made.videos(cache)
    fitted = calibrate(network, videos, config, 10.0)
    assert (fitted.n_frames, fitted.rate_hz, fitted.settings) == (78, 10.0, config.scoring)
    assert Calibration.model_validate(fitted.model_dump(mode="json")) == fitted
    scorer, values = Scorer(fitted), []
    for each in videos:
        scorer.reset()
        values += [
            scorer.update(normalise(maps, fitted.spatial_baselines)).value
            for maps in infer_evidence(network, each, config)
        ]
    assert np.isfinite(values).all()
    assert np.mean(np.array(values) > 1) == pytest.approx(0.1, abs=0.05)
