"""`ofa-tf train`."""

import click
from ofa_tf.cli.common import (
    Positive,
    Whole,
    json_option,
    library,
    print_json,
    print_table,
    workdir_option,
)

from ofa_tf.formatting import duration, percent

ENDS = ("smallest", "random1", "random2", "random3", "random4", "largest")


@click.command("train")
@click.option(
    "--stage",
    type=click.Choice(["full", "kernel", "depth", "width", "all"]),
    help="Stage of progressive shrinking; missing earlier ones are trained first.  [default: all]",
)
@workdir_option()
@click.option("--data", metavar="SPEC", help="A data set by name, `tfds:NAME`, or a folder.  [default: street-digits]")
@click.option(
    "--space",
    metavar="NAME",
    help="A registered space, a JSON file, or `auto`.  [default: auto; for a data set by name: tiny]",
)
@click.option(
    "--recipe",
    metavar="NAME",
    help="A registered recipe, a JSON file, or `auto`.  [default: auto; for a data set by name: demo]",
)
@click.option(
    "--init",
    metavar="SOURCE",
    help="Begin with pretrained weights: a network that `ofa-tf zoo list` names, a file, a workdir, or `none`.  "
    "[default: for photos what is installed]",
)
@click.option(
    "--hours",
    type=Positive("H", "hours"),
    help="The longest that training should take, for `--recipe auto`.  [default: 2; with pretrained weights: 1]",
)
@click.option("--seed", type=Whole(0, 2**31 - 1), help="Seed for everything random.  [default: 0]")
@click.option("--epochs", type=Positive(), help="Epochs of this stage, including warm-up, instead of the recipe's.")
@click.option("--batch", type=Whole(1, 1 << 20), help="Images per step of this stage, across all replicas.")
@click.option("--lr", type=Positive(), help="Peak learning rate of this stage for 64 images per step.")
@click.option(
    "--strategy",
    type=click.Choice(["none", "mirrored", "multiworker", "tpu"]),
    default="none",
    show_default=True,
    help="Where to train: on one device, all GPUs of this machine, the machines in TF_CONFIG, or a TPU.",
)
@click.option("--dry-run", is_flag=True, help="Print stages, steps, estimated time and memory without training.")
@click.option(
    "--restart", is_flag=True, help="Train the stage again from its start; other stages are left as they are."
)
@json_option
def command(
    stage, workdir, data, space, recipe, init, hours, seed, epochs, batch, lr, strategy, dry_run, restart, as_json
):
    """Train the supernet by progressive shrinking."""
    if restart and stage is None:
        raise click.UsageError("--restart needs --stage: name the stage to train again, or give `--stage all`.")
    stage = stage or "all"
    given = {"epochs": epochs, "batch": batch, "base_lr": lr}
    overrides = {name: value for name, value in given.items() if value is not None}
    with library() as progress:
        from ofa_tf.project.train import open_and_train

        choices = {"space": space, "data": data, "recipe": recipe, "hours": hours, "seed": seed, "init": init}
        result = open_and_train(workdir, stage, restart, overrides, strategy, dry_run, progress, **choices)
    if dry_run:
        _print_estimate(result, as_json)
    else:
        _print_training(result, as_json)


def _print_training(training, as_json: bool) -> None:
    if as_json:
        stages = {name: dict(record.metrics) for name, record in training.stages.items()}
        print_json({"stages": stages, "traces": sum(training.traces.values())})
        return
    rows = [
        (name, record.steps, *(percent(record.metrics.get(f"{end}_accuracy")) for end in ENDS))
        for name, record in training.stages.items()
    ]
    print_table(["stage", "steps", *ENDS], rows, "Accuracy of subnets on held-out training images")


def _print_estimate(found, as_json: bool) -> None:
    columns = ("stage", "steps", "batch", "subnets", "step_seconds", "seconds")
    rows = [[getattr(phase, name) for name in columns] for phase in found.phases]
    if as_json:
        phases = [dict(zip(columns, row, strict=True)) for row in rows]
        rest = {"first_step_seconds": found.first_step_seconds, "seconds": found.seconds, "peak_mb": found.peak_mb}
        print_json({"phases": phases, **rest})
        return
    title = f"Estimate: {duration(found.seconds)} in all, {found.peak_mb:,.0f} MB at the peak; nothing was trained"
    shown = [
        (stage, steps, batch, subnets, f"{step:.3g} s", duration(total))
        for stage, steps, batch, subnets, step, total in rows
    ]
    print_table(["stage", "steps", "images per step", "subnets per step", "time per step", "time"], shown, title)
