"""Score images from memory one by one, as a camera's callback would: `python examples/watch_frames.py [BUNDLE]`."""

import sys

import numpy as np

from comemory import Detector
from comemory.cli.demo import shipped_bundle

detector = Detector.open(sys.argv[1] if len(sys.argv) > 1 else shipped_bundle("synthetic-nano"), threads=1)
threshold = detector.bundle.calibration.threshold("10/h")
background = np.random.default_rng(0).integers(90, 160, (240, 360, 3), dtype=np.uint8)

for number in range(12):
    image = background.copy()
    if number >= 8:  # something white crosses the image
        left = 40 * (number - 7)
        image[100:180, left : left + 60] = 255
    scored = detector.step(image, time_s=number / 10)
    if scored is None:
        print(f"frame {number}: no score yet, {detector.bundle.clips.n_past} frames must come before it")
    else:
        score = scored.score
        print(f"frame {number}: score {score.value:.2f} {'ALARM' if score.value >= threshold else ''} box {score.box}")
