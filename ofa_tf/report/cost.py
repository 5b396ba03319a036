"""The section on cost: time and energy of all work, and what a training for each device would have cost instead."""

from collections.abc import Iterator

from ofa_tf.energy import GRID, POWER, Cost
from ofa_tf.formatting import duration
from ofa_tf.report.contents import Contents
from ofa_tf.report.html import Html, element, label, table
from ofa_tf.training.recipe import STAGES
from ofa_tf.training.work import elastic_macs, mean_macs, passes

COLUMNS = ("work", "time", "processor time", "energy", "CO2e")


def cost(contents: Contents) -> Html:
    """What everything has cost so far."""
    work = dict(_work(contents))
    if not work:
        return _section(element("p", "No costs are on record yet.", class_="note"))
    total = sum(work.values(), Cost(0, 0, 0, 0))
    rows = [(name, *_row(spent)) for name, spent in work.items()]
    if len(rows) > 1:
        rows.append(("in all", *_row(total)))
    parts: list[Html | None] = [table(COLUMNS, rows, "What the work has cost, as far as it is on record")]
    if total.kwh is None:
        parts.append(
            element(
                "p",
                "Some of the energy is not known: install ofa-tf[energy] to have codecarbon measure or estimate it, or "
                f"set {POWER} to what the machine draws while it works, in W; {GRID} is what the grid emits, in g CO2e "
                "per kWh.",
                class_="note",
            )
        )
    parts.append(_alone(contents, total))
    return _section(*parts)


def _section(*children: Html | None) -> Html:
    return element("section", element("h2", "Cost"), *children, id="cost")


def _work(contents: Contents) -> Iterator[tuple[str, Cost]]:
    for stage in STAGES:
        record = contents.stages.get(stage)
        if record is not None and record.cost is not None:
            yield f"training, stage {stage}", record.cost
    yield from contents.costs.items()


def _row(spent: Cost) -> tuple[str, ...]:
    kwh = "" if spent.kwh is None else f"{spent.kwh:.3g} kWh"
    co2e = "" if spent.co2e_kg is None else f"{spent.co2e_kg * 1000:.3g} g"
    return duration(spent.seconds), duration(spent.processor_seconds), kwh, co2e


def _alone(contents: Contents, total: Cost) -> Html | None:
    """What training a network for each export would have cost, estimated from what this training did per MAC."""
    recipe, space = contents.config.recipe, contents.config.space
    records = [contents.stages.get(stage) for stage in recipe.stages]
    costs = [record.cost for record in records if record is not None and record.state == "done" and record.cost]
    archs = list(dict.fromkeys(export.arch for export in contents.exports))
    other_length = any(record is not None and "epochs" in record.overrides for record in records)
    if len(costs) < len(records) or not archs or other_length:
        return None
    macs = passes(recipe) * sum(mean_macs(space, [arch]) for arch in archs)
    seconds = sum(spent.seconds for spent in costs) * macs / elastic_macs(space, recipe)
    number = "network" if len(archs) == 1 else "networks"
    return element(
        "p",
        f"Training {len(archs)} {number} like those exported instead, each by itself for as many passes, would take ",
        f"{duration(seconds)}, ",
        label("estimated"),
        f" from their multiply-accumulates; all of the above took {duration(total.seconds)}.",
    )
