"""The command line as a user meets it: help, exit codes, one line for each thing that went wrong, and never a traceback."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import bundles
import numpy as np
import pytest
from footage import bright_images, clip, comemory, save_frames, save_labels, save_video
from moving_disc import disc_images
from rich.console import Console
from typer.testing import CliRunner

from comemory import cli
from comemory.bundle import open_bundle
from comemory.cli import application, options, terminal
from comemory.datasets import DATASETS
from comemory.runtimes import RUNTIMES
from comemory.training.config import PRESETS

COMMANDS = [
    "",
    "demo",
    "train",
    "score",
    "evaluate",
    "export",
    "info",
    "data",
    "data check",
    "bench",
    "bench flow",
    "bench model",
    "bench pipeline",
]
SCENE = "synthetic:seed=1,frames=30,training=1,testing=1,size=96x144"


class Done(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Done]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the command line in this process; what it says on the way is checked for escape codes and tracebacks."""

    def run(*arguments: object) -> Done:
        with pytest.raises(SystemExit) as left:
            cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert "\x1b" not in captured.out + captured.err
        assert "Traceback" not in captured.out + captured.err
        assert "bug in comemory" not in captured.err
        assert isinstance(left.value.code, int)
        return Done(left.value.code, captured.out, captured.err)

    return run


def one_error(done: Done, code: int, text: str) -> None:
    """One line on stderr that says it, and nothing on stdout."""
    assert done.code == code, done
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("error: ")
    assert re.search(text, done.err), done.err
    assert done.out == ""


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_video(tmp_path_factory.mktemp("gate") / "gate.mp4", clip(0)[0][:30])


