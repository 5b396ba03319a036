"""`ofa-tf export`."""

import click
from ofa_tf.cli.common import (
    MILLISECONDS,
    device_option,
    images_option,
    json_option,
    library,
    milliseconds,
    percent,
    precision_option,
    print_json,
    print_table,
    workdir_option,
)


@click.command("export")
@workdir_option()
@device_option
@click.option("--latency", "budget", type=MILLISECONDS, help="Latency budget in milliseconds.")
@precision_option
@images_option
@click.option("--arch", "arch_file", metavar="FILE", help="Export this arch instead of searching for one.")
@click.option("--name", help="Name of the folder in exports/.  [default: from device, budget and precision]")
@click.option("--allow-cpu", is_flag=True, help="Let operators that an Edge TPU does not run fall back to the CPU.")
@click.option("--force", is_flag=True, help="Replace an export of the same name.")
@json_option
def command(workdir, device, budget, precision, data, arch_file, name, allow_cpu, force, as_json):
    """Export the best subnet for a latency budget as a .tflite file."""
    if (budget is None) == (arch_file is None):
        raise click.ClickException("Give either --latency MS or --arch FILE.")
    with library() as progress:
        from ofa_tf.pipeline import export_arch_file, export_budget
        from ofa_tf.project import open_existing

        project = open_existing(workdir, progress, data)
        if arch_file is not None:
            exported = export_arch_file(project, arch_file, precision, device, name, force, allow_cpu)
        else:
            exported = export_budget(project, budget, precision, device, name, force, allow_cpu)
    print_exports([exported], as_json)


def export_facts(exported) -> dict:
    """The figures of an export as JSON values."""
    manifest = exported.manifest
    return {
        "budget_ms": manifest.budget_ms,
        "predicted_ms": manifest.predicted_ms,
        "measured_ms": manifest.measured_ms,
        "n_macs": manifest.n_macs,
        "size_bytes": manifest.size_bytes,
        "float_accuracy": manifest.float_accuracy,
        f"{manifest.precision}_accuracy": manifest.file_accuracy,
        "file": str(exported.folder / "model.tflite"),
    }


def print_exports(exports, as_json: bool, **more) -> None:
    """Prints exports as a table for people, or as one JSON object."""
    if as_json:
        print_json({"exports": [export_facts(exported) for exported in exports], **more})
        return
    precision = exports[0].manifest.precision
    rows = []
    for exported in exports:
        manifest = exported.manifest
        rows.append(
            (
                milliseconds(manifest.budget_ms),
                milliseconds(manifest.predicted_ms, manifest.predicted_ms_error),
                milliseconds(manifest.measured_ms),
                f"{manifest.n_macs / 1e6:.2f} M",
                f"{manifest.size_bytes / 1e3:.0f} kB",
                percent(manifest.float_accuracy),
                percent(manifest.file_accuracy),
                exported.folder / "model.tflite",
            )
        )
    columns = ["budget", "predicted", "measured", "MACs", "size", "float accuracy", f"{precision} accuracy", "file"]
    print_table(columns, rows)
