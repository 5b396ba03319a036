"""The entry point: the list of commands, and what happens when one fails."""

import errno
import importlib
import sys
from collections.abc import Sequence

import click

from ofa_tf._version import VERSION
from ofa_tf.errors import OfaError

COMMANDS = ("demo", "train", "predictor", "lut", "search", "export", "doctor")


class LazyGroup(click.Group):
    """Imports a command's module when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return importlib.import_module(f"ofa_tf.cli.{cmd_name}").command if cmd_name in COMMANDS else None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="ofa-tf")
def cli():
    """Train one elastic network, then hand every device the sub-network that fits it, as a .tflite file."""


def main(args: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0, 2 for what the user can mend (one sentence says what), 130 for Ctrl-C."""
    try:
        cli.main(args, prog_name="ofa-tf", standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.ClickException as error:
        _fail(error.format_message())
    except OfaError as error:
        _fail(str(error))
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped. The workdir is intact: the same command goes on where it was.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except OSError as error:
        _fail(_explain(error))
    except MemoryError:
        _fail("There is not enough memory: use a smaller batch or a smaller space.")


def _fail(sentence: str) -> None:
    click.echo(f"Error: {sentence}", err=True)
    sys.exit(2)


def _explain(error: OSError) -> str:
    place = f" ({error.filename})" if error.filename else ""
    known = {
        errno.ENOSPC: "The disk is full",
        errno.EDQUOT: "The disk quota is used up",
        errno.EFBIG: "The disk or the file size limit is full",
        errno.EROFS: "The disk is read-only",
        errno.EACCES: "There is no permission to write or read",
        errno.EPERM: "There is no permission to write or read",
    }
    what = known.get(error.errno or 0, error.strerror or str(error))
    return f"{what}{place}; nothing was left half-written."
