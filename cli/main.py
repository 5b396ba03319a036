"""The entry point: the list of commands, and what happens when one fails."""

import errno
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from ofa_tf._version import VERSION
from ofa_tf.errors import OfaError
from ofa_tf.formatting import visible

STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
NO_ARGUMENTS = getattr(click.exceptions, "NoArgsIsHelpError", ())  # click 8.1 prints the help by itself
COMMANDS = (
    "demo",
    "data",
    "space",
    "train",
    "predictor",
    "lut",
    "search",
    "export",
    "show",
    "evaluate",
    "benchmark",
    "report",
    "zoo",
    "doctor",
)


class LazyGroup(click.Group):
    """Imports a command's module when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return importlib.import_module(f"ofa_tf.cli.{cmd_name}").command if cmd_name in COMMANDS else None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="ofa-tf")
def cli():
    """Train one elastic network, then hand every device the sub-network that fits it, as a .tflite file."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0, 2 for what the user can fix (in one sentence), 130 for Ctrl-C."""
    os.environ["MPLBACKEND"] = "agg"  # plots are files; a notebook's backend may be missing in this environment
    _open_streams()
    interrupted = _notice_interrupts()
    try:
        cli.main(args, prog_name="ofa-tf", standalone_mode=False)
        sys.stdout.flush()  # here a closed pipe can still be noticed
    except BaseException as error:  # noqa: BLE001 - raised again, or the end of the process
        _end(KeyboardInterrupt() if interrupted else error, sys.argv[1:] if args is None else args)


def _notice_interrupts() -> list[int]:
    """A list that is not empty once Ctrl-C was pressed: TensorFlow's C++ code turns the exception into other ones.

    The signals of a system that shuts down and of a terminal that is closed count, too, unless they are ignored, as
    with `nohup`.
    """
    interrupted: list[int] = []

    def interrupt(number, frame):
        interrupted.append(number)
        signal.default_int_handler(number, frame)

    for number in STOPPING:
        if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
            signal.signal(number, interrupt)
    return interrupted


def _end(error: BaseException, args: Sequence[str]) -> NoReturn:
    if isinstance(error, NO_ARGUMENTS):
        error.show()
        sys.exit(2)
    if isinstance(error, click.ClickException):
        _fail(_sentence(error))
    if isinstance(error, OfaError):
        _fail(str(error))
    if isinstance(error, click.Abort | KeyboardInterrupt):
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)  # the process ends already
        again = "the same command"
        if "--restart" in args:
            again += " (without --restart if it has begun to train)"
        click.echo(f"Stopped. The workdir is intact: {again} resumes where it left off.", err=True)
        sys.exit(130)
    if isinstance(error, SystemExit) and error.code == 1:  # click's, of a closed pipe
        sys.exit(2)
    if isinstance(error, BrokenPipeError):  # as with `| head`: nobody reads on, so there is nothing to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)
    if isinstance(error, OSError):
        _fail(_explain(error))
    if isinstance(error, ModuleNotFoundError) and not (error.name or "ofa_tf").startswith("ofa_tf"):
        _fail(f"The package {error.name} is not installed: install it; `ofa-tf doctor` shows what else is missing.")
    if isinstance(error, MemoryError):
        _fail("There is not enough memory: use a smaller batch or a smaller space.")
    raise error


def _open_streams() -> None:
    """Gives a standard stream that was closed a place to go, and replaces characters that its encoding lacks."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # the lowest descriptor that is free: this one
            setattr(sys, name, os.fdopen(null, "w" if descriptor else "r"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _fail(sentence: str) -> NoReturn:
    line = visible(sentence).replace("\n", "\\n")  # of a file's name
    click.echo(f"Error: {line}", err=True)
    sys.exit(2)


def _sentence(error: click.ClickException) -> str:
    """What was given and what would be right, on one line."""
    said, context = re.sub(r"\s*\n\s*", " ", error.format_message()), getattr(error, "ctx", None)
    if context is None or isinstance(error, click.BadParameter):
        return said
    if isinstance(context.command, click.Group):
        known = context.command.list_commands(context)
    else:
        known = [name for param in context.command.params for name in param.opts if name.startswith("--")]
    return f"{said.rstrip('.')}: `{context.command_path}` takes {', '.join(known)}."


def _explain(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    known = {
        errno.ENOSPC: ("The disk is full", "make room"),
        errno.EDQUOT: ("The disk quota is used up", "make room"),
        errno.EFBIG: ("The disk or the file size limit is full", "make room"),
        errno.EROFS: ("The disk is read-only", "use another folder"),
        errno.EACCES: ("There is no permission to write or read", "use another folder"),
        errno.EPERM: ("There is no permission to write or read", "use another folder"),
    }
    what, advice = known.get(error.errno or 0, (error.strerror or str(error), "fix that"))
    return f"{what}{place}: {advice} and run the command again; nothing was left half-written."
