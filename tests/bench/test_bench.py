"""Timings: order, medians, and what is said of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest

from comemory import bench
from comemory.errors import ConfigError
from comemory.flow import FLOWS, FlowSettings, open_flow
from comemory.runtimes import RUNTIMES


def test_rounds_alternate_after_a_warm_up() -> None:
    order: list[str] = []
    timings = bench.interleave({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3)  # type: ignore[misc]
    assert "".join(order) == "abc" + "abc" + "cba" + "abc"
    assert {name: len(timing.samples_s) for name, timing in timings.items()} == {"a": 3, "b": 3, "c": 3}
    assert all(sample >= 0 for timing in timings.values() for sample in timing.samples_s)


def test_the_slower_one_is_slower() -> None:
    heavy = np.random.default_rng(0).random((300, 300))
    timings = bench.interleave({"light": lambda: None, "heavy": lambda: heavy @ heavy}, rounds=5)
    assert timings["heavy"].median_ms > timings["light"].median_ms


@pytest.mark.parametrize("rounds", [0, -1])
def test_no_round_is_refused(rounds: int) -> None:
    with pytest.raises(ConfigError, match="expected 1 or more"):
        bench.interleave({"nothing": lambda: None}, rounds)


def test_a_summary_has_median_and_spread() -> None:
    assert bench.Timing((0.001, 0.009, 0.002, 0.004)).summary() == {
        "median_ms": 3.0,
        "lowest_ms": 1.0,
        "highest_ms": 9.0,
        "rounds": 4,
    }


def test_circumstances_are_json_and_know_the_machine() -> None:
    said = json.loads(json.dumps(bench.measurement_environment()))
    assert said["cores"] >= 1
    assert said["versions"]["numpy"] == np.__version__
    assert said["python"].count(".") == 2
    assert len(said["date"]) == 10
    assert said["cpu"] is None or said["cpu"].strip()


def test_peak_memory_grows_with_what_was_held_and_does_not_shrink() -> None:
    program = (
        "import numpy as np\n"
        "from comemory.bench import peak_rss_mib\n"
        "marks = [peak_rss_mib()]\n"
        "held = np.ones(200 * 2**17)\n"
        "marks.append(peak_rss_mib())\n"
        "del held\n"
        "marks.append(peak_rss_mib())\n"
        "print(*marks)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    before, high, after = map(float, done.stdout.split())
    assert 180 < high - before < 220
    assert after > high - 1


def test_peak_memory_is_of_the_process_itself_not_of_its_parent() -> None:
    held = np.ones(400 * 2**17)
    program = "from comemory.bench import peak_rss_mib; print(peak_rss_mib())"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert 5 < float(done.stdout) < 400
    assert held.size


def test_every_flow_is_timed_or_named_as_left_out() -> None:
    said = json.loads(json.dumps(bench.bench_flow(size=(48, 64), rounds=2)))
    assert {flow["name"] for flow in said["flows"]} | set(said["left_out"]) == set(FLOWS)
    assert {flow["preset"] for flow in said["flows"] if flow["name"] == "dis"} == {
        "ultrafast",
        "medium",
        "lean",
        "fine",
    }
    medians = [flow["median_ms"] for flow in said["flows"]]
    assert medians == sorted(medians)
    assert said["size"] == [48, 64]
    assert said["threads"]["opencv"] == cv2.getNumThreads()


def test_missing_weights_are_an_error_not_a_gap() -> None:
    pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    with pytest.raises(ConfigError, match=r"none\.pth"):
        bench.bench_flow(size=(48, 64), rounds=1, weights="none.pth")


@pytest.mark.parametrize("size", [(0, 10), (10, -1), (100_000, 100_000)])
def test_impossible_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="cannot make images"):
        bench.bench_flow(size=size, rounds=1)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (240, 360)])
def test_timed_images_are_always_the_same(size: tuple[int, int]) -> None:
    for first, second in zip(bench.moving_images(size), bench.moving_images(size), strict=True):
        assert first.shape == (*size, 3)
        np.testing.assert_array_equal(first, second)


def test_the_block_moves_and_the_rest_stays() -> None:
    flow = open_flow(FlowSettings()).estimate(*bench.moving_images((240, 360)))
    np.testing.assert_allclose(np.median(flow[80:160, 120:240], axis=(0, 1)), (3, 1), atol=0.2)
    assert np.abs(flow[:40]).max() < 0.5


def test_timing_flow_imports_no_torch() -> None:
    program = (
        "import sys\n"
        "from comemory.bench import bench_flow\n"
        "bench_flow(size=(40, 40), rounds=1)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


ENVIRONMENT = {"date", "command", "commit", "cpu", "cores", "load_average", "system", "python", "versions"}
SUMMARY = {"median_ms", "lowest_ms", "highest_ms", "rounds"}


def test_the_network_is_timed_on_every_runtime_or_named_as_left_out(nano_bundle: Path) -> None:
    said = json.loads(json.dumps(bench.bench_model(nano_bundle, rounds=2)))
    of_the_machine = {"gflop", "roofline_gflop_per_s", "share_of_roofline"}
    assert said.keys() == {"what", "timings", "left_out"} | of_the_machine | ENVIRONMENT
    assert said["gflop"] > 0
    assert said["roofline_gflop_per_s"]["fp32"] > 0
    assert set(said["share_of_roofline"]) <= set(said["timings"])
    assert 0 < said["share_of_roofline"]["openvino, fp32, 1 thread"] < 3
    timed = {name.partition(",")[0] for name in said["timings"]}
    assert timed | set(said["left_out"]) == set(RUNTIMES)
    assert "openvino" in timed
    assert len(said["timings"]) == 2 * len(timed)
    assert all(timing.keys() == SUMMARY and timing["lowest_ms"] > 0 for timing in said["timings"].values())


def test_the_pipeline_is_timed_from_the_file_to_the_score(nano_bundle: Path, walkway: Path) -> None:
    said = json.loads(
        json.dumps(bench.bench_pipeline(nano_bundle, str(walkway / "testing" / "01.mp4"), 2, n_threads=1))
    )
    rates = {"frames_per_second", "frames_per_second_plain"}
    assert said.keys() == {"what", "precision", "device", "frames", "timings", "peak_rss_mib", "threads"} | rates | (
        ENVIRONMENT
    )
    assert said["device"] == "CPU"
    assert said["frames"] == 60
    assert (said["threads"]["workers"], said["threads"]["network"]) == (1, 1)
    assert said["timings"].keys() == {"whole", "decode", "flow", "network", "rest"}
    assert said["frames_per_second"] == pytest.approx(1000 / said["timings"]["whole"]["median_ms"], rel=0.01)
    for round_ in ("lowest_ms", "highest_ms"):
        assert all(timing[round_] >= 0 for timing in said["timings"].values())


def test_the_pipeline_is_timed_on_several_cores(nano_bundle: Path, walkway: Path) -> None:
    said = bench.bench_pipeline(nano_bundle, str(walkway / "testing" / "01.mp4"), 1, n_threads=2)
    assert said["threads"]["workers"] == 2
    assert said["timings"].keys() == {"whole", "decode", "flow", "network", "rest", "pipeline"}
    assert said["frames_per_second"] == pytest.approx(1000 / said["timings"]["pipeline"]["median_ms"], rel=0.01)


def test_the_work_of_convolutions_is_counted_as_by_hand(tmp_path: Path) -> None:
    ov = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    entry = ops.parameter([1, 3, 8, 10], np.float32, name="x")
    wide = ops.convolution(entry, np.ones((5, 3, 3, 3), np.float32), [2, 2], [1, 1], [1, 1], [1, 1])
    large = ops.convolution_backprop_data(wide, np.ones((5, 7, 2, 2), np.float32), [2, 2])
    rows = ops.reshape(large, np.array([7, 80]), False)
    product = ops.matmul(rows, np.ones((80, 6), np.float32), False, False)
    path = tmp_path / "net.xml"
    ov.save_model(ov.Model([ops.result(product)], [entry], "net"), path)
    by_hand = 5 * 4 * 5 * 27 + 5 * 4 * 5 * 7 * 4 + 7 * 6 * 80
    counted = bench.network_gflop(path, {"x": np.zeros((1, 3, 8, 10), np.float32)})
    assert counted == pytest.approx(2 * by_hand / 1e9)


def test_a_step_of_training_is_timed_and_the_wait_for_data(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
    tiny = ["clips.height=32", "clips.width=48", "clips.flow_height=64", "clips.flow_width=96", "network.base_width=4"]
    scene = "synthetic:seed=1,frames=30,training=2,testing=1,size=96x144"
    said = json.loads(json.dumps(bench.bench_training(scene, "nano", [*tiny, "train.threads=1"], 3, tmp_path)))
    assert said["timings"].keys() == {"step", "reading clips"}
    assert said["timings"]["step"]["rounds"] == 3
    assert 0 <= said["waiting_share"] < 1
    assert said["clips_per_second"] > 0
    assert any(tmp_path.rglob("*.images")), "a cache folder that was given is not removed"
    with pytest.raises(ConfigError, match="expected 1 or more"):
        bench.bench_training(scene, rounds=0)


def test_a_password_on_the_command_line_is_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["comemory", "bench", "rtsp://user:secret@camera/live"])
    assert "secret" not in json.dumps(bench.measurement_environment())


def test_no_round_of_the_pipeline_is_refused(nano_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="expected 1 or more"):
        bench.bench_pipeline(nano_bundle, "nothing.mp4", 0)


def test_a_training_that_is_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    scene = "synthetic:seed=1,frames=60,training=3,testing=1,size=96x144"
    command = [sys.executable, "-m", "comemory", "bench", "training", "--data", scene, "--rounds", "100000"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 60
        while not list(tmp_path.glob("comemory-bench-*/*")) and time.monotonic() < until:
            time.sleep(0.05)
        for _ in range(12):  # while torch is imported, one of its bare `except:` may take the interrupt
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
                break
        assert process.stderr is not None
        said = process.stderr.read()
    assert (process.returncode, said.strip()) == (130, "error: interrupted")
    assert not list(tmp_path.glob("comemory-bench-*"))
