"""What a running engine offers to the page and the API."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from bundles import unfinite
from live.conftest import N_FRAMES, until
from live.test_live import BUDGET, all_of, lines

from comemory.errors import BundleError, ConfigError
from comemory.live.config import LiveSettings
from comemory.live.contract import CameraState, EngineContract
from comemory.live.engine import Engine
from comemory.server.live_pictures import SnapshotEncoder

Live = Callable[..., LiveSettings]
Engines = Callable[..., Engine]


@pytest.fixture
def looping(clips: list[Path]) -> dict[str, object]:
    return {"url": str(clips[0]), "loop": True, "realtime": False, "false_alarms": BUDGET}


def test_engine_fulfils_its_contract(live: Live, looping: dict[str, object], engines: Engines) -> None:
    engine = engines(live({"gate": looping}))
    contract: EngineContract = engine
    until(lambda: contract.metrics().scored["gate"] > 5)
    snapshot = contract.snapshot("gate")
    assert snapshot is not None
    assert snapshot.image.shape == (96, 144, 3)
    if snapshot.heat is not None:
        assert 0 <= snapshot.heat.min() <= snapshot.heat.max() <= 1
    scores = contract.scores("gate", 600)
    assert scores
    assert scores == sorted(scores)
    metrics = contract.metrics()
    assert metrics.latency_counts["gate"][-1] <= metrics.scored["gate"] + 1
    assert metrics.latency_counts["gate"] == sorted(metrics.latency_counts["gate"])
    assert contract.status()[0].size == (96, 144)
    for ask in (contract.snapshot, lambda name: contract.scores(name, 1), lambda name: contract.set_zones(name, ())):
        with pytest.raises(ConfigError, match="no camera 'yard'"):
            ask("yard")


def test_snapshot_of_a_camera_that_is_down_does_not_change(
    live: Live, looping: dict[str, object], engines: Engines
) -> None:
    engine = engines(live({"gate": {**looping, "loop": False}}))
    assert engine.wait(180)
    until(lambda: engine.status()[0].state is not CameraState.LIVE)
    pictures = SnapshotEncoder(engine)
    first, second = (engine.snapshot("gate") for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.time == second.time
    tags = {picture.tag for picture in (pictures.latest("gate") for _ in range(3)) if picture is not None}
    assert len(tags) == 1


def test_budget_and_zones_change_at_once_and_survive_a_restart(
    live: Live, looping: dict[str, object], engines: Engines
) -> None:
    settings = live({"gate": looping})
    engine = engines(settings)
    before = engine.status()[0].threshold
    assert engine.set_budget("gate", "1/week") == engine.status()[0].threshold > before
    assert engine.thresholds("gate", [BUDGET]) == [before]
    zone = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0))
    engine.set_zones("gate", [zone])
    assert engine.status()[0].zones == (zone,)
    with pytest.raises(ConfigError):
        engine.set_budget("gate", "often")
    with pytest.raises(ValueError):
        engine.set_zones("gate", [((0.0, 0.0), (2.0, 0.0), (1.0, 1.0))])
    engine.stop()
    again = Engine(settings)
    assert again.settings.cameras["gate"].zones == (zone,)
    assert again.settings.cameras["gate"].false_alarms == "1/week"


def test_full_queue_drops_the_oldest_messages(live: Live, looping: dict[str, object], engines: Engines) -> None:
    engine = engines(live({"gate": looping}))
    with engine.subscribe() as messages:
        for k in range(1500):
            engine.publish({"kind": "test", "k": k})
        last = [message["k"] for message in all_of(messages, "test")]
    assert last[-1] == 1499
    assert last[0] > 0
    json.dumps(last)


def test_events_outside_the_active_hours_are_stored_as_suppressed(clips: list[Path], live: Live) -> None:
    now = datetime.now().astimezone()
    away = now + timedelta(hours=6)
    hours = f"{away:%H}:00-{away:%H}:59"
    settings = live({"gate": {"url": str(clips[0]), "realtime": False, "false_alarms": BUDGET, "hours": [hours]}})
    engine = Engine(settings)
    engine.start()
    assert engine.wait(180)
    engine.stop()
    found = lines(settings.out, "end")
    assert found
    assert all(event["suppressed"] for event in found)
    assert engine.metrics().events["gate"] == 0
    assert engine.metrics().suppressed["gate"] == len(found)


def test_camera_that_sends_nothing_does_not_delay_others(
    live: Live, looping: dict[str, object], engines: Engines
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/stream"
        engine = engines(live({"mute": {"url": url}, "gate": looping}))
        until(lambda: engine.metrics().scored["gate"] > 20)
        assert {status.name: status.scored for status in engine.status()}["mute"] == 0
        engine.stop()
        until(lambda: not any(camera.reader.is_alive() for camera in engine._cameras.values()))


def test_invalid_data_takes_the_camera_down(live: Live, engines: Engines) -> None:
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listening:
            for _ in range(3):
                with listening.accept()[0] as client:
                    client.recv(4096)
                    client.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp4\r\n\r\n" + bytes(range(256)) * 400)

    threading.Thread(target=serve, daemon=True).start()
    engine = engines(live({"gate": {"url": f"http://127.0.0.1:{listening.getsockname()[1]}/x"}}))
    until(lambda: engine.status()[0].state is CameraState.DOWN and engine.status()[0].attempts > 1)
    assert engine.status()[0].message


def test_reload_does_not_disturb_cameras_that_did_not_change(
    clips: list[Path], live: Live, looping: dict[str, object], engines: Engines
) -> None:
    engine = engines(live({"gate": looping, "yard": looping}))
    until(lambda: all(status.scored > 3 for status in engine.status()))
    readers = {name: camera.reader for name, camera in engine._cameras.items()}
    cameras = {"gate": {**looping, "false_alarms": "1/h"}, "door": {**looping, "url": str(clips[1])}}
    after = live(cameras, retention={"days": 1})
    assert engine.reload(after) == ["retention: changed", "door: started", "gate: false_alarms", "yard: stopped"]
    assert engine.settings.retention.days == 1
    assert engine._cameras["gate"].reader is readers["gate"]
    assert sorted(status.name for status in engine.status()) == ["door", "gate"]
    assert engine.reload(after) == []
    with pytest.raises(BundleError):
        engine.set_model("gate", Path("nowhere"))
    assert engine.status()[0].model


def test_failed_reload_changes_nothing(
    clips: list[Path], live: Live, looping: dict[str, object], engines: Engines, quick_bundle: Path
) -> None:
    engine = engines(live({"gate": looping, "yard": looping}))
    until(lambda: all(status.scored > 3 for status in engine.status()))
    cameras, settings = dict(engine._cameras), engine.settings
    bad = {"gate": {**looping, "url": str(clips[1])}, "yard": {**looping, "model": "nowhere"}, "door": looping}
    for _ in range(2):
        with pytest.raises(BundleError, match="nowhere"):
            engine.reload(live(bad))
        assert engine._cameras == cameras
        assert engine.settings is settings
    scored = engine.metrics().scored
    until(lambda: all(engine.metrics().scored[name] > scored[name] + 3 for name in scored))
    bad["yard"]["model"] = str(quick_bundle)
    assert engine.reload(live(bad)) == ["door: started", "gate: restarted", "yard: restarted"]
    assert engine._cameras["gate"] is not cameras["gate"]
    assert not engine.finished


def test_model_swap_keeps_the_camera_live(
    quick_bundle: Path, live: Live, looping: dict[str, object], engines: Engines, tmp_path: Path
) -> None:
    from bundles import copied, read, write

    other = copied(quick_bundle, tmp_path)
    calibration = read(other, "calibration.json")
    write(other, "calibration.json", {**calibration, "n_frames": calibration["n_frames"] + 1})
    engine = engines(live({"gate": looping}))
    until(lambda: engine.status()[0].scored > 3)
    before = engine.status()[0]
    engine.set_model("gate", other)
    until(lambda: engine.status()[0].model_sha256 != before.model_sha256)
    at = engine.status()[0].scored
    until(lambda: engine.status()[0].scored > at + 3)
    until(lambda: engine.status()[0].state is CameraState.LIVE)


def test_watchdog_survives_an_error_in_one_task(
    clips: list[Path], live: Live, engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error: an overrides file that is nested too deeply for the JSON parser."""
    errors: list[str] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(args.exc_type.__name__))
    path = tmp_path / "gate.mp4"
    settings = live({"gate": {"url": str(path), "loop": True}})
    engine = engines(settings)
    until(lambda: engine.status()[0].state is CameraState.DOWN)
    with engine.subscribe() as messages:
        (settings.out / "overrides.json").write_text("[" * 200_000)
        until(lambda: bool(errors))
        path.symlink_to(clips[0])
        until(lambda: engine.status()[0].state is CameraState.LIVE)
        warnings = all_of(messages, "warning")
    assert [message["message"] for message in warnings] == ["the watchdog stopped with an error and is being restarted"]
    assert errors == ["RecursionError"]


