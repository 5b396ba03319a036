"""Translates messages that were written for the command line into the words of the library.

Errors name options (`--latency`) and commands (`ofa-tf lut build`), because most people meet them there. A user who
calls `project.search(latency_ms=…)` reads the same sentence with `latency_ms` and `project.lut.build()` in it.
"""

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from ofa_tf.errors import OfaError
from ofa_tf.progress import Progress

P = ParamSpec("P")
T = TypeVar("T")

# Options whose argument has a different name.
ARGUMENTS = {
    "latency": "latency_ms",
    "macs": "macs_millions",
    "params": "params_thousands",
    "pareto": "pareto()",
    "no-gate": "gate=False",
    "no-weights": "weights=False",
    "workdir": "path",
    "validate": "validation_subnets",
    "as": "name",
}
FLAGS = {"restart", "force", "qat", "allow-cpu", "pictures"}
OPTION = re.compile(r"--([a-z][a-z0-9-]*)")
WITH_VALUE = re.compile(r"--(stage|space|recipe|seed|device|init) (?!must|for|and|or|names|each)([\w./:-]*\w)")
COMMAND = re.compile(r"`ofa-tf ([a-z]+(?: (?:fit|build|validate|import|list|show|merge|pack|suggest))?)((?: [^`]*)?)`")
FUNCTIONS = {  # of the package; all other commands are methods
    "data pack": "ofa_tf.pack",
    "doctor": "ofa_tf.doctor",
    "space show": "ofa_tf.describe_space",
    "space suggest": "ofa_tf.suggest_space",
}


def in_arguments(sentence: str) -> str:
    """The sentence with its options replaced by arguments and its commands by methods."""
    sentence = COMMAND.sub(_method, sentence)
    for option, argument in (("the option out", "the argument out"), ("Missing option '--", "Missing argument '--")):
        sentence = sentence.replace(option, argument)
    sentence = WITH_VALUE.sub(lambda found: f"`{found[1]}={_value(found[2])}`", sentence)
    return OPTION.sub(_argument, sentence)


def _method(found: re.Match) -> str:
    """`project.lut.build(device='edgetpu')` of `ofa-tf lut build --device edgetpu`."""
    words = found[2].split()
    options: list[str] = []
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            options.append(_value(word))
            continue
        name, value = _name(word[2:]), None
        if words and not words[0].startswith("--"):
            value = words.pop(0)
        options.append(name if value is None and "=" in name else f"{name}={_value(value)}")
    name = FUNCTIONS.get(found[1], f"project.{found[1].replace(' import', ' import_').replace(' ', '.')}")
    return f"`{name}({', '.join(options)})`"


def _value(value: str | None) -> str:
    if value is None:
        return "True"
    return value if value.isupper() or value.replace(".", "", 1).isdecimal() else repr(value)


def _argument(found: re.Match) -> str:
    name = _name(found[1])
    return f"`{name}=True`" if found[1] in FLAGS else f"`{name}`"


def _name(option: str) -> str:
    return ARGUMENTS.get(option, option.replace("-", "_"))


def note_caution(progress: Progress, caution: str | None) -> None:
    """Tells those who call the library what a command prints below its answer."""
    if caution is not None:
        progress.note(in_arguments(caution))


def library_wording(function: Callable[P, T]) -> Callable[P, T]:
    """The function, with errors that name arguments instead of options."""

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except OfaError as error:
            error.args = (in_arguments(str(error)), *error.args[1:])
            raise

    return wrapper
