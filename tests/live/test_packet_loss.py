"""A camera behind a network that loses packets: damaged frames are not scored, and the camera says so."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from live.conftest import RtspServer, until
from live.lossy_relay import LossyRelay

from comemory.datasets import open_dataset
from comemory.live.capture.frame_queue import FrameQueue
from comemory.live.capture.reader import CameraReader
from comemory.live.config import CameraSettings, HealthSettings, LiveSettings
from comemory.live.contract import CameraState
from comemory.live.engine import Engine
from comemory.live.recording.packet_buffer import PacketBuffer
from comemory.video.frame_sampler import FrameSampler

SHARE = 0.02
N_FRAMES = 400
GOP = 20
"""A key frame every two seconds, as cameras send it."""
SIZE = (240, 360)
"""(height, width): large enough that a frame fills several RTP packets."""
Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Normal video with the noise of a camera, 40 s at 10 frames per second."""
    scene = open_dataset("synthetic:seed=9,frames=100,training=1,testing=1,size=240x360").training()[0].source
    rng = np.random.default_rng(0)
    images = [frame.image for frame in scene]  # type: ignore[union-attr]
    noisy = [
        np.clip(images[k % 100] + rng.integers(-6, 7, (*SIZE, 1)), 0, 255).astype(np.uint8) for k in range(N_FRAMES)
    ]
    path = tmp_path_factory.mktemp("lossy") / "normal.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"bf": "0", "crf": "23"})
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        stream.codec_context.gop_size = GOP
        for image in noisy:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def relay(clip: Path, rtsp: Callable[[dict[str, Path]], RtspServer]) -> Iterator[tuple[LossyRelay, str]]:
    """A relay in front of a server, and the URL of the clip through it."""
    server = rtsp({"gate": clip})
    made = LossyRelay(server.port)
    yield made, made.url(server.url("gate"))
    made.close()


@pytest.mark.parametrize("kind", ["drop_share", "damage_share"])
def test_only_intact_frames_are_queued(clip: Path, relay: tuple[LossyRelay, str], kind: str) -> None:
    """Queued frames equal those that were sent, bit by bit."""
    made, url = relay
    made.set_loss(**{kind: SHARE})
    with av.open(str(clip)) as container:
        sent = {frame.to_ndarray(format="gray").tobytes() for frame in container.decode(video=0)}
    queue = FrameQueue(10**6, lossless=False)
    camera = CameraSettings(url=url)
    reader = CameraReader("gate", camera, HealthSettings(), FrameSampler(10), queue, PacketBuffer.unused())
    reader.start()
    until(lambda: reader.frames >= 150)
    reader.stop()
    reader.join(60)
    queued: list[Any] = queue.pop_all()
    assert made.n_lost > 10
    assert reader.damaged > 0
    assert len(queued) > 10, "intact groups of pictures are still scored"
    assert len(queued) + reader.damaged <= reader.frames
    damaged = [frame for frame in queued if frame.image.to_ndarray(format="gray").tobytes() not in sent]
    # Changed bytes may by chance be valid video that no decoder can tell; a network's checksums drop such packets.
    # So may a slice whose last packet is lost: seen once in 22 lost packets, and in that frame alone.
    assert len(damaged) <= (1 if kind == "drop_share" else GOP)


def test_lossy_camera_is_degraded_and_raises_no_event(
    relay: tuple[LossyRelay, str], live: Live, engines: Engines
) -> None:
    made, url = relay
    made.set_loss(drop_share=SHARE)
    engine = engines(live({"gate": {"url": url}}))
    until(lambda: engine.status()[0].state is CameraState.DEGRADED)
    status = engine.status()[0]
    assert "lost or damaged" in status.message
    assert status.damaged > 0
    assert engine.metrics().damaged["gate"] >= status.damaged
    time.sleep(0.5)
    engine.stop()
    assert engine.metrics().events["gate"] == 0
    lines = (engine.settings.out / "events.jsonl").read_text().splitlines()
    assert any('"degraded"' in line for line in lines)
