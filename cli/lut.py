"""`ofa-tf lut`."""

from pathlib import Path

import click
from ofa_tf.cli.common import (
    Whole,
    device_option,
    json_option,
    library,
    percent,
    precision_option,
    print_json,
    print_table,
    workdir_option,
)


@click.group("lut")
def command():
    """Measure, list and show latency tables."""


@command.command("build")
@workdir_option()
@device_option
@precision_option
@click.option("--resolution", "resolutions", type=Whole(1, 4096), multiple=True, help="Only this one; may be repeated.")
@json_option
def build_command(workdir, device, precision, resolutions, as_json):
    """Measure every block of the workdir's space on a device."""
    with library() as progress:
        from ofa_tf.pipeline import measure_table
        from ofa_tf.project import open_existing

        path, table = measure_table(open_existing(workdir, progress), device, precision, resolutions or None)
    _print(path, table, as_json)


@command.command("validate")
@workdir_option()
@device_option
@precision_option
@click.option("--subnets", type=Whole(3, 1000), default=40, show_default=True, help="How many to measure.")
@json_option
def validate_command(workdir, device, precision, subnets, as_json):
    """Measure how wrong a table is on random subnets that it has not seen, and note it in the table."""
    with library() as progress:
        from ofa_tf.pipeline import validate
        from ofa_tf.project import open_existing

        path, table = validate(open_existing(workdir, progress), device, precision, subnets)
    _print(path, table, as_json)


@command.command("list")
@workdir_option()
@json_option
def list_command(workdir, as_json):
    """List the tables of the workdir and those that come with ofa-tf."""
    from ofa_tf.latency.store import FOLDER, list_tables

    tables = list_tables(Path(workdir, FOLDER))
    if as_json:
        print_json({"tables": [_facts(path, table) for path, table in tables]})
        return
    rows = [(table.device["name"], table.precision, table.source, len(table.entries), path) for path, table in tables]
    print_table(["device", "precision", "source", "blocks", "file"], rows)
    if all(table.device["name"] != "host" for _, table in tables):
        click.echo("There is none of this machine yet: `ofa-tf lut build` measures one.")


@command.command("show")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@json_option
def show_command(file, as_json):
    """Show what a table says of its device and of its own error."""
    from ofa_tf.latency.table import LatencyTable

    _print(file, LatencyTable.load(file), as_json)


def _facts(path, table) -> dict:
    return {
        "file": str(path),
        "device": dict(table.device),
        "runtime": dict(table.runtime),
        "precision": table.precision,
        "source": table.source,
        "entries": len(table.entries),
        "validation": None if table.validation is None else dict(table.validation),
    }


def _print(path, table, as_json: bool) -> None:
    if as_json:
        print_json(_facts(path, table))
        return
    runtime = ", ".join(f"{key} {value}" for key, value in table.runtime.items())
    click.echo(f"{path}: {table.label}, {len(table.entries)} blocks, runtime: {runtime}.")
    if table.validation is not None:
        errors = table.validation
        what = "published networks" if table.source == "modelled" else "whole subnets"
        how = "measured for this alone" if "worst_arch" in errors else "each left out of the fit"
        click.echo(
            f"Error on {errors['subnets']} {what}, {how}: "
            f"{percent(errors['mape'])} on average, {percent(errors['within_10pct'])} of them within 10 %, "
            f"rank correlation {errors['spearman']:.3f}"
            + (f", bias {errors['bias'] * 100:+.1f} %" if "bias" in errors else "")
            + (f", worst {errors['worst_error'] * 100:+.1f} %." if "worst_error" in errors else ".")
        )
