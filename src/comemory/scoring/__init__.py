"""Evidence to score to event: numpy, causal, fitted on normal video only.

A *channel* is one statistic of the evidence at one patch size, such as `flow_speed:12`; its value for a frame is that of
the largest patch. Held-out normal video puts all channels on one scale, -log10 of the tail probability: one normal frame
in 10 ** 3 reaches a level of 3. The score is the sum of the channels, weighted by what normal video tells of each, and calibrated
once more. Or it is their maximum, where learned channels carry a fixed penalty.

config.py            settings, and the default false-alarm budget
channels.py          statistics of the evidence, and their largest patch
spatial_baseline.py  the normal level at each place, which some statistics are divided by
tail.py              the scale
calibration.py       everything that is fitted on normal video, and thresholds
directional.py       speed relative to what is normal in a direction
objects.py, normal_objects.py, object_evidence.py   moving objects, the memory of normal ones, their evidence
fit.py, weights.py   the fit, and the weights of channels
scorer.py            evidence to score, frame by frame
memory_update.py     memory items that adapt while the detector runs
heatmap.py           the score of each place
events.py            scores to events
"""

from __future__ import annotations

from comemory.scoring.calibration import Calibration, evidence_to_normalise, parse_budget
from comemory.scoring.channels import (
    HAND_DESIGNED,
    STATISTICS,
    PatchFilter,
    PatchMap,
    Peak,
    evidence_name,
    find_peak,
    parse_channel,
    patch_map,
    patch_means,
    thesis_parts,
    thesis_score,
)
from comemory.scoring.config import DEFAULT_FALSE_ALARMS, ScoringSettings
from comemory.scoring.events import EventFinder
from comemory.scoring.fit import fit_calibration
from comemory.scoring.heatmap import HEAT_MAP_MAX, check_evidence, has_score_map, heat_map, score_map
from comemory.scoring.memory_update import bounded_update, clamp, max_distance_change
from comemory.scoring.object_evidence import NormalScene, ObjectEvidence, cell_flow, object_box
from comemory.scoring.objects import MovingObject
from comemory.scoring.scorer import ScoreParts, Scorer, fuse_channels, fuse_parts, thesis_peak
from comemory.scoring.spatial_baseline import SpatialBaseline, normalise
from comemory.scoring.tail import LINEAR_LIMIT, TailScale, fit_tail_scale
from comemory.types import CELL

__all__ = [
    "CELL",
    "DEFAULT_FALSE_ALARMS",
    "HAND_DESIGNED",
    "HEAT_MAP_MAX",
    "LINEAR_LIMIT",
    "STATISTICS",
    "Calibration",
    "EventFinder",
    "MovingObject",
    "NormalScene",
    "ObjectEvidence",
    "PatchFilter",
    "PatchMap",
    "Peak",
    "ScoreParts",
    "Scorer",
    "ScoringSettings",
    "SpatialBaseline",
    "TailScale",
    "bounded_update",
    "cell_flow",
    "check_evidence",
    "clamp",
    "evidence_name",
    "evidence_to_normalise",
    "find_peak",
    "fit_calibration",
    "fit_tail_scale",
    "fuse_channels",
    "fuse_parts",
    "has_score_map",
    "heat_map",
    "max_distance_change",
    "normalise",
    "object_box",
    "parse_budget",
    "parse_channel",
    "patch_map",
    "patch_means",
    "score_map",
    "thesis_parts",
    "thesis_peak",
    "thesis_score",
]
