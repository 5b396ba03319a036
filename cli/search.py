"""`ofa-tf search`."""

import click
from ofa_tf.cli.common import (
    MILLISECONDS,
    Positive,
    Whole,
    fits,
    images_option,
    json_option,
    library,
    precision_option,
    print_caution,
    print_json,
    print_table,
    ram_option,
    say,
    size_option,
    workdir_option,
)

from ofa_tf.formatting import milliseconds, percent
from ofa_tf.project.arguments import NO_BUDGET

BAR = 8  # characters of the longest bar
MEMORIES = ("--ram-kb", "--size-kb")
SUBNET = ("parameters", "size", "arch (kernel x expand)")  # columns of a front that tell of its subnets


@click.command("search")
@workdir_option()
@click.option(
    "--device",
    "devices",
    multiple=True,
    help="`host`, a device that has a latency table, or `mcu:BOARD`; may be repeated.  [default: host]",
)
@click.option(
    "--latency",
    "latencies",
    type=MILLISECONDS,
    multiple=True,
    help="Latency budget in milliseconds; one after each --device. Several for one device are separate searches.",
)
@click.option("--macs", type=Positive(), help="Budget of multiply-accumulates, in millions.")
@click.option("--params", type=Positive(), help="Budget of parameters, in thousands.")
@ram_option
@size_option
@click.option(
    "--verify", type=Whole(1, 1000), default=None, help="Evaluate and measure N candidates before choosing one."
)
@click.option(
    "--pareto",
    is_flag=True,
    help="Find the best subnets at many latencies (for `mcu` at many sizes of RAM) instead of one within a budget.",
)
@click.option(
    "--points", type=Whole(2, 1000), default=20, show_default=True, help="Number of latencies or sizes on a front."
)
@click.option("--plot", type=click.Path(dir_okay=False), help="Also draw the front: a .png or .svg file.")
@precision_option
@images_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False),
    help="File for the arch of the last search or, with --pareto, the front.  [default: arch.json in the workdir]",
)
@json_option
def command(
    workdir,
    devices,
    latencies,
    macs,
    params,
    ram_kb,
    size_kb,
    verify,
    pareto,
    points,
    plot,
    precision,
    data,
    out,
    as_json,
):
    """Search for the most accurate subnet within budgets."""
    budgets = {"--latency": latencies, "--macs": macs, "--params": params, "--ram-kb": ram_kb, "--size-kb": size_kb}
    budgets["--verify"] = verify
    _check(devices, latencies, budgets, pareto, plot)
    with library(tensorflow=False) as progress:
        from ofa_tf.errors import InfeasibleError
        from ofa_tf.project.opened import open_existing
        from ofa_tf.project.search import Budgets, find_all, find_fronts

        project = open_existing(workdir, progress, data)
        kilobytes = size_kb and size_kb * 1e3, ram_kb and ram_kb * 1e3
        most = Budgets({}, macs and macs * 1e6, params and params * 1e3, *kilobytes)
        try:
            if pareto:
                choices = find_fronts(project, devices or ["host"], precision, points, out, plot, most)
            else:
                answers, path = find_all(project, _each(most, devices, latencies), precision, verify or 0, out)
        except InfeasibleError as error:
            if as_json:
                print_json({"infeasible": error.details or {"reason": str(error)}})
            raise
    if pareto:
        _print_fronts(choices, as_json)
    else:
        _print_answers(answers, path, as_json)


def _check(devices, latencies, budgets, pareto, plot) -> None:
    """Refuses options that do not go together."""
    if len(set(devices)) < len(devices):
        raise click.UsageError("--device names a device twice: name each once, with its --latency.")
    given = [name for name, value in budgets.items() if value]
    if pareto:
        if wrong := [name for name in given if name not in MEMORIES]:
            raise click.UsageError(
                f"Of the budgets, --pareto takes only --ram-kb and --flash-kb: leave {', '.join(wrong)} out."
            )
        return
    if plot is not None:
        raise click.UsageError("--plot draws fronts: give --pareto with it.")
    if not devices and not set(given) - {"--verify"}:  # a device may bring the limits of its memories
        raise click.UsageError(NO_BUDGET)
    if len(devices) > 1 and latencies and len(latencies) != len(devices):
        raise click.UsageError(
            f"--device names {len(devices)} devices and --latency {len(latencies)} budgets: give one --latency after "
            "each --device, or none."
        )


