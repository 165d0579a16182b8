"""Metrics: how well scores agree with labels. Nothing outside of evaluation uses labels.

There are three kinds of input:

- flat: `scores` and `labels` are arrays over all frames (`auc`, `average_precision`, `roc_curve`, …), made by
  `concatenate_videos`.
- per video: sequences with one entry for each video (`micro_auc`, `detection_delay`, …); `names` are for error messages.
- regions: boxes with a score each (`rbdc`, `tbdc`), score maps cut into regions at every threshold (`sweep`, `swept_rbdc`,
  `swept_tbdc`), and score maps with masks (`pixel_score`, `pixel_auc`).

A metric that the labels do not allow (one class only, no normal frame, no track) is None. Scores that are not finite,
labels that are not 0 or 1, and lengths that differ raise `EvaluationError`. What looks ahead is called `offline_*`.
"""

from __future__ import annotations

from comemory.metrics.alarm import DetectionDelay, detection_delay, false_alarms_per_hour, intervals
from comemory.metrics.bootstrap import micro_auc_ci95
from comemory.metrics.frame import (
    MacroAuc,
    RocCurve,
    auc,
    average_precision,
    equal_error_rate,
    false_positive_rate_at,
    macro_auc,
    micro_auc,
    roc_curve,
)
from comemory.metrics.linking import link_tracks, regions_from_map
from comemory.metrics.normalise import causal_smooth, offline_max_division, offline_min_max, offline_smooth
from comemory.metrics.paired import concatenate_videos
from comemory.metrics.pixel import pixel_auc, pixel_score
from comemory.metrics.region import Region, Track, rbdc, tbdc
from comemory.metrics.swept import RegionSweep, sweep, swept_rbdc, swept_tbdc

__all__ = [
    "DetectionDelay",
    "MacroAuc",
    "Region",
    "RegionSweep",
    "RocCurve",
    "Track",
    "auc",
    "average_precision",
    "causal_smooth",
    "concatenate_videos",
    "detection_delay",
    "equal_error_rate",
    "false_alarms_per_hour",
    "false_positive_rate_at",
    "intervals",
    "link_tracks",
    "macro_auc",
    "micro_auc",
    "micro_auc_ci95",
    "offline_max_division",
    "offline_min_max",
    "offline_smooth",
    "pixel_auc",
    "pixel_score",
    "rbdc",
    "regions_from_map",
    "roc_curve",
    "sweep",
    "swept_rbdc",
    "swept_tbdc",
    "tbdc",
]
