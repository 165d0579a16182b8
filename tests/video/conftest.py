"""Small videos made with real encoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import pytest
from moving_disc import Image, disc_images

MakeVideo = Callable[..., Path]


@pytest.fixture
def make_video(tmp_path: Path) -> MakeVideo:
    """Encode images: `make_video("a.mp4", codec="libx264", pix_fmt="yuv420p", images=…, times_ms=…)`."""

    def make(
        name: str,
        *,
        codec: str = "libx264",
        pix_fmt: str = "yuv420p",
        images: Sequence[Image] | None = None,
        times_ms: Sequence[int] | None = None,
        options: dict[str, str] | None = None,
        muxing: dict[str, str] | None = None,
        rate: int = 25,
    ) -> Path:
        images = disc_images(12) if images is None else images
        path = tmp_path / name
        with av.open(str(path), "w", options=muxing or {}) as container:
            stream = container.add_stream(codec, rate=rate, options=options or {})
            stream.height, stream.width = images[0].shape[:2]
            stream.pix_fmt = pix_fmt
            if times_ms:
                stream.codec_context.time_base = Fraction(1, 1000)
            for i, image in enumerate(images):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pix_fmt)
                if times_ms:
                    frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path

    return make