@pytest.fixture
def bundle(nano_bundle: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(nano_bundle, tmp_path / "bundle"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command: str) -> None:
    for option in ("--help", "-h"):
        done = CliRunner().invoke(cli.app, [*command.split(), option])
        assert done.exit_code == 0
        assert re.search(rf"comemory {command}", done.output)
        assert re.search(r"(Example|For example):", done.output)


@pytest.mark.parametrize(
    "command",
    [
        ("score", "{bundle}", "{video}", "--out", "{out}"),
        ("evaluate", "{bundle}", "--data", SCENE),
        ("bench", "model", "{bundle}"),
        ("bench", "pipeline", "{bundle}", "{video}"),
        ("watch", "--camera", "gate={video}", "--model", "{bundle}", "--out", "{out}"),
        ("serve", "--camera", "gate={video}", "--model", "{bundle}", "--out", "{out}", "--port", "0"),
    ],
)
def test_a_device_that_is_not_here_is_refused_with_those_that_are(
    call: Call, nano_bundle: Path, gate: Path, tmp_path: Path, command: tuple[str, ...]
) -> None:
    given = [part.format(bundle=nano_bundle, video=gate, out=tmp_path / "out") for part in command]
    one_error(call(*given, "--device", "XPU"), 2, r"finds no device 'XPU' here: expected CPU or (.* or )?AUTO")


def test_a_runtime_without_devices_runs_on_the_cpu(call: Call, nano_bundle: Path, gate: Path, tmp_path: Path) -> None:
    given = ("score", nano_bundle, gate, "--out", tmp_path / "out", "--runtime", "onnx", "--device")
    one_error(call(*given, "GPU"), 2, r"the runtime 'onnx' finds no device 'GPU' here: expected CPU$")
    assert call(*given, "cpu").code == 0


def test_help_names_every_kind_runtime_and_preset() -> None:
    help_text = " ".join(CliRunner().invoke(cli.app, ["train", "--help"], env={"COLUMNS": "300"}).output.split())
    assert ", ".join(DATASETS) in help_text
    assert all(preset in help_text for preset in PRESETS)
    help_text = CliRunner().invoke(cli.app, ["score", "--help"], env={"COLUMNS": "300"}).output
    assert all(name in help_text for name in RUNTIMES)


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from comemory.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'openvino', 'cv2', 'av', 'numpy', 'pydantic', 'onnxruntime', 'matplotlib'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_version_and_module() -> None:
    done = comemory("--version")
    assert (done.returncode, done.stdout) == (0, f"comemory {version('comemory')}\n")


@pytest.mark.parametrize("command", ["", "data", "bench"])
def test_no_command_shows_the_help(call: Call, command: str) -> None:
    done = call(*command.split())
    assert done.code == 2
    assert "COMMAND [ARGS]" in done.out + done.err
    assert "error" not in done.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["scor"], r"no such command 'scor'.*'score'.*see comemory --help"),
        (["score"], "missing argument"),
        (["score", "BUNDLE"], "missing argument 'SOURCE"),
        (["score", "BUNDLE", "GATE", "--nonsense"], r"no such option:? '?--nonsense.*see comemory score --help"),
        (
            ["score", "BUNDLE", "GATE", "--runtime", "tensorrt"],
            "unknown runtime 'tensorrt': known: onnx, openvino, pytorch",
        ),
        (["score", "BUNDLE", "GATE", "--threads", "many"], "--threads"),
        (["score", "BUNDLE", "GATE", "--threads", "0"], "--threads.*1"),
        (["score", "BUNDLE", "GATE", "--rate", "fast"], "--rate"),
        (["score", "BUNDLE", "GATE", "--rate", "-5"], "--rate"),
        (["score", "BUNDLE", "GATE", "--false-alarms", "-1/h"], "'-1/h': expected a positive number and a unit"),
        (["score", "BUNDLE", "GATE", "--false-alarms", "often"], "'often': expected a positive number and a unit"),
        (["score", "BUNDLE", "GATE", "--false-alarms", "nan/h"], "'nan/h': expected a positive"),
        (["evaluate", "BUNDLE"], "missing option '--data'"),
        (["evaluate", "BUNDLE", "--data", "ped3:here"], r"unknown dataset 'ped3': did you mean 'ped\d'"),
        (["evaluate", "BUNDLE", "--data", "footage"], "expected KIND:PATH"),
        (["evaluate", "BUNDLE", "--data", SCENE, "--protocol", "kind"], "'kind' is not one of"),
        (["evaluate", "BUNDLE", "--data", SCENE, "--false-alarms", "0/h"], "'0/h': expected a positive"),
        (["evaluate", "BUNDLE", "--data", "synthetic:sed=1"], "did you mean 'seed'"),
        (["export", "BUNDLE", "--runtime", "pytorch"], "'pytorch' is not one of 'onnx', 'openvino'"),
        (["train", "--data", SCENE, "--out", "OUT", "--preset", "smal"], "unknown preset 'smal': did you mean 'small'"),
        (["train", "--data", SCENE, "--out", "OUT", "--set", "train.epoch=3"], "did you mean 'epochs'"),
        (["train", "--data", SCENE, "--out", "OUT", "--set", "train.epochs=-3"], "train.epochs.*-3"),
        (["train", "--data", SCENE, "--out", "OUT", "--set", "epochs"], "expected key=value"),
        (["train", "--data", SCENE, "--out", "OUT", "--config", "none.toml"], "cannot read config none.toml"),
        (["train", "--data", SCENE, "--out", "s3://bucket/gate"], "into s3://bucket.*not a URL"),
        (["demo", "--out", "s3://bucket/demo"], "into s3://bucket/demo.*not a URL"),
        (
            ["evaluate", "BUNDLE", "--data", SCENE, "--report", "gs://bucket/r.html"],
            "into gs://bucket/r.html.*not a URL",
        ),
        (["score", "s3://bucket/gate", "GATE"], "the bundle s3://bucket/gate needs --cluster"),
        (["data", "check", "footage"], "expected KIND:PATH"),
        (["bench", "flow", "--height", "3"], "--height"),
        (["bench", "pipeline", "BUNDLE", "GATE", "--rounds", "0"], "--rounds"),
    ],
)
def test_a_usage_error_exits_with_2(
    call: Call, nano_bundle: Path, gate: Path, tmp_path: Path, arguments: list[str], text: str
) -> None:
    places = {"BUNDLE": nano_bundle, "GATE": gate, "OUT": tmp_path / "out"}
    where = ["--out", tmp_path / "scores"] if arguments[0] == "score" and len(arguments) > 2 else []
    one_error(call(*(places.get(argument, argument) for argument in arguments), *where), 2, text)
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("command", ["watch", "doctor"])
@pytest.mark.parametrize("name", ["my cam", "a/b", ""])
def test_a_camera_that_is_refused_keeps_its_password(call: Call, command: str, name: str) -> None:
    for secret in ("geheim123", "geh eim"):
        done = call(command, "--camera", f"{name}=rtsp://admin:{secret}@host/s", "--model", "m")
        assert done.code == 2
        assert secret not in done.out + done.err


