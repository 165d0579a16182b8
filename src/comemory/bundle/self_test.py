"""Runs a bundle's network once before its first frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from comemory.bundle.bundle import Bundle
from comemory.errors import BundleError, ConfigError
from comemory.scoring import ObjectEvidence, check_evidence
from comemory.types import Clip, Evidence, Runtime


def run_self_test(bundle: Bundle, runtime: Runtime, *, updates: bool) -> None:
    """Run the network on a black clip and on noise, so that a network that does not fit its bundle fails at once.

    Args:
        bundle: an opened one.
        runtime: executes the bundle's network.
        updates: whether the network has to return its updated memory items.

    Raises:
        BundleError: the network does not fit the rest of the bundle.
    """
    for clip in _test_clips(bundle):
        outputs = runtime.run({**bundle.network.layout.build_inputs(clip), **bundle.items})
        evidence = _normalise(bundle, {**outputs, **clip.evidence, **_object_maps(bundle, clip)})
        if updates:
            _check_updates(bundle, evidence)
        try:
            check_evidence(evidence, bundle.calibration, bundle.clips.height, bundle.clips.width)
        except ConfigError as error:
            raise BundleError(f"{bundle.path}: {error}") from None


def _test_clips(bundle: Bundle) -> Iterator[Clip]:
    """A black clip without motion, and one of noise that moves everywhere."""
    spec, random = bundle.clips, np.random.default_rng(0)
    frames, flow = (spec.n_past + 1, spec.channels, spec.height, spec.width), (2, spec.height, spec.width)
    yield Clip.from_arrays(np.zeros(frames, np.float32), np.zeros(flow, np.float32))
    yield Clip.from_arrays(random.random(frames, np.float32) * 2 - 1, random.standard_normal(flow, np.float32))


def _object_maps(bundle: Bundle, clip: Clip) -> dict[str, NDArray[np.float32]]:
    if bundle.scene is None:
        return {}
    objects = ObjectEvidence(bundle.scene, bundle.calibration.rate_hz)
    return objects.update(clip.newest_image, clip.flow, clip.evidence)


def _normalise(bundle: Bundle, maps: Mapping[str, NDArray[np.float32]]) -> Evidence:
    try:
        return bundle.calibration.normalise(maps)
    except ValueError as error:
        raise BundleError(f"{bundle.path}: the spatial baselines do not fit the network: {error}") from None


def _check_updates(bundle: Bundle, evidence: Evidence) -> None:
    for name, items in bundle.items.items():
        updated = f"updated_{name.removesuffix('_items')}"
        if updated not in evidence.maps or evidence.maps[updated].shape != items.shape:
            raise BundleError(f"{bundle.path}: the network returns no {updated} of shape {items.shape}")
