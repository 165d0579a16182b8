"""Train the smallest of detectors, in seconds: `python examples/train_tiny.py [OUT]`. Needs the `train` extra."""

import sys
import tempfile
from pathlib import Path

from comemory.detector import Detector
from comemory.training.config import read_training_config
from comemory.training.train import train

DATA = "synthetic:seed=1,size=64x96,frames=40,training=3,testing=1"
SETTINGS = [
    *("clips.height=32", "clips.width=48", "clips.flow_height=64", "clips.flow_width=96"),
    *(
        "network.base_width=4",
        "train.epochs=1",
        "train.calibration_share=0.5",
        "train.threads=1",
        "train.accelerator=cpu",
    ),
]

with tempfile.TemporaryDirectory() as folder:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else folder) / "tiny"
    trained = train(DATA, read_training_config("nano", settings=SETTINGS), out, run=Path(folder) / "run")
    bundle = Detector.open(trained.bundle).bundle
    print(f"{trained.bundle.name}: {bundle.calibration.n_frames} frames calibrated it, sha256 {bundle.digest[:12]}")
    print(f"threshold for one false alarm an hour: {bundle.calibration.threshold('1/h'):.2f}")
