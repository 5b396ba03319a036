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
    help="A name, `tfds:NAME`, or a folder with train/<class>/*.jpg or TFRecord shards.",
)
@click.option("--out", metavar="DIR", required=True, help="Folder to write.")
@click.option("--shards", type=Whole(1, 99_999), default=16, show_default=True, help="Files of each part.")
@click.option("--size", type=Whole(8, 4096), help="Shorter side of larger images in pixels.  [default: as they are]")
@click.option("--force", is_flag=True, help="Replace a packed data set that is there already.")
@json_option
def pack_command(data, out, shards, size, force, as_json):
    """Pack a data set into TFRecord shards that open at once."""
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
