"""Whether a camera still sends new images, or the same one again and again."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 8
"""Side of a block in pixels: that of the transform of most codecs, so that a block is coded again as a whole or not at all."""
SAMPLE_INTERVAL_S = 0.5
MOTION = 6.0
"""Mean difference of a block, in grey levels, that is motion. Coding one image at different qualities changes it by 1 to 3."""
MAX_MOVING_BLOCKS = 2
STRUCTURE = 4.0
"""Deviation of a block with structure; a flat block may be coded identically although the sensor's noise changes it."""
MIN_IDENTICAL = 0.25
"""Share of identical blocks before and after a key frame above which they show one image. Measured on x264 from CRF 23 to
35: 0.8 and more for one image coded twice, under 0.1 for two images with noise of half a grey level."""
MIN_CORRELATION = 0.65
"""The same for the correlation of their details beside the average image, which also holds where the quality differs.
Measured on x264 at 600 kbit/s and on MJPEG: 0.8 and more for one image, under 0.5 for two."""
MAX_DETAIL = 8.0
"""Larger differences from the average image, in grey levels, are people and not noise."""
N_AVERAGE, MIN_AVERAGE = 300, 10
"""Samples over which the average image follows the light, 150 s, and those that it needs to be used."""
MAX_NEW_SHARE = 0.3
"""Share of blocks that change at once with the light; the average image starts again then."""
N_DIFFERENT = 2
"""Consecutive pairs that differ and show that the sensor lives: one may differ by a change of quality."""
MAX_CHANGED = 0.02
"""Without key frames: share of blocks that may change from sample to sample."""
SETTLING_S = 2.5
"""Without key frames: time during which the codec still refines a frozen image. Measured on x264 at CRF 26: 1.5 to 2 s."""
CLIPPED = (24.0, 232.0)
"""Mean grey levels outside of which a block shows no noise, because the sensor is at its limit."""
BORDER = 0.15
"""Share of the height at the top and the bottom where cameras draw their clock; changes there say nothing."""
MAX_CLOCK_AREA = 0.06
"""Share of the image that a clock may cover. A larger area that changes is an image that changes."""

Luma = NDArray[np.uint8]


