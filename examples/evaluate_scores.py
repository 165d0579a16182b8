"""Compute metrics of scores from anywhere, without a bundle: `python examples/evaluate_scores.py`."""

import numpy as np

from comemory import metrics
from comemory.datasets import open_dataset

videos = open_dataset("synthetic:seed=2,frames=80,testing=3,size=60x90").testing()
names = [video.name for video in videos]
labels = [np.asarray(video.labels) for video in videos]
noise = np.random.default_rng(0)
scores = [label + noise.normal(0, 0.7, len(label)) for label in labels]

low, high = metrics.micro_auc_ci95(scores, labels, names) or (None, None)
print(f"micro AUC {metrics.micro_auc(scores, labels, names):.3f}, 95 % interval over videos {low:.3f} to {high:.3f}")
print(f"macro {metrics.macro_auc(scores, labels, names)}")
alarms = [metrics.intervals(score > 1.5) for score in scores]
rates = [10.0] * len(videos)
print(f"false alarms per hour {metrics.false_alarms_per_hour(alarms, labels, rates, names)}")
print(metrics.detection_delay(alarms, labels, rates, names))
