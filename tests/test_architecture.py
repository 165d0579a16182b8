"""Architecture: which package may import which, what runs without torch, and what no file can ever do."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

import comemory
from comemory.alerts import SINKS
from comemory.datasets import DATASETS
from comemory.flow import FLOWS
from comemory.models import MODELS
from comemory.runtimes import RUNTIMES

ROOT = Path(comemory.__file__).resolve().parent

LAYERS = (
    ("__main__",),
    ("cli",),
    ("server", "research", "cluster"),
    ("live", "batch", "evaluation", "bench"),
    ("export",),
    ("training", "alerts"),
    ("store", "parallel"),
    ("detector",),
    ("stages",),
    ("bundle",),
    ("clips", "datasets", "scoring", "runtimes"),
    ("video", "flow", "models", "metrics"),
    ("registry", "files", "object_store", "secret_values", "line_process"),
    ("config", "provenance"),
    ("types",),
    ("errors",),
)
"""Layers from top to bottom. A name may import those of lower layers, and none of its own layer."""

MAY_IMPORT_TORCH = ("models", "training", "flow.raft", "runtimes.pytorch")


def parts_of(path: Path) -> tuple[str, ...]:
    """`flow/dis.py` as ("flow", "dis"); a package's `__init__` as the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


@cache
def trees() -> Mapping[tuple[str, ...], ast.Module]:
    """Every module of the package, parsed."""
    return {parts_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in sorted(ROOT.rglob("*.py"))}


def imports(parts: tuple[str, ...]) -> Iterator[str]:
    """Every absolute name that a module imports, anywhere in it: inside functions and under TYPE_CHECKING too."""
    package = ("comemory", *parts) if (ROOT.joinpath(*parts) / "__init__.py").is_file() else ("comemory", *parts[:-1])
    for node in ast.walk(trees()[parts]):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            for name in node.names:
                inner = tuple(f"{module}.{name.name}".split(".")[1:])
                yield f"{module}.{name.name}" if module.startswith("comemory") and inner in trees() else module


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, with the name of the function as it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def layer_of(name: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if name in names)


MODULES = sorted(parts for parts in trees() if parts)

Graph = dict[tuple[str, ...], set[tuple[str, ...]]]


