"""Whether a camera's picture is one that can be judged: not frozen, black, blinded or moved."""

from __future__ import annotations

import threading
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from comemory.live.config import HealthSettings
from comemory.live.contract import CameraState

SIZE = (96, 144)
"""(height, width) at which the structure of the scene is compared."""
LOOK_S = 0.5
"""Seconds from one comparison of the structure to the next."""
LEARN_LOOKS = 10
"""Looks at a new scene before it is compared with."""
SLOWNESS = 1200
"""Looks over which the remembered scene follows the light: ten minutes."""
BLURRED = 0.55
"""Share of the scene's sharpness, its steep gradients beside its contrast, under which a picture is blinded."""
MOVED_SETTLES = 3
"""A moved scene must stay so many times longer than a black one: a bus may stand in front."""


class Finding(NamedTuple):
    """What a picture is, at once and for good.

    Attributes:
        state: `live`, or what has settled.
        usable: whether this very picture may be scored.
        message: one line for people, empty when live.
    """

    state: CameraState
    usable: bool
    message: str


class PictureHealth:
    """Pictures of one camera, in order, to findings.

    Ours: a picture is black or blinded by its grey levels, blinded too when it has lost its sharpness, frozen when it
    stays the same bit by bit, and moved when the strong edges of the scene it has learned, which people and light leave
    in place, no longer go with the picture's: the correlation of their gradients is over 0.95 for the same view and
    about 0.5 for one turned by 3 to 5 % of its width. The scene follows slow changes of the light; it is kept in `view`
    beyond a restart.

    Args:
        view: file of the learned scene; None keeps it in memory.
    """

    def __init__(self, settings: HealthSettings, view: Path | None = None) -> None:
        self.settings, self.view = settings, view
        self._keeping = threading.Lock()
        self._previous: NDArray[np.uint8] | None = None
        self._same_since: float | None = None
        self._suspected: tuple[CameraState, float] | None = None
        self._state = CameraState.LIVE
        self._looked: float | None = None
        self._structure = CameraState.LIVE
        self._scene = _Scene.read(view) if view is not None else _Scene()

    def forget_frames(self) -> None:
        """A new connection: what follows is not compared with what was before, the scene is."""
        self._previous = self._same_since = self._suspected = None

    def accept(self) -> None:
        """Take the present view for the scene from now on."""
        with self._keeping:
            self._scene = _Scene()
            if self.view is not None:
                self.view.unlink(missing_ok=True)
        self._suspected, self._state, self._structure = None, CameraState.LIVE, CameraState.LIVE

    def save(self) -> None:
        """Keep the scene for the next start, from any thread; a disk that refuses is no reason to stop."""
        if self.view is not None:
            with self._keeping:
                self._scene.write(self.view)

    def push(self, picture: NDArray[np.uint8], time: float) -> Finding:
        """Look at the next picture.

        Shapes:
            picture: uint8 (H, W, 3), RGB, of one size from call to call.
        """
        suspect = self._suspect(picture, time)
        if suspect is CameraState.LIVE:
            self._suspected, self._state = None, CameraState.LIVE
            return Finding(CameraState.LIVE, True, "")
        if suspect is CameraState.FROZEN:
            self._state = suspect
            return Finding(suspect, False, self._message(suspect))
        if self._suspected is None or self._suspected[0] is not suspect:
            self._suspected = (suspect, time)
        settle_s = self.settings.settle_s * (MOVED_SETTLES if suspect is CameraState.MOVED else 1)
        if time - self._suspected[1] >= settle_s:
            self._state = suspect
        return Finding(self._state, False, self._message(self._state))

    def _suspect(self, picture: NDArray[np.uint8], time: float) -> CameraState:
        same = self._previous is not None and np.array_equal(self._previous, picture)
        self._previous = picture
        if not same or self._same_since is None:
            self._same_since = time
        grey = np.asarray(cv2.cvtColor(picture[::2, ::2], cv2.COLOR_RGB2GRAY), np.uint8)
        if float(np.percentile(grey, 98)) < self.settings.dark_level:
            return CameraState.BLACK
        if float(grey.std()) < self.settings.flat_deviation:
            return CameraState.BLINDED
        if time - self._same_since >= self.settings.frozen_s:
            return CameraState.FROZEN
        if self._looked is None or not 0 <= time - self._looked < LOOK_S:
            self._looked = time
            self._structure = self._scene.look(grey, self.settings.moved_below)
        return self._structure

    def _message(self, state: CameraState) -> str:
        return {
            CameraState.FROZEN: f"the same picture for {self.settings.frozen_s:g} s: restart the camera",
            CameraState.BLACK: "the picture is black: is the lens covered, or the light off?",
            CameraState.BLINDED: "the picture shows nothing: is the lens covered, dirty or out of focus?",
            CameraState.MOVED: "the view has changed: turn the camera back, or accept the new view and learn it",
        }.get(state, "")


