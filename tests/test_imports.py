"""Imports point one way, and what must answer fast imports nothing heavy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "ofa_tf"
# The rooms of the library from the ground up: each may import itself and what stands before it.
ORDER = (
    "errors",
    "_version",
    "limits",
    "reading",
    "atomic",
    "jsonio",
    "npzio",
    "formatting",
    "energy",
    "statistics",
    "processes",
    "progress",
    "allocator",
    "quiet",
    "terminal",
    "packages",
    "frames",
    "lut",
    "precision",
    "ops",
    "channels",
    "rules",
    "kinds",
    "stage",
    "arch",
    "space",
    "spaces",
    "blocks",
    "channel_index",
    "costs",
    "peaks",
    "arena",
    "layers",
    "supernet",
    "subnet",
    "data",
    "training",
    "accuracy",
    "latency",
    "search",
    "tflite",
    "export",
    "edgetpu",
    "micro",
    "ethosu",
    "zoo",
    "report",
    "project",
    "__init__",
)
LIGHT = (
    "precision",
    "ops",
    "channels",
    "rules",
    "kinds",
    "stage",
    "arch",
    "space",
    "spaces",
    "blocks",
    "channel_index",
    "costs",
    "peaks",
    "arena",
    "search",
    "errors",
    "atomic",
    "formatting",
    "limits",
    "reading",
    "jsonio",
    "npzio",
    "processes",
    "statistics",
    "progress",
    "energy",
)
HEAVY = {"tensorflow", "keras", "tf_keras", "torch", "ai_edge_litert", "matplotlib", "sklearn"}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, inside functions too, with names imported from packages."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            assert all(alias.name != "*" for alias in node.names), f"{path} imports *"
            names |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def room(path: Path) -> str:
    """The package or module of the library that a file belongs to."""
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


FILES = sorted(LIBRARY.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(LIBRARY)))
def test_imports_point_one_way(path):
    names = imported(path)
    ours = {name.split(".")[1] for name in names if name.startswith("ofa_tf.")}
    assert "cli" not in ours, "the library must not know the command line"
    assert not {name.split(".")[0] for name in names} & {"cli", "lut", "tests", "benchmarks"}
    assert ours <= set(ORDER[: ORDER.index(room(path)) + 1])


@pytest.mark.parametrize(
    "path", [f for f in FILES if room(f) in LIGHT], ids=lambda path: str(path.relative_to(LIBRARY))
)
def test_light_rooms_import_nothing_heavy(path):
    assert not {name.split(".")[0] for name in imported(path)} & HEAVY


def test_only_devices_touch_a_runtime():
    paths = [path for folder in ("latency", "edgetpu", "ethosu") for path in (LIBRARY / folder).glob("*.py")]
    users = {path for path in paths if "ai_edge_litert.interpreter" in imported(path)}
    names = {str(path.relative_to(LIBRARY)) for path in users}
    assert names == {"latency/host_worker.py", "latency/adb.py", "edgetpu/device.py"}
    assert not any("tensorflow" in imported(path) for path in paths)


def test_command_line_imports_the_library_lazily():
    for path in sorted((ROOT / "cli").glob("*.py")):
        top = ast.parse(path.read_text()).body
        names = {
            name
            for node in top
            for name in (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", "")]
            )
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        heavy = {name.split(".")[0] for name in names} & (HEAVY | {"numpy"})
        assert not heavy, path


def loaded_by(*arguments) -> set[str]:
    """Names of all packages that a command has loaded when it is done."""
    code = (
        "import sys\nfrom ofa_tf.cli.main import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as stop: assert not stop.code, stop.code\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert run.stdout
    return set(ast.literal_eval(run.stderr.strip().splitlines()[-1]))


def test_help_and_version_load_nothing_heavy():
    for arguments in (["--help"], ["--version"], ["train", "--help"]):
        assert not loaded_by(*arguments) & (HEAVY | {"numpy", "rich", "PIL", "scipy"})


def test_a_search_does_not_wait_for_tensorflow(workdir):
    budget = ["--workdir", str(workdir), "--latency", "1000"]
    assert not loaded_by("search", *budget) & (HEAVY - {"ai_edge_litert"})
    assert not loaded_by("search", "--workdir", str(workdir), "--pareto", "--points", "3") & {"tensorflow", "keras"}