def spoilt(folder: Path, gate: Path) -> dict[str, str]:
    """Things that are no video, with a word of what is said of each."""
    whole = gate.read_bytes()
    folder.mkdir()
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 3])
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    (folder / "noise.avi").write_bytes(os.urandom(5000))
    (folder / "zeros.mkv").write_bytes(bytes(5000))
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "nothing").mkdir()
    (folder / "notes").mkdir()
    (folder / "notes" / "a.txt").write_text("no picture")
    save_video(folder / "single.mp4", disc_images(1))
    words = {"missing.mp4": "No such file"} | dict.fromkeys(
        ["empty.mp4", "truncated.mp4", "text.mp4", "noise.avi", "zeros.mkv", "picture.png"], "cannot open"
    )
    return words | {"nothing": "no frames", "notes": "no frames", "single.mp4": "1 were read, 5 in a row are needed"}


def test_files_that_are_no_video_are_named_and_the_rest_is_done(
    call: Call, nano_bundle: Path, gate: Path, tmp_path: Path
) -> None:
    words = spoilt(tmp_path / "in", gate)
    sources = [tmp_path / "in" / name for name in words]
    done = call("score", nano_bundle, *sources, gate, "--out", tmp_path / "out", "--threads", "1")
    assert done.code == 1
    lines = done.err.splitlines()
    assert len(lines) == len(words)
    for line, (name, word) in zip(lines, words.items(), strict=True):
        assert line.startswith("problem: ")
        assert name in line
        assert word in line
    table = (tmp_path / "out" / "scores.csv").read_text(encoding="utf-8")
    assert table.count("\ngate,") == 30
    assert "31 frames" in done.out


