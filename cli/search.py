"""`ofa-tf search`."""

import click
from ofa_tf.cli.common import (
    MILLISECONDS,
    Positive,
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


@click.command("search")
@workdir_option()
@device_option
@click.option("--latency", "budgets", type=MILLISECONDS, multiple=True, help="Budget; may be repeated.")
@click.option("--macs", type=Positive(), help="The most multiply-accumulates, too, in millions.")
@click.option("--params", type=Positive(), help="The most parameters, too, in thousands.")
@click.option("--pareto", is_flag=True, help="The best subnets at many latencies, instead of at a budget.")
@precision_option
@images_option
@click.option("--out", type=click.Path(dir_okay=False), help="Also write the arch of the last budget to this file.")
@json_option
def command(workdir, device, budgets, macs, params, pareto, precision, data, out, as_json):
    """Search the most accurate subnet for each latency budget."""
    if pareto and (budgets or macs or params):
        raise click.UsageError("--pareto takes no budget: leave --latency, --macs and --params out.")
    if not pareto and not budgets:
        raise click.UsageError("Missing option '--latency': give a positive number of milliseconds, or --pareto.")
    with library() as progress:
        from ofa_tf.jsonio import write_json
        from ofa_tf.pipeline import find, find_front
        from ofa_tf.project import open_existing

        project = open_existing(workdir, progress, data)
        most = macs and macs * 1e6, params and params * 1e3
        if pareto:
            choices = find_front(project, device, precision)
        else:
            choices = [find(project, device, budget, precision, *most) for budget in budgets]
        if out:
            write_json(out, choices[-1].arch.to_document())
    if as_json:
        print_json({"choices": [{**choice.__dict__, "arch": choice.arch.to_document()} for choice in choices]})
        return
    rows = [
        (
            milliseconds(choice.budget_ms),
            milliseconds(choice.predicted_ms, choice.predicted_ms_error),
            percent(choice.predicted_accuracy),
            f"{choice.n_macs / 1e6:.2f} M",
            f"{choice.n_params / 1e3:.0f} k",
            choice.arch,
        )[pareto:]
        for choice in choices
    ]
    columns = ["budget", "predicted latency", "predicted accuracy", "MACs", "parameters", "arch (kernel x expand)"]
    title = f"Best subnets for {choices[0].device}; accuracies by the {choices[0].predictor_origin} predictor"
    print_table(columns[pareto:], rows, title)
