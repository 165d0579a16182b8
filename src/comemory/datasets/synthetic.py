"""Rendered video of a walkway in front of a fixed camera, with exact labels and masks; the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from comemory.datasets.scene.camera import SceneCamera
from comemory.datasets.scene.day import crowd_at, darkness_at, sun_at
from comemory.datasets.scene.ground import Ground, build_ground
from comemory.datasets.scene.settings import SceneSettings, read_settings
from comemory.datasets.scene.stage import ClipRenderer, VisiblePatch, Weather, sensor_noise
from comemory.datasets.scene.traffic import CROSSING, STAYING, Traffic
from comemory.types import Box, DataCheck, Frame, LabelledSource

RENDER_VERSION = 1
"""Increase it when the same settings give other frames: prepared frames of the older ones are then not used."""
_SCENE, _TRAINING, _TESTING = range(3)


@dataclass(frozen=True, slots=True)
class AnomalyTrack:
    """One anomaly in a clip.

    Attributes:
        kind: its kind, such as `cart`.
        boxes: bounding box of its visible pixels, by frame, for the frames in which it is visible.
    """

    kind: str
    boxes: Mapping[int, Box]


class SyntheticSource:
    """One clip, rendered while it is iterated.

    Attributes:
        name: such as `synthetic-testing-01`.
        rate_hz: frames per second.
        n_frames: frames of the clip.
    """

    def __init__(self, name: str, settings: SceneSettings, split: int, clip: int) -> None:
        self.name = name
        self.rate_hz: float | None = settings.rate
        self.n_frames = settings.frames
        self._settings, self._split, self._clip = settings, split, clip

    def __len__(self) -> int:
        return self.n_frames

    def __iter__(self) -> Iterator[Frame]:
        for index in range(self.n_frames):
            yield Frame(self.image(index), index / self._settings.rate, index)

    @property
    def fingerprint(self) -> str:
        """What the frames follow from: settings, split and number of the clip, and the version of the rendering."""
        return f"{RENDER_VERSION} {self._settings} {self._split} {self._clip}"

    def image(self, index: int) -> NDArray[np.uint8]:
        """Frame `index` as uint8 (H, W, 3), RGB.

        Raises:
            IndexError: the clip has no such frame.
        """
        return self._stage.render(self._checked(index))

    def mask(self, index: int) -> NDArray[np.bool_]:
        """Mask of all anomalies visible in frame `index`: bool (H, W).

        Raises:
            IndexError: the clip has no such frame.
        """
        mask = np.zeros(self._settings.size, np.bool_)
        for patch in self._patches(self._checked(index)).values():
            height, width = patch.pixels.shape
            mask[patch.top : patch.top + height, patch.left : patch.left + width] |= patch.pixels
        return mask

    @property
    def hours(self) -> tuple[float, float] | None:
        """First and last hour of the clip, if the scene has hours. Shadows stay as they are at its middle."""
        if self._settings.hours is None:
            return None
        first, last = self._settings.hours
        clips = self._settings.testing if self._split == _TESTING else self._settings.training
        return first + (last - first) * self._clip / clips, first + (last - first) * (self._clip + 1) / clips

    @cached_property
    def tracks(self) -> tuple[AnomalyTrack, ...]:
        """The visible anomalies, in the order of their appearance."""
        boxes: dict[int, dict[int, Box]] = {}
        for index in self._abnormal_frames():
            for number, patch in self._patches(index).items():
                boxes.setdefault(number, {})[index] = _box(patch)
        return tuple(AnomalyTrack(self._stage.actors[number].kind, boxes[number]) for number in boxes)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the visible anomalies, in the order of their appearance."""
        return tuple(track.kind for track in self.tracks)

    @cached_property
    def labels(self) -> NDArray[np.bool_]:
        """Labels, bool (n_frames,): True where a pixel of an anomaly is visible."""
        labels = np.zeros(self.n_frames, np.bool_)
        for track in self.tracks:
            labels[list(track.boxes)] = True
        return labels

    @cached_property
    def _stage(self) -> ClipRenderer:
        settings = self._settings
        hours = self.hours
        middle = None if hours is None else sum(hours) / 2
        camera, ground, noise = _scene(settings.seed, *settings.size, None if middle is None else sun_at(middle))
        rng = np.random.default_rng(np.random.SeedSequence([settings.seed, self._split, self._clip]))
        traffic = Traffic(camera, rng, settings.frames, settings.rate)
        if self._split == _TESTING:
            traffic.add_anomalies(_choose_anomalies(settings, self._clip))
        traffic.add_walkers(settings.crowd * (1.0 if middle is None else crowd_at(middle)), settings.drift)
        period = max(settings.frames, 60 * settings.rate)
        dark = np.zeros(settings.frames)
        if hours is not None:
            dark = np.array([darkness_at(hour) for hour in np.linspace(*hours, settings.frames).tolist()])
        weather = Weather.random(rng, settings.frames, period, settings.light, noise, dark)
        return ClipRenderer(camera, ground, traffic.actors, weather)

    def _abnormal_frames(self) -> list[int]:
        spans = [actor.abnormal for actor in self._stage.actors if actor.abnormal is not None]
        last = self.n_frames - 1
        return sorted({frame for a, b in spans for frame in range(max(a, 0), min(b, last) + 1)})

    def _patches(self, index: int) -> dict[int, VisiblePatch]:
        patches = {}
        for number, actor in enumerate(self._stage.actors):
            if actor.abnormal is not None and actor.abnormal[0] <= index <= actor.abnormal[1]:
                patch = self._stage.visible_pixels(number, index)
                if patch is not None:
                    patches[number] = patch
        return patches

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.n_frames:
            raise IndexError(f"{self.name} has frames 0 to {self.n_frames - 1}, not {index}")
        return index


