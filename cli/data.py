"""`ofa-tf data`."""

import click
from ofa_tf.cli.common import Whole, json_option, library, print_json, print_table


@click.group("data")
def command():
    """Prepare data sets."""


@command.command("pack")
@click.option(
    "--data",
    metavar="SPEC",
    required=True,
    help="A data set by name, `tfds:NAME`, or a folder with train/<class>/*.jpg or TFRecord shards.",
)
@click.option("--out", metavar="DIR", required=True, help="Folder to write the shards to.")
@click.option("--shards", type=Whole(1, 99_999), default=16, show_default=True, help="Number of files for each part.")
@click.option(
    "--size",
    type=Whole(8, 4096),
    help="Shrink larger images until their shorter side has N pixels.  [default: keep every file as it is]",
)
@click.option("--force", is_flag=True, help="Replace a packed data set that is already there.")
@json_option
def pack_command(data, out, shards, size, force, as_json):
    """Pack a data set into TFRecord shards, which open at once."""
    with library() as progress:
        from ofa_tf.project.data import pack

        packed = pack(data, out, shards, size, force, progress)
    if as_json:
        print_json({**packed.__dict__, "folder": str(packed.folder)})
        return
    print_table(
        ["folder", *packed.images, "skipped", "size"],
        [(packed.folder, *packed.images.values(), packed.skipped, f"{packed.size_bytes / 1e6:.1f} MB")],
    )
