"""`ofa-tf space`."""

import shlex
from itertools import pairwise

import click
from ofa_tf.cli.common import MILLISECONDS, Whole, json_option, library, print_json, print_table, say, workdir_option

from ofa_tf.formatting import milliseconds

MANY = 8  # values that are listed one by one
ENDS = {"stem": "stem", "first": "first block", "head": "head"}


@click.group("space")
def command():
    """Show search spaces, or suggest one for a device."""


@command.command("show")
@click.argument("space", metavar="NAME|FILE")
@click.option(
    "--classes", type=Whole(2, 100_000), default=10, show_default=True, help="Number of classes to distinguish."
)
@json_option
def show_command(space, classes, as_json):
    """Show what can be chosen in a space, and the cost of its smallest and largest subnet.

    Give the name of a registered space or a JSON file."""
    from ofa_tf.project.space import describe_space

    description = describe_space(space, classes)
    if as_json:
        print_json(description.to_document())
    else:
        _print(description)


@command.command("suggest")
@click.option("--data", metavar="SPEC", required=True, help="A data set by name, `tfds:NAME`, or a folder.")
@click.option(
    "--device",
    default="host",
    show_default=True,
    help="`host` (this machine), `edgetpu`, or a device that has a latency table.",
)
@click.option("--latency", type=MILLISECONDS, required=True, help="Latency budget in milliseconds.")
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    default="space.json",
    show_default=True,
    help="File to write the space to.",
)
@click.option("--force", is_flag=True, help="Replace that file if it exists.")
@workdir_option()
@json_option
def suggest_command(data, device, latency, out, force, workdir, as_json):
    """Suggest a space for a data set that has subnets below and above a latency budget.

    It begins with the space that `train --space auto` would choose, measures its smallest and largest subnet, and makes
    it narrower or wider until the budget lies well between them. For a device other than this machine, a latency table
    of the workdir is used."""
    with library() as progress:
        from ofa_tf.errors import InfeasibleError
        from ofa_tf.project.space_suggest import suggest_space

        try:
            description = suggest_space(data, latency, device, out, force, workdir, progress)
        except InfeasibleError as error:
            if as_json:
                print_json({"infeasible": error.details})
            raise
    if as_json:
        print_json(description.to_document())
        return
    _print(description)
    words = ["ofa-tf", "train", "--workdir", "work", "--data", data, "--space", out]
    say(f"The space is in {out}. Train with it: {shlex.join(words)}")


def _print(description) -> None:
    space = description.space
    channels = {name: _listed(of) for name, of in description.channels.items()}
    choices = zip(space.stages, space.stage_kernels, space.stage_expands, strict=True)
    rows = [
        (
            number,
            stage.kind,
            channels.pop(f"stage{number}"),
            stage.stride,
            _listed(stage.depths),
            _listed(kernels),
            _listed(expands),
            stage.activation,
            "yes" if stage.se else "no",
        )
        for number, (stage, kernels, expands) in enumerate(choices, 1)
    ]
    title = f"Stages of `{space.name}`"
    if space.width_mults != (1,):
        title += f" (channels are with its width multiplier of {_listed(space.width_mults)})"
    columns = ["stage", "blocks", "channels", "stride", "depths", "kernels", "expands", "activation", "SE"]
    print_table(columns, rows, title)
    print_table(
        ["choice", "values"],
        [
            *((f"channels of the {ENDS[name]}", of) for name, of in channels.items()),
            ("resolutions in px", _listed(space.resolutions)),
            *([("depth and expand ratio", "chosen together for each stage")] if space.coupled else []),
            ("subnets", f"{_count(description.n_subnets)} at each resolution"),
        ],
    )
    ends = {"smallest": description.smallest, "largest": description.largest}
    columns = ["subnet", "resolution", "MACs", "parameters", "predicted int8 size"]
    rows = [
        (
            name,
            f"{end.arch.resolution} px",
            f"{end.n_macs / 1e6:.2f} M",
            f"{end.n_params / 1e3:.0f} k",
            f"{end.predicted_bytes / 1e3:.0f} kB",
        )
        for name, end in ends.items()
    ]
    if description.device is not None:
        columns.append(f"latency on {description.device}")
        rows = [(*row, milliseconds(end.latency_ms)) for row, end in zip(rows, ends.values(), strict=True)]
    print_table(columns, rows, f"Its smallest and largest subnet, for {description.n_classes} classes")


def _listed(values) -> str:
    """`24, 28, 32`, or `128 to 224 in steps of 4` where there are many."""
    steps = {after - before for before, after in pairwise(values)}
    if len(values) > MANY and len(steps) == 1:
        return f"{values[0]} to {values[-1]} in steps of {steps.pop()}"
    return ", ".join(f"{value:g}" for value in values)


def _count(number: int) -> str:
    """`729,000`, or `2.2 · 10^19`."""
    if number < 10**9:
        return f"{number:,}"
    digits, _, exponent = f"{number:.1e}".partition("e+")
    return f"{digits} · 10^{int(exponent)}"
