"""A network in another precision compared with fp32, on the same frames, each with its own calibration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from comemory.bundle import Agreement, Bundle, LabelledAgreement, VariantRecord
from comemory.errors import BundleError
from comemory.export.agreement import compare_labelled_scores, compare_scores
from comemory.export.videos import network_inputs
from comemory.runtimes import RUNTIMES, Network
from comemory.scoring import Calibration, NormalScene, Scorer, fit_calibration
from comemory.training.cache import PreparedVideo
from comemory.training.scene import leave_one_out_scenes, object_maps
from comemory.types import Runtime

Maps = dict[str, NDArray[np.float32]]


class PrecisionComparison:
    """A precision variant and fp32, each on one thread and with its own calibration.

    Args:
        bundle: of the fp32 network.
        runtime: that executes both.
        network: the variant.
        on_frame: called for each frame that either network has scored.

    Attributes:
        calibration: of the variant, once `calibrate` has fitted it.
    """

    def __init__(self, bundle: Bundle, runtime: str, network: Network, on_frame: Callable[[], None]) -> None:
        open_runtime = RUNTIMES.load(runtime)
        self._bundle, self._on_frame = bundle, on_frame
        self._fp32: Runtime = open_runtime(bundle.network, 1)
        self._variant: Runtime = open_runtime(network, 1)
        self.calibration: Calibration = bundle.calibration

    def calibrate(
        self,
        held_out: Sequence[PreparedVideo],
        counted: Sequence[PreparedVideo] = (),
        trained: Sequence[PreparedVideo] = (),
    ) -> Agreement:
        """Fit the calibration of the variant on held-out normal video, and compare the scores there.

        Args:
            held_out: videos that were not trained on.
            counted: videos that were trained on, to count alarms on as well.
            trained: all videos that were trained on, `counted` among them; their objects are in the memory of the scene.
        """
        fp32 = self._bundle.calibration
        memories = self._left_out([*held_out, *(trained or counted)])
        evidence, of_trained = (
            (self._evidence(self._variant, video, memories.get(id(video))) for video in videos)
            for videos in (held_out, counted)
        )
        self.calibration = fit_calibration(
            evidence,
            fp32.settings,
            fp32.rate_hz,
            spatial_baselines=fp32.spatial_baselines,
            training_videos=of_trained,
            known=fp32,
        )
        scores = self._score_all(self._variant, self.calibration, held_out)
        return compare_scores(scores, self._score_all(self._fp32, fp32, held_out))

    def _left_out(self, videos: Sequence[PreparedVideo]) -> dict[int, NormalScene]:
        """By id of each video, the scene without its own objects, as in the training; empty where no scale is fitted on them."""
        bundle = self._bundle
        if bundle.scene is None or not bundle.calibration.settings.needs_network:
            return {}
        scenes = leave_one_out_scenes(videos, bundle.clips, bundle.scene, bundle.calibration.rate_hz)
        return {id(video): scene for video, scene in zip(videos, scenes, strict=True)}

    def compare_labelled(self, videos: Sequence[tuple[PreparedVideo, NDArray[np.bool_]]]) -> LabelledAgreement:
        """Compare the scores and the AUC on labelled video."""
        alone = [video for video, _ in videos]
        labels = np.concatenate([labels[video.clip_ends(self._bundle.clips.n_past)] for video, labels in videos])
        scores = self._score_all(self._variant, self.calibration, alone)
        return compare_labelled_scores(scores, self._score_all(self._fp32, self._bundle.calibration, alone), labels)

    def _score_all(
        self, runtime: Runtime, calibration: Calibration, videos: Sequence[PreparedVideo]
    ) -> NDArray[np.float64]:
        return np.concatenate([_scores(calibration, self._evidence(runtime, video)) for video in videos])

    def _evidence(self, runtime: Runtime, video: PreparedVideo, memory: NormalScene | None = None) -> Iterator[Maps]:
        """The raw evidence of every clip of a video; BundleError where it is not finite.

        Args:
            runtime: executes the network.
            video: prepared frames and flow.
            memory: of the scene, in place of the bundle's own.
        """
        n_past, scene = self._bundle.clips.n_past, memory or self._bundle.scene
        rate_hz = self._bundle.calibration.rate_hz
        objects = object_maps(video, self._bundle.clips, scene, rate_hz)
        ends = video.clip_ends(n_past)
        for end, inputs, found in zip(ends, network_inputs(video, self._bundle), objects, strict=False):
            outputs = {**runtime.run(inputs), **video.evidence(end), **found}
            self._on_frame()
            for name, values in outputs.items():
                if not np.isfinite(values).all():
                    raise BundleError(
                        f"{runtime.name} gives a {name} that is not finite in this precision; nothing was changed"
                    )
            yield {name: values for name, values in outputs.items() if not name.startswith("updated_")}


def _scores(calibration: Calibration, video: Iterator[Maps] | Sequence[Maps]) -> NDArray[np.float64]:
    scorer = Scorer(calibration)
    evidence = (calibration.normalise(maps) for maps in video)
    return np.array([scorer.update(one).value for one in evidence], np.float64)


def require_agreement(record: VariantRecord, runtime: str, precision: str, min_correlation: float) -> None:
    """Raise BundleError where the scores correlate less with those of fp32 than `min_correlation`."""
    compared: Mapping[str, Agreement] = {"held-out training video": record.held_out, **record.checks}
    for name, found in compared.items():
        lowest = min(found.spearman, found.pearson)
        if not lowest >= min_correlation:
            raise BundleError(
                f"{precision} for {runtime} does not score like fp32: correlation {lowest:.4f} on {name} "
                f"(Spearman {found.spearman:.4f}, Pearson {found.pearson:.4f}, {found.n_frames} frames), expected at "
                f"least {min_correlation:g}; nothing was changed"
            )
