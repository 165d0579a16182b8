"""Score a video file and print its events: `python examples/score_a_file.py [BUNDLE [VIDEO]]`."""

import sys
import tempfile
from pathlib import Path

from comemory import Detector
from comemory.cli.demo import shipped_bundle
from comemory.datasets import open_dataset
from comemory.scoring import EventFinder
from comemory.video.source import open_source
from comemory.video.writer import write_video

detector = Detector.open(sys.argv[1] if len(sys.argv) > 1 else shipped_bundle("synthetic-nano"))
with tempfile.TemporaryDirectory() as folder:
    video = Path(sys.argv[2] if len(sys.argv) > 2 else f"{folder}/walk.mp4")
    if len(sys.argv) <= 2:  # no video given: render one
        clip = open_dataset("synthetic:seed=7,frames=60,kinds=cart").testing()[0]
        write_video(open_source(clip.source), video, 10.0)
    scores = list(detector.run(video))

calibration = detector.bundle.calibration
threshold = calibration.threshold("10/h")
highest = max(score.value for score in scores)
print(f"{len(scores)} frames scored, the highest {highest:.2f}, threshold {threshold:.2f}")
for event in EventFinder(video.stem, threshold, calibration.settings).run(scores):
    print(f"{event.source}: {event.start_s:.1f} to {event.end_s:.1f} s, peak {event.peak_score:.2f} at {event.box}")