def import_graph(node_of: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Graph:
    """Which node imports which, where `node_of` maps a module to its node."""
    graph: Graph = {}
    for parts in trees():
        targets = {tuple(name.split(".")[1:]) for name in imports(parts) if name.startswith("comemory")} & set(trees())
        graph.setdefault(node_of(parts), set()).update(node_of(target) for target in targets)
    return {node: targets - {node} for node, targets in graph.items()}


def circle_in(graph: Graph) -> str | None:
    """A circle of imports, such as `a -> b -> a`; None where there is none."""
    done: set[tuple[str, ...]] = set()

    def visit(node: tuple[str, ...], path: tuple[tuple[str, ...], ...]) -> str | None:
        if node in path:
            return " -> ".join(".".join(one) or "comemory" for one in (*path[path.index(node) :], node))
        if node in done:
            return None
        found = next(filter(None, (visit(target, (*path, node)) for target in sorted(graph[node]))), None)
        done.add(node)
        return found

    return next(filter(None, (visit(node, ()) for node in sorted(graph))), None)


def test_a_circle_is_found() -> None:
    assert circle_in({("a",): {("b",)}, ("b",): {("c",)}, ("c",): {("b",)}}) == "b -> c -> b"
    assert circle_in({("a",): {("b",), ("c",)}, ("b",): {("c",)}, ("c",): set()}) is None


class TestLayers:
    def test_every_module_is_in_one_layer(self) -> None:
        listed = [name for names in LAYERS for name in names]
        assert len(listed) == len(set(listed))
        unknown = {parts[0] for parts in MODULES} - set(listed)
        assert not unknown, f"add {sorted(unknown)} to LAYERS"

    @pytest.mark.parametrize("parts", MODULES, ids=".".join)
    def test_imports_lead_to_lower_layers(self, parts: tuple[str, ...]) -> None:
        for name in imports(parts):
            target = name.split(".")[1:2]
            if name.split(".")[0] == "comemory" and target and target[0] != parts[0]:
                assert layer_of(target[0]) > layer_of(parts[0]), f"{'.'.join(parts)} imports {name}"

    def test_there_is_no_import_circle_of_modules(self) -> None:
        assert circle_in(import_graph(lambda parts: parts)) is None

    def test_there_is_no_import_circle_of_packages(self) -> None:
        """At every depth: `live.capture` and `live.recording` must not import each other either."""
        for depth in range(1, max(map(len, MODULES)) + 1):
            assert circle_in(import_graph(lambda parts, n=depth: parts[:n])) is None  # type: ignore[misc]

    def test_models_import_torch_pydantic_and_each_other_only(self) -> None:
        for parts in MODULES:
            if parts[0] != "models":
                continue
            for name in imports(parts):
                top = name.split(".")[0]
                assert top in ("torch", "pydantic", *sys.stdlib_module_names) or name.startswith("comemory.models"), (
                    parts,
                    name,
                )

    @pytest.mark.parametrize("parts", MODULES, ids=".".join)
    def test_torch_is_imported_where_it_is_allowed_only(self, parts: tuple[str, ...]) -> None:
        if {name.split(".")[0] for name in imports(parts)} & {"torch", "lightning_fabric", "onnx", "onnxscript"}:
            assert any(".".join(parts).startswith(home) for home in MAY_IMPORT_TORCH), "imports torch"


WITHOUT_TORCH = """
    import sys

    class Wall:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("torch", "lightning_fabric", "onnx", "onnxscript"):
                raise ImportError(name + " must not be imported here")

    sys.meta_path.insert(0, Wall())
"""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


class TestWithoutTorch:
    def test_importing_comemory_is_light(self) -> None:
        heavy = ("torch", "cv2", "openvino", "av", "onnxruntime", "matplotlib", "scipy", "pydantic", "numpy")
        done = run(f"import sys, comemory; print([name for name in {heavy} if name in sys.modules])")
        assert done.stdout.strip() == "[]", done.stderr

    def test_importing_the_command_line_is_light(self) -> None:
        heavy = ("torch", "cv2", "openvino", "onnxruntime", "matplotlib", "scipy", "ray", "lightning_fabric")
        done = run(f"import sys, comemory.cli; print([name for name in {heavy} if name in sys.modules])")
        assert done.stdout.strip() == "[]", done.stderr

    def test_everything_else_imports_without_torch(self) -> None:
        names = [f"comemory.{'.'.join(parts)}" for parts in MODULES if parts != ("__main__",)]
        wanted = [
            name for name in names if not any(f"{name}.".startswith(f"comemory.{home}.") for home in MAY_IMPORT_TORCH)
        ]
        assert len(wanted) > 40
        code = (
            WITHOUT_TORCH
            + f"""
    import importlib
    for name in {wanted}:
        importlib.import_module(name)
    if "torch" in sys.modules:
        raise SystemExit("torch is loaded")
"""
        )
        done = run(code)
        assert done.returncode == 0, done.stderr

    def test_a_training_names_a_missing_folder_before_it_imports_torch(self, tmp_path: Path) -> None:
        code = WITHOUT_TORCH + "\n    from comemory.cli import main\n    main(sys.argv[1:])"
        done = run(code, "train", "--data", f"folder:{tmp_path / 'absent'}", "--out", str(tmp_path / "bundle"))
        assert done.returncode == 1
        assert "cannot open this folder dataset" in done.stderr

    @pytest.mark.parametrize("runtime", ["openvino", "onnx"])
    def test_evaluating_never_imports_torch(self, nano_bundle: Path, tmp_path: Path, runtime: str) -> None:
        code = (
            WITHOUT_TORCH
            + """
    from comemory.cli import main
    try:
        main(sys.argv[1:])
    finally:
        if "torch" in sys.modules:
            raise RuntimeError("torch is loaded")
"""
        )
        data = "synthetic:seed=3,frames=20,training=1,testing=1,size=96x144"
        page = tmp_path / "page.html"
        asked = ["evaluate", str(nano_bundle), "--data", data, "--runtime", runtime, "--threads", "1"]
        done = run(code, *asked, "--report", str(page))
        assert done.returncode == 0, done.stderr
        assert page.stat().st_size > 10_000

    @pytest.mark.parametrize(
        "model", ["autoencoder", *(pytest.param(one, marks=pytest.mark.slow) for one in ("mnad-prediction", "memae"))]
    )
    def test_the_authors_score_of_a_model_is_evaluated_without_torch(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, model: str
    ) -> None:
        pytest.importorskip("torch", reason="needs torch: pip install '.[train]'")
        from comemory.cli import main

        data = "synthetic:seed=3,frames=70,training=3,testing=1,size=96x144"
        training = ("train.epochs=1", "train.threads=1", "train.calibration_share=0.4")
        smaller = (f"model={model}", "clips.height=32", "clips.width=48", *training)
        settings = [word for setting in smaller for word in ("--set", setting)]
        with pytest.raises(SystemExit, match=r"^0$"):
            main(["train", "--data", data, "--preset", "small", *settings, "--out", str(tmp_path / "bundle")])
        assert re.search(r"^network: [\d,]+ trained .* ms a frame \(openvino, ", capsys.readouterr().out, re.MULTILINE)
        code = WITHOUT_TORCH + "\n    from comemory.cli import main\n    main(sys.argv[1:])\n"
        asked = ["evaluate", str(tmp_path / "bundle"), "--data", data, "--threads", "1"]
        done = run(code, *asked, "--json", str(tmp_path / "results.json"))
        assert done.returncode == 0, done.stderr
        results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
        assert results["paper_score"] == "own"
        assert results["paper"]["auc_micro"] is not None
        assert results["thesis"] == {"auc_micro": None, "auc_micro_paper": None}


REGISTRIES = {"datasets": DATASETS, "flow": FLOWS, "runtimes": RUNTIMES, "models": MODELS, "alerts": SINKS}


MAY_IMPORT_BY_NAME = (("registry",), ("cli", "application"))
"""Registries; and the command line, whose help texts name fields of settings by constants in the code."""


class TestRegistries:
    @pytest.mark.parametrize("package", REGISTRIES)
    def test_entries_are_classes_of_their_own_package(self, package: str) -> None:
        for name, target in REGISTRIES[package].items():
            module, attribute = target.split(":")
            assert module.startswith(f"comemory.{package}."), f"{name} is outside comemory.{package}"
            tree = trees()[tuple(module.split(".")[1:])]
            assert any(isinstance(node, ast.ClassDef) and node.name == attribute for node in tree.body)

    def test_modules_are_imported_by_name_in_few_places(self) -> None:
        for parts in MODULES:
            for name, _ in calls(trees()[parts]):
                dynamic = name in ("__import__", "importlib.import_module", "import_module", "importlib.reload")
                assert not dynamic or parts in MAY_IMPORT_BY_NAME, f"{'.'.join(parts)} calls {name}"

    def test_every_model_meets_the_contract(self) -> None:
        torch = pytest.importorskip("torch", reason="needs comemory[train]")
        for target in MODELS.values():
            module, attribute = target.split(":")
            model = getattr(importlib.import_module(module), attribute)
            assert issubclass(model, torch.nn.Module)
            assert all(callable(getattr(model, act)) for act in ("infer", "memories", "loss"))


class TestNoCodeFromFiles:
    """No file, bundle or setting can run code."""

    @pytest.mark.parametrize("parts", MODULES, ids=".".join)
    def test_no_pickle(self, parts: tuple[str, ...]) -> None:
        tree = trees()[parts]
        for name in imports(parts):
            assert name.split(".")[0] not in ("marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"), name
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module != "pickle"
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "pickle":
                assert node.attr in ("UnpicklingError", "PickleError"), "only its errors may be named"
        for name, call in calls(tree):
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            if name in ("torch.load", "fabric.load"):
                assert given.get("weights_only") == "True", f"{'.'.join(parts)}:{call.lineno}"
            assert given.get("allow_pickle", "False") == "False", f"{'.'.join(parts)}:{call.lineno}"

    @pytest.mark.parametrize("parts", MODULES, ids=".".join)
    def test_no_eval_and_no_shell(self, parts: tuple[str, ...]) -> None:
        for name, call in calls(trees()[parts]):
            where = f"{'.'.join(parts)}:{call.lineno} calls {name}"
            assert name not in ("eval", "exec", "compile", "os.system", "os.popen", "builtins.eval"), where
            assert all(keyword.arg != "shell" for keyword in call.keywords), where


class TestStyle:
    @pytest.mark.parametrize("parts", MODULES, ids=".".join)
    def test_assertions_only_narrow_types(self, parts: tuple[str, ...]) -> None:
        for node in ast.walk(trees()[parts]):
            if isinstance(node, ast.Assert):
                text = ast.unparse(node.test)
                assert text.startswith("isinstance(") or text.endswith(" is not None"), f"{node.lineno}: {text}"

    def test_only_the_command_line_prints(self) -> None:
        for parts in MODULES:
            for name, call in calls(trees()[parts]):
                assert name != "print" or parts[0] == "cli", f"{'.'.join(parts)}:{call.lineno}"

    @pytest.mark.parametrize("parts", MODULES, ids=".".join)
    def test_exceptions_are_caught_by_their_type(self, parts: tuple[str, ...]) -> None:
        for node in ast.walk(trees()[parts]):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{'.'.join(parts)}:{node.lineno}: a bare except"
                if ast.unparse(node.type) in ("Exception", "BaseException"):
                    last = node.body[-1]
                    raised = isinstance(last, ast.Raise) or ast.unparse(last).startswith("self._raise(")
                    assert raised or parts[0] == "cli", (
                        f"{'.'.join(parts)}:{node.lineno}: catches everything and does not raise"
                    )

    def test_the_package_is_typed_and_tested_in_place(self) -> None:
        spec = find_spec("comemory")
        assert spec is not None
        assert spec.origin == str(ROOT / "__init__.py")
        assert (ROOT / "py.typed").is_file()
