"""`ofa-tf demo`."""

import click
from ofa_tf.cli.common import Whole, json_option, library, print_caution, say, workdir_option


@click.command("demo")
@workdir_option("ofa-demo")
@click.option("--data", metavar="SPEC", help="A data set by name, `tfds:NAME`, or a folder.  [default: street-digits]")
@click.option("--seed", type=Whole(0, 2**31 - 1), help="Seed for everything random.  [default: 0]")
@json_option
def command(workdir, data, seed, as_json):
    """Train, measure, search and export on bundled data.

    Takes a few minutes on a laptop's CPU.
    """
    with library() as progress:
        from ofa_tf.project.demo import run_demo
        from ofa_tf.project.opened import open_existing
        from ofa_tf.project.predictor import show

        result = run_demo(workdir, data, seed, progress)
        caution = show(open_existing(workdir)).caution
    from ofa_tf.cli.export import print_exports

    print_exports(result.exports, as_json, seconds=round(result.seconds, 1), traces=result.traces)
    print_caution(caution, as_json)
    if not as_json:
        say("Latencies: 10th percentile of the runs. Accuracies: on validation images never used before.")
        say(f"The accuracy-latency front is drawn in {result.plot}, and {result.report} shows everything.")
