"""Images inside the page: small JPEGs as data URIs, a heat map laid over, or the true outline drawn in."""

from __future__ import annotations

import base64
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.errors import EvaluationError

LONGEST_SIDE = 560
"""Pixels of the longer side: what a gallery column shows on a sharp screen."""
QUALITY = 84
"""JPEG quality: about 30 kB an image."""
OUTLINE_COLOUR = (64, 220, 120)


def data_uri(image: NDArray[np.uint8]) -> str:
    """Return an image as a `data:` address.

    Shapes:
        image: uint8 (H, W, 3), RGB; shrunk so that its longer side is at most 560 pixels.

    Raises:
        EvaluationError: it cannot be encoded.
    """
    try:
        encoded, packed = cv2.imencode(".jpg", _shrunk(image)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    except cv2.error as error:
        raise EvaluationError(f"cannot encode an image of shape {image.shape}: {error}") from None
    if not encoded:
        raise EvaluationError(f"cannot encode an image of shape {image.shape} as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(packed.tobytes()).decode("ascii")


def with_heat_map(image: NDArray[np.uint8], heat_map: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Lay a heat map over a grey image: the hotter, the more colour and the less image.

    Shapes:
        image: uint8 (H, W, 3), RGB.
        heat_map: float (h, w) in [0, 1], clipped to it.
        returns: uint8 (H, W, 3), RGB, shrunk as the image itself is shown.
    """
    small = _shrunk(image)
    height, width = small.shape[:2]
    heat = cv2.resize(np.clip(heat_map, 0.0, 1.0).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    grey = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    # The square root makes faint heat visible; 0.8 leaves the image recognisable under the hottest place.
    share = 0.8 * np.sqrt(heat)[..., None]
    return np.asarray(np.rint(grey * (1 - share) + colour * share), dtype=np.uint8)


def with_outline(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Draw the outline of a mask over an image.

    Shapes:
        image: uint8 (H, W, 3), RGB.
        mask: bool (h, w), of any size.
        returns: uint8 (H, W, 3), RGB, shrunk as the image itself is shown.
    """
    drawn = _shrunk(image).copy()
    height, width = drawn.shape[:2]
    pixels = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST)
    contours, _ = cv2.findContours(pixels, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, contours, -1, OUTLINE_COLOUR, 2)
    return drawn


def _shrunk(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(image)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
