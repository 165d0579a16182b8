"""A bundle's network run once before it watches anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from comemory.bundle.bundle import Bundle
from comemory.errors import BundleError, ConfigError
from comemory.scoring import check_evidence, normalise
from comemory.types import Clip, Runtime


def run_self_test(bundle: Bundle, runtime: Runtime, *, updates: bool) -> None:
    """Run the network on nothing and on noise: one that does not fit its bundle is refused now, not at a frame.

    Args:
        runtime: executes the bundle's network.
        updates: whether the network is to give its items updated.

    Raises:
        BundleError: it does not fit.
    """
    for clip in _clips(bundle):
        maps = {**runtime.run({**bundle.network.layout.build_inputs(clip), **bundle.items}), **clip.named_input_maps}
        _refuse_misfit(bundle, maps, updates=updates)


def _clips(bundle: Bundle) -> Iterator[Clip]:
    """Black pictures that stand still, and noise all of which moves."""
    spec, random = bundle.clips, np.random.default_rng(0)
    frames, flow = (spec.n_past + 1, spec.channels, spec.height, spec.width), (2, spec.height, spec.width)
    yield Clip.from_arrays(np.zeros(frames, np.float32), np.zeros(flow, np.float32))
    yield Clip.from_arrays(random.random(frames, np.float32) * 2 - 1, random.standard_normal(flow, np.float32))


def _refuse_misfit(bundle: Bundle, maps: Mapping[str, NDArray[np.float32]], *, updates: bool) -> None:
    spec, fitted = bundle.clips, bundle.calibration
    try:
        maps = {**normalise(maps, fitted.spatial_baselines)}
    except ValueError as error:
        raise BundleError(f"{bundle.path}: the usual levels do not fit the network: {error}") from None
    for name, items in bundle.items.items() if updates else ():
        updated = f"updated_{name.removesuffix('_items')}"
        if updated not in maps or maps[updated].shape != items.shape:
            raise BundleError(f"{bundle.path}: the network does not give {updated} of shape {items.shape}")
    try:
        check_evidence(maps, fitted, spec.height, spec.width)
    except ConfigError as error:
        raise BundleError(f"{bundle.path}: {error}") from None
