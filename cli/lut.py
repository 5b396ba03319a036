"""`ofa-tf lut`."""

from pathlib import Path

import click
from ofa_tf.cli.common import (
    Whole,
    benchmark_model_option,
    device_option,
    json_option,
    library,
    precision_option,
    print_json,
    print_table,
    runtime_options,
    workdir_option,
)

from ofa_tf.formatting import percent


@click.group("lut")
def command():
    """Measure, check, list, show, import and merge latency tables."""


@command.command("build")
@workdir_option()
@device_option
@precision_option
@click.option("--resolution", "resolutions", type=Whole(1, 4096), multiple=True, help="Only this one; may be repeated.")
@runtime_options
@click.option(
    "--runtime",
    type=click.Choice(["default", "auto"]),
    default="default",
    show_default=True,
    help="auto: try threads and delegates on whole subnets, keep the fastest.",
)
@click.option("--validate", "held_out", type=Whole(3, 1000), help="Measure so many held-out subnets along.")
@json_option
def build_command(
    workdir, device, precision, resolutions, threads, delegate, cores, benchmark_model, runtime, held_out, as_json
):
    """Measure every block of the workdir's space on a device."""
    with library(tensorflow=False) as progress:
        from ofa_tf.latency.settings import Settings
        from ofa_tf.project.lut import measure_table
        from ofa_tf.project.opened import open_existing

        path, table = measure_table(
            open_existing(workdir, progress),
            device,
            precision,
            resolutions or None,
            Settings(threads, delegate, cores, benchmark_model),
            runtime == "auto",
            held_out or 0,
        )
    _print(path, table, as_json)


@command.command("validate")
@workdir_option()
@device_option
@precision_option
@click.option("--subnets", type=Whole(3, 1000), default=40, show_default=True, help="How many to measure.")
@benchmark_model_option
@json_option
def validate_command(workdir, device, precision, subnets, benchmark_model, as_json):
    """Measure how wrong a table is on random subnets that it has not seen, and note it in the table."""
    with library(tensorflow=False) as progress:
        from ofa_tf.latency.settings import Settings
        from ofa_tf.project.lut import validate
        from ofa_tf.project.opened import open_existing

        settings = Settings(benchmark_model=benchmark_model)
        path, table = validate(open_existing(workdir, progress), device, precision, subnets, settings)
    _print(path, table, as_json)


@command.command("list")
@workdir_option()
@json_option
def list_command(workdir, as_json):
    """List the tables of the workdir and those that come with ofa-tf."""
    from ofa_tf.latency.backends import backend_of
    from ofa_tf.latency.store import FOLDER, list_tables

    tables = list_tables(Path(workdir, FOLDER))
    if as_json:
        print_json({"tables": [_facts(path, table) for path, table in tables]})
        return
    rows = [(table.device["name"], table.precision, table.source, len(table.entries), path) for path, table in tables]
    print_table(["device", "precision", "source", "blocks", "file"], rows)
    if not any(backend_of(table.device["name"]).runs_here for _, table in tables):
        click.echo("There is none of this machine yet: `ofa-tf lut build` measures one.")


@command.command("show")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@workdir_option()
@click.option("--plot", metavar="FILE", help="Draw where the time goes: a .png or .svg file.")
@json_option
def show_command(file, workdir, plot, as_json):
    """Show what a table says of its device, of its own error, and where the time goes."""
    from ofa_tf.latency.store import seen_from_here
    from ofa_tf.latency.table import LatencyTable
    from ofa_tf.project.lut import table_shares
    from ofa_tf.project.workdir import Workdir

    table = seen_from_here(LatencyTable.load(file))
    shares = table_shares(table, Workdir(workdir))
    if plot and shares is None:
        raise click.ClickException(f"--plot: {file} covers no space in full, so there is nothing to draw.")
    if plot:
        from ofa_tf.report.plot import plot_shares

        plot_shares(plot, table.label, shares)
    if as_json:
        print_json({**_facts(file, table), "shares_ms": shares})
        return
    _print(file, table, False)
    if shares is not None:
        parts = list(next(iter(shares.values())))
        rows = [
            (name, f"{sum(of.values()):.3g} ms", *(percent(of[part] / sum(of.values())) for part in parts))
            for name, of in shares.items()
        ]
        print_table(["subnet", "latency", *parts], rows, "Where the time goes, at the largest resolution covered:")


@command.command("import")
@click.argument("source")
@workdir_option()
@click.option("--as", "name", metavar="NAME", help="What its device is called from now on, such as pi4.")
@click.option("--force", is_flag=True, help="Replace a table of the same device, runtime and precision.")
@json_option
def import_command(source, workdir, name, force, as_json):
    """Take a table over into the workdir: a JSON file, or the published YAML tables (a file or a folder of them)."""
    with library(tensorflow=False) as progress:
        from ofa_tf.project.lut import import_table
        from ofa_tf.project.workdir import Workdir
        from ofa_tf.project.zoo import import_note10

        if Path(source).is_dir() or Path(source).suffix in (".yaml", ".yml"):
            path, table = import_note10(source, workdir, None, force, progress, name)
        else:
            path, table = import_table(source, Workdir(workdir), force, name)
    _print(path, table, as_json)


@command.command("merge")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--out", required=True, metavar="FILE", help="Where to write the merged table.")
@json_option
def merge_command(files, out, as_json):
    """Merge tables of one device and runtime, of several resolutions or spaces."""
    from ofa_tf.latency.merge import merge_tables
    from ofa_tf.latency.table import LatencyTable

    table = merge_tables([LatencyTable.load(file) for file in files])
    table.save(out)
    _print(out, table, as_json)


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
        click.echo(table.error_sentence)
