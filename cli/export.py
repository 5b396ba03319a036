"""`ofa-tf export`."""

import click
from ofa_tf.cli.common import (
    MILLISECONDS,
    Positive,
    images_option,
    json_option,
    library,
    print_caution,
    print_json,
    print_table,
    ram_option,
    say,
    size_option,
    workdir_option,
)

from ofa_tf.formatting import milliseconds, percent
from ofa_tf.precision import INTEGER_ENDS, PRECISIONS


@click.command("export")
@workdir_option()
@click.option(
    "--device",
    "devices",
    multiple=True,
    help="`host`, a device that has a latency table, or `mcu:BOARD`; may be repeated, each with its --latency.",
)
@click.option("--latency", "budgets", type=MILLISECONDS, multiple=True, help="Latency budget in milliseconds.")
@ram_option
@size_option
@click.option("--arch", "arch_file", metavar="FILE", help="Export this arch instead of searching for one.")
@click.option(
    "--precision",
    type=click.Choice(list(PRECISIONS)),
    default="int8",
    show_default=True,
    help="Precision of the model file; `dynamic` has int8 weights and float activations.",
)
@click.option(
    "--io",
    type=click.Choice(INTEGER_ENDS),
    default="int8",
    show_default=True,
    help="Type of the input and output of an int8 file.",
)
@click.option(
    "--finetune",
    type=Positive("N", "epochs"),
    help="First train the subnet for N more epochs, with the largest network as its teacher.",
)
@click.option("--qat", is_flag=True, help="Train the subnet for int8 (quantisation-aware training).")
@click.option("--epochs", type=Positive("N", "epochs"), help="Epochs of --qat.  [default: 3]")
@click.option("--no-gate", is_flag=True, help="Export the file even if it differs too much from its subnet.")
@images_option
@click.option("--name", help="Name of the export's folder.  [default: made of device, budget and precision]")
@click.option("--out", metavar="DIR", help="Where to put that folder.  [default: exports/ in the workdir]")
@click.option(
    "--allow-cpu", is_flag=True, help="Let operators that an Edge TPU or Ethos-U cannot run fall back to the CPU."
)
@click.option("--force", is_flag=True, help="Replace an export of the same name.")
@click.option("--pictures", is_flag=True, help="Also draw what the file gets wrong: confusion.png and worst.png.")
@click.option("--author", default="", help="Author to record in the file.")
@click.option("--license", "license_", default="", help="License to record in the file.")
@click.option("--description", default="", help="Description to record in the file.")
@json_option
def command(
    workdir,
    devices,
    budgets,
    ram_kb,
    size_kb,
    arch_file,
    precision,
    io,
    finetune,
    qat,
    epochs,
    no_gate,
    data,
    name,
    out,
    allow_cpu,
    force,
    pictures,
    author,
    license_,
    description,
    as_json,
):
    """Export the best subnet for a latency budget as a .tflite file, or one for each of several devices."""
    from ofa_tf.latency.backends import backend_of

    limited = bool(budgets or ram_kb or size_kb)
    brings_limits = any(not backend_of(device).tabulated for device in devices)  # those of its memories
    if limited == (arch_file is not None) and not (brings_limits and arch_file is None):
        raise click.ClickException("Give either --latency MS or --arch FILE.")
    pairs = _pairs(devices or ("host",), budgets)
    with library() as progress:
        from ofa_tf.project.export import Target, export_all, make_options
        from ofa_tf.project.opened import open_existing

        about = author, license_, description
        options = make_options(
            precision, io, qat, epochs, not no_gate, name, out, allow_cpu, force, *about, pictures, finetune
        )
        project = open_existing(workdir, progress, data)
        kilobytes = ram_kb and ram_kb * 1e3, size_kb and size_kb * 1e3
        targets = [Target(device, budget, *kilobytes) for device, budget in pairs]
        exports = export_all(project, targets, options, arch_file)
    print_exports(exports, as_json)


def _pairs(devices, budgets) -> list[tuple[str, float | None]]:
    """Pairs each device with its budget; a single one of either is paired with all of the other."""
    if not budgets:
        return [(device, None) for device in devices]
    if len(devices) != len(budgets) and 1 not in (len(devices), len(budgets)):
        raise click.ClickException(
            f"There are {len(devices)} --device and {len(budgets)} --latency: give one --latency for each --device."
        )
    n = max(len(devices), len(budgets))
    return list(zip(devices * (n // len(devices)), budgets * (n // len(budgets)), strict=True))


def export_facts(exported) -> dict:
    """The figures of an export as JSON values."""
    manifest = exported.manifest
    return {
        "device": manifest.device["name"],
        "budget_ms": manifest.budget_ms,
        "predicted_ms": manifest.predicted_ms,
        "measured_ms": manifest.measured_ms,
        "n_macs": manifest.n_macs,
        "size_bytes": manifest.size_bytes,
        "microcontroller": manifest.microcontroller,
        "float_accuracy": manifest.float_accuracy,
        f"{manifest.precision}_accuracy": manifest.file_accuracy,
        "agreement": manifest.agreement,
        "snr_db": manifest.snr_db,
        "gate_complaint": manifest.gate["complaint"],
        "finetune": manifest.finetune,
        "qat": manifest.qat,
        "same_file": exported.same_file,
        "file": str(exported.folder / "model.tflite"),
    }


def _arena(facts) -> str:
    """What the file needs of RAM, and how it was found out."""
    predicted = f"{facts['predicted_arena_bytes'] / 1e3:.1f} kB" if facts["predicted_arena_bytes"] else "unknown"
    if facts["arena_bytes"] is None:
        return f"its arena is predicted to take {predicted}"
    same = f"{percent(facts['same_class'])} of {facts['images']} images into the same class"
    return (
        f"its arena takes {facts['arena_bytes'] / 1e3:.1f} kB, measured (predicted {predicted}); TensorFlow Lite Micro "
        f"and LiteRT's reference kernels put {same}"
    )


def print_exports(exports, as_json: bool, **more) -> None:
    """Prints exports as a table for people, or as one JSON object."""
    if as_json:
        print_json({"exports": [export_facts(exported) for exported in exports], **more})
        print_caution(exports[0].predictor_caution, as_json)
        return
    precision = exports[0].manifest.precision
    rows = []
    for exported in exports:
        manifest = exported.manifest
        rows.append(
            (
                manifest.device["name"],
                milliseconds(manifest.budget_ms),
                milliseconds(manifest.predicted_ms, manifest.predicted_ms_error),
                milliseconds(manifest.measured_ms),
                f"{manifest.n_macs / 1e6:.2f} M",
                f"{manifest.size_bytes / 1e3:.0f} kB",
                percent(manifest.float_accuracy),
                percent(manifest.file_accuracy),
                percent(manifest.agreement),
                exported.folder / "model.tflite",
            )
        )
    accuracies = ["float accuracy", f"{precision} accuracy", "agreement"]
    print_table(["device", "budget", "predicted", "measured", "MACs", "size", *accuracies, "file"], rows)
    for exported in exports:
        if exported.manifest.microcontroller:
            say(f"{exported.folder.name}: {_arena(exported.manifest.microcontroller)}.")
        if exported.same_file:
            say(f"{exported.folder.name}: {exported.same_file}.")
        if exported.manifest.gate["complaint"]:
            say(f"{exported.folder}: {exported.manifest.gate['complaint']}.", err=True)
    print_caution(exports[0].predictor_caution, as_json)
