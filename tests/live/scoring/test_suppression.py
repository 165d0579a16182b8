"""Zones and events marked as normal: which patches may set the score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live.test_live import BUDGET, expected, lines

from comemory.bundle import open_bundle
from comemory.detector import Detector
from comemory.errors import ConfigError
from comemory.live.config import LiveSettings
from comemory.live.engine import Engine
from comemory.live.scoring.suppression import COLUMNS, ROWS, Signature, SuppressionFilter, parse_cells, score_channels
from comemory.live.scoring.zones import ZoneMask, points_in_polygon
from comemory.scoring import PatchMap, Scorer, find_peak
from comemory.types import Evidence

WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
Live = Callable[..., LiveSettings]


@pytest.fixture(scope="session")
def evidence(quick_bundle: Path, clips: list[Path]) -> list[Evidence]:
    detector = Detector.open(quick_bundle, threads=1)
    scored = map(detector.step, detector.open_source(clips[0]))
    return [one.evidence for one in scored if one is not None and 30 <= one.frame.index < 60]


class TestZones:
    @given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=50))
    @settings(max_examples=30, deadline=None)
    def test_a_rectangle_contains_the_points_inside_it(self, points: list[tuple[float, float]]) -> None:
        zone = ((0.2, 0.1), (0.8, 0.1), (0.8, 0.6), (0.2, 0.6))
        x, y = np.array(points).T
        clear = (
            (np.abs(x - 0.2) > 1e-9) & (np.abs(x - 0.8) > 1e-9) & (np.abs(y - 0.1) > 1e-9) & (np.abs(y - 0.6) > 1e-9)
        )
        expected_ = (x > 0.2) & (x < 0.8) & (y > 0.1) & (y < 0.6)
        assert (points_in_polygon(zone, x, y) == expected_)[clear].all()

    def test_the_centre_of_a_patch_decides(self) -> None:
        patches = PatchMap(np.zeros((3, 4)), 4, 4)
        allowed = ZoneMask([LEFT], (12, 16))(patches)
        assert allowed.tolist() == [[False, False, True, True]] * 3

    def test_no_patch_in_a_zone_is_the_peak(self, quick_bundle: Path, evidence: list[Evidence]) -> None:
        bundle = open_bundle(quick_bundle)
        size = (bundle.clips.height, bundle.clips.width)
        patch_filter = SuppressionFilter(bundle.calibration, size, [LEFT]).patch_filter
        for one in evidence:
            for channel in score_channels(bundle.calibration):
                left, _, right, _ = find_peak(one.maps, channel, patch_filter).box
                assert (left + right) / 2 >= size[1] / 2

    def test_without_zones_and_normal_events_there_is_no_filter(self, quick_bundle: Path) -> None:
        assert SuppressionFilter(open_bundle(quick_bundle).calibration, (64, 96)).patch_filter is None

    def test_a_zone_over_the_whole_image_leaves_no_event(self, quick_bundle: Path, evidence: list[Evidence]) -> None:
        calibration = open_bundle(quick_bundle).calibration
        scorer = Scorer(calibration)
        patch_filter = SuppressionFilter(calibration, (64, 96), [WHOLE]).patch_filter
        assert max(scorer.update(one, patch_filter).value for one in evidence) < 1


class TestSignature:
    def test_an_event_marked_as_normal_is_suppressed_at_its_place_only(
        self, quick_bundle: Path, evidence: list[Evidence]
    ) -> None:
        calibration = open_bundle(quick_bundle).calibration
        signature = Signature(calibration, (64, 96))
        for one in evidence:
            signature.add(one.maps)
        cells = signature.cells()
        assert len(cells) == 3 + len(score_channels(calibration)) * ROWS * COLUMNS
        patch_filter = SuppressionFilter(calibration, (64, 96), normal=[cells]).patch_filter
        plain, suppressed, elsewhere = Scorer(calibration), Scorer(calibration), Scorer(calibration)
        before = [plain.update(one).value for one in evidence]
        after = [suppressed.update(one, patch_filter).value for one in evidence]
        flipped = [Evidence({name: values[..., ::-1] for name, values in one.maps.items()}) for one in evidence]
        other = [elsewhere.update(one, patch_filter).value for one in flipped]
        assert max(before) > 2.5
        assert max(after) < 1.2
        assert max(other) > 2

    @pytest.mark.parametrize("cells", [None, (), (1.0,), (12.0, 16.0, 9.0, 0.5), (12.0, 16.0, 3.0, float("nan"))])
    def test_a_signature_of_another_kind_is_none(self, cells: tuple[float, ...] | None) -> None:
        assert parse_cells(cells, 3) is None


def test_an_event_marked_as_normal_does_not_come_again(
    quick_bundle: Path, clips: list[Path], live: Live, tmp_path: Path
) -> None:
    """On the same clip again, on another one, and on the same after the mark was removed."""

    def run(clip: Path, verdict: Literal["normal"] | None = None) -> int:
        settings = live({"gate": {"url": str(clip), "realtime": False, "false_alarms": BUDGET}})
        before = len(lines(settings.out, "new")) if (settings.out / "events.jsonl").exists() else 0
        engine = Engine(settings)
        engine.start()
        assert engine.wait(60)
        engine.stop()
        found = lines(settings.out, "end")[before:]
        for event in found if verdict else ():
            engine.set_verdict(event["id"], verdict, "tester")
        return len(found)

    first = run(clips[1], "normal")
    assert first == len(expected(quick_bundle, clips[1])[1]) > 0
    assert run(clips[1]) == 0
    assert run(clips[0]) > 0
    for event_id in json.loads((tmp_path / "live" / "verdicts.json").read_text()):
        Engine(live({"gate": {"url": str(clips[1])}})).set_verdict(event_id, None, "tester")
    assert run(clips[1]) == first


def test_a_verdict_on_an_unknown_event_is_refused(clips: list[Path], live: Live) -> None:
    engine = Engine(live({"gate": {"url": str(clips[0])}}))
    with pytest.raises(ConfigError, match="there is no event"):
        engine.set_verdict("nothing", "normal", "tester")
