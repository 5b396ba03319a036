"""`ofa-tf lut`."""

import click
from ofa_tf.cli.common import (
    Whole,
    app_option,
    benchmark_model_option,
    device_option,
    json_option,
    library,
    precision_option,
    print_json,
    print_table,
    runtime_options,
    say,
    workdir_option,
)

from ofa_tf.formatting import percent
from ofa_tf.precision import table_precisions

resolutions_option = click.option(
    "--resolution",
    "resolutions",
    type=Whole(1, 4096),
    multiple=True,
    help="Measure only this resolution; may be repeated.  [default: all]",
)


@click.group("lut")
def command():
    """Measure, check, list, show, import and merge latency tables."""


@command.command("build")
@workdir_option()
@device_option
@precision_option
@resolutions_option
@runtime_options
@click.option(
    "--runtime",
    type=click.Choice(["default", "auto"]),
    default="default",
    show_default=True,
    help="`auto` tries threads and delegates on whole subnets and keeps the fastest.",
)
@click.option(
    "--validate",
    "held_out",
    type=Whole(3, 1000),
    help="Also measure N held-out subnets to report the table's error.",
)
@json_option
def build_command(
    workdir, device, precision, resolutions, threads, delegate, cores, benchmark_model, app, runtime, held_out, as_json
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
            Settings(threads, delegate, cores, benchmark_model, app),
            runtime == "auto",
            held_out or 0,
        )
    _print(path, table, as_json)


@command.command("validate")
@workdir_option()
@device_option
@precision_option
@click.option("--subnets", type=Whole(3, 1000), default=40, show_default=True, help="Number of subnets to measure.")
@benchmark_model_option
@app_option
@json_option
def validate_command(workdir, device, precision, subnets, benchmark_model, app, as_json):
    """Measure a table's error on random subnets that it has not seen, and record it in the table."""
    with library(tensorflow=False) as progress:
        from ofa_tf.latency.settings import Settings
        from ofa_tf.project.lut import validate
        from ofa_tf.project.opened import open_existing

        settings = Settings(benchmark_model=benchmark_model, app=app)
        path, table = validate(open_existing(workdir, progress), device, precision, subnets, settings)
    _print(path, table, as_json)


@command.command("list")
@workdir_option()
@json_option
def list_command(workdir, as_json):
    """List the tables of the workdir and those that come with ofa-tf."""
    from ofa_tf.project.lut import list_files

    found = list_files(workdir)
    if as_json:
        print_json({"tables": [_facts(file.path, file.table) for file in found]})
        return
    rows = [
        (file.table.device["name"], file.table.precision, file.table.origin, len(file.table.entries), file.path)
        for file in found
    ]
    print_table(["device", "precision", "source", "blocks", "file"], rows)
    if not any(file.of_this_machine for file in found):
        say("There is no table of this machine yet; `ofa-tf lut build` measures one.")


@command.command("show")
@click.argument("table", metavar="DEVICE|FILE")
@workdir_option()
@click.option(
    "--precision",
    type=click.Choice(table_precisions()),
    help="Precision of the device's table.  [default: int8, or the first that it has]",
)
@click.option("--plot", metavar="FILE", help="Draw where the time goes in this .png or .svg file.")
@json_option
def show_command(table, workdir, precision, plot, as_json):
    """Show a table's device, its error, and where the time goes.

    DEVICE is `host`, or the name of any device that `ofa-tf lut list` shows. FILE is a table's file.
    """
    from ofa_tf.project.lut import show

    found = show(table, workdir, plot, precision)
    if as_json:
        print_json({**_facts(found.path, found.table), "shares_ms": found.shares})
        return
    _print(found.path, found.table, False)
    if found.shares is not None:
        parts = list(next(iter(found.shares.values())))
        rows = [
            (name, f"{sum(of.values()):.3g} ms", *(percent(of[part] / sum(of.values())) for part in parts))
            for name, of in found.shares.items()
        ]
        print_table(["subnet", "latency", *parts], rows, "Where the time goes, at the largest resolution covered:")


@command.command("job")
@workdir_option()
@click.option("--out", required=True, metavar="FOLDER", help="New folder to write the job to.")
@precision_option
@resolutions_option
@click.option("--threads", type=Whole(1, 64), default=1, show_default=True, help="Threads of the interpreter.")
@click.option(
    "--delegate",
    type=click.Choice(["none", "xnnpack"]),
    default="xnnpack",
    show_default=True,
    help="Delegate of the interpreter.",
)
@json_option
def job_command(workdir, out, precision, resolutions, threads, delegate, as_json):
    """Write every block of the workdir's space into a folder, for a phone without a cable.

    Copy the folder to the phone and choose it in the Android app, which measures it. Then run `ofa-tf lut import` on
    the results that the app shares.
    """
    with library(tensorflow=False) as progress:
        from ofa_tf.project.lut import write_job
        from ofa_tf.project.opened import open_existing

        job = write_job(open_existing(workdir, progress), out, precision, resolutions or None, threads, delegate)
    if as_json:
        print_json({**job.__dict__, "path": str(job.path)})
        return
    say(f"{job.path}: {job.n_blocks} blocks in {job.n_files} files, {job.size_bytes / 1e6:.1f} MB.")
    say("Copy the folder to the phone, choose it in the app, and import the results that the app shares.")


@command.command("import")
@click.argument("source")
@workdir_option()
@click.option("--as", "name", metavar="NAME", help="New name for the table's device, such as pi4.")
@click.option("--force", is_flag=True, help="Replace a table of the same device, runtime and precision.")
@json_option
def import_command(source, workdir, name, force, as_json):
    """Import a table into the workdir: a file from `ofa-tf lut build`, the results that the Android app shares, or
    tables in the format that the authors of Once-for-All published. Each of those covers one resolution: give all
    tables of a device as a folder, with --as."""
    with library(tensorflow=False) as progress:
        from ofa_tf.project.lut import import_any

        found = import_any(source, workdir, force, name, progress)
    _print(found.path, found.table, as_json)


@command.command("merge")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False))
@click.option("--out", required=True, metavar="FILE", help="Where to write the merged table.")
@json_option
def merge_command(files, out, as_json):
    """Merge tables that cover several resolutions or spaces of one device and runtime."""
    from ofa_tf.project.lut import merge

    found = merge(files, out)
    _print(found.path, found.table, as_json)


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
    say(f"{path}: {table.label}, {len(table.entries)} blocks, runtime: {runtime}.")
    if table.validation is not None:
        say(table.error_sentence)
