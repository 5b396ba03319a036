"""Train one elastic network, then hand every device the sub-network that fits it, without training again.

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
    from ofa_tf.blocks import Block, walk
    from ofa_tf.latency.table import LatencyTable
    from ofa_tf.project.benchmark import benchmark_file
    from ofa_tf.project.data import pack
    from ofa_tf.project.demo import run_demo
    from ofa_tf.project.doctor import examine
    from ofa_tf.project.evaluate import evaluate_file
    from ofa_tf.project.project import Project, open
    from ofa_tf.project.zoo import import_supernet
    from ofa_tf.search import Budget, pareto
    from ofa_tf.space import Arch, SearchSpace, Stage
    from ofa_tf.spaces import get_space
    from ofa_tf.subnet import build_subnet, extract
    from ofa_tf.supernet import Supernet
    from ofa_tf.tflite.describe import describe_file
    from ofa_tf.tflite.inspect import inspect_file
    from ofa_tf.training.recipe import Recipe
    from ofa_tf.zoo.specialized import import_specialized

# Where each name is; the classes of errors, which are in one module, are added below.
_MODULES = {
    "Arch": "space",
    "Block": "blocks",
    "Budget": "search",
    "LatencyTable": "latency.table",
    "Project": "project.project",
    "Recipe": "training.recipe",
    "SearchSpace": "space",
    "Stage": "space",
    "Supernet": "supernet",
    "benchmark_file": "project.benchmark",
    "build_subnet": "subnet",
    "describe_file": "tflite.describe",
    "evaluate_file": "project.evaluate",
    "examine": "project.doctor",
    "extract": "subnet",
    "get_space": "spaces",
    "import_specialized": "zoo.specialized",
    "import_supernet": "project.zoo",
    "inspect_file": "tflite.inspect",
    "open": "project.project",
    "pack": "project.data",
    "pareto": "search",
    "run_demo": "project.demo",
    "walk": "blocks",
}
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
_MODULES |= dict.fromkeys(_ERRORS, "errors")

__all__ = ["__version__", "search", *_MODULES]


def __getattr__(name: str) -> Any:
    if name == "search":  # a package, which can be called
        return import_module("ofa_tf.search")
    if name not in _MODULES:
        raise AttributeError(f"module 'ofa_tf' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"ofa_tf.{_MODULES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
