"""Frames that were lost or damaged on the way, with real codecs: those that are trusted equal those that were sent."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
from moving_disc import disc_images

from comemory.live.capture.frame_loss import MAX_DAMAGE_S, FrameLoss

N_FRAMES, GOP = 120, 30
FIRST_LOST = 70
"""In the middle of the third group of pictures."""
EARLY_LOST = 15
"""In the middle of the first group, soon after the connection was made."""
CODECS = {
    "h264": ("libx264", {"bf": "0", "sc_threshold": "0"}, "mp4"),
    "h264 with B-frames": ("libx264", {"bf": "2", "sc_threshold": "0"}, "mp4"),
    "h264 with start codes": ("libx264", {"bf": "0", "sc_threshold": "0"}, "h264"),
    "hevc": ("libx265", {"x265-params": "log-level=none:bframes=0"}, "mp4"),
    "mpeg4": ("mpeg4", {}, "mp4"),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}, "webm"),
}


def encode(folder: Path, kind: str) -> Path:
    codec, options, ending = CODECS[kind]
    path = folder / f"clip.{ending}"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 96, 144, "yuv420p"
        stream.codec_context.gop_size = GOP
        for image in disc_images(N_FRAMES, 96, 144):
            noisy = np.clip(image + rng.integers(-8, 9, image.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24").reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    return path


def decode(path: Path, lost: set[int]) -> tuple[list[bytes], list[bytes], int, int]:
    """The trusted frames, the frames that were sent, and the numbers of lost frames and of those left out."""
    with av.open(str(path)) as container:
        sent = [frame.to_ndarray(format="gray").tobytes() for frame in container.decode(video=0)]
    trusted: list[bytes] = []
    n_lost = n_left_out = 0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        loss = FrameLoss(context.name, context.extradata, float(stream.time_base or 0))
        for k, packet in enumerate(container.demux(stream)):
            if k in lost:
                continue
            if packet.size:
                n_lost += loss.n_lost_before(packet)
            trusted += [f.to_ndarray(format="gray").tobytes() for f in context.decode(packet) if loss.is_clean(f)]
            n_left_out += loss.n_left_out()
    return trusted, sent, n_lost, n_left_out


@pytest.mark.parametrize("kind", CODECS)
def test_all_frames_of_a_complete_stream_are_trusted(tmp_path: Path, kind: str) -> None:
    trusted, sent, n_lost, n_left_out = decode(encode(tmp_path, kind), set())
    assert trusted == sent
    assert (n_lost, n_left_out) == (0, 0)


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("place", [EARLY_LOST, FIRST_LOST, FIRST_LOST + 1, FIRST_LOST + 2])
def test_frames_after_a_lost_one_are_not_trusted_until_the_next_key_frame(
    tmp_path: Path, kind: str, place: int
) -> None:
    trusted, sent, n_lost, _ = decode(encode(tmp_path, kind), {place})
    assert set(trusted) <= set(sent), "a frame predicted from a missing one was trusted"
    assert len(trusted) >= N_FRAMES - GOP, "only the rest of one group of pictures is left out"
    if kind != "h264 with B-frames":  # a lost B-frame may be one that no other frame needs
        assert n_lost == 1
        assert trusted[-GOP:] == sent[-GOP:]


def test_lost_key_frame_damages_its_whole_group(tmp_path: Path) -> None:
    trusted, sent, n_lost, _ = decode(encode(tmp_path, "h264"), {2 * GOP})
    assert trusted == [*sent[: 2 * GOP], *sent[3 * GOP :]]
    assert n_lost >= 1


def test_damage_ends_after_a_minute_in_a_stream_without_key_frames() -> None:
    loss = FrameLoss("h264", None, 0.1)
    loss.mark_undecodable()
    frames = [SimpleNamespace(is_corrupt=False, pts=k) for k in range(int(10 * MAX_DAMAGE_S) + 10)]
    trusted = [frame.pts for frame in frames if loss.is_clean(frame)]
    assert trusted[0] == int(10 * MAX_DAMAGE_S)
    assert len(trusted) == 10


@pytest.mark.parametrize("data", [b"", b"\0\0\1", b"\0\0\1\x67", b"\0\0\1\x67\x64\x00\x1e\xff", b"\0\0\1\x65\0\0\0"])
def test_damaged_headers_are_no_error(data: bytes) -> None:
    loss = FrameLoss("h264", data, 0.1)
    packet = av.Packet(data or b"x")
    assert loss.n_lost_before(packet) == 0
