"""Statistics of the evidence and their largest patch, against slow and clear versions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import ValidationError
from scoring.samples import (
    FRAMES,
    sample_maps,
    with_novelties,
)

from comemory.errors import ConfigError
from comemory.scoring import (
    CELL,
    STATISTICS,
    ScoringSettings,
    evidence_name,
    find_peak,
    parse_channel,
    patch_map,
    patch_means,
    thesis_parts,
    thesis_score,
)


class TestPatches:
    @settings(deadline=None, max_examples=60)
    @given(
        cells=hnp.arrays(
            np.float32,
            st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 7)),
            elements=st.floats(-1e3, 1e3, width=32),
        ),
        data=st.data(),
    )
    def test_means_equal_the_naive_mean_of_every_patch(self, cells: NDArray[np.float32], data: st.DataObject) -> None:
        n_channels, height, width = cells.shape
        side = data.draw(st.integers(1, min(height, width)))
        means = patch_means(cells, side)
        assert means.shape == (n_channels, height - side + 1, width - side + 1)
        for channel, y, x in np.ndindex(means.shape):
            slow = cells[channel, y : y + side, x : x + side].astype(np.float64).mean()
            assert means[channel, y, x] == pytest.approx(slow, abs=1e-9 * 1e3 * height * width)

    @settings(deadline=None, max_examples=60)
    @given(
        height=st.integers(4, 12).map(lambda n: 8 * n),
        width=st.integers(4, 12).map(lambda n: 8 * n),
        name=st.sampled_from(sorted(STATISTICS)),
        side=st.integers(1, 60).map(lambda n: 4 * n),
        seed=st.integers(0, 99),
    )
    def test_the_box_of_the_peak_is_its_patch_and_lies_in_the_image(
        self, height: int, width: int, name: str, side: int, seed: int
    ) -> None:
        random = np.random.default_rng(seed)
        maps = with_novelties(sample_maps(random, height, width))
        size = (1, 8 if name == "directional_speed" else 1, height // CELL, width // CELL)
        maps.setdefault(name, random.gamma(2.0, 1.0, size).astype(np.float32))
        found = find_peak(maps, f"{name}:{side}")
        left, top, right, bottom = found.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        pitch = 2 * CELL if name.startswith(("motion_", "appearance_")) else CELL
        assert right - left == bottom - top == pitch * min(max(1, side // pitch), height // pitch, width // pitch)
        stored = maps["flow_mean" if name == "flow_speed" else name][0]
        inside = stored[:, top // pitch : bottom // pitch, left // pitch : right // pitch].astype(np.float64)
        means = inside.mean(axis=(1, 2))
        assert found.value == pytest.approx(
            means.max() if name == "directional_speed" else np.linalg.norm(means), rel=1e-6
        )

    def test_the_peak_of_a_known_patch(self) -> None:
        maps = {"frame_error": np.zeros((1, 1, 8, 12), np.float32)}
        maps["frame_error"][0, 0, 3:6, 7:10] = 5
        assert find_peak(maps, "frame_error:12") == (5.0, (28, 12, 40, 24))

    def test_opposite_flows_cancel_in_the_speed(self) -> None:
        oscillation = np.zeros((1, 2, 4, 4), np.float32)
        oscillation[0, 0, :, ::2], oscillation[0, 0, :, 1::2] = 1, -1
        assert find_peak({"flow_mean": oscillation}, "flow_speed:8").value == 0

    def test_missing_evidence_is_named(self) -> None:
        with pytest.raises(ConfigError, match=r"needs the evidence 'appearance_distance'.*frame_error"):
            find_peak({"frame_error": np.zeros((1, 1, 4, 4), np.float32)}, "appearance_distance:16")

    def test_the_first_of_equal_patches_is_the_peak(self) -> None:
        assert find_peak({"frame_error": np.zeros((1, 1, 4, 4), np.float32)}, "frame_error:4").box == (0, 0, 4, 4)

    def test_the_cell_equals_that_of_the_models(self) -> None:
        science = pytest.importorskip("comemory.models.evidence", reason="needs torch")
        assert science.CELL == CELL


class TestChannels:
    @pytest.mark.parametrize(
        "channel",
        [
            *("", ":", "flow_speed", "flow_speed:", "flow_speed:0", "flow_speed:6", "flow_speed:-4", "flow_speed:4.0"),
            *(
                "flow_speed:²",
                "flow_speed:１２",
                "flow_speed:" + "4" * 5000,
                "Speed:4",
                "flow speed:4",
                "flow_speed:4:4",
            ),
        ],
    )
    def test_malformed_channels_are_refused(self, channel: str) -> None:
        with pytest.raises(ConfigError):
            parse_channel(channel)
        with pytest.raises(ValidationError):
            ScoringSettings(motion=(channel,))

    def test_the_nearest_statistic_is_named(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'flow_speed'"):
            parse_channel("Flow_speed:12")

    def test_evidence_of_any_name_is_a_channel(self) -> None:
        assert parse_channel("psnr_loss:12") == ("psnr_loss", 12)
        assert parse_channel("psnr_loss") == ("psnr_loss", CELL)
        assert [evidence_name(one) for one in ("flow_speed:8", "motion_novelty:8", "psnr_loss")] == [
            *("flow_mean", "motion_distance", "psnr_loss")
        ]

    def test_a_number_is_the_value_of_every_patch(self) -> None:
        maps = {"psnr_loss": np.array([2.5], np.float32), "agitation": np.zeros((1, 1, 4, 6), np.float32)}
        found = patch_map(maps, "psnr_loss")
        assert found.values.shape == (4, 6)
        assert (found.values == 2.5).all()
        assert find_peak(maps, "psnr_loss") == (2.5, None), "it has no place"
        assert find_peak(maps, "agitation:8").box == (0, 0, 8, 8)

    @given(st.text(max_size=20))
    def test_any_text_is_a_channel_or_a_config_error(self, text: str) -> None:
        try:
            name, side = parse_channel(text)
        except ConfigError:
            return
        assert text in (name, f"{name}:{side}") or text.partition(":")[2].lstrip("0") == str(side)


class TestThesis:
    def test_by_hand(self) -> None:
        maps = {
            "flow_error": np.array([[[[1, 2], [8, 4]]]], np.float32),
            "frame_error": np.array([[[[9, 9], [0.5, 9]]]], np.float32),
        }
        flow, frame = thesis_parts(maps, 4)
        assert (flow.value, flow.box, frame) == (8.0, (0, 4, 4, 8), 0.5)
        assert thesis_score(8.0, 0.5, 0.25, 4.0, 0.2) == pytest.approx(math.log(2) + 0.2 * math.log(2))

    def test_frame_error_is_read_where_the_flow_error_is_largest(self) -> None:
        rng = np.random.default_rng(0)
        maps = sample_maps(rng)
        flow, frame = thesis_parts(maps, 16)
        left, top, right, bottom = (n // CELL for n in flow.box)
        assert frame == pytest.approx(maps["frame_error"][0, 0, top:bottom, left:right].astype(float).mean())

    def test_an_error_of_zero_has_a_score(self) -> None:
        assert math.isfinite(thesis_score(0.0, 0.0, 1.0, 1.0, 0.2))


def test_a_patch_map_has_its_pitch_and_side() -> None:
    values, pitch, side = patch_map(FRAMES[0], "appearance_distance:16")
    assert (values.shape, pitch, side) == ((3, 5), 8, 16)
