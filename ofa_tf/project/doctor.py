"""What this machine has for ofa-tf, and what is missing: `ofa-tf doctor`."""

import platform
import shutil
import sys

from ofa_tf.energy import Assumptions
from ofa_tf.errors import ArgumentError
from ofa_tf.ethosu.vela import INSTALL, find_vela
from ofa_tf.ethosu.vela import PROGRAM as VELA
from ofa_tf.limits import decoding_memory
from ofa_tf.packages import Check, check_package

REQUIRED = (
    "tensorflow",
    "keras",
    "ai-edge-litert",
    "flatbuffers",
    "tf-keras",
    "tensorflow-model-optimization",
    "numpy",
    "click",
    "rich",
    "matplotlib",
    "pillow",
    "scikit-learn",
    "scipy",
    "pyyaml",
    "threadpoolctl",
)
PROGRAMS = {
    "adb": "needed to measure on phones",
    "edgetpu_compiler": "needed to compile for an Edge TPU (x86-64 Linux, from Coral)",
    VELA: f"needed for an Ethos-U: {INSTALL}",
}


def examine() -> list[Check]:
    """Looks for Python, packages and optional programs; imports nothing heavy.

    Examples:
        >>> {check.name: check.good for check in ofa.doctor()}["numpy"]
        True
    """
    checks = [Check("python", sys.version_info >= (3, 11), platform.python_version())]
    checks += map(check_package, REQUIRED)
    return [*checks, *(_program(name, use) for name, use in PROGRAMS.items()), _decoding(), _energy()]


def _decoding() -> Check:
    threads, megabytes = decoding_memory()
    return Check("image decoding", True, f"at most {megabytes} MB at a time, in {threads} threads")


def _energy() -> Check:
    try:
        return Check("energy", True, str(Assumptions.from_environment()))
    except ArgumentError as error:
        return Check("energy", False, str(error))


def _program(name: str, use: str) -> Check:
    path = find_vela() if name == VELA else shutil.which(name)
    return Check(name, path is not None, path or f"not found; {use}")
