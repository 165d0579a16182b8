"""The moment in which a camera is covered, loses its focus or freezes is a fault of the camera, and no event."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from comemory.datasets import open_dataset
from comemory.live.config import LiveSettings
from comemory.live.engine import Engine

Image = np.ndarray
N_HEALTHY, N_FAULTY = 100, 50


def cover_half(image: Image) -> Image:
    covered = image.copy()
    covered[:, : image.shape[1] // 2] = (40, 42, 45)
    return covered


@pytest.mark.parametrize("fault", [cover_half, lambda image: np.asarray(cv2.GaussianBlur(image, (0, 0), 4))])
def test_switch_to_a_fault_raises_no_event(
    live: Callable[..., LiveSettings], tmp_path: Path, fault: Callable[[Image], Image]
) -> None:
    scene = open_dataset("synthetic:seed=9,frames=150,training=1,testing=1,size=240x360").training()[0].source
    path = tmp_path / "gate.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"crf": "20", "g": "20"})
        stream.height, stream.width, stream.pix_fmt = 240, 360, "yuv420p"
        for k, frame in enumerate(scene):  # type: ignore[arg-type]
            image = frame.image if k < N_HEALTHY else fault(frame.image)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    settings = live({"gate": {"url": str(path), "realtime": False, "false_alarms": "1/day"}})
    engine = Engine(settings)
    with engine.subscribe() as messages:
        engine.start()
        assert engine.wait(180)
        engine.stop()
        n_scored = sum(message["kind"] == "score" for message in messages.queue)
    assert engine.metrics().events["gate"] == 0
    assert N_HEALTHY - 10 <= n_scored <= N_HEALTHY, "healthy frames are scored, faulty ones are not"
