"""Evidence to scores to events, against slow and clear versions of the same."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from pydantic import ValidationError

from comemory.errors import ConfigError
from comemory.scoring import (
    CELL,
    FARTHEST,
    STATISTICS,
    Calibration,
    DecisionSettings,
    EventFinder,
    Scorer,
    TailScale,
    UsualLevels,
    combine,
    fit_calibration,
    fit_tail_scale,
    parse_budget,
    parse_channel,
    patch_map,
    patch_means,
    peak,
    score_map,
    thesis_parts,
    thesis_score,
    with_relative,
)
from comemory.scoring.calibration import careful
from comemory.scoring.events import TICK_S
from comemory.scoring.spatial_baseline import fit_perspective
from comemory.scoring.tail import compressed, spread_out
from comemory.types import SHOWN, Event, Score

Maps = dict[str, NDArray[np.float32]]


def evidence(rng: np.random.Generator, height: int = 32, width: int = 48, scale: float = 1.0) -> Maps:
    """Maps of the shapes that a model gives for a picture of height x width."""

    def cells(n_channels: int, pitch: int) -> NDArray[np.float32]:
        size = (1, n_channels, height // pitch, width // pitch)
        return (scale * rng.gamma(2.0, 1.0, size)).astype(np.float32)

    return {
        "flow_error": cells(1, CELL),
        "flow_residual": cells(2, CELL),
        "flow_mean": cells(2, CELL),
        "frame_error": cells(1, CELL),
        **{name: cells(1, CELL) for name in SHOWN},
        "motion_distance": cells(1, 2 * CELL),
        "appearance_distance": cells(1, 2 * CELL),
    }


def with_novelties(maps: Maps) -> Maps:
    """The maps with all that is measured by what is usual, each place as usual as the next."""
    levels = tuple((1.0,) * 100 for _ in range(100))
    usual = {
        name: UsualLevels(levels=tuple(row[: maps[name].shape[3]] for row in levels[: maps[name].shape[2]]))
        for name in ("motion_distance", "appearance_distance", "flow_mean")
    }
    return {**with_relative(maps, usual)}


def video(seed: int, n_frames: int, scale: float = 1.0) -> list[Maps]:
    rng = np.random.default_rng(seed)
    return [evidence(rng, scale=scale) for _ in range(n_frames)]


NOVELTY = DecisionSettings(appearance=("appearance_novelty:16",), fusion="either")


def calibration(**changes: Any) -> Calibration:
    return fit_calibration([video(1, 60), video(2, 40)], DecisionSettings(**changes), 25.0)


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
    def test_means_are_those_of_every_patch_counted_one_by_one(
        self, cells: NDArray[np.float32], data: st.DataObject
    ) -> None:
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
    def test_the_box_of_the_peak_holds_the_patch_and_lies_in_the_picture(
        self, height: int, width: int, name: str, side: int, seed: int
    ) -> None:
        maps = with_novelties(evidence(np.random.default_rng(seed), height, width))
        found = peak(maps, f"{name}:{side}")
        left, top, right, bottom = found.box
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        pitch = 2 * CELL if name.endswith(("_distance", "_novelty")) else CELL
        assert right - left == bottom - top == pitch * min(max(1, side // pitch), height // pitch, width // pitch)
        stored = maps["flow_mean" if name == "flow_speed" else name][0]
        inside = stored[:, top // pitch : bottom // pitch, left // pitch : right // pitch].astype(np.float64)
        assert found.value == pytest.approx(np.linalg.norm(inside.mean(axis=(1, 2))), rel=1e-6)

    def test_the_box_of_a_known_place(self) -> None:
        maps = {"frame_error": np.zeros((1, 1, 8, 12), np.float32)}
        maps["frame_error"][0, 0, 3:6, 7:10] = 5
        assert peak(maps, "frame_error:12") == (5.0, (28, 12, 40, 24))

    def test_opposite_flows_cancel_in_speed_and_not_in_error(self) -> None:
        swing = np.zeros((1, 2, 4, 4), np.float32)
        swing[0, 0, :, ::2], swing[0, 0, :, 1::2] = 1, -1
        assert peak({"flow_mean": swing}, "flow_speed:8").value == 0

    def test_a_statistic_that_the_model_does_not_give_is_named(self) -> None:
        with pytest.raises(ConfigError, match=r"needs the evidence 'appearance_distance'.*frame_error"):
            peak({"frame_error": np.zeros((1, 1, 4, 4), np.float32)}, "appearance_distance:16")

    def test_the_first_of_equal_patches_is_the_peak(self) -> None:
        assert peak({"frame_error": np.zeros((1, 1, 4, 4), np.float32)}, "frame_error:4").box == (0, 0, 4, 4)

    def test_the_cell_is_that_of_the_science(self) -> None:
        science = pytest.importorskip("comemory.models.evidence", reason="needs torch")
        assert science.CELL == CELL


class TestChannels:
    @pytest.mark.parametrize(
        "channel",
        [
            *("", ":", "flow_speed", "flow_speed:", "flow_speed:0", "flow_speed:6", "flow_speed:-4", "flow_speed:4.0"),
            *("flow_speed:²", "flow_speed:１２", "flow_speed:" + "4" * 5000, "speed:4", "flow_speed:4:4"),
        ],
    )
    def test_what_is_no_channel_is_refused(self, channel: str) -> None:
        with pytest.raises(ConfigError):
            parse_channel(channel)
        with pytest.raises(ValidationError):
            DecisionSettings(motion=(channel,))

    def test_the_nearest_statistic_is_named(self) -> None:
        with pytest.raises(ConfigError, match="did you mean 'flow_speed'"):
            parse_channel("flow_sped:12")

    def test_no_channel_at_all_is_refused(self) -> None:
        with pytest.raises(ValidationError, match="neither motion nor appearance"):
            DecisionSettings(motion=(), appearance=())

    @given(st.text(max_size=20))
    def test_any_text_is_a_channel_or_a_config_error(self, text: str) -> None:
        try:
            name, side = parse_channel(text)
        except ConfigError:
            return
        assert text == f"{name}:{side}" or text.partition(":")[2].lstrip("0") == str(side)


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
        maps = evidence(rng)
        flow, frame = thesis_parts(maps, 16)
        left, top, right, bottom = (n // CELL for n in flow.box)
        assert frame == pytest.approx(maps["frame_error"][0, 0, top:bottom, left:right].astype(float).mean())

    def test_an_error_of_zero_has_a_score(self) -> None:
        assert math.isfinite(thesis_score(0.0, 0.0, 1.0, 1.0, 0.2))

    def test_weights_are_one_over_the_mean_of_ordinary_frames(self) -> None:
        frames = video(5, 30)
        fitted = fit_calibration([frames], DecisionSettings(thesis_patch=8), 25.0)
        parts = [thesis_parts(maps, 8) for maps in frames]
        assert fitted.w_flow == pytest.approx(1 / np.mean([flow.value for flow, _ in parts]))
        assert fitted.w_frame == pytest.approx(1 / np.mean([frame for _, frame in parts]))

    def test_it_is_judged_beside_the_score_and_in_its_place(self) -> None:
        frames = video(6, 5, scale=3.0)
        beside, instead = Scorer(calibration()), Scorer(calibration(score="thesis"))
        for maps in frames:
            one, other = beside.push(maps), instead.push(maps)
            assert one.thesis == other.thesis
            assert other.value == pytest.approx(float(instead.calibration.scales["score"](other.thesis)))
            assert other.box == thesis_parts(maps, 16)[0].box


class TestTailScale:
    @pytest.mark.parametrize("draw", ["exponential", "normal", "gamma"])
    def test_one_new_ordinary_frame_in_ten_to_the_s_exceeds_s(self, draw: str) -> None:
        rng = np.random.default_rng(0)
        sample = {
            "exponential": lambda n: rng.exponential(2.0, n),
            "normal": lambda n: rng.normal(5.0, 2.0, n),
            "gamma": lambda n: rng.gamma(3.0, 1.0, n),
        }[draw]
        scale = fit_tail_scale(sample(20_000))
        scaled = scale(sample(400_000))
        for s, tolerance in ((0.2, 0.03), (0.5, 0.03), (1.0, 0.05), (1.5, 0.15), (2.0, 0.15)):
            assert (scaled > s).mean() == pytest.approx(10**-s, rel=tolerance)
        share = (scaled > 3).mean()
        if draw == "exponential":
            assert share == pytest.approx(1e-3, rel=0.25)
        else:
            assert share < 1.3e-3, "a tail lighter than the exponential gives fewer alarms than asked for, not more"

    @settings(deadline=None, max_examples=80)
    @given(
        values=st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=60),
        probes=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20, unique=True),
    )
    def test_strictly_increasing_whatever_it_was_fitted_on(self, values: list[float], probes: list[float]) -> None:
        scale = fit_tail_scale(values)
        unit = max(np.ptp(values), abs(max(values)), 1e-9)
        apart = [a for a, b in itertools.pairwise([*sorted(probes), math.inf]) if b - a > 1e-5 * unit]
        near = [x for x in apart if abs(x - scale.knots[-1]) < 1e4 * unit and float(scale(x)) < 1e3]
        assert np.all(np.diff(scale(np.array(near))) > 0)

    @settings(deadline=None, max_examples=50)
    @given(values=st.lists(st.floats(0, 100), min_size=20, max_size=60), share=st.floats(0, 1))
    def test_continuous(self, values: list[float], share: float) -> None:
        scale = fit_tail_scale(values)
        places = [*scale.knots, scale.knots[-1] + FARTHEST * scale.excess / math.log10(math.e)]
        steepest = max(
            math.log10(math.e) / scale.excess,
            max(np.diff(scale.levels) / np.diff(scale.knots)),
        )
        for x in places:
            step = 1e-9 * share / steepest
            assert abs(float(scale(x + step)) - float(scale(x - step))) <= 3e-9 + 1e-6 * abs(x) * 1e-9 * steepest

    def test_the_ninetieth_percentile_is_one_and_an_e_fold_excess_adds_to_it(self) -> None:
        scale = fit_tail_scale(np.linspace(0, 1, 1001))
        assert float(scale(scale.knots[-1])) == pytest.approx(1.0)
        assert float(scale(scale.knots[-1] + scale.excess * math.log(10))) == pytest.approx(2.0)

    def test_beyond_a_million_it_grows_as_the_logarithm(self) -> None:
        scale = fit_tail_scale(np.linspace(0, 1, 1001))
        far = scale.knots[-1] + scale.excess * math.log(10) * np.array([5.0, 14.0, 104.0, 1004.0])
        assert scale(far) == pytest.approx([6.0, 7.0, 6 + math.log10(100), 6 + math.log10(1000)])

    @given(
        hnp.arrays(np.float64, 40, elements=st.floats(-1e6, 1e6)),
        st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=20),
    )
    @settings(max_examples=300, deadline=None)
    def test_one_number_is_scaled_as_many_are(self, ordinary: NDArray[np.float64], values: list[float]) -> None:
        scale = fit_tail_scale(ordinary)
        near = [*values, *scale.knots, *(knot + scale.excess * 9 for knot in scale.knots)]
        with np.errstate(all="ignore"):
            together = scale(np.array(near))
            alone = np.array([float(scale(value)) for value in near])
        np.testing.assert_array_equal(alone, together)

    @settings(deadline=None, max_examples=60)
    @given(
        probes=st.lists(
            st.one_of(st.floats(allow_nan=False), st.sampled_from([1e308, -1e308, math.inf, -math.inf])), min_size=1
        ),
        excess=st.sampled_from([5e-324, 1e-12, 1.0, 1e300]),
    )
    def test_no_value_is_too_extreme(self, probes: list[float], excess: float) -> None:
        """Warnings are errors in these tests."""
        scale = TailScale(knots=(-1.0, 0.0, 2.0), levels=(0.0, 0.5, 1.0), excess=excess)
        scaled = scale(np.array(sorted(probes)))
        assert np.isfinite(scaled).all()
        assert scaled.min() >= -1
        assert np.all(np.diff(scaled) >= 0)
        assert math.isnan(float(scale(math.nan)))

    def test_constant_video_has_a_scale(self) -> None:
        scale = fit_tail_scale(np.zeros(50))
        assert float(scale(0.0)) == 0.0
        assert float(scale(1.0)) > FARTHEST

    @pytest.mark.parametrize(
        "values", [[], [1.0] * 19, [*([1.0] * 30), math.nan], [*([1.0] * 30), math.inf], [math.nan] * 30]
    )
    def test_too_few_or_not_finite_is_refused_with_both_counts(self, values: list[float]) -> None:
        finite = sum(math.isfinite(value) for value in values)
        with pytest.raises(ConfigError, match=rf"got {len(values)}, {finite} of them finite"):
            fit_tail_scale(values)

    @pytest.mark.parametrize(
        ("knots", "levels"),
        [((), ()), ((1.0,), (0.0, 1.0)), ((1.0, 1.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, 0.0)), ((2.0, 1.0), (0.0, 1.0))],
    )
    def test_a_scale_that_does_not_increase_is_refused(
        self, knots: tuple[float, ...], levels: tuple[float, ...]
    ) -> None:
        with pytest.raises(ValidationError):
            TailScale(knots=knots, levels=levels, excess=1.0)

    def test_json_and_back_is_the_same_scale_bit_for_bit(self) -> None:
        fitted = calibration()
        again = Calibration.model_validate_json(fitted.model_dump_json())
        assert again == fitted
        probes = np.random.default_rng(0).gamma(2.0, 1.0, 1000)
        assert np.array_equal(again.scales["frame_error:32"](probes), fitted.scales["frame_error:32"](probes))


class TestBudget:
    @pytest.mark.parametrize(
        ("text", "hourly"),
        [
            *(("1/h", 1), ("2/day", 2 / 24), ("0.5/hour", 0.5), ("3/d", 3 / 24), ("7/week", 7 / 168), ("1/min", 60)),
            *((" 4 / h ", 4), ("1e-3/h", 1e-3)),
        ],
    )
    def test_what_it_accepts(self, text: str, hourly: float) -> None:
        assert parse_budget(text) == pytest.approx(hourly)

    @pytest.mark.parametrize(
        "text",
        [
            *("", "1", "/h", "1/", "0/h", "-1/h", "nan/h", "inf/h", "1/hours", "1/h/h", "one/h", "h/1", "1//h"),
            *("1/month", "1e-323/week", "1e308/min", "1e400/h", "1e-30/h"),
        ],
    )
    def test_what_it_refuses(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"false-alarm budget .* such as 1/h or 2/day"):
            parse_budget(text)

    @given(st.text(max_size=12) | st.from_regex(r"-?[0-9.e_-]{1,12}/(min|h|hour|day|d|week)", fullmatch=True))
    def test_any_text_is_a_positive_number_or_a_config_error(self, text: str) -> None:
        try:
            hourly = parse_budget(text)
        except ConfigError:
            return
        assert math.isfinite(hourly)
        assert hourly > 0

    @settings(deadline=None, max_examples=50)
    @given(one=st.floats(1e-8, 1e8), other=st.floats(1e-8, 1e8))
    def test_a_larger_budget_never_has_a_higher_threshold(self, one: float, other: float) -> None:
        fitted = CALIBRATION
        low, high = sorted((one, other))
        assert fitted.threshold(f"{high}/h") <= fitted.threshold(f"{low}/h")
        assert fitted.threshold(f"{low}/h") >= 0

    @pytest.mark.parametrize("n_alarms", [None, 10**9])
    def test_ten_times_the_budget_is_one_decade_of_a_tail_that_is_known(self, n_alarms: int | None) -> None:
        fitted = CALIBRATION.model_copy(update={"n_alarms": n_alarms})
        assert fitted.threshold("1/h") - fitted.threshold("10/h") == pytest.approx(1.0)
        assert fitted.threshold("1/h") == pytest.approx(math.log10(25 * 3600 / fitted.frames_per_alarm))

    @given(level=st.floats(0, 12), n_alarms=st.integers(1, 10**6))
    def test_the_fewer_alarms_the_more_careful(self, level: float, n_alarms: int) -> None:
        few, more = careful(level, n_alarms), careful(level, n_alarms + 1)
        assert few >= more - 1e-9 * abs(more)
        assert more >= level - 1e-9
        assert math.isfinite(few)

    @pytest.mark.parametrize("n_alarms", [1, 3, 10, 40])
    def test_a_tail_known_from_few_alarms_is_passed_as_often_as_it_says(self, n_alarms: int) -> None:
        """Over many calibrations on so many exponential values each, and as many new values for each of them."""
        rng = np.random.default_rng(n_alarms)
        mean = rng.exponential(1.0, (40_000, n_alarms)).mean(axis=1)
        for decades in (1, 2):
            passed = careful(1.0 + decades, n_alarms) - 1.0
            chance = np.exp(-passed * math.log(10) * mean).mean()
            assert chance == pytest.approx(10.0**-decades, rel=0.1)

    @pytest.mark.parametrize(
        ("n_alarms", "said"),
        [(None, None), (30, None), (29, "29 ordinary alarms alone"), (1, "1 ordinary alarm alone")],
    )
    def test_where_they_are_few_it_is_said(self, n_alarms: int | None, said: str | None) -> None:
        caution = CALIBRATION.model_copy(update={"n_alarms": n_alarms}).caution
        assert (caution is None) if said is None else (caution is not None and said in caution)

    def test_a_threshold_beyond_the_last_decade_is_where_the_scale_puts_it(self) -> None:
        fitted = CALIBRATION.model_copy(update={"n_alarms": None, "frames_per_alarm": 1.0})
        for budget, level in (("9e4/h", 0.0), ("0.9/h", 5.0), ("0.09/h", 6.0), ("9e-9/h", 13.0)):
            assert fitted.threshold(budget) == pytest.approx(compressed(level))
        scale = fitted.scales["score"]
        assert float(scale(scale.value_at(13.0))) == pytest.approx(compressed(13.0))
        assert float(scale(scale.value_at(3.0))) == pytest.approx(3.0)

    def test_the_budget_is_kept_on_new_ordinary_video(self) -> None:
        rng = np.random.default_rng(3)
        settings_ = DecisionSettings(min_frames=1, join_s=0)
        scale = fit_tail_scale(rng.exponential(1.0, 20_000))
        fitted = CALIBRATION.model_copy(
            update={
                "scales": {**CALIBRATION.scales, "score": scale},
                "frames_per_alarm": 1.0,
                "settings": settings_,
                "n_alarms": None,
            }
        )
        n_hours = 4
        values = scale(rng.exponential(1.0, n_hours * 25 * 3600))
        finder = EventFinder("", fitted.threshold("60/h"), settings_)
        events = list(finder.run(scores(values)))
        assert len(events) / n_hours == pytest.approx(60, rel=0.35)


def bursts(rng: np.random.Generator, n_hours: float, rate_hz: float = 10.0) -> NDArray[np.float64]:
    """Calm frames, and every ten seconds or so somebody who passes for two seconds, each at a pace of his own."""
    n_frames = int(n_hours * 3600 * rate_hz)
    values = rng.exponential(0.02, n_frames)
    for start in np.flatnonzero(rng.random(n_frames) < 0.01):
        values[start : start + 20] += rng.exponential(1.0)
    return values


def one_channel(values: Sequence[float] | NDArray[np.float64]) -> list[Maps]:
    """Frames whose speed alone says something."""
    told = evidence(np.random.default_rng(0))
    return [{**told, "flow_mean": np.full_like(told["flow_mean"], value)} for value in values]


class TestOrdinaryVideo:
    SPEED = DecisionSettings(motion=("flow_speed:8",), appearance=())

    def test_a_budget_holds_on_average_whatever_minutes_it_was_calibrated_on(self) -> None:
        """Each time on two and a half minutes, watched for half an hour."""
        rng, alarms, hours = np.random.default_rng(5), 0, 0.0
        for _ in range(12):
            fitted = fit_calibration([one_channel(bursts(rng, 0.02)) for _ in range(2)], self.SPEED, 10.0)
            fresh = fitted.scaled(fitted.scales["flow_speed:8"](math.sqrt(2) * bursts(rng, 0.5)))
            alarms += len(list(EventFinder("", fitted.threshold("60/h"), self.SPEED).run(scores(fresh, 10.0))))
            hours += 0.5
        assert 20 < alarms / hours < 120

    def test_a_calm_fifth_is_not_taken_for_the_whole(self) -> None:
        rng = np.random.default_rng(1)
        calm, busy = one_channel(rng.exponential(0.02, 300)), one_channel(rng.exponential(0.2, 1200))
        alone = fit_calibration([calm], self.SPEED, 10.0)
        told = fit_calibration([calm], self.SPEED, 10.0, seen=iter([iter(busy)]))
        assert (alone.n_frames, alone.n_seen, told.n_frames, told.n_seen) == (300, 0, 300, 1200)
        for fitted, least, most in ((alone, 0.7, 1.0), (told, 0.0, 0.2)):
            judge = Scorer(fitted)
            assert least <= np.mean([judge.push(maps).value > 1 for maps in busy]) <= most

    def test_what_was_trained_on_and_errs_less_makes_no_scale_bolder(self) -> None:
        rng = np.random.default_rng(2)
        held, trained = one_channel(rng.exponential(0.2, 300)), one_channel(rng.exponential(0.05, 1200))
        alone = fit_calibration([held], self.SPEED, 10.0)
        told = fit_calibration([held], self.SPEED, 10.0, seen=[trained])
        assert told.scales == alone.scales

    @pytest.mark.parametrize("name", ["either", "sum", "thesis", "smoothed", "novelty", "speed"])
    def test_the_scores_that_are_scaled_are_those_that_are_judged(self, name: str) -> None:
        settings_ = {
            "either": DecisionSettings(),
            "sum": DecisionSettings(fusion="sum"),
            "thesis": DecisionSettings(score="thesis"),
            "smoothed": DecisionSettings(smoothing=0.6),
            "novelty": NOVELTY,
            "speed": self.SPEED,
        }[name]
        frames = video(3, 60)
        fitted = fit_calibration([frames], settings_, 10.0)
        judge = Scorer(fitted)
        raw = [judge.push(maps).raw for maps in frames]
        assert fitted.scales["score"] == fit_tail_scale(raw if name == "thesis" else spread_out(np.array(raw)))


class TestCalibration:
    def test_few_frames_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="at least 20 ordinary frames"):
            fit_calibration([video(0, 10), video(1, 9)], DecisionSettings(), 25.0)
        with pytest.raises(ConfigError, match="at least 20 ordinary frames"):
            fit_calibration([], DecisionSettings(), 25.0)

    def test_evidence_that_is_not_finite_is_refused(self) -> None:
        frames = video(0, 30)
        frames[3]["flow_error"][:] = np.nan
        with pytest.raises(ConfigError, match="mean error of ordinary frames is nan"):
            fit_calibration([frames], DecisionSettings(), 25.0)

    def test_a_scale_for_each_channel_and_the_whole(self) -> None:
        fitted = calibration(motion=("flow_speed:8",), appearance=("frame_error:8", "motion_distance:16"))
        assert set(fitted.scales) == {"flow_speed:8", "frame_error:8", "motion_distance:16", "score"}
        assert fitted.n_frames == 100

    def test_a_missing_scale_is_refused(self) -> None:
        values = CALIBRATION.model_dump()
        del values["scales"]["score"]
        with pytest.raises(ValidationError, match="no scale was fitted for score"):
            Calibration.model_validate(values)

    def test_the_order_of_videos_does_not_matter_to_the_scales(self) -> None:
        one, other = video(1, 30), video(2, 40)
        spec = DecisionSettings()
        assert fit_calibration([one, other], spec, 25.0).scales == fit_calibration([other, one], spec, 25.0).scales


class TestJudge:
    @settings(deadline=None, max_examples=20)
    @given(
        k=st.integers(0, 12), smoothing=st.sampled_from([0.0, 0.5, 0.9]), score=st.sampled_from(["comemory", "thesis"])
    )
    def test_the_first_k_frames_give_the_first_k_values(self, k: int, smoothing: float, score: str) -> None:
        fitted = CALIBRATIONS[smoothing, score]
        frames = FRAMES
        whole, part = Scorer(fitted), Scorer(fitted)
        assert [part.push(maps) for maps in frames[:k]] == [whole.push(maps) for maps in frames][:k]

    def test_reset_forgets_the_past(self) -> None:
        judge = Scorer(CALIBRATIONS[0.9, "comemory"])
        first = [judge.push(maps) for maps in FRAMES[:3]]
        judge.reset()
        assert [judge.push(maps) for maps in FRAMES[:3]] == first

    def test_smoothing_is_the_running_average_of_the_raw_scores(self) -> None:
        plain, smooth = Scorer(CALIBRATIONS[0.0, "comemory"]), Scorer(CALIBRATIONS[0.5, "comemory"])
        average = None
        for maps in FRAMES:
            judged, smoothed = plain.push(maps), smooth.push(maps)
            raw = combine(judged.motion, judged.appearance, plain.calibration.settings)
            average = raw if average is None else 0.5 * average + 0.5 * raw
            assert smoothed.value == pytest.approx(float(smooth.calibration.scaled(average)))
            assert (smoothed.motion, smoothed.appearance) == (judged.motion, judged.appearance)

    def test_the_box_is_that_of_the_worse_part(self) -> None:
        judge = Scorer(CALIBRATIONS[0.0, "comemory"])
        for maps in FRAMES:
            judged = judge.push(maps)
            spec, scales = judge.calibration.settings, judge.calibration.scales
            worse = spec.motion if judged.motion >= judged.appearance else spec.appearance
            whole = with_relative(maps, judge.calibration.usual)
            highest = max(worse, key=lambda c: float(scales[c](peak(whole, c).value)) - spec.handicap(c))
            assert judged.box == peak(whole, highest).box

    def test_a_part_is_its_rarest_channel_those_that_were_learned_held_back(self) -> None:
        channels = ("flow_speed:8", "flow_residual:16", "motion_distance:16")
        fitted = calibration(motion=channels, appearance=(), motion_handicap=0.3)
        judge = Scorer(fitted)
        winners = set()
        for maps in FRAMES:
            levels = {c: float(fitted.scales[c](peak(maps, c).value)) for c in channels}
            held_back = {c: level - (0 if c == "flow_speed:8" else 0.3) for c, level in levels.items()}
            judged = judge.push(maps)
            winner = max(held_back, key=held_back.__getitem__)
            winners.add(winner)
            assert judged.motion == pytest.approx(held_back[winner])
            assert judged.box == peak(maps, winner).box
        assert len(winners) > 1

    def test_a_part_of_a_sum_is_the_mean_of_its_channels_with_the_box_of_the_highest(self) -> None:
        channels = ("flow_speed:8", "flow_residual:16", "motion_distance:16")
        fitted = calibration(motion=channels, appearance=(), fusion="sum")
        judge = Scorer(fitted)
        for maps in FRAMES:
            scaled = {channel: float(fitted.scales[channel](peak(maps, channel).value)) for channel in channels}
            judged = judge.push(maps)
            assert judged.motion == pytest.approx(np.mean(list(scaled.values())))
            assert judged.box == peak(maps, max(channels, key=scaled.__getitem__)).box

    def test_the_rarer_part_decides_and_appearance_is_held_back(self) -> None:
        fitted = calibration(appearance_handicap=0.5)
        judge = Scorer(fitted)
        for maps in FRAMES:
            judged = judge.push(maps)
            whole = fitted.scaled(max(judged.motion, judged.appearance))
            assert judged.value == pytest.approx(float(whole))

    def test_a_place_where_nothing_ever_was_is_held_to_its_own_level(self) -> None:
        rng = np.random.default_rng(0)
        ordinary = [evidence(rng) for _ in range(200)]
        for maps in ordinary:
            maps["appearance_distance"][..., :3] *= 10
        fitted = fit_calibration([ordinary], NOVELTY, 25.0)
        assert np.array(fitted.usual["appearance_distance"].levels)[:, :3].min() > (
            np.array(fitted.usual["appearance_distance"].levels)[:, 3:].max()
        )
        judge = Scorer(fitted)
        calm = {name: np.full_like(cells, 0.1) for name, cells in ordinary[0].items()}
        there, here = ({name: cells.copy() for name, cells in calm.items()} for _ in range(2))
        there["appearance_distance"][0, 0, 1, 1] = here["appearance_distance"][0, 0, 1, 5] = 20
        assert judge.push(here).appearance > judge.push(there).appearance

    def test_what_is_usual_comes_from_the_trained_video_or_is_given(self) -> None:
        trained = video(5, 30, scale=3.0)
        fitted = fit_calibration([video(1, 60)], NOVELTY, 25.0, trained=trained)
        other = fit_calibration([video(1, 60)], NOVELTY, 25.0)
        assert fitted.usual != other.usual
        again = fit_calibration([video(2, 60)], NOVELTY, 25.0, usual=fitted.usual)
        assert again.usual == fitted.usual
        with pytest.raises(ValidationError, match="what is usual for appearance_distance"):
            Calibration.model_validate({**fitted.model_dump(), "usual": {}})

    def test_what_is_slow_in_pixels_is_fast_where_it_is_far_away(self) -> None:
        rng = np.random.default_rng(0)
        ordinary = [evidence(rng) for _ in range(200)]
        for maps in ordinary:
            maps["flow_mean"][:, :, :4] *= 0.3
        fitted = fit_calibration([ordinary], DecisionSettings(motion=("perspective_speed:8",), appearance=()), 25.0)
        calm = {name: np.full_like(cells, 0.1) for name, cells in ordinary[0].items()}
        far, near = ({name: cells.copy() for name, cells in calm.items()} for _ in range(2))
        far["flow_mean"][..., 1:3, 4:6] = near["flow_mean"][..., 5:7, 4:6] = 6
        judge = Scorer(fitted)
        assert judge.push(far).motion > judge.push(near).motion
        assert judge.push(far).box == (16, 4, 24, 12)

    @settings(deadline=None, max_examples=60)
    @given(
        flows=hnp.arrays(
            np.float32,
            st.tuples(st.integers(1, 5), st.just(2), st.integers(1, 6), st.integers(1, 4)),
            elements=st.floats(-1e3, 1e3, width=32),
        )
    )
    def test_the_usual_speed_of_a_row_is_that_of_the_naive_loop(self, flows: NDArray[np.float32]) -> None:
        reached: list[float] = []
        for row in range(flows.shape[2]):
            fastest = [max(math.hypot(*flow[:, row, x].tolist()) for x in range(flows.shape[3])) for flow in flows]
            reached.append(max(float(np.quantile(fastest, 0.99)), *reached[-1:], 0.0))
        expected = [max(speed, 0.25 * reached[-1], 1e-9) for speed in reached]
        levels = [level for (level,) in fit_perspective(flows).levels]
        assert levels == pytest.approx(expected)
        assert all(level <= below for level, below in itertools.pairwise(levels))

    def test_a_camera_that_looks_straight_down_has_one_speed_in_perspective(self) -> None:
        flows = [np.full((2, 5, 7), speed, np.float32) for speed in np.linspace(1, 2, 50)]
        maps = {"flow_mean": flows[-1][None]}
        usual = {"flow_mean": fit_perspective(flows)}
        near = peak(with_relative(maps, usual), "perspective_speed:8")
        assert near.value == pytest.approx(1.0, rel=0.01)
        assert len(set(usual["flow_mean"].levels)) == 1

    def test_a_speed_in_perspective_counts_as_far_as_it_is_no_noise(self) -> None:
        flows = [np.full((2, 6, 8), speed, np.float32) for speed in np.linspace(1, 2, 50)]
        usual = {"flow_mean": fit_perspective(flows)}
        sure = np.zeros((1, 1, 6, 8), np.float32)
        sure[..., 2:4, 2:4], sure[..., 4:6, 6:8] = 0.5, 0.25
        maps = {"flow_mean": flows[-1][None], "beyond_noise": sure}
        whole = peak(with_relative({"flow_mean": flows[-1][None]}, usual), "perspective_speed:8").value
        found = peak(with_relative(maps, usual), "perspective_speed:8")
        assert found.value == pytest.approx(whole / 2)
        assert found.box == (8, 8, 16, 16)
        assert peak(maps, "flow_speed:8").value == pytest.approx(math.hypot(2, 2))

    def test_speeds_count_as_they_are_and_what_is_learned_is_held_back(self) -> None:
        spec = DecisionSettings(motion_handicap=0.5, appearance_handicap=2.0)
        assert [spec.handicap(channel) for channel in (*spec.motion, *spec.appearance)] == [0, 0, 0, 0.5, 2.0]

    @pytest.mark.parametrize("levels", [(), ((),), ((1.0,), (1.0, 2.0)), ((0.0,),), ((math.inf,),)])
    def test_usual_levels_are_rows_of_positive_numbers(self, levels: tuple[tuple[float, ...], ...]) -> None:
        with pytest.raises(ValidationError):
            UsualLevels(levels=levels)

    def test_the_score_may_be_the_weighted_sum_on_the_scale_of_the_whole(self) -> None:
        fitted = calibration(fusion="sum", appearance_weight=0.5)
        judge = Scorer(fitted)
        for maps in FRAMES:
            judged = judge.push(maps)
            whole = fitted.scaled(judged.motion + 0.5 * judged.appearance)
            assert judged.value == pytest.approx(float(whole))

    @pytest.mark.parametrize("empty", ["motion", "appearance"])
    def test_a_part_without_channels_has_no_say(self, empty: str) -> None:
        fitted = calibration(**{empty: (), "appearance" if empty == "motion" else "motion": ("frame_error:8",)})
        judge = Scorer(fitted)
        calm = {name: np.full_like(maps, 1e-6) for name, maps in FRAMES[0].items()}
        values = []
        for factor in (1.0, 2.0, 3.0):
            judged = judge.push({name: maps * np.float32(factor) for name, maps in calm.items()})
            assert getattr(judged, empty) == 0
            assert judged.box == (0, 0, 8, 8)
            values.append(judged.value)
        assert values == sorted(set(values)), "quieter than all ordinary frames, still in order"

    def test_ordinary_video_is_judged_as_its_calibration_says(self) -> None:
        fitted = fit_calibration([video(seed, 500) for seed in range(4)], SPEC, 25.0)
        judge = Scorer(fitted)
        values = np.array([judge.push(maps).value for maps in video(99, 1000)])
        assert (values > 1).mean() == pytest.approx(0.1, abs=0.035)
        assert (values > 0.301).mean() == pytest.approx(0.5, abs=0.06)


def scores(values: Sequence[float] | NDArray[np.float64], rate_hz: float = 25.0) -> list[Score]:
    return [Score(i, i / rate_hz, float(value), 0.0, 0.0, (i, 0, i + 1, 1)) for i, value in enumerate(values)]


def slow_events(found: Sequence[Score], threshold: float, spec: DecisionSettings) -> list[tuple[int, int, int, float]]:
    """The oracle: mark the high scores, cut the marks where they are too far apart, drop what is short."""
    release = min(threshold, threshold * spec.release)
    high: list[Score] = []
    for i, score in enumerate(found):
        before = found[i - 1] if i else None
        held = before is not None and bool(high) and high[-1] is before
        if held and before is not None and score.index != before.index + 1:
            held = score.time_s - before.time_s <= spec.join_s + TICK_S
        if score.value >= (release if held else threshold):
            high.append(score)
    groups: list[list[Score]] = []
    for score in high:
        last = groups[-1][-1] if groups else None
        near = last is not None and (
            score.index == last.index + 1 or score.time_s - last.time_s <= spec.join_s + TICK_S
        )
        if near:
            groups[-1].append(score)
        else:
            groups.append([score])
    kept = [group for group in groups if len(group) >= spec.min_frames]
    peaks = [max(group, key=lambda score: score.value) for group in kept]
    return [(g[0].index, g[-1].index, p.index, p.value) for g, p in zip(kept, peaks, strict=True)]


def plain(events: Sequence[Event]) -> list[tuple[int, int, int, float]]:
    return [(e.start_frame, e.end_frame, e.peak_frame, e.peak_score) for e in events]


def spec_of(min_frames: int = 1, join_s: float = 0.0, release: float = 0.5) -> DecisionSettings:
    return DecisionSettings(min_frames=min_frames, join_s=join_s, release=release)


@st.composite
def watched(draw: st.DrawFn) -> list[Score]:
    """Scores of a source whose frames may be missing here and there."""
    values = draw(st.lists(st.sampled_from([0.0, 0.4, 0.5, 0.9, 1.0, 1.5, 3.0]), max_size=40))
    gaps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 1, 1, 2, 5, 200]), min_size=len(values), max_size=len(values)))
    indices = list(itertools.accumulate(gaps))
    return [Score(i, i / 10, value, 0.0, 0.0, (i, 0, i + 1, 1)) for i, value in zip(indices, values, strict=True)]


SPECS = st.builds(
    spec_of,
    min_frames=st.integers(1, 4),
    join_s=st.sampled_from([0.0, 0.1, 0.25, 1.0]),
    release=st.sampled_from([0.4, 0.5, 0.9, 1.0]),
)


class TestScoreMaps:
    """Where the map says something is, it is."""

    @pytest.mark.parametrize("score", ["comemory", "thesis"])
    @pytest.mark.parametrize("axis", [2, 3])
    def test_a_mirrored_picture_has_the_mirrored_map(self, score: str, axis: int) -> None:
        fitted = calibration(score=score)
        there = {"flow_mean": UsualLevels(levels=fitted.usual["flow_mean"].levels[:: -1 if axis == 2 else 1])}
        for maps in FRAMES[:5]:
            height, width = (CELL * n for n in maps["frame_error"].shape[2:])
            mirrored = {name: np.flip(cells, axis) for name, cells in maps.items()}
            expected = np.flip(score_map(maps, fitted, height, width), axis - 2)
            found = score_map(mirrored, fitted.model_copy(update={"usual": there}), height, width)
            assert np.array_equal(found, expected)

    @pytest.mark.parametrize("side", [8, 12, 16, 32])
    def test_the_hottest_places_lie_around_the_middle_of_the_worst_patch(self, side: int) -> None:
        channel = f"flow_speed:{side}"
        fitted = calibration(motion=(channel,), appearance=())
        for maps in FRAMES[:5]:
            height, width = (CELL * n for n in maps["frame_error"].shape[2:])
            found = score_map(maps, fitted, height, width)
            rows, columns = np.nonzero(found == found.max())
            left, top, right, bottom = peak(maps, channel).box
            middle = ((left + right) / 2, (top + bottom) / 2)
            inside = [
                max(abs(CELL * (x + 0.5) - middle[0]), abs(CELL * (y + 0.5) - middle[1])) <= CELL / 2
                for y, x in zip(rows.tolist(), columns.tolist(), strict=True)
            ]
            assert any(inside)


class TestEvents:
    @settings(deadline=None, max_examples=300)
    @given(found=watched(), spec=SPECS, threshold=st.sampled_from([0.0, 1.0, 1.2]))
    def test_as_the_oracle_finds_them(self, found: list[Score], spec: DecisionSettings, threshold: float) -> None:
        events = list(EventFinder("gate", threshold, spec).run(found))
        assert plain(events) == slow_events(found, threshold, spec)
        by_index = {score.index: score for score in found}
        for event in events:
            assert event.source == "gate"
            assert event.start_s == by_index[event.start_frame].time_s
            assert event.end_s == by_index[event.end_frame].time_s
            assert event.peak_s == by_index[event.peak_frame].time_s
            assert event.box == by_index[event.peak_frame].box

    @settings(deadline=None, max_examples=150)
    @given(found=watched(), spec=SPECS, k=st.integers(0, 40))
    def test_the_first_k_scores_end_the_same_events(self, found: list[Score], spec: DecisionSettings, k: int) -> None:
        whole, part = EventFinder("", 1.0, spec), EventFinder("", 1.0, spec)
        ended = [whole.push(score) for score in found]
        assert [part.push(score) for score in found[:k]] == ended[:k]

    @settings(deadline=None, max_examples=150)
    @given(found=watched(), spec=SPECS)
    def test_nothing_long_enough_is_lost_and_nothing_overlaps(self, found: list[Score], spec: DecisionSettings) -> None:
        events = list(EventFinder("", 1.0, spec).run(found))
        for before, after in itertools.pairwise(events):
            assert before.end_frame < after.start_frame
        covered = {i for event in events for i in range(event.start_frame, event.end_frame + 1)}
        run: list[Score] = []
        for score in found:
            follows = bool(run) and score.index == run[-1].index + 1
            run = [*(run if follows else []), score] if score.value >= 1.0 else []
            if len(run) >= spec.min_frames:
                assert {one.index for one in run} <= covered

    @settings(deadline=None, max_examples=100)
    @given(found=watched(), spec=SPECS)
    def test_active_is_what_the_events_will_say(self, found: list[Score], spec: DecisionSettings) -> None:
        events = list(EventFinder("", 1.0, spec).run(found))
        inside = {i for event in events for i in range(event.start_frame, event.end_frame + 1)}
        finder = EventFinder("", 1.0, spec)
        for score in found:
            finder.push(score)
            if finder.high:
                assert finder.open is not None
                assert finder.open.end_frame == score.index
            if finder.active:
                assert finder.high
                assert score.index in inside
                assert finder.open is not None
                assert finder.open.end_frame == score.index

    def test_both_ends_belong_to_the_event(self) -> None:
        (event,) = EventFinder("", 1.0, spec_of()).run(scores([0, 0, 1, 2, 1, 0]))
        assert (event.start_frame, event.end_frame, event.peak_frame) == (2, 4, 3)
        assert (event.start_s, event.end_s) == (2 / 25, 4 / 25)

    def test_up_at_the_threshold_down_at_the_release(self) -> None:
        (event,) = EventFinder("", 1.0, spec_of(release=0.5)).run(scores([0.9, 1.0, 0.6, 0.5, 0.49, 0.9]))
        assert (event.start_frame, event.end_frame) == (1, 3)

    def test_an_event_at_the_very_end_and_at_the_very_start(self) -> None:
        events = list(EventFinder("", 1.0, spec_of(min_frames=2)).run(scores([1, 1, 0, 0, 1, 1])))
        assert [(e.start_frame, e.end_frame) for e in events] == [(0, 1), (4, 5)]

    def test_short_ones_are_dropped_also_at_the_end(self) -> None:
        assert not list(EventFinder("", 1.0, spec_of(min_frames=2)).run(scores([0, 1, 0, 0, 1])))

    def test_near_ones_are_joined_and_far_ones_are_not(self) -> None:
        near = [1, 1, 0, 0, 1, 1]
        assert len(list(EventFinder("", 1.0, spec_of(join_s=3 / 25)).run(scores(near)))) == 1
        assert len(list(EventFinder("", 1.0, spec_of(join_s=2 / 25)).run(scores(near)))) == 2

    def test_a_break_in_the_recording_ends_an_event(self) -> None:
        before = [Score(i, i / 25, 2.0, 0.0, 0.0) for i in range(5)]
        after = [Score(i, i / 25, 2.0, 0.0, 0.0) for i in range(90_000, 90_005)]
        events = list(EventFinder("", 1.0, spec_of(join_s=1.0)).run([*before, *after]))
        assert [(e.start_frame, e.end_frame) for e in events] == [(0, 4), (90_000, 90_004)]

    @pytest.mark.parametrize("start_s", [0.0, 0.1, 3.3, 1e5, 1_795_000_000.7])
    def test_the_clock_may_begin_anywhere(self, start_s: float) -> None:
        """Ten frames at ten a second are 1.0000000000000002 s by some clocks."""
        values = [2, *[0] * 9, 2, 0, 0]
        for spec, expected in ((spec_of(join_s=1.0), 1), (spec_of(join_s=0.9), 2)):
            found = [Score(i, start_s + i / 10, value, 0.0, 0.0) for i, value in enumerate(values)]
            assert len(list(EventFinder("", 1.0, spec).run(found))) == expected

    def test_a_few_frames_that_are_missing_do_not_end_it(self) -> None:
        found = [score for score in scores([2] * 20) if score.index not in (7, 8, 9)]
        (event,) = EventFinder("", 1.0, spec_of(join_s=1.0)).run(found)
        assert (event.start_frame, event.end_frame) == (0, 19)

    def test_the_first_of_equal_peaks(self) -> None:
        (event,) = EventFinder("", 1.0, spec_of()).run(scores([1, 3, 2, 3]))
        assert event.peak_frame == 1

    def test_finish_forgets_and_says_nothing_twice(self) -> None:
        finder = EventFinder("", 1.0, spec_of())
        for score in scores([2, 2]):
            finder.push(score)
        assert finder.finish() is not None
        assert finder.finish() is None
        assert finder.open is None
        assert not finder.active
        assert finder.push(Score(2, 0.08, 0.9, 0.0, 0.0)) is None
        assert finder.open is None, "after the end the threshold counts again, not the release"

    def test_no_number_is_not_high(self) -> None:
        assert not list(EventFinder("", 1.0, spec_of()).run(scores([math.nan] * 5)))


SPEC = DecisionSettings(motion=("flow_speed:12",), appearance=("frame_error:16",))
CALIBRATION = calibration()
CALIBRATIONS = {
    (smoothing, score): calibration(
        motion=("flow_speed:12",), appearance=("frame_error:16",), smoothing=smoothing, score=score
    )
    for smoothing in (0.0, 0.5, 0.9)
    for score in ("comemory", "thesis")
}
FRAMES = video(7, 12, scale=2.0)


def test_patch_map_says_its_pitch_and_side() -> None:
    values, pitch, side = patch_map(FRAMES[0], "appearance_distance:16")
    assert (values.shape, pitch, side) == ((3, 5), 8, 16)
