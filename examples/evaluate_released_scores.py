"""Evaluate scores that others released: `python examples/evaluate_released_scores.py KIND:PATH SCORES [regularity]`.

`SCORES`: a folder with a file for each test video, or one file; `regularity`: higher is more normal. Nothing: a rendered scene.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from comemory.datasets import open_dataset
from comemory.errors import ComemoryError
from comemory.evaluation.released_scores import evaluate_released_scores

if len(sys.argv) == 2:
    sys.exit(__doc__)
made = "synthetic:seed=2,frames=80,testing=3,size=60x90"
data, scores, *kind = sys.argv[1:] or [made, tempfile.mkdtemp(), "regularity"]
try:
    dataset = open_dataset(data)
    if not sys.argv[1:]:
        for video in dataset.testing():
            noisy = np.asarray(video.labels)[4:] + np.random.default_rng(0).normal(0, 0.5, len(video.labels) - 4)
            np.save(Path(scores, f"psnr_{video.name}.npy"), 1 - (noisy - noisy.min()) / np.ptp(noisy))
    results, notes = evaluate_released_scores(Path(scores), data, dataset.testing(), higher_is_normal=bool(kind))
except ComemoryError as error:
    sys.exit(f"error: {error}")
print(f"micro AUC {results['causal']['auc_micro']:.3f}", *notes, sep="\n")
