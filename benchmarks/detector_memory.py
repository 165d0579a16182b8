"""How long a detector remembers what it saw: scores of a late start against those of one run over the same video.

    python benchmarks/detector_memory.py --bundle models/ped2-small --video ped2.mp4 --starts 300,1200

For each start, a second run begins at that frame. Printed is, for each minute after it, how many scores differ from those of the
run from the first frame, and by how much. `cluster.seams` relies on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from comemory.detector import Detector
from comemory.parallel import score_frames
from comemory.types import Frame


def scores(detector: Detector, frames: Sequence[Frame], start: int) -> dict[int, float | None]:
    """The score of each frame from a start on. The sampler knows the times of the frames before it."""
    sampler = detector.source_sampler("video")
    for frame in frames[:start]:
        sampler.sample(frame)
    results = score_frames(detector, frames[start:], sampler=sampler)
    return {frame.index: None if scored is None else scored.score.value for frame, scored in results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--video", required=True)
    parser.add_argument("--starts", default="300,1200")
    parser.add_argument("--every-s", type=float, default=60.0)
    arguments = parser.parse_args()
    detector = Detector.open(arguments.bundle, threads=1)
    frames = list(detector.open_source(arguments.video))
    whole = scores(detector, frames, 0)
    deviation = np.std([value for value in whole.values() if value is not None])
    print(f"{len(frames)} frames, standard deviation of the score {deviation:.2f}")
    print("start_s from_s share_that_differs mean_difference largest_difference")
    for start in map(int, arguments.starts.split(",")):
        late = scores(detector, frames, start)
        found = [
            (frames[index].time_s - frames[start].time_s, abs(value - before))
            for index, value in late.items()
            if value is not None and (before := whole[index]) is not None
        ]
        minutes = np.array([time_s for time_s, _ in found]) // arguments.every_s
        differences = np.array([difference for _, difference in found])
        for minute in np.unique(minutes):
            part = differences[minutes == minute]
            numbers = f"{(part > 0).mean():.3f} {part.mean():.5f} {part.max():.4f}"
            print(f"{frames[start].time_s:.0f} {minute * arguments.every_s:.0f} {numbers}")


if __name__ == "__main__":
    main()