def _each(most, devices, latencies):
    """The budgets of each search: one search for several devices together, otherwise one per latency."""
    from dataclasses import replace

    if len(devices) > 1 or not latencies:
        return [replace(most, latency_ms=dict(zip(devices, latencies or [None] * len(devices), strict=True)))]
    (device,) = devices or ["host"]
    return [replace(most, latency_ms={device: latency}) for latency in latencies]


def _print_answers(answers, path, as_json: bool) -> None:
    if as_json:
        print_json({"choices": [answer.to_document() for answer in answers], "file": str(path)})
        print_caution(answers[0].choice.predictor_caution, as_json)
        return
    choices = [answer.choice for answer in answers]
    rows = [(_budgets(answer), *_cells(answer.choice)) for answer in answers]
    print_table(["budget", *_columns(choices[0])], rows, "Best subnets")
    for answer in answers:
        if answer.verified:
            _print_verified(answer)
    _print_notes(choices[0])
    say(f"The arch{' of the last search' if len(answers) > 1 else ''} is in {path}.")


def _print_fronts(choices, as_json: bool) -> None:
    if as_json:
        print_json({"choices": choices.to_documents()})
        print_caution(choices[0].predictor_caution, as_json)
        return
    points = list(zip(choices, choices.steps, strict=True))
    for device in dict.fromkeys(choice.device_label for choice in choices):
        _print_front(device, [point for point in points if point[0].device_label == device])
    cost = "latency" if choices[0].latencies else "RAM"
    say(f"Gain: points of accuracy over the row before. Price: the extra {cost} that they cost.")
    _print_notes(choices[0])


def _print_front(device, points) -> None:
    """A front with what each step of it buys; in two tables where the terminal is too narrow for one."""
    most = max((step.gained_points for _, step in points if step), default=0.0)
    table: dict[str, list[str]] = {}
    for choice, step in points:
        names = [name.removeprefix("predicted ") for name in _columns(choice)]
        cells = dict(zip(names, _cells(choice), strict=True))
        cost = names[0] if choice.latencies else "RAM"
        first = {cost.split(" on ")[0]: cells.pop(cost), "accuracy": cells.pop("accuracy")}
        last = {name: cells.pop(name) for name in SUBNET}
        for name, cell in {**first, **_gain(step, most), "MACs": cells.pop("MACs"), **cells, **last}.items():
            table.setdefault(name, []).append(cell)
    title, names = f"Front of {device}{_within(points[0][0])}, all predicted", list(table)
    if not fits(names, _rows(table, names)):
        print_table(names[:-3], _rows(table, names[:-3]), title)
        title, names = "Its subnets", [names[0], *SUBNET]
    print_table(names, _rows(table, names), title)


def _within(choice) -> str:
    """The memories that a front keeps to."""
    limits = [(choice.budget_ram_bytes, "RAM"), (choice.budget_size_bytes, "flash")]
    said = " and ".join(f"{limit / 1e3:g} kB of {name}" for limit, name in limits if limit is not None)
    return f" within {said}" if said else ""


def _rows(table, names) -> list[tuple]:
    return list(zip(*(table[name] for name in names), strict=True))


def _gain(step, most: float) -> dict[str, str]:
    """What a step buys, its price, and a bar that compares it with the best step of the front."""
    if step is None:
        return {"gain": "", "price": "", "": ""}
    width = round(BAR * step.gained_points / most) if most > 0 else 0
    price = f"{step.extra_ram_bytes / 1e3:.1f} kB" if step.extra_ms is None else milliseconds(step.extra_ms)
    return {"gain": f"{step.gained_points:+.2g}", "price": f"+{price}", "": "█" * width or "▏"}