def test_damaged_frames_are_named_and_the_rest_is_done(call: Call, nano_bundle: Path, tmp_path: Path) -> None:
    frames = save_frames(tmp_path / "frames", clip(0)[0][:16])
    (frames / "007.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    mixed = save_frames(tmp_path / "mixed", [*disc_images(8), *disc_images(8, height=96, width=64)])
    done = call("score", nano_bundle, frames, mixed, "--out", tmp_path / "out", "--threads", "1", "--json")
    assert done.code == 1
    (line,) = done.err.splitlines()
    assert "007.png" in line
    said = json.loads(done.out)
    assert said["frames"] == 15 + 16
    assert said["problems"] == [line.removeprefix("problem: ")]


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A data set of two brightness videos."""
    labels = [False] * 8 + [True] * 5 + [False] * 3
    for name in ("01", "02"):
        save_frames(tmp_path / "data" / "testing" / name, bright_images(labels))
        save_labels(tmp_path / "data" / "testing" / "labels" / f"{name}.csv", labels)
    return tmp_path / "data"


def nan_labels(data: Path) -> None:
    (data / "testing" / "labels" / "02.csv").write_text("start_frame,end_frame\nnan,3\n")


def too_many_labels(data: Path) -> None:
    (data / "testing" / "labels" / "02.csv").write_text("start_frame,end_frame\n3,99\n")


def too_few_masks(data: Path) -> None:
    save_frames(data / "testing" / "masks" / "02", [picture * 0 for picture in disc_images(5)])


def unreadable(data: Path) -> None:
    for path in (data / "testing" / "02").iterdir():
        path.write_bytes(b"no picture")


@pytest.mark.parametrize("spoil", [nan_labels, too_many_labels, too_few_masks, unreadable])
def test_a_video_that_cannot_be_evaluated_is_named_and_the_rest_is_done(
    call: Call, nano_bundle: Path, labelled: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(labelled)
    done = call("evaluate", nano_bundle, "--data", f"folder:{labelled}", "--threads", "1", "--json", "-")
    figures = json.loads(done.out)
    assert done.code == 1
    assert figures["n_videos"] == 1
    assert figures["causal"]["auc_micro"] is not None
    *notes, line = done.err.splitlines()
    assert line.startswith("problem: ")
    assert "02" in line
    assert notes == [f"note: {note}" for note in figures["notes"]]


def test_json_on_stdout_is_nothing_but_json(call: Call, nano_bundle: Path, labelled: Path) -> None:
    done = call("evaluate", nano_bundle, "--data", f"folder:{labelled}", "--threads", "1", "--json", "-")
    figures = json.loads(done.out)
    assert (done.code, figures["n_videos"]) == (0, 2)
    assert done.err == "".join(f"note: {note}\n" for note in figures["notes"])
    done = call("info", nano_bundle, "--json")
    assert json.loads(done.out)["config"]["network"]["base_width"] == 4
    done = call("data", "check", f"folder:{labelled}", "--json")
    assert json.loads(done.out)["found"]["testing frames"] == 32
    done = call("bench", "flow", "--height", "48", "--width", "64", "--rounds", "1", "--json")
    assert json.loads(done.out)["size"] == [48, 64]


def test_metrics_go_into_a_file_and_on_the_screen(
    call: Call, nano_bundle: Path, labelled: Path, tmp_path: Path
) -> None:
    file, page = tmp_path / "new" / "metrics.json", tmp_path / "new" / "report.html"
    data = f"folder:{labelled}"
    done = call("evaluate", nano_bundle, "--data", data, "--threads", "1", "--json", file, "--report", page)
    assert (done.code, done.err) == (0, "")
    written = json.loads(file.read_text(encoding="utf-8"))
    assert f"{written['causal']['auc_micro']:.4f}" in done.out
    assert "motion baseline" in done.out
    assert done.out.splitlines()[-1] == f"wrote {file}, {page}"
    assert all(line == line.rstrip() for line in done.out.splitlines())
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize("option", ["--json", "--report"])
@pytest.mark.parametrize("place", ["folder", "under a file", "device"])
def test_a_target_that_cannot_be_written_is_found_before_the_work(
    call: Call, nano_bundle: Path, tmp_path: Path, option: str, place: str
) -> None:
    (tmp_path / "file").write_text("kept")
    target = {"folder": tmp_path, "under a file": tmp_path / "file" / "x", "device": Path("/dev/null")}[place]
    no_such_data = "folder:/nothing/here"
    one_error(call("evaluate", nano_bundle, "--data", no_such_data, option, target), 2, "cannot write")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("command", ["score", "train", "demo"])
def test_an_output_under_a_file_is_refused(
    call: Call, nano_bundle: Path, gate: Path, tmp_path: Path, command: str
) -> None:
    (tmp_path / "file").write_text("kept")
    before = {"score": [nano_bundle, gate], "train": ["--data", SCENE], "demo": []}[command]
    one_error(call(command, *before, "--out", tmp_path / "file" / "out"), 2, "cannot write")
    assert (tmp_path / "file").read_text() == "kept"


def test_an_input_is_not_overwritten(call: Call, nano_bundle: Path, gate: Path, tmp_path: Path) -> None:
    own = shutil.copyfile(gate, tmp_path / "gate.mp4")
    one_error(call("score", nano_bundle, own, "--out", tmp_path, "--video"), 2, "it is an input")
    assert own.read_bytes() == gate.read_bytes()


def resigned(bundle: Path, change: Callable[[dict[str, object]], None], member: str = "config.json") -> None:
    """Change a JSON member and make the manifest agree with it again."""
    import hashlib

    value = json.loads((bundle / member).read_text(encoding="utf-8"))
    change(value)
    (bundle / member).write_text(json.dumps(value), encoding="utf-8")
    if member != "manifest.json":
        manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
        content = (bundle / member).read_bytes()
        manifest["members"][member] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        (bundle / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def flip_a_byte(bundle: Path) -> None:
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "model.onnx").write_bytes(content)


def climb_out(bundle: Path) -> None:
    def change(manifest: dict[str, object]) -> None:
        members = manifest["members"]
        assert isinstance(members, dict)
        members["../../etc/passwd"] = members["model.onnx"]

    resigned(bundle, change, "manifest.json")


def name_a_stranger(bundle: Path) -> None:
    resigned(bundle, lambda config: config.update(model="os:system"))


def lose_a_member(bundle: Path) -> None:
    (bundle / "calibration.json").unlink()


def be_a_link(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to("/etc/hostname")


def be_of_the_future(bundle: Path) -> None:
    resigned(bundle, lambda manifest: manifest.update(format=99), "manifest.json")


def be_no_json(bundle: Path) -> None:
    (bundle / "manifest.json").write_text("{")


def be_gone(bundle: Path) -> None:
    shutil.rmtree(bundle)


def be_a_file(bundle: Path) -> None:
    shutil.rmtree(bundle)
    bundle.write_text("no folder")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (flip_a_byte, "model.onnx is damaged"),
        (climb_out, "passwd.*refused"),
        (name_a_stranger, "'os:system'.*which this version does not know"),
        (lose_a_member, "has no calibration.json"),
        (be_a_link, "is a link"),
        (be_of_the_future, "format 99"),
        (be_no_json, "not valid JSON"),
        (be_gone, "is not a bundle"),
        (be_a_file, "is not a bundle"),
    ],
)
def test_an_invalid_bundle_is_refused_by_every_command(
    call: Call, bundle: Path, gate: Path, tmp_path: Path, spoil: Callable[[Path], None], text: str
) -> None:
    spoil(bundle)
    one_error(call("info", bundle), 1, text)
    one_error(call("score", bundle, gate, "--out", tmp_path / "out"), 1, text)
    one_error(call("evaluate", bundle, "--data", SCENE), 1, text)
    one_error(call("export", bundle, "--runtime", "openvino"), 1, text)
    one_error(call("bench", "model", bundle), 1, text)
    assert not (tmp_path / "out").exists()


def test_info_prints_the_most_important_facts(call: Call, nano_bundle: Path) -> None:
    done = call("info", nano_bundle)
    assert done.code == 0
    assert len(done.out.splitlines()) < 25
    for word in ("synthetic:seed=1", "144 frames of 3 videos", "seed 0", "1/h", "32x48", "sha256"):
        assert word in done.out


def test_info_states_what_the_network_costs(call: Call, nano_bundle: Path, bundle: Path) -> None:
    stated = json.loads(call("info", nano_bundle, "--json", "--time").out)
    assert stated["cost"]["parameters"] > 1000
    assert 0 < stated["time"]["lowest_ms"] <= stated["time"]["median_ms"] <= stated["time"]["highest_ms"]
    assert (stated["time"]["runtime"], stated["time"]["precision"], stated["time"]["threads"]) == (
        "openvino",
        "fp32",
        1,
    )
    shown = call("info", nano_bundle, "--time").out
    assert f"{stated['cost']['parameters']:,} trained parameters" in shown
    assert " ms a frame (openvino, fp32, one thread)" in shown
    told = bundles.read(bundle, "provenance.json")
    bundles.write(bundle, "provenance.json", {key: value for key, value in told.items() if key != "cost"})
    counted = json.loads(call("info", bundle, "--json").out)
    assert counted["time"] is None
    assert counted["cost"]["parameters"] == stated["cost"]["parameters"]
    assert counted["cost"]["macs"] == pytest.approx(stated["cost"]["macs"], rel=0.02)


def test_texts_of_a_bundle_cannot_control_the_terminal(call: Call, bundle: Path) -> None:
    strange = "\x1b]0;mine\x07\x9b31m red \u202e \udcff größer"
    told = bundles.read(bundle, "provenance.json")
    bundles.write(bundle, "provenance.json", {**told, "dataset": strange, "trained_on": {strange: 3}})
    done = call("info", bundle)
    assert "red" in done.out
    assert "größer" in done.out
    as_json = call("info", bundle, "--json").out
    assert json.loads(as_json)["provenance"]["dataset"] == strange
    for said in (done.out, as_json):
        assert not set("\x07\x9b\u202e\udcff") & set(said)


def test_info_shows_the_defaults_of_settings_a_bundle_lacks(call: Call, bundle: Path) -> None:
    config = bundles.read(bundle, "config.json")
    bundles.write(bundle, "config.json", {**{k: v for k, v in config.items() if k != "scoring"}, "flow": {}})
    assert "dis at" in call("info", bundle).out


@pytest.mark.parametrize("asked", ["--version", "--help", "info {bundle} --json"])
def test_output_that_is_closed_or_full(nano_bundle: Path, asked: str) -> None:
    command = f"{sys.executable} -m comemory {asked.format(bundle=nano_bundle)}"
    closed = subprocess.run(f"{command} >&-", shell=True, capture_output=True, text=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, "")
    full = subprocess.run(f"{command} >/dev/full", shell=True, capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert full.stderr == "error: cannot write to standard output or to a file: No space left on device\n"


def test_a_password_from_an_input_that_is_closed(tmp_path: Path) -> None:
    command = f"{sys.executable} -m comemory serve --out {tmp_path} --set-password <&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a password has 8 to 256 characters, got 0" in done.stderr


@pytest.mark.parametrize("command", [("score",), ("evaluate", "--data", SCENE), ("bench", "pipeline")])
def test_too_many_threads_are_refused(call: Call, nano_bundle: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    source = () if "evaluate" in command else (tmp_path / "none.mp4",)
    one_error(
        call(*command, nano_bundle, *source, "--threads", 100_000), 2, "cannot score on 100000 threads: give at most"
    )


def test_a_table_that_is_piped_has_one_line_for_each_row(call: Call, tmp_path: Path) -> None:
    place = tmp_path / ("a-very-long-name-" * 6)
    save_frames(place / "training" / "01", disc_images(3))
    done = call("data", "check", f"folder:{place}")
    assert done.out.splitlines()[0] == f"folder:{place}"
    assert any(line.split() == ["training", "frames", "3"] for line in done.out.splitlines())


def test_a_full_disk_leaves_the_old_bundle_and_no_half_one(bundle: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    done = comemory(
        "export",
        bundle,
        "--runtime",
        "openvino",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot write")
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert list(bundle.parent.iterdir()) == [bundle]


def test_a_full_disk_ends_a_scoring_with_one_line_and_what_was_written(
    nano_bundle: Path, gate: Path, tmp_path: Path
) -> None:
    done = comemory(
        "score",
        nano_bundle,
        gate,
        "--out",
        tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)),
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: cannot write")
    assert (tmp_path / "scores.csv").read_text(encoding="utf-8").startswith("source,frame,time_s")


@pytest.mark.parametrize("arguments", [["--help"], ["info", "BUNDLE"], ["info", "BUNDLE", "--json"]])
def test_a_closed_pipe_is_no_error(nano_bundle: Path, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "comemory", *(str(nano_bundle) if a == "BUNDLE" else a for a in arguments)]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(command, stdout=closed, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, 1)


def test_a_bug_is_one_line_and_has_a_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(application, "app", fail)
    with pytest.raises(SystemExit) as left:
        cli.main([])
    assert left.value.code == 1
    assert capsys.readouterr().err.startswith("error: ZeroDivisionError: division by zero; this is a bug in comemory")
    monkeypatch.setenv("COMEMORY_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main([])


def test_the_help_lists_commands_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        application.main(["--help"])
    listed = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("│ ")]
    assert [word for word in listed if word in application.ORDER] == list(application.ORDER)


def help_of(command: str) -> str:
    """The help of a command, wide enough for one line an option."""
    return CliRunner().invoke(cli.app, [*command.split(), "--help"], env={"COLUMNS": "300"}).output


def test_the_help_shows_flags_as_flags_and_types_as_words() -> None:
    for command in filter(None, COMMANDS):
        assert "<" not in help_of(command).replace("x<=", ""), command
    assert re.search(r"--video\s+Also write", help_of("score"))
    assert re.search(r"--rate\s+NUMBER", help_of("score"))


def test_rare_options_stand_under_advanced() -> None:
    for command, option in (("score", "--gate"), ("evaluate", "--matrix"), ("train", "--cache"), ("watch", "--store")):
        common, _, advanced = help_of(command).partition("Advanced")
        assert option not in common
        assert option in advanced


@pytest.mark.parametrize("command", ["watch", "serve", "doctor", "learn"])
def test_an_option_of_a_setting_has_the_description_of_the_setting(command: str) -> None:
    from comemory.live.config import LiveSettings

    text = help_of(command)
    assert "setting:" not in text
    description = LiveSettings.model_fields["out"].description
    assert description
    assert description.split(". ")[0] in text


def test_every_setting_named_by_an_option_has_a_description() -> None:
    import typer.main

    group = typer.main.get_command(cli.app)
    texts = [param.help for command in group.commands.values() for param in command.params if hasattr(param, "help")]  # type: ignore[attr-defined]
    named = [text for text in texts if text and text.startswith("setting:")]
    assert named
    assert all(len(application.resolve_help(text)) > 10 for text in named)


def test_default_budget_is_one_an_hour_unless_the_model_has_too_little_footage() -> None:
    from comemory.live.config import CameraSettings
    from comemory.scoring.config import DEFAULT_FALSE_ALARMS

    assert options.DEFAULT_FALSE_ALARMS == DEFAULT_FALSE_ALARMS
    assert options.budget_or_default(None) == DEFAULT_FALSE_ALARMS
    assert CameraSettings.model_fields["false_alarms"].default is None
    for command, default in (("score", f"{DEFAULT_FALSE_ALARMS}, or more"), ("evaluate", f"{DEFAULT_FALSE_ALARMS})")):
        assert f"default: ({default}" in " ".join(help_of(command).split())
    description = str(CameraSettings.model_fields["false_alarms"].description)
    assert f"Default: `{DEFAULT_FALSE_ALARMS}`, or more" in description


def test_swapped_arguments_get_a_hint(call: Call, nano_bundle: Path, gate: Path) -> None:
    for command in (("score",), ("bench", "pipeline")):
        one_error(
            call(*command, gate, nano_bundle), 2, rf"{gate} is not a bundle, but {nano_bundle} is: give the bundle"
        )


@pytest.mark.parametrize(
    ("setting", "hint"),
    [("epochs=5", "did you mean 'train.epochs'?"), ("height=64", "did you mean 'clips.height'?"), ("zzz=1", "known: ")],
)
def test_a_forgotten_prefix_gets_a_hint(call: Call, tmp_path: Path, setting: str, hint: str) -> None:
    done = call("train", "--data", SCENE, "--out", tmp_path / "out", "--set", setting)
    one_error(done, 2, re.escape(f"unknown config key '{setting.partition('=')[0]}': {hint}"))


def test_a_forgotten_prefix_of_a_live_setting_gets_a_hint(call: Call, nano_bundle: Path, gate: Path) -> None:
    done = call("watch", "--camera", f"gate={gate}", "--model", nano_bundle, "--set", "stalled_s=5")
    one_error(done, 2, re.escape("unknown config key 'stalled_s': did you mean 'health.stalled_s'?"))


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("train.epochs=0", "expected 1 or more"),
        ("train.epochs=many", "expected a whole number"),
        ("train.lr=0", "expected more than 0"),
        ("train.lr=fast", "expected a number"),
        ("train.accelerator=tpu", "expected 'auto', 'cpu' or 'gpu'"),
        ("train=3", "expected a group of settings"),
    ],
)
def test_a_bad_value_is_explained_in_plain_words(call: Call, tmp_path: Path, setting: str, reason: str) -> None:
    done = call("train", "--data", SCENE, "--out", tmp_path / "out", "--set", setting)
    one_error(done, 2, rf"config key '{setting.partition('=')[0]}' does not accept .*: {reason}")


def test_scores_in_the_place_of_a_bundle_get_a_hint(call: Call, labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / "ped2.npz"
    one_error(
        call("evaluate", file, "--data", f"folder:{labelled}"), 2, f"not a bundle: give it as --scores-file {file}"
    )
    one_error(call("evaluate", "--data", f"folder:{labelled}"), 2, "give a bundle, or --scores-file FILE.npz")
    one_error(call("evaluate", "B", "--scores-file", file, "--data", SCENE), 2, "--scores-file takes no bundle")
    for option, *value in (
        ("--runtime", "onnx"),
        ("--precision", "int8"),
        ("--device", "GPU"),
        ("--threads", "2"),
        ("--flow-weights", "raft.pth"),
        ("--update", "gated"),
        ("--no-gate",),
    ):
        done = call("evaluate", "--scores-file", file, "--data", SCENE, option, *value)
        one_error(done, 2, f"--scores-file takes no {option}: the scores are there already")


def test_scores_of_any_method_are_evaluated_without_a_bundle(call: Call, labelled: Path, tmp_path: Path) -> None:
    truth = np.array([0.0] * 8 + [1.0] * 5 + [0.0] * 3)
    np.savez(tmp_path / "mine.npz", **{"01": truth, "02": truth})
    file = tmp_path / "metrics.json"
    done = call("evaluate", "--scores-file", tmp_path / "mine.npz", "--data", f"folder:{labelled}", "--json", file)
    assert (done.code, done.err) == (0, "")
    assert "AUC, micro" in done.out
    assert done.out.endswith(f"wrote {file}\n")
    assert json.loads(file.read_text(encoding="utf-8"))["causal"]["auc_micro"] == 1.0


def test_a_model_below_the_motion_baseline_is_said_to_be() -> None:
    results = {"causal": {"auc_micro": 0.71}, "motion_baseline": {"auc_micro": 0.78}}
    warning = terminal.below_baseline_note(results)
    assert warning is not None
    assert "below the motion baseline: AUC 0.7100 against 0.7800" in warning
    assert terminal.below_baseline_note({**results, "causal": {"auc_micro": 0.8}}) is None
    assert terminal.below_baseline_note({**results, "causal": None}) is None


def test_progress_without_a_terminal_is_a_line_at_intervals() -> None:
    now, text = [0.0], StringIO()
    bars = terminal.ProgressBars(Console(file=text), line_every_s=10.0, clock=lambda: now[0])
    with bars:
        bars.stage("Training", 50)
        for step in range(50):
            now[0] = step / 2
            bars.advance(f"loss {step}")
    assert text.getvalue().splitlines() == [
        "Training ...",
        "Training: 21 of 50, loss 20",
        "Training: 41 of 50, loss 40",
    ]


def test_progress_without_a_terminal_is_silent_if_no_lines_are_wanted() -> None:
    text = StringIO()
    with terminal.ProgressBars(Console(file=text)) as bars:
        bars.stage("Scoring", 3)
        bars.advance()
    assert text.getvalue() == ""


def test_a_number_has_the_right_form_of_its_noun() -> None:
    assert [terminal.count_of(n, "camera") for n in (0, 1, 2)] == ["0 cameras", "1 camera", "2 cameras"]


@pytest.mark.parametrize("output", ["latin-1", "ascii", "ascii:surrogateescape"])
def test_characters_that_the_output_cannot_encode_are_replaced(output: str, tmp_path: Path) -> None:
    """Python opens the streams of a C locale with `surrogateescape`, which refuses them too."""
    encoding = output.partition(":")[0]
    place = tmp_path / "Größe–☂"
    save_frames(place / "training" / "01", disc_images(3))
    environment = {**os.environ, "PYTHONIOENCODING": output}
    for more in ((), ("--json",)):
        done = comemory("data", "check", f"folder:{place}", *more, env=environment, encoding=encoding)
        assert done.returncode == 1
        assert done.stderr.startswith("problem: too little normal video: 0 clips to train on and 0 held out")
        assert "training frames" in done.stdout
    assert json.loads(done.stdout)["found"]["training frames"] == 3
    failed = comemory("info", tmp_path / "☂", env=environment, encoding=encoding)
    assert failed.returncode == 1
    assert "is not a bundle" in failed.stderr


@pytest.mark.parametrize("n_frames", [12, 60, 120])
def test_a_check_refuses_what_train_refuses(call: Call, tmp_path: Path, n_frames: int) -> None:
    save_frames(tmp_path / "training" / "01", disc_images(n_frames))
    done = call("data", "check", f"folder:{tmp_path}")
    assert done.code == (0 if n_frames == 120 else 1)
    assert ("at least 4 and 20 are needed" in done.err) == (n_frames < 120)


def test_a_check_names_the_sizes_of_two_cameras(call: Call, tmp_path: Path) -> None:
    for name, width in (("01", 96), ("02", 96), ("03", 64)):
        save_frames(tmp_path / "training" / name, disc_images(120, 64, width))
    note = "note: the videos have different shapes: 96x64 (01 and 1 more), 64x64 (03); a model is for one camera"
    assert note in call("data", "check", f"folder:{tmp_path}").out


def test_the_precision_is_named_where_the_network_runs(capsys: pytest.CaptureFixture[str]) -> None:
    bundle = open_bundle(Path(__file__).resolve().parents[2] / "models" / "ped2-small")
    assert bundle.variants
    options.print_precision(bundle)
    assert capsys.readouterr().err == "", "its score uses no output of the network"
    options.print_precision(bundle, runs_network=True)
    assert capsys.readouterr().err == "note: the network runs in fp32\n"


def test_a_check_prints_the_duration_of_the_footage(call: Call, gate: Path) -> None:
    done = call("data", "check", f"folder:{gate}")
    assert any(line.split() == ["training", "footage", "3.0", "s"] for line in done.out.splitlines())
