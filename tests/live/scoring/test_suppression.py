"""Zones and verdicts: what may win, and what no longer does."""

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
from comemory.live.scoring.zones import ZoneMask, contains
from comemory.scoring import PatchMap, Scorer, normalise, peak

WHOLE = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
Live = Callable[..., LiveSettings]


@pytest.fixture(scope="session")
def evidence(quick_bundle: Path, clips: list[Path]) -> list[dict[str, np.ndarray]]:
    detector, found = Detector.open(quick_bundle, threads=1), []
    for frame in detector.open_source(clips[0]):
        clip = detector.builder.add_frame(frame)
        if clip is not None and 30 <= frame.index < 60:
            maps = detector.evidence(clip).maps
            found.append({**normalise(maps, detector.bundle.calibration.spatial_baselines)})
    return found


class TestZones:
    @given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=50))
    @settings(max_examples=30, deadline=None)
    def test_a_rectangle_is_what_it_says(self, points: list[tuple[float, float]]) -> None:
        zone = ((0.2, 0.1), (0.8, 0.1), (0.8, 0.6), (0.2, 0.6))
        x, y = np.array(points).T
        clear = (
            (np.abs(x - 0.2) > 1e-9) & (np.abs(x - 0.8) > 1e-9) & (np.abs(y - 0.1) > 1e-9) & (np.abs(y - 0.6) > 1e-9)
        )
        expected_ = (x > 0.2) & (x < 0.8) & (y > 0.1) & (y < 0.6)
        assert (contains(zone, x, y) == expected_)[clear].all()

    def test_patches_are_told_by_their_centres(self) -> None:
        patches = PatchMap(np.zeros((3, 4)), 4, 4)
        kept = ZoneMask([LEFT], (12, 16))(patches)
        assert kept.tolist() == [[False, False, True, True]] * 3

    def test_no_patch_of_a_zone_wins(self, quick_bundle: Path, evidence: list[dict[str, np.ndarray]]) -> None:
        bundle = open_bundle(quick_bundle)
        size = (bundle.clips.height, bundle.clips.width)
        keep = SuppressionFilter(bundle.calibration, size, [LEFT]).patch_filter
        for maps in evidence:
            for channel in score_channels(bundle.calibration):
                left, _, right, _ = peak(maps, channel, keep).box
                assert (left + right) / 2 >= size[1] / 2

    def test_without_zones_and_verdicts_nothing_is_asked(self, quick_bundle: Path) -> None:
        assert SuppressionFilter(open_bundle(quick_bundle).calibration, (64, 96)).patch_filter is None

    def test_a_zone_over_all_leaves_nothing_to_fire(
        self, quick_bundle: Path, evidence: list[dict[str, np.ndarray]]
    ) -> None:
        calibration = open_bundle(quick_bundle).calibration
        judge = Scorer(calibration)
        keep = SuppressionFilter(calibration, (64, 96), [WHOLE]).patch_filter
        assert max(judge.update(maps, keep).value for maps in evidence) < 1


class TestSignature:
    def test_what_was_seen_is_tolerated_there_and_nowhere_else(
        self, quick_bundle: Path, evidence: list[dict[str, np.ndarray]]
    ) -> None:
        calibration = open_bundle(quick_bundle).calibration
        signature = Signature(calibration, (64, 96))
        for maps in evidence:
            signature.add(maps)
        cells = signature.cells()
        assert len(cells) == 3 + len(score_channels(calibration)) * ROWS * COLUMNS
        keep = SuppressionFilter(calibration, (64, 96), normal=[cells]).patch_filter
        plain, taught, elsewhere = Scorer(calibration), Scorer(calibration), Scorer(calibration)
        before = [plain.update(maps).value for maps in evidence]
        after = [taught.update(maps, keep).value for maps in evidence]
        flipped = [{name: values[..., ::-1] for name, values in maps.items()} for maps in evidence]
        other = [elsewhere.update(maps, keep).value for maps in flipped]
        assert max(before) > 2.5
        assert max(after) < 1.2
        assert max(other) > 2

    @pytest.mark.parametrize("cells", [None, (), (1.0,), (12.0, 16.0, 9.0, 0.5), (12.0, 16.0, 3.0, float("nan"))])
    def test_another_signature_is_none(self, cells: tuple[float, ...] | None) -> None:
        assert parse_cells(cells, 3) is None


def test_an_event_called_normal_no_longer_fires(
    quick_bundle: Path, clips: list[Path], live: Live, tmp_path: Path
) -> None:
    """Measured on the same clip again, on another one, and on the same after it was taken back."""

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


def test_no_such_event(clips: list[Path], live: Live) -> None:
    engine = Engine(live({"gate": {"url": str(clips[0])}}))
    with pytest.raises(ConfigError, match="there is no event"):
        engine.set_verdict("nothing", "normal", "tester")