def test_network_without_a_finite_score_takes_its_camera_down(
    clips: list[Path], quick_bundle: Path, live: Live, engines: Engines, tmp_path: Path
) -> None:
    bundle = unfinite(quick_bundle, tmp_path, "frames", most=0.0005)
    file = {"url": str(clips[0]), "realtime": False}
    settings = live({"gate": {**file, "loop": True, "model": str(bundle)}, "yard": file}, precision="fp32")
    engine = engines(settings)
    until(lambda: engine.status()[0].state is CameraState.DOWN)
    gate, yard = engine.status()
    assert "the network gives no finite score" in gate.message
    assert gate.scored == 0
    until(lambda: engine.status()[1].scored > 90)
    assert "no finite score" not in yard.message


def test_file_that_ends_on_a_frame_without_a_score_is_down_not_ended(
    clips: list[Path], quick_bundle: Path, live: Live, engines: Engines, tmp_path: Path
) -> None:
    bundle = unfinite(quick_bundle, tmp_path, "frames", most=0.0005)
    engine = engines(live({"gate": {"url": str(clips[0]), "realtime": False, "model": str(bundle)}}, precision="fp32"))
    assert engine.wait(180)
    status = engine.status()[0]
    assert status.state is CameraState.DOWN
    assert "the network gives no finite score" in status.message
    assert engine.failed == ["gate"]


