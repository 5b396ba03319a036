"""`ofa-tf train`."""

import click
from ofa_tf.cli.common import Whole, json_option, library, percent, print_json, print_table, workdir_option


@click.command("train")
@click.option(
    "--stage",
    type=click.Choice(["full", "kernel", "depth", "width", "all"]),
    default="all",
    show_default=True,
    help="Stage of progressive shrinking; missing earlier ones are trained first.",
)
@workdir_option()
@click.option("--data", metavar="SPEC", help="A data set by name, `tfds:NAME`, or a folder.  [default: digits]")
@click.option("--space", metavar="NAME", help="A registered space or a JSON file.  [default: tiny]")
@click.option("--recipe", metavar="NAME", help="A registered recipe or a JSON file.  [default: demo]")
@click.option("--seed", type=Whole(0, 2**31 - 1), help="Seed of everything random.  [default: 0]")
@click.option("--restart", is_flag=True, help="Train the stage anew; other stages are not touched.")
@json_option
def command(stage, workdir, data, space, recipe, seed, restart, as_json):
    """Train the supernet by progressive shrinking."""
    with library() as progress:
        from ofa_tf.pipeline import train
        from ofa_tf.project import open_project

        project = open_project(workdir, space, data, recipe, seed, progress)
        training = train(project, stage, restart)
    if as_json:
        stages = {name: dict(record.metrics) for name, record in training.stages.items()}
        print_json({"stages": stages, "traces": sum(training.traces.values())})
        return
    rows = [
        (name, record.steps, *(percent(record.metrics.get(f"{end}_accuracy")) for end in ("smallest", "largest")))
        for name, record in training.stages.items()
    ]
    print_table(["stage", "steps", "smallest subnet", "largest subnet"], rows, "Accuracy on held-out training images")
