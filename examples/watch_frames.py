"""Push pictures from memory, one by one, as a camera's callback would: `python examples/watch_frames.py [BUNDLE]`."""

import sys

import numpy as np

from comemory.cli.demo import shipped_bundle
from comemory.detector import Detector
from comemory.types import Frame

detector = Detector.open(sys.argv[1] if len(sys.argv) > 1 else shipped_bundle("synthetic-nano"), threads=1)
threshold = detector.bundle.calibration.threshold("10/h")
picture = np.random.default_rng(0).integers(90, 160, (240, 360, 3), dtype=np.uint8)
for index in range(12):
    image = picture.copy()
    if index >= 8:
        left = 40 * (index - 7)
        image[100:180, left : left + 60] = 255
    score = detector.push(Frame(image, time_s=index / 10, index=index))
    if score is None:
        print(f"frame {index}: no score yet, {detector.bundle.clips.n_past} frames must come before it")
    else:
        print(f"frame {index}: score {score.value:.2f} {'ALARM' if score.value >= threshold else ''} box {score.box}")
detector.reset()
