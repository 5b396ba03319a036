"""The sections of the page: tables and words. They say what is missing, with the command that makes it."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofa_tf.arena import arena_of
from ofa_tf.export.same_file import ExportedFile, same_files
from ofa_tf.formatting import kilobytes, milliseconds, percent
from ofa_tf.report.commands import export_budget, export_fitting, ofa_tf
from ofa_tf.report.contents import Contents, DeviceView, ExportView, MemoryPoint
from ofa_tf.report.html import Html, command_line, element, join, label, table
from ofa_tf.report.pictures import CONFUSION, WORST
from ofa_tf.training.ledger import StageRecord
from ofa_tf.training.recipe import STAGES

PICTURES = {CONFUSION: "Confusion matrix", WORST: "Worst validation images"}
ENDS = ("smallest", "random1", "random2", "random3", "random4", "largest")
UNKNOWN = "-"


def front(contents: Contents) -> Html:
    """The front of every device, on one chart."""
    shown = [device for device in contents.devices if device.costs is not None]
    parts: list[Html | None] = []
    if not contents.devices:
        parts.append(_missing("No device has a latency table yet.", ofa_tf(contents, "lut", "build")))
    if contents.fitted is None:
        text = "There is no accuracy predictor yet, so there is no front."
        parts.append(_missing(text, ofa_tf(contents, "predictor", "fit")))
    if any(device.front is not None for device in shown) or (shown and contents.pairs):
        parts += [*(_lead(device) for device in shown), _chart()]
    if contents.memory_fronts or any(device.front is not None for device in shown):
        parts.append(_caution(contents))
    for device in shown:
        if device.front is not None:
            parts.append(_front_table(contents, device))
    parts += [_memory_table(contents, device, points) for device, points in contents.memory_fronts.items()]
    return _section("front", "Accuracy against latency", *parts)


def _lead(device: DeviceView) -> Html | None:
    if device.front is None:
        return None
    ends = [f"{percent(device.front.scores[end])} at {milliseconds(device.front.costs[end])}" for end in (0, -1)]
    return element("p", element("strong", device.table.label), f": {ends[0]} to {ends[1]}, ", label("predicted"), ".")


def _chart() -> Html:
    keys = "Arrow keys move between points and kinds of points, Enter copies the command that exports one."
    canvas = element("canvas", id="front-chart", tabindex=0, role="application", aria_label=f"Front. {keys}")
    return element(
        "div",
        element("p", "Hover over a point, or tap it, to see its subnet; a click copies the command. ", keys),
        element("div", id="front-legend", class_="legend"),
        element(
            "div",
            element("div", canvas, class_="chart tall"),
            element("div", id="front-point", class_="panel", aria_live="polite"),
            class_="with-panel",
        ),
        element("p", "Commands are for the folder in which this report was made.", class_="note"),
    )


def _front_table(contents: Contents, device: DeviceView) -> Html:
    assert device.front is not None
    rows = []
    for code, score, cost in zip(device.front.codes, device.front.scores, device.front.costs, strict=True):
        command = export_budget(contents, device, float(cost))
        arch = contents.config.space.decode_one(code)
        button = element("button", "Copy", type="button", data_copy=command, title=command)
        rows.append((milliseconds(cost), percent(score), arch, button))
    columns = ("latency", "accuracy, predicted", "arch (kernel x expand)", "export")
    caption = f"Front of {device.table.label}: latencies predicted from a table that is {device.table.origin}"
    return element(
        "details", element("summary", f"{device.table.label}: its front as a table"), table(columns, rows, caption)
    )


def _memory_table(contents: Contents, device: str, points: Sequence[MemoryPoint]) -> Html:
    """The front of a microcontroller, over RAM instead of latency."""
    rows = []
    for point in points:
        command = export_fitting(contents, device, point)
        button = element("button", "Copy", type="button", data_copy=command, title=command)
        ram, size = kilobytes(point.ram_bytes), kilobytes(point.size_bytes)
        rows.append((ram, percent(point.accuracy), size, point.arch, button))
    columns = ("peak RAM", "accuracy", "file", "arch (kernel x expand)", "export")
    caption = f"Front of {device} over the peak RAM in TensorFlow Lite Micro, all predicted"
    summary = element("summary", f"{device}: its front over RAM as a table")
    return element("details", summary, table(columns, rows, caption))


def training(contents: Contents) -> Html:
    """The stages and their curves."""
    begun = [(stage, contents.stages[stage]) for stage in STAGES if stage in contents.stages]
    parts: list[Html | None] = []
    if init := contents.config.init:
        text = f"Training began with the weights of {init['name']} ({init['address']}, SHA-256 {init['sha256'][:12]}…)."
        parts.append(element("p", text))
    if begun:
        rows = [(stage, _state(record), *_ends(record)) for stage, record in begun]
        caption = "Accuracy of subnets at the end of each stage, evaluated on held-out training images"
        parts.append(table(("stage", "state", *ENDS), rows, caption))
    trained = [stage for stage, record in begun if record.source is None]
    if trained:
        curves = [
            _figure("accuracy-curve", "Accuracy over the training: the largest, the smallest and random subnets"),
            _figure("loss-curve", "Training loss. From the second stage on it includes that of the distillation."),
        ]
        parts.append(element("div", *curves, class_="figures"))
    if trained and not any(contents.curves[stage] for stage in trained):
        parts.append(element("p", "There are no logs of this training, so the loss is not drawn.", class_="note"))
    if len(begun) < len(contents.config.recipe.stages) or any(record.state != "done" for _, record in begun):
        text = "Not all stages are trained yet." if begun else "Nothing is trained yet."
        parts.append(_missing(text, ofa_tf(contents, "train", "--stage", "width")))
    return _section("training", "Training", *parts)


def _state(record: StageRecord) -> Html | str:
    if record.source is not None:
        return join([label("imported"), " from ", record.source["address"]])
    return f"{record.steps:,} steps" if record.state == "done" else f"step {record.step:,} of {record.steps:,}"


def _ends(record: StageRecord) -> list[str]:
    return [percent(record.metrics.get(f"{end}_accuracy")) for end in ENDS]


def accuracy(contents: Contents) -> Html:
    """The evaluated subnets, and how good the predictor is."""
    parts: list[Html | None] = []
    if contents.pairs:
        accuracies = [value for _, value in contents.pairs]
        shown = f", {len(contents.pairs):,} of them drawn" if len(contents.pairs) < contents.n_pairs else ""
        parts.append(
            element(
                "p",
                f"{contents.n_pairs:,} subnets ",
                label("evaluated"),
                f" on held-out training images{shown}: {percent(min(accuracies))} to {percent(max(accuracies))}.",
            )
        )
        parts.append(_figure("subnets-chart", "Evaluated accuracy of subnets against their MACs, by resolution"))
    if contents.fitted is None:
        parts.append(_missing("There is no accuracy predictor yet.", ofa_tf(contents, "predictor", "fit")))
    else:
        parts += [element("p", *_predictor(contents)), _caution(contents)]
    return _section("accuracy", "Accuracy of subnets", *parts)


def _caution(contents: Contents) -> Html | None:
    """What stands wherever the order of predicted accuracies matters, if the predictor cannot rank."""
    caution = None if contents.fitted is None else contents.fitted.caution
    return None if caution is None else element("p", caution, class_="missing")


def _predictor(contents: Contents) -> list[Any]:
    assert contents.fitted is not None
    errors = contents.fitted.errors
    rank = f", rank correlation {errors['spearman']:.2f} (Spearman)" if "spearman" in errors else ""
    known = "rmse_points" in errors
    figures = f"error {errors['rmse_points']:.2f} points (RMSE){rank}" if known else "error unknown"
    if contents.fitted.origin == "imported":
        return [
            "The predictor is ",
            label("imported"),
            f" from {contents.fitted.source['address']}; published {figures}.",
        ]
    fitted_to = f"The predictor was fitted to {errors['pairs']:.0f} of them"
    if contents.fitted.target == "int8":
        fitted_to += (
            f", {errors['int8_pairs']:.0f} of them as int8 files too, which lose {errors['int8_drop_points']:.2f} "
            "points on average, and predicts the accuracy of int8 files"
        )
    return [f"{fitted_to}; on those left out of a fit: {figures}."]


def latency(contents: Contents) -> Html:
    """The latency tables, where the time goes, and how wrong they are."""
    if not contents.devices:
        missing = _missing("No device has a latency table yet.", ofa_tf(contents, "lut", "build"))
        return _section("latency", "Latency", missing)
    return _section("latency", "Latency", *(_device(contents, device) for device in contents.devices))


def _device(contents: Contents, device: DeviceView) -> Html:
    lut = device.table
    device_facts = ", ".join(str(value) for key, value in lut.device.items() if key != "name" and value is not None)
    runtime = ", ".join(f"{key} {value}" for key, value in lut.runtime.items())
    facts = [
        element("p", f"{len(lut.entries):,} blocks, ", label(lut.origin), ". ", f"{device_facts}. Runtime: {runtime}."),
        element("p", lut.error_sentence),
    ]
    if device.costs is None:
        facts.append(element("p", "This table covers no resolution of the workdir's space.", class_="note"))
    return element("article", element("h3", lut.label), *facts, _breakdown(device.breakdown))


def _breakdown(breakdown: Mapping[str, Mapping[str, float]]) -> Html | None:
    """Bars of where the time goes, each with its numbers."""
    if not breakdown:
        return None
    parts = list(dict.fromkeys(part for shares in breakdown.values() for part in shares))
    bars = []
    for name, shares in breakdown.items():
        total = sum(shares.values()) or 1.0
        pieces = [
            element(
                "span",
                element("b", f"{latency_ms / total:.0%}"),
                style=f"flex-grow:{latency_ms / total:.4f}",
                class_=f"part part-{parts.index(part) % 8}",
                title=f"{part}: {milliseconds(latency_ms)}",
            )
            for part, latency_ms in shares.items()
        ]
        bars.append(element("p", f"{name}: {milliseconds(total)}", class_="bar-title"))
        bars.append(element("div", *pieces, class_="bar", aria_hidden="true"))
    key = [
        element("span", element("i", class_=f"part-{index % 8}"), part, class_="key")
        for index, part in enumerate(parts)
    ]
    rows = [(part, *(milliseconds(shares.get(part)) for shares in breakdown.values())) for part in parts]
    numbers = table(("part", *breakdown), rows, "Where the time goes, predicted from the table")
    return element(
        "div",
        element("h4", "Where the time goes"),
        *bars,
        element("p", *key),
        element("details", element("summary", "The numbers"), numbers),
    )


def exports(contents: Contents) -> Html:
    """The exported files and their manifests."""
    if not contents.exports:
        return _section("exports", "Exports", _missing("Nothing is exported yet.", _first_export(contents)))
    rows = [_export_row(contents, export) for export in contents.exports]
    columns = ("export", "for", "budget", "predicted", "measured", "MACs", "size", "peak RAM", "float accuracy",
               "file's accuracy")  # fmt: skip
    caption = "Accuracies are measured on validation images that nothing was chosen by"
    files = [ExportedFile.of(export.name, export.manifest) for export in contents.exports]
    equal = same_files([file for file in files if file is not None])
    same = [element("p", element("strong", name), f" is {said}.", class_="note") for name, said in equal.items()]
    drawn = [export for export in contents.exports if export.pictures or export.left_out]
    pictures = [_pictures(export, unfolded=export is drawn[0]) for export in drawn]
    manifests = [_manifest(export) for export in contents.exports]
    ram = []
    if any(_ram(contents, export) != UNKNOWN for export in contents.exports):
        needs = "Peak RAM is what an int8 file needs in TensorFlow Lite Micro if it has a plan of its memory, as "
        ram = [element("p", f"{needs}exports for `--device mcu` do.", class_="note")]
    return _section("exports", "Exports", table(columns, rows, caption), *ram, *same, *pictures, *manifests)


def _pictures(export: ExportView, unfolded: bool) -> Html:
    """What a file gets wrong on the validation images."""
    figures = []
    for name, content in export.pictures.items():
        source = "data:image/png;base64," + base64.b64encode(content).decode()
        caption = f"{PICTURES[name]} of {export.name}"
        figures.append(element("figure", element("img", src=source, alt=caption), element("figcaption", caption)))
    rest = f"The page has no room for {', '.join(export.left_out)}; they lie in the export's folder."
    return element(
        "details",
        element("summary", f"{export.name}: what it gets wrong"),
        element("div", *figures, class_="pictures"),
        element("p", rest, class_="note") if export.left_out else None,
        open="" if unfolded else None,
    )


def _first_export(contents: Contents) -> str:
    """The command for the middle of a front, if there is one."""
    for device in contents.devices:
        if device.front is not None:
            return export_budget(contents, device, float(np.median(device.front.costs)))
    return ofa_tf(contents, "export", "--latency", "1")


def _ram(contents: Contents, export: ExportView) -> Html | str:
    """The arena of an int8 file: measured, or predicted for its arch where it was not."""
    facts = export.manifest.get("microcontroller") or {}
    if facts.get("arena_bytes") is not None:
        return join([kilobytes(facts["arena_bytes"]), " ", label("measured")])
    predicted_bytes = facts.get("predicted_arena_bytes")
    if predicted_bytes is None and export.manifest.get("precision") == "int8":
        predicted_bytes = arena_of(contents.config.space, export.arch, contents.config.n_classes).total_bytes
    return UNKNOWN if predicted_bytes is None else join([kilobytes(predicted_bytes), " ", label("predicted")])


def _export_row(contents: Contents, export: ExportView) -> tuple[Any, ...]:
    manifest = export.manifest
    predicted: Any = milliseconds(manifest.get("predicted_ms"), manifest.get("predicted_ms_error"))
    if manifest.get("table_source") in ("modelled", "imported"):
        predicted = join([predicted, " ", label(manifest["table_source"])])
    n_macs, size_bytes = manifest.get("n_macs"), manifest.get("size_bytes")
    return (
        export.name,
        f"{manifest['device']['name']}, {manifest.get('precision')}",
        milliseconds(manifest.get("budget_ms")),
        predicted,
        milliseconds(manifest.get("measured_ms")),
        UNKNOWN if n_macs is None else f"{n_macs / 1e6:.2f} M",
        UNKNOWN if size_bytes is None else f"{size_bytes / 1e3:.0f} kB",
        _ram(contents, export),
        percent(manifest.get("float_accuracy")),
        percent(manifest.get("file_accuracy")),
    )


def _manifest(export: ExportView) -> Html:
    """All of a manifest, and its arch as a drawing."""
    rows = [(key, _shown(value)) for key, value in export.manifest.items() if key != "arch" and value is not None]
    return element(
        "details",
        element("summary", f"{export.name}: arch and manifest"),
        element("div", str(export.arch), class_="arch", data_arch=export.arch),
        table(("key", "value"), rows, f"manifest.json of {export.name}"),
    )


def _shown(value: Any, levels: int = 4) -> str:
    if isinstance(value, Mapping | list) and not levels:
        return "…"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_shown(item, levels - 1)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(_shown(item, levels - 1) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _section(anchor: str, title: str, *children: Html | None) -> Html:
    return element("section", element("h2", title), *children, id=anchor)


def _figure(name: str, caption: str) -> Html:
    canvas = element("canvas", id=name, role="img", aria_label=caption)
    return element("figure", element("div", canvas, class_="chart"), element("figcaption", caption))


def _missing(text: str, command: str) -> Html:
    return element("p", element("strong", text), " This makes it: ", command_line(command), class_="missing")
