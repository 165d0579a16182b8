"""More frames than this machine can score: the camera says so, its figures show it, and a system alert begins and ends."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import copied, sign
from live.conftest import until
from live.test_live import N_FRAMES
from stored import Received, http_server

from comemory.live import camera, service
from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState
from comemory.live.monitoring.recent_share import RecentShare
from comemory.live.service import Service

pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
N_PRODUCTS, SIDE = 12, 1024
"""Products of two matrices that the slow network adds to each frame, two GFLOP each, and their side."""


def slowed(bundle: Path, folder: Path) -> Path:
    """A copy of a bundle whose network does far more than it needs for the same numbers."""
    onnx = pytest.importorskip("onnx", reason="needs onnx: pip install '.[train]'")
    target = copied(bundle, folder)
    model = onnx.load(target / "model.onnx")
    graph, make = model.graph, onnx.helper.make_node
    for node in graph.node:
        node.output[:] = ["frame_error_alone" if name == "frame_error" else name for name in node.output]
    constants = {
        "matrix": np.random.default_rng(0).normal(0, SIDE**-0.5, (SIDE, SIDE)).astype(np.float32),
        "nothing": np.array(0, np.float32),
    }
    graph.initializer.extend([onnx.numpy_helper.from_array(value, name) for name, value in constants.items()])
    graph.node.extend(
        [
            make("ReduceMean", ["flow"], ["mean"], keepdims=0),
            make("Add", ["matrix", "mean"], ["product_0"]),
            *(make("MatMul", [f"product_{k}", "matrix"], [f"product_{k + 1}"]) for k in range(N_PRODUCTS)),
            make("ReduceMean", [f"product_{N_PRODUCTS}"], ["waste"], keepdims=0),
            make("Mul", ["waste", "nothing"], ["zero"]),
            make("Add", ["frame_error_alone", "zero"], ["frame_error"]),
        ]
    )
    onnx.save(model, target / "model.onnx")
    return sign(target)


def reported(server: Received) -> list[Any]:
    """The alerts of the part `overload`."""
    return [payload["after"] for payload in server.payloads if payload["after"].get("part") == "overload"]


def test_a_machine_that_is_too_slow_degrades_the_camera_and_sends_an_alert_until_it_is_not(
    clips: list[Path],
    quick_bundle: Path,
    live: Callable[..., LiveSettings],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(camera, "RecentShare", partial(RecentShare, window_s=4.0, min_frames=20))
    monkeypatch.setattr(service, "OVERLOAD_INTERVAL_S", 0.1)
    slow = slowed(quick_bundle, tmp_path)
    with http_server() as server:
        hook = {
            "kind": "webhook",
            "url": f"http://127.0.0.1:{server.port}/",
            "allow_private": True,
            "kinds": ["system"],
        }
        settings = live(
            {"gate": {"url": str(clips[0]), "loop": True}}, model=str(slow), workers=1, alerts={"desk": hook}
        )
        with Service(settings) as running:
            runner = threading.Thread(target=running.run)
            runner.start()
            try:
                until(lambda: bool(reported(server)))
                assert reported(server)[0]["state"] == "error"
                assert "too slow: frames of gate are dropped unscored" in reported(server)[0]["message"]
                [status] = running.engine.status()
                assert status.state is CameraState.DEGRADED
                said = re.match(
                    r"(\d+)% of the frames .* not scored, ([\d.]+) of ([\d.]+) a second are", status.message
                )
                assert said is not None
                share, scored_hz, due_hz = map(float, said.groups())
                assert share / 100 == pytest.approx(1 - scored_hz / due_hz, abs=0.02)
                assert status.dropped > 0
                assert status.fps_scored < status.fps_due == pytest.approx(10, abs=0.5)
                running.engine.set_model("gate", quick_bundle)
                until(lambda: [one["state"] for one in reported(server)][:2] == ["error", "ok"])
            finally:
                running.end()
                runner.join(60)
    assert any('"degraded"' in line for line in (settings.out / "events.jsonl").read_text().splitlines())


def test_every_frame_is_in_one_counter(
    clips: list[Path], quick_bundle: Path, live: Callable[..., LiveSettings], tmp_path: Path
) -> None:
    slow = slowed(quick_bundle, tmp_path)
    settings = live({"gate": {"url": str(clips[0]), "fps": 5}}, model=str(slow), workers=1)
    with Service(settings) as running:
        running.run()
        [status] = running.engine.status()
        metrics = running.engine.metrics()
    assert (status.state, status.waiting) == (CameraState.ENDED, 0)
    unscored = (status.dropped, status.damaged, status.not_due, status.filling, status.faulty)
    assert status.frames == status.scored + sum(unscored) == N_FRAMES
    assert status.not_due == N_FRAMES // 2 - 1
    assert (status.damaged, status.faulty) == (0, 0)
    assert status.filling <= 3
    assert status.dropped > 0
    assert (metrics.not_due, metrics.filling) == ({"gate": status.not_due}, {"gate": status.filling})
    assert (metrics.dropped, metrics.faulty) == ({"gate": status.dropped}, {"gate": 0})
