"""Annotated frames: the frame with its heat map and box, and the curve of the score below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.types import Box, Score
from comemory.video.resize import resize

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

MIN_WIDTH = 720
"""Narrower frames are enlarged to this width in pixels, so that the texts are readable."""
N_SHOWN = 200
"""Number of scores in the curve."""
CLEAR = 0.25
"""Heat below this is transparent."""

PANEL: Colour = (17, 20, 26)
RULE: Colour = (48, 54, 64)
NORMAL: Colour = (86, 190, 214)
ALARM: Colour = (255, 92, 82)
TEXT: Colour = (236, 239, 243)
QUIET: Colour = (150, 158, 170)
_SUBPIXEL_BITS = 4  # OpenCV draws with coordinates in sixteenths of a pixel


def draw_score(
    image: Image,
    score: Score | None,
    *,
    threshold: float | None = None,
    history: Sequence[tuple[float, bool]] = (),
    heat_map: NDArray[np.float32] | None = None,
    box: Box | None = None,
    event: bool = False,
    time_s: float | None = None,
    outline: Sequence[tuple[int, int]] | None = None,
    clock: str | None = None,
    strip: bool = True,
) -> Image:
    """Draw the score of a frame over and below it.

    Over the frame: the heat map (transparent where it is low), the box with the highest score during an event or the
    outline given, the time. Below it: a strip with the curve of the score, the threshold, the events so far, and the
    current score. A still has no curve: without the strip, the score stands beside the time.

    Args:
        image: the frame as recorded; enlarged to a width of `MIN_WIDTH` if it is narrower.
        score: of this frame; None while the first clip fills. Its heat map and box are used unless others are given.
        threshold: score above which events start; None draws no line.
        history: (score, whether in an event) of the frames so far, the oldest first, this frame last; the newest `N_SHOWN`
            are drawn.
        heat_map: in [0, 1], of any size; stretched over the frame.
        box: left, top, right, bottom in pixels of `image`.
        event: whether this frame belongs to an event.
        time_s: the time to print; by default that of the score.
        outline: corners (x, y) in pixels of `image`, drawn in place of the box.
        clock: the time of day, printed in place of `time_s`.
        strip: whether to add the strip.

    Returns:
        A new image, of the same size for all frames of one size.

    Shapes:
        image: uint8 (H, W, 3), RGB.
        heat_map: float32 (h, w).
        returns: uint8 (H', W', 3), RGB.
    """
    if score is not None:
        heat_map = score.heat_map if heat_map is None else heat_map
        box = score.box if box is None else box
        time_s = score.time_s if time_s is None else time_s
    height, width = image.shape[:2]
    scale = max(1.0, min(MIN_WIDTH / width, 2 * MIN_WIDTH / height))
    image = _enlarge(image, scale)
    unit = max(image.shape[1] / MIN_WIDTH, 1.0)
    if heat_map is not None:
        blend_heat_map(image, heat_map)
    shown = (image.shape[1] / width, image.shape[0] / height)
    if event and outline is not None:
        _draw_outline(image, outline, shown, unit)
    elif event and box is not None:
        _draw_box(image, box, shown, unit)
    image = _centre(image, MIN_WIDTH // 2)
    said = clock if clock is not None or time_s is None else format_time(time_s)
    if not strip and score is not None:
        said = "  ".join(filter(None, [said, f"score {score.value:.2f}"]))
    if said is not None:
        _label(image, said, unit, colour=TEXT, back=PANEL)
    if event:
        _label(image, "EVENT", unit, colour=(255, 255, 255), back=(196, 40, 36), right=True)
    if not strip:
        return image
    return np.concatenate([image, _strip(image.shape[1], unit, score, threshold, history[-N_SHOWN:], event)])


def format_time(time_s: float) -> str:
    """Format seconds as hours, minutes and seconds.

    >>> format_time(3723.456)
    '1:02:03.46'
    >>> format_time(7.2)
    '0:07.20'
    """
    hundredths = round(max(time_s, 0.0) * 100)
    minutes, rest = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest // 100:02d}.{rest % 100:02d}"
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes}:{seconds}"


def _enlarge(image: Image, scale: float) -> Image:
    image = resize(image, None)
    if scale == 1.0:
        return image.copy()
    height, width = image.shape[:2]
    return cast(Image, cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_CUBIC))


def _centre(image: Image, min_width: int) -> Image:
    """Put a very narrow image on a background that is wide enough for the strip."""
    missing = min_width - image.shape[1]
    if missing <= 0:
        return image
    background = np.full((image.shape[0], min_width, 3), PANEL, np.uint8)
    background[:, missing // 2 : missing // 2 + image.shape[1]] = image
    return background


def blend_heat_map(image: Image, heat_map: NDArray[np.float32]) -> None:
    """Blend the heat map into an image, in place: in inferno colours, from transparent at `CLEAR` to 45 % opaque at the top.

    Shapes:
        image: uint8 (H, W, 3), RGB.
        heat_map: float32 (h, w) in [0, 1].
    """
    heat = np.nan_to_num(np.asarray(heat_map, dtype=np.float32)).clip(0.0, 1.0)
    heat = cv2.resize(heat, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    warm = heat > CLEAR
    if not warm.any():
        return
    rows, columns = (np.flatnonzero(warm.any(axis=axis)) for axis in (1, 0))
    place = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    heat, background = heat[place], image[place]
    rise = np.clip((heat - CLEAR) / 0.6, 0.0, 1.0)
    cover = (0.45 * rise * rise * (3.0 - 2.0 * rise))[..., None]
    levels = (40 + heat * 200).astype(np.uint8)
    colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)
    background[:] = (background * (1.0 - cover) + colours * cover + 0.5).astype(np.uint8)


def _draw_box(image: Image, box: Box, scale: tuple[float, float], unit: float) -> None:
    """Draw a box with dark edges, which is visible on any background."""
    height, width = image.shape[:2]
    left, right = (int(np.clip(round(x * scale[0]), 0, width)) for x in (box[0], box[2]))
    top, bottom = (int(np.clip(round(y * scale[1]), 0, height)) for y in (box[1], box[3]))
    thin, thick = max(1, round(unit)), max(2, round(2 * unit))
    for inset, colour in enumerate([PANEL] * thin + [ALARM] * thick + [PANEL] * thin):
        if right - left > 2 * inset and bottom - top > 2 * inset:
            corners = (left + inset, top + inset), (right - 1 - inset, bottom - 1 - inset)
            cv2.rectangle(image, *corners, colour, 1)


def _draw_outline(image: Image, corners: Sequence[tuple[int, int]], scale: tuple[float, float], unit: float) -> None:
    """Draw a closed outline with a dark edge, which is visible on any background."""
    points = np.round(np.array(corners, np.float64) * scale).astype(np.int32)
    for colour, thickness in ((PANEL, max(4, round(4 * unit))), (ALARM, max(2, round(2 * unit)))):
        cv2.polylines(image, [points], True, colour, thickness, cv2.LINE_AA)


def _text(image: Image, text: str, at: tuple[int, int], size: float, colour: Colour) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, max(1, round(size * 2)), cv2.LINE_AA)


def _text_size(text: str, size: float) -> tuple[int, int]:
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, max(1, round(size * 2)))
    return int(width), int(height)


def _label(image: Image, text: str, unit: float, *, colour: Colour, back: Colour, right: bool = False) -> None:
    size, pad, margin = 0.5 * unit, round(7 * unit), round(10 * unit)
    width, height = _text_size(text, size)
    x0 = image.shape[1] - margin - width - 2 * pad if right else margin
    background = image[margin : margin + height + 2 * pad, max(x0, 0) : x0 + width + 2 * pad]
    background[:] = (background * 0.22 + np.array(back) * 0.78).astype(np.uint8)
    _text(image, text, (x0 + pad, margin + pad + height), size, colour)


def _strip(
    width: int,
    unit: float,
    score: Score | None,
    threshold: float | None,
    history: Sequence[tuple[float, bool]],
    event: bool,
) -> Image:
    height, margin, readout = round(48 * unit) * 2, round(10 * unit), round(118 * unit)
    strip = np.full((height, width, 3), PANEL, np.uint8)
    plot = strip[margin : height - margin, margin : width - readout - margin]
    _draw_curve(plot, threshold, history, unit)
    left = width - readout
    colour = ALARM if event else TEXT
    value = "--" if score is None else f"{score.value:.2f}"
    _text(strip, "score" if score is not None else "warming up", (left, round(26 * unit)), 0.42 * unit, QUIET)
    _text(strip, value, (left, round(57 * unit)), 0.95 * unit, colour)
    if threshold is not None:
        _text(strip, f"threshold {threshold:.2f}", (left, round(80 * unit)), 0.42 * unit, QUIET)
    return strip


def _draw_curve(plot: Image, threshold: float | None, history: Sequence[tuple[float, bool]], unit: float) -> None:
    height, width = plot.shape[:2]
    values = np.array([value for value, _ in history], np.float64)
    levels = [
        *values[np.isfinite(values)].tolist(),
        *([] if threshold is None else [threshold, threshold + abs(threshold) / 4]),
    ]
    low, high = min([0.0, *levels]), max([*levels, 1e-6])
    right = width - 1 - 4 * unit
    step = right / (N_SHOWN - 1)
    x = right - step * np.arange(len(history))[::-1]
    y = (height - 1) * (1.0 - 0.94 * (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) / (high - low))

    for at, (_, in_event) in zip(x, history, strict=True):
        if in_event:
            columns = plot[:, max(0, round(at - step)) : round(at) + 1]
            columns[:] = np.array(PANEL) * 0.78 + np.array(ALARM) * 0.22
    cv2.line(plot, (0, height - 1), (width - 1, height - 1), RULE, max(1, round(unit)))
    if threshold is not None:
        _dashes(plot, round((height - 1) * (1.0 - 0.94 * (threshold - low) / (high - low))), unit)
    if len(history) > 1:
        points = np.stack([x, y], axis=1)
        thickness = max(1, round(1.6 * unit))
        for i in range(len(points) - 1):
            pair = np.round(points[i : i + 2] * (1 << _SUBPIXEL_BITS)).astype(np.int32)
            colour = ALARM if history[i + 1][1] else NORMAL
            cv2.polylines(plot, [pair], False, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS)
    if len(history):
        unit_bits = 1 << _SUBPIXEL_BITS
        centre = (round(float(x[-1]) * unit_bits), round(float(y[-1]) * unit_bits))
        cv2.circle(
            plot,
            centre,
            round(3 * unit * unit_bits),
            ALARM if history[-1][1] else NORMAL,
            -1,
            cv2.LINE_AA,
            _SUBPIXEL_BITS,
        )


def _dashes(plot: Image, y: int, unit: float) -> None:
    dash = max(2, round(6 * unit))
    for x in range(0, plot.shape[1], 2 * dash):
        cv2.line(plot, (x, y), (min(x + dash, plot.shape[1]) - 1, y), QUIET, max(1, round(unit)))