class _Scene:
    """The gradients of a scene that stay while people come and go."""

    def __init__(self) -> None:
        self.gradient = np.zeros((2, *SIZE), np.float32)
        self.sharpness = 0.0
        self.n_looks = 0

    @classmethod
    def read(cls, path: Path) -> _Scene:
        """The scene kept in a file; a new one where there is none that can be read."""
        scene = cls()
        unreadable = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile)
        with suppress(*unreadable), path.open("rb") as file, np.load(file) as kept:
            gradient, sharpness, n_looks = kept["gradient"], float(kept["sharpness"]), int(kept["n_looks"])
            if gradient.shape == scene.gradient.shape and np.isfinite(gradient).all() and n_looks >= 0:
                scene.gradient, scene.sharpness, scene.n_looks = gradient.astype(np.float32), sharpness, n_looks
        return scene

    def write(self, path: Path) -> None:
        part = path.with_name(f".{path.name}.part")
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(file, gradient=self.gradient, sharpness=self.sharpness, n_looks=np.int64(self.n_looks))
            part.replace(path)

    def look(self, grey: NDArray[np.uint8], moved_below: float) -> CameraState:
        """Compare with a grey picture; learn from it where it is the same scene."""
        seen = _gradient(grey)
        sharpness = float(np.quantile(np.hypot(*seen), 0.95)) / max(float(grey.std()), 1.0)
        state = CameraState.LIVE
        if self.n_looks >= LEARN_LOOKS:
            blurred = sharpness < BLURRED * self.sharpness
            state = CameraState.BLINDED if blurred else self._compare(seen, moved_below)
        if state is CameraState.LIVE:
            self.n_looks += 1
            share = 1 / min(self.n_looks, SLOWNESS)
            self.gradient += np.float32(share) * (seen - self.gradient)
            self.sharpness += share * (sharpness - self.sharpness)
        return state

    def _compare(self, seen: NDArray[np.float32], moved_below: float) -> CameraState:
        known, now = np.hypot(*self.gradient), np.hypot(*seen)
        strong = known >= max(float(np.quantile(known, 0.92)), 4.0)
        if strong.mean() < 0.01:
            return CameraState.LIVE
        along = float((self.gradient * seen).sum(axis=0)[strong].sum())
        both = float(np.sqrt((known[strong] ** 2).sum() * (now[strong] ** 2).sum()))
        return CameraState.MOVED if along < moved_below * max(both, 1e-6) else CameraState.LIVE


def _gradient(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(dx, dy) of a smoothed picture of `SIZE`, in grey levels a pixel: float32 (2, h, w)."""
    small = cv2.resize(grey, (SIZE[1], SIZE[0]), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(small.astype(np.float32), (0, 0), 1.2)
    return np.stack([cv2.Sobel(smooth, cv2.CV_32F, 1, 0) / 4, cv2.Sobel(smooth, cv2.CV_32F, 0, 1) / 4])