def test_path_that_is_not_valid_text_is_reported_and_stored(
    live: Live, engines: Engines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    monkeypatch.setenv("GATE", os.fsdecode(bytes(tmp_path) + b"/gone\xff.mp4"))
    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        settings = live({"gate": {"url": "env:GATE"}})
        engine = engines(settings, store)
        until(lambda: engine.status()[0].state is CameraState.DOWN and bool(store.states()))
        engine.stop()
        assert "gone\\udcff.mp4" in engine.status()[0].message
        assert [(state.state, state.message) for state in store.states()] == [("down", engine.status()[0].message)]
        assert engine.event_writer.error == ""
    written = [json.loads(line) for line in (settings.out / "events.jsonl").read_text().splitlines()]
    assert [line["message"] for line in written] == [engine.status()[0].message]


def test_reference_views_are_saved_regularly(
    live: Live, looping: dict[str, object], engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("comemory.live.engine.REFERENCE_INTERVAL_S", 0.5)
    settings = live({"gate": looping})
    engine = engines(settings)
    until(lambda: bool(list((settings.out / "cameras" / "gate").glob("view-*.npz"))))
    assert engine.status()[0].state is CameraState.LIVE


def test_event_times_have_a_time_zone(clips: list[Path], live: Live) -> None:
    settings = live({"gate": {"url": str(clips[0]), "realtime": False, "false_alarms": BUDGET}})
    engine, start, played = Engine(settings), datetime.now(UTC), timedelta(seconds=N_FRAMES / 10)
    engine.start()
    assert engine.wait(180)
    engine.stop()
    for event in lines(settings.out, "end"):
        assert start - timedelta(seconds=1) <= datetime.fromisoformat(event["start"]) <= datetime.now(UTC) + played


def replace_bundle(bundle: Path, **calibration: object) -> None:
    """Replace a bundle in one step, as a training does, by one with another calibration."""
    from bundles import read

    from comemory.bundle import bundle_writer, copy_members, write_json

    with bundle_writer(bundle) as folder:
        copy_members(bundle, folder, {"calibration.json"})
        write_json(folder / "calibration.json", {**read(bundle, "calibration.json"), **calibration})


def test_reload_loads_a_bundle_that_was_replaced_at_its_path(
    quick_bundle: Path, live: Live, looping: dict[str, object], engines: Engines, tmp_path: Path
) -> None:
    from bundles import copied, read

    model = copied(quick_bundle, tmp_path)
    engine = engines(live({"gate": looping, "yard": {**looping, "model": str(quick_bundle)}}, model=str(model)))
    until(lambda: all(status.scored > 3 for status in engine.status()))
    digests, readers = engine_digests(engine), {name: camera.reader for name, camera in engine._cameras.items()}
    assert engine.reload(engine._base_settings) == []
    replace_bundle(model, n_frames=read(model, "calibration.json")["n_frames"] + 1)
    assert engine.reload(engine._base_settings) == [f"gate: model: the new bundle at {model}"]
    assert engine.reload(engine._base_settings) == []
    until(lambda: engine_digests(engine)["gate"] not in digests.values())
    assert engine_digests(engine)["yard"] == digests["yard"]
    assert {name: camera.reader for name, camera in engine._cameras.items()} == readers
    (model / "calibration.json").write_text("{}")
    (model / "manifest.json").write_text("{}")
    after = live(
        {"gate": {**looping, "false_alarms": "1/h"}, "yard": {**looping, "model": str(quick_bundle)}}, model=str(model)
    )
    changed, kept = engine.reload(after)
    assert changed == "gate: false_alarms"
    assert kept.startswith("gate: keeps its present model: ")
    scored = engine.metrics().scored["gate"]
    until(lambda: engine.metrics().scored["gate"] > scored + 3)


def engine_digests(engine: Engine) -> dict[str, str]:
    return {status.name: status.model_sha256 for status in engine.status()}


def test_a_shared_network_is_not_mixed_with_the_one_that_replaced_it(quick_bundle: Path, tmp_path: Path) -> None:
    from bundles import copied, read

    from comemory.bundle import open_bundle
    from comemory.live.scoring.shared_network import SharedNetwork

    model = copied(quick_bundle, tmp_path)
    network = SharedNetwork(open_bundle(model).for_runtime("openvino"), "openvino", 3)
    first = network._acquire()
    assert network._copy() is not None
    replace_bundle(model, n_frames=read(model, "calibration.json")["n_frames"] + 1)
    assert network._copy() is None
    network._free.put(first)
    assert network._acquire() is first


def test_a_camera_whose_variable_is_not_set_is_down_and_tried_again(live: Live, engines: Engines) -> None:
    """A node of a fleet may lack the variable."""
    engine = engines(live({"gate": {"url": "env:NO_SUCH_URL"}}))
    until(lambda: engine.status()[0].attempts > 1)
    assert not engine.finished
    (status,) = engine.status()
    assert status.state is CameraState.DOWN
    assert status.message.startswith("the url of a camera is 'env:NO_SUCH_URL'")
