"""Evidence to score to events: numpy, causal, fitted on ordinary video alone.

A *channel* is one named statistic of the evidence at one patch size, such as `flow_speed:12`, taken at the frame's
largest patch.
Every channel is put on one scale by the ordinary video kept back from training: a value of 3 is passed by one
ordinary frame in 10 ** 3. The rarest channel is the score, the learned ones held back; or a weighted sum, as in the
seed's Eq. (16).

channels.py  statistics of the evidence    scale.py  their rarity    calibration.py  what was fitted, and the judge
places.py    what is usual where           heat.py   the score of each place
store.py    scores to events        fitting.py  the fit         config_model.py
"""

from __future__ import annotations

from comemory.scoring.calibration import (
    Calibration,
    Judgement,
    Scorer,
    combine,
    join,
    needed_evidence,
    parse_budget,
)
from comemory.scoring.channels import (
    STATISTICS,
    UNLEARNED,
    Keep,
    PatchMap,
    Peak,
    parse_channel,
    patch_map,
    patch_means,
    peak,
    thesis_parts,
    thesis_score,
)
from comemory.scoring.config import DecisionSettings
from comemory.scoring.drift import farthest_distance_change, follow, hold
from comemory.scoring.events import EventFinder
from comemory.scoring.fit import fit_calibration
from comemory.scoring.heatmap import HOTTEST, heat, refuse_misfit, score_map
from comemory.scoring.spatial_baseline import UsualLevels, with_relative
from comemory.scoring.tail import FARTHEST, TailScale, fit_tail_scale
from comemory.types import CELL

__all__ = [
    "CELL",
    "FARTHEST",
    "HOTTEST",
    "STATISTICS",
    "UNLEARNED",
    "Calibration",
    "DecisionSettings",
    "EventFinder",
    "Judgement",
    "Keep",
    "PatchMap",
    "Peak",
    "Scorer",
    "TailScale",
    "UsualLevels",
    "combine",
    "farthest_distance_change",
    "fit_calibration",
    "fit_tail_scale",
    "follow",
    "heat",
    "hold",
    "join",
    "needed_evidence",
    "parse_budget",
    "parse_channel",
    "patch_map",
    "patch_means",
    "peak",
    "refuse_misfit",
    "score_map",
    "thesis_parts",
    "thesis_score",
    "with_relative",
]