class FrozenDetector:
    """Measures for how long the image has not changed.

    Ours: it is not enough to look for identical images, for a frozen image is coded at another quality in each key frame,
    and the camera may draw a running clock over it. What a frozen image lacks is new noise. Images before and after a key
    frame are compared, for the codec starts again there: of a frozen sensor, they have many blocks that are equal bit by
    bit, or at least the same fine details beside the average of the last minutes; of a living one, the noise differs.
    Where no key frame comes, nothing at all may change, apart from a clock.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start again, such as after a new connection."""
        self._average: NDArray[np.float32] | None = None
        self._n_average = 0
        self._start_period()

    def _start_period(self) -> None:
        self._since: float | None = None
        self._sampled_at: float | None = None
        self._first: Luma | None = None
        self._last: Luma | None = None
        self._before_key: Luma | None = None
        self._n_identical = self._n_different = self._n_different_now = 0
        self._changed_at: float | None = None
        self._clock: NDArray[np.bool_] | None = None

    def is_due(self, time: float, *, is_key: bool) -> bool:
        """Whether an image of this time is to be given to `update`; key frames are, unless they follow each other fast."""
        if self._sampled_at is None or not 0 <= (passed := time - self._sampled_at) < SAMPLE_INTERVAL_S:
            return True
        return is_key and passed >= SAMPLE_INTERVAL_S / 2

    def update(self, luma: Luma, time: float, *, is_key: bool) -> float:
        """Compare the next image with those before.

        Args:
            luma: uint8 (H, W), at the resolution of the camera or every n-th pixel of it: scaled images have no noise.
            time: Unix time.
            is_key: it was coded without reference to others.

        Returns:
            Seconds for which the image has not changed.
        """
        self._sampled_at = time
        if self._first is not None and self._first.shape != luma.shape:
            self.reset()
        if self._first is None or self._has_motion(self._first, luma):
            self._restart(luma, time)
        self._compare(luma, time, is_key)
        if self._n_different_now >= N_DIFFERENT:
            self._restart(luma, time)
        self._last = luma
        self._update_average(luma)
        return self._still_s(time)

    def _still_s(self, time: float) -> float:
        if self._since is None:
            return 0.0
        if self._n_identical + self._n_different:
            return time - self._since if self._n_identical > self._n_different else 0.0
        if self._changed_at is None:
            return time - self._since
        return time - max(self._since, self._changed_at - SETTLING_S) if time > self._changed_at else 0.0

    def _compare(self, luma: Luma, time: float, is_key: bool) -> None:
        """Compare the last image before a key frame with the first one after it, and other images with the last one.

        The key frame itself is the one of least quality in a stream of constant bit rate.
        """
        before_key = self._before_key
        if is_key:
            self._before_key = self._last
        if before_key is not None:
            if not is_key:
                self._before_key = None
            self._count_pair(self._shows_one_image(before_key, luma))
        elif not is_key and self._last is not None:
            changes = _block_means(cv2.absdiff(self._last, luma)) > 0
            if _inside(changes).mean() > MAX_CHANGED:
                self._changed_at = time

    def _count_pair(self, is_one_image: bool) -> None:
        self._n_identical += is_one_image
        self._n_different += not is_one_image
        self._n_different_now = 0 if is_one_image else self._n_different_now + 1

    def _shows_one_image(self, before: Luma, luma: Luma) -> bool:
        if _share_identical(before, luma) >= MIN_IDENTICAL:
            return True
        if self._average is None or self._n_average < MIN_AVERAGE:
            return False
        return _correlation(_details(before - self._average), _details(luma - self._average)) >= MIN_CORRELATION

    def _update_average(self, luma: Luma) -> None:
        """Follow the light, but not an image that may be frozen: it would become its own average."""
        if self._n_identical > self._n_different:
            return
        if self._average is None:
            self._average, self._n_average = luma.astype(np.float32), 0
        self._n_average += 1
        self._average += (luma - self._average) / np.float32(min(self._n_average, N_AVERAGE))

    def _has_motion(self, first: Luma, luma: Luma) -> bool:
        moves = _block_means(cv2.absdiff(first, luma)) > MOTION
        if moves.mean() > MAX_NEW_SHARE:
            self._average = None
        self._clock = moves if self._clock is None else self._clock | moves
        return bool(np.count_nonzero(_inside(moves)) > MAX_MOVING_BLOCKS or self._clock.mean() > MAX_CLOCK_AREA)

    def _restart(self, luma: Luma, time: float) -> None:
        self._start_period()
        self._since = self._sampled_at = time
        self._first = luma


def _block_means(values: NDArray[Any]) -> NDArray[np.float32]:
    """The mean of each whole block: float32 (H // 8, W // 8)."""
    rows, columns = values.shape[0] // BLOCK, values.shape[1] // BLOCK
    whole = values[: rows * BLOCK, : columns * BLOCK].astype(np.float32)
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def _share_identical(before: Luma, luma: Luma) -> float:
    """The share of blocks with structure that are equal bit by bit; 1 for an image without such blocks."""
    means, squares = _block_means(luma), _block_means_of_squares(luma)
    deviation = np.sqrt(np.maximum(squares - means**2, 0.0))
    counts = (deviation >= STRUCTURE) & (means > CLIPPED[0]) & (means < CLIPPED[1])
    is_identical = _block_means(cv2.absdiff(before, luma)) == 0
    return float(is_identical[counts].mean()) if counts.any() else float(is_identical.mean())


def _block_means_of_squares(luma: Luma) -> NDArray[np.float32]:
    rows, columns = luma.shape[0] // BLOCK, luma.shape[1] // BLOCK
    whole = luma[: rows * BLOCK, : columns * BLOCK].astype(np.float32) ** 2
    return np.asarray(cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def _details(residual: NDArray[np.float32]) -> NDArray[np.float32]:
    """The fine details of a difference from the average image, away from the top and the bottom."""
    border = round(BORDER * residual.shape[0])
    inside = residual[border : residual.shape[0] - border]
    return np.asarray(inside - cv2.GaussianBlur(inside, (0, 0), 1.5), np.float32)


def _correlation(before: NDArray[np.float32], now: NDArray[np.float32]) -> float:
    counts = (np.abs(before) < MAX_DETAIL) & (np.abs(now) < MAX_DETAIL)
    a, b = before[counts], now[counts]
    return float((a * b).sum() / max(float(np.sqrt((a * a).sum() * (b * b).sum())), 1e-6))


def _inside(blocks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The blocks away from the top and the bottom."""
    border = round(BORDER * blocks.shape[0])
    return blocks[border : blocks.shape[0] - border]
