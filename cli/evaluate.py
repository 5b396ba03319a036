"""`ofa-tf evaluate`."""

import click
from ofa_tf.cli.common import json_option, library, print_json, print_table, workdir_option

from ofa_tf.formatting import percent


class Numbers(click.ParamType):
    """One number, or three numbers separated by commas."""

    name = "X or R,G,B"

    def convert(self, value, param, ctx) -> tuple[float, ...]:
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in (1, 3):
            self.fail(f"{value!r} is neither a number nor three numbers such as 123.7,116.3,103.5.", param, ctx)
        return numbers


@click.command("evaluate")
@click.argument("model", metavar="MODEL.tflite")
@click.option(
    "--data",
    metavar="SPEC",
    help="Images: a folder with val/<class>/ or <class>/, or a data set as for `train`.  [default: the workdir's]",
)
@workdir_option()
@click.option("--mean", type=Numbers(), default=None, help="Mean in the input's normalisation, (pixel - mean) / std.")
@click.option(
    "--std", type=Numbers(), default=None, help="Standard deviation in it.  [default for both: what the file says]"
)
@click.option("--labels", metavar="FILE", help="Names of the outputs, one per line.  [default: those in the file]")
@json_option
def command(model, data, workdir, mean, std, labels, as_json):
    """Measure the accuracy of any classification .tflite file on validation images."""
    with library() as progress:
        from ofa_tf.project.evaluate import evaluate_file

        found = evaluate_file(model, data, workdir, mean or (), std or (), labels, progress)
    if as_json:
        facts = {**found.__dict__, "path": str(found.path), "preprocessing": found.preprocessing.__dict__}
        print_json({"file": facts.pop("path"), **facts})
        return
    rows = [
        ("images", f"{found.n_images} of {found.data}"),
        ("top-1", f"{percent(found.top1)} ({percent(found.top1_low)} to {percent(found.top1_high)}, 95 % confidence)"),
        *([("top-5", percent(found.top5))] if found.top5 is not None else []),
        ("time per image", f"{found.median_ms:.3g} ms on this machine, one thread, no delegate"),
        ("normalisation", f"from {found.preprocessing_from}"),
    ]
    print_table([str(found.path), ""], rows)
