"""Train one elastic network, then hand every device the subnetwork that fits it, without training again.

    import ofa_tf as ofa

    project = ofa.open("work", data="my-images")
    project.train()
    choice = project.search(latency_ms=0.3)
    project.export(choice)

A name is loaded when it is first used (PEP 562): importing this package loads nothing else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ofa_tf._version import VERSION as __version__

if TYPE_CHECKING:
    from ofa_tf import search
    from ofa_tf.arena import arena_size
    from ofa_tf.blocks import Block, walk
    from ofa_tf.latency.table import LatencyTable
    from ofa_tf.project.benchmark import benchmark_file as benchmark
    from ofa_tf.project.data import pack
    from ofa_tf.project.doctor import examine as doctor
    from ofa_tf.project.evaluate import evaluate_file as evaluate
    from ofa_tf.project.project import Project, open
    from ofa_tf.project.space import describe_space
    from ofa_tf.project.space_suggest import suggest_space
    from ofa_tf.search import Budget, pareto
    from ofa_tf.space import Arch, SearchSpace, Stage
    from ofa_tf.spaces import get_space
    from ofa_tf.subnet import build_subnet, extract
    from ofa_tf.supernet import Supernet
    from ofa_tf.tflite.describe import describe_file as show
    from ofa_tf.tflite.inspect import inspect_file
    from ofa_tf.training.recipe import Recipe

# The functions behind commands that need no project: their errors name arguments instead of options.
_COMMANDS = {
    "benchmark": "project.benchmark:benchmark_file",
    "describe_space": "project.space:describe_space",
    "doctor": "project.doctor:examine",
    "evaluate": "project.evaluate:evaluate_file",
    "pack": "project.data:pack",
    "show": "tflite.describe:describe_file",
    "suggest_space": "project.space_suggest:suggest_space",
}
_PARTS = {
    "Arch": "space:Arch",
    "Block": "blocks:Block",
    "Budget": "search:Budget",
    "LatencyTable": "latency.table:LatencyTable",
    "Project": "project.project:Project",
    "Recipe": "training.recipe:Recipe",
    "SearchSpace": "space:SearchSpace",
    "Stage": "space:Stage",
    "Supernet": "supernet:Supernet",
    "arena_size": "arena:arena_size",
    "build_subnet": "subnet:build_subnet",
    "extract": "subnet:extract",
    "get_space": "spaces:get_space",
    "inspect_file": "tflite.inspect:inspect_file",
    "open": "project.project:open",
    "pareto": "search:pareto",
    "walk": "blocks:walk",
}
# TensorFlow is loaded without its chatter.
_WITH_TENSORFLOW = {"Supernet", "build_subnet", "evaluate", "extract", "pack", "suggest_space"}
_ERRORS = (
    "ArgumentError",
    "DamagedError",
    "DataError",
    "DeviceError",
    "DownloadError",
    "ExportError",
    "FormatError",
    "InfeasibleError",
    "MissingDependencyError",
    "OfaError",
    "SpaceError",
    "TableError",
    "TrainingError",
    "WorkdirError",
)
_PLACES = {**_PARTS, **_COMMANDS, **{name: f"errors:{name}" for name in _ERRORS}}

__all__ = ["__version__", "search", *_PLACES]


def __getattr__(name: str) -> Any:
    if name == "search":  # a package, which can be called
        return import_module("ofa_tf.search")
    if name not in _PLACES:
        raise AttributeError(f"module 'ofa_tf' has no attribute {name!r}")
    if name in _WITH_TENSORFLOW:
        import_module("ofa_tf.quiet").load_tensorflow()
    module, _, attribute = _PLACES[name].partition(":")
    value = getattr(import_module(f"ofa_tf.{module}"), attribute)
    if name in _COMMANDS:
        value = import_module("ofa_tf.project.wording").library_wording(value)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
