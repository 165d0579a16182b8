"""Pictures inside the page: small JPEG as data URI, with the heat map laid over."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from comemory.errors import EvaluationError

LONGEST_SIDE = 560
QUALITY = 84


def data_uri(picture: NDArray[np.uint8]) -> str:
    """A picture as a `data:` address.

    Shapes:
        picture: uint8 (H, W, 3), RGB; shrunk so that its longest side is at most 560 pixels.

    Raises:
        EvaluationError: it cannot be encoded.
    """
    import cv2

    try:
        done, packed = cv2.imencode(".jpg", _shrunk(picture)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    except cv2.error as error:
        raise EvaluationError(f"cannot encode a picture of shape {picture.shape}: {error}") from None
    if not done:
        raise EvaluationError(f"cannot encode a picture of shape {picture.shape} as JPEG")
    return "data:image/jpeg;base64," + base64.b64encode(packed.tobytes()).decode("ascii")


def with_heat(picture: NDArray[np.uint8], heat_map: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Lay a heat map over a greyed picture: the hotter, the more colour and the less picture.

    Shapes:
        picture: uint8 (H, W, 3), RGB; heat_map: float (h, w) in [0, 1], clipped to it.
        returns: uint8 (H, W, 3), RGB, shrunk as the picture itself is shown.
    """
    import cv2

    small = _shrunk(picture)
    height, width = small.shape[:2]
    heat = cv2.resize(np.clip(heat_map, 0.0, 1.0).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1].astype(np.float32)
    grey = cv2.cvtColor(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB).astype(np.float32)
    share = 0.8 * np.sqrt(heat)[..., None]
    return np.asarray(np.rint(grey * (1 - share) + colour * share), dtype=np.uint8)


def _shrunk(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    height, width = picture.shape[:2]
    scale = LONGEST_SIDE / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(picture)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