def _print_verified(answer) -> None:
    images = answer.verified[0].images
    rows = [
        (
            percent(candidate.choice.predicted_accuracy),
            percent(candidate.accuracy),
            milliseconds(candidate.choice.predicted_ms),
            milliseconds(candidate.measured_ms),
            candidate.choice.arch,
        )
        for candidate in answer.verified
    ]
    columns = ["predicted accuracy", "evaluated accuracy", "predicted latency", "measured latency", "arch"]
    title = f"Candidates, the chosen one first; evaluated in float on {images} held-out training images"
    print_table(columns, rows, title)


def _budgets(answer) -> str:
    """All that was limited, such as `20 ms, 5 M MACs`."""
    budgets = answer.budgets
    several = len(budgets.latency_ms) > 1
    latencies = [
        f"{device} {milliseconds(limit)}" if several else milliseconds(limit)
        for device, limit in budgets.latency_ms.items()
        if limit is not None
    ]
    rest = [(budgets.n_macs, 1e6, "M MACs"), (budgets.n_params, 1e3, "k parameters"), (budgets.size_bytes, 1e3, "kB")]
    rest.append((budgets.ram_bytes, 1e3, "kB of RAM"))
    return ", ".join([*latencies, *(f"{limit / unit:g} {name}" for limit, unit, name in rest if limit is not None)])


def _columns(choice) -> list[str]:
    latencies = [f"predicted latency on {latency.device}" for latency in choice.latencies]
    columns = [*latencies, "predicted accuracy", "MACs", "parameters", "predicted size"]
    return [*columns, *(["predicted RAM"] if _shows_ram(choice) else []), "arch (kernel x expand)"]


def _shows_ram(choice) -> bool:
    """RAM is of interest where it was limited or, for want of a latency table, may have been."""
    limited = choice.budget_ram_bytes is not None or not choice.latencies
    return choice.predicted_ram_bytes is not None and limited


def _cells(choice) -> tuple:
    spread = "" if choice.accuracy_spread is None else f" ± {choice.accuracy_spread * 100:.1f}"
    return (
        *(milliseconds(latency.predicted_ms, latency.predicted_ms_error) for latency in choice.latencies),
        percent(choice.predicted_accuracy) + spread,
        f"{choice.n_macs / 1e6:.2f} M",
        f"{choice.n_params / 1e3:.0f} k",
        f"{choice.predicted_bytes / 1e3:.0f} kB",
        *([f"{choice.predicted_ram_bytes / 1e3:.1f} kB"] if _shows_ram(choice) else []),
        choice.arch,
    )


def _print_notes(choice) -> None:
    """How far the predictions can be trusted."""
    unknown = [latency.device for latency in choice.latencies if latency.predicted_ms_error is None]
    known = {latency.validated_on for latency in choice.latencies if latency.predicted_ms_error is not None}
    if known:
        modelled = " (of a modelled table, on published networks)" if "published networks" in known else ""
        say(f"Latency: ± is the table's mean error on whole subnets{modelled}.")
    if unknown:
        say(f"Latency: the error of the table of {' and of '.join(unknown)} on whole subnets is not known.")
    spread = "" if choice.accuracy_spread is None else ", ± is the spread of its networks"
    rmse = choice.predictor_rmse_points
    error = "not known" if rmse is None else f"{rmse:.2f} points (RMSE)"
    say(f"Accuracy: by the {choice.predictor_origin} predictor{spread}; its error on unseen subnets is {error}.")
    print_caution(choice.predictor_caution, False)
    say(f"Size: of the {choice.precision} file, estimated from its weights and channels without converting it.")
    if _shows_ram(choice):
        say("RAM: the arena of TensorFlow Lite Micro, predicted; an export with --device mcu measures it.")