class Synthetic:
    """A rendered walkway: training clips with walkers only, test clips with labelled anomalies. Needs no files.

    Normal walkers keep to the right. Each test clip has one or two anomalies: a `cart`, `runner`, `cyclist` or `skater`
    passes, somebody walks across the lawn (`wrong_way`), or somebody leaves a bag (`dropped`). Each clip starts with normal
    frames. It ends with normal frames if it is long enough for the anomaly to leave: about 25 seconds at the default size.

    Attributes:
        name: `synthetic`.
        rate_hz: frames per second.
        settings: the settings of the scene.
    """

    name = "synthetic"

    def __init__(self, path: str) -> None:
        """Parse the settings; nothing is rendered.

        Args:
            path: settings such as `seed=3,frames=300,size=240x360`; may be empty.

        Raises:
            ConfigError: an unknown setting, or a value that does not fit.
        """
        self.settings = read_settings(path)
        self.rate_hz: float | None = self.settings.rate

    def training(self) -> list[LabelledSource]:
        """Clips with normal walkers only."""
        return self._sources("training", _TRAINING, self.settings.training)

    def testing(self) -> list[LabelledSource]:
        """Clips with one or two anomalies each, and their labels and pixel masks."""
        return self._sources("testing", _TESTING, self.settings.testing)

    def check(self) -> DataCheck:
        """Count videos, frames and abnormal frames."""
        training, testing = self.training(), self.testing()
        frames = self.settings.frames
        found = {
            "training videos": len(training),
            "training frames": len(training) * frames,
            "testing videos": len(testing),
            "testing frames": len(testing) * frames,
            "abnormal frames": sum(int(clip.labels.sum()) for clip in testing if clip.labels is not None),
        }
        kinds = ", ".join(self.settings.kinds)
        clips = {"training footage": len(training), "testing footage": len(testing)}
        seconds = {name: count * frames / self.settings.rate for name, count in clips.items()}
        notes = [f"synthetic:{self._spec()}: rendered on demand; anomalies: {kinds}"]
        return DataCheck(found=found, notes=notes, seconds=seconds)

    def _spec(self) -> str:
        height, width = self.settings.size
        return f"seed={self.settings.seed},size={height}x{width}"

    def _sources(self, label: str, split: int, number: int) -> list[LabelledSource]:
        clips = []
        for clip in range(number):
            name = f"{clip + 1:02d}"
            source = SyntheticSource(f"synthetic-{label}-{name}", self.settings, split, clip)
            labels = source.labels if split == _TESTING else np.zeros(source.n_frames, np.bool_)
            clips.append(LabelledSource(name, source, source.n_frames, labels, source.mask))
        return clips


@lru_cache(maxsize=2)
def _scene(
    seed: int, height: int, width: int, sun_now: tuple[float, float] | None
) -> tuple[SceneCamera, Ground, NDArray[np.int16]]:
    """The place that all clips of a seed share, with the sun at its position in the clip."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, _SCENE, 0]))
    turn = float(rng.uniform(0.07, 0.15)) * min(1.0, 1.5 * height / width)
    sun = float(rng.uniform(0.5, 0.85)), float(rng.uniform(0.1, 0.4))
    signs = rng.choice([-1.0, 1.0], 2)
    stands = sun[0] * float(signs[1])
    camera = SceneCamera(height, width, yaw=turn * float(signs[0]), sun=sun_now or (stands, sun[1]))
    return camera, build_ground(camera, rng, stands), sensor_noise(camera, rng)


def _choose_anomalies(settings: SceneSettings, clip: int) -> list[str]:
    """The anomalies of a test clip: a crossing one, and in every other clip a staying one too; each kind in turn."""
    rng = np.random.default_rng(np.random.SeedSequence([settings.seed, _TESTING]))
    crossing = [kind for kind in settings.kinds if kind in CROSSING]
    passing = [kind for kind in settings.kinds if kind in STAYING]
    crossing = [crossing[k] for k in rng.permutation(len(crossing))]
    passing = [passing[k] for k in rng.permutation(len(passing))]
    if not crossing or not passing:
        only = crossing or passing
        return [only[clip % len(only)]]
    kinds = [crossing[clip % len(crossing)]]
    if clip % 2:
        kinds.insert(int(rng.integers(2)), passing[clip // 2 % len(passing)])
    return kinds


def _box(patch: VisiblePatch) -> Box:
    rows, columns = np.flatnonzero(patch.pixels.any(axis=1)), np.flatnonzero(patch.pixels.any(axis=0))
    left, top = patch.left + int(columns[0]), patch.top + int(rows[0])
    return left, top, patch.left + int(columns[-1]) + 1, patch.top + int(rows[-1]) + 1
