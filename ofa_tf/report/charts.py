"""The numbers behind the page's charts, as JSON values."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.latency.store import name_from_here
from ofa_tf.report.commands import echo, export_again, export_budget, export_given
from ofa_tf.report.contents import Contents, DeviceView, ExportView
from ofa_tf.report.curves import Curve
from ofa_tf.space import Arch
from ofa_tf.training.ledger import StageRecord
from ofa_tf.training.recipe import STAGES

LOSS = "loss/all"
PROBES = {
    "largest": ("largest",),
    "random, mean of 4": ("random1", "random2", "random3", "random4"),
    "smallest": ("smallest",),
}


def chart_data(contents: Contents) -> dict[str, Any]:
    """What the page's script draws: evaluated subnets, the points of each device, and the curves of the training."""
    return {
        "subnets": [
            {**_size(contents, arch), "accuracy": accuracy, "echo": echo(arch)} for arch, accuracy in contents.pairs
        ],
        "devices": [_device(contents, device) for device in contents.devices if device.costs is not None],
        "training": _training(contents),
    }


def _size(contents: Contents, arch: Arch) -> dict[str, Any]:
    blocks = walk(contents.config.space, arch, contents.config.n_classes)
    return {"arch": str(arch), "macs": count_macs(blocks), "params": count_params(blocks)}


def _device(contents: Contents, device: DeviceView) -> dict[str, Any]:
    table = device.table
    exports = [export for export in contents.exports if _is_of(export, device)]
    return {
        "label": table.label,
        "source": table.source,
        "error": None if table.validation is None else table.validation["mape"],
        "origin": None if contents.fitted is None else contents.fitted.label,
        "exportGiven": export_given(contents, device),
        "front": _front(contents, device, exports),
        "evaluated": _evaluated(contents, device),
        "exports": [_export(contents, export) for export in exports if export.manifest.get("measured_ms")],
    }


def _is_of(export: ExportView, device: DeviceView) -> bool:
    """Whether an export was measured as a device's table was: on this machine or that, with the same settings."""
    manifest, table = export.manifest, device.table
    runtime = manifest.get("runtime")
    return (
        name_from_here(manifest["device"]) == table.device["name"]
        and manifest.get("precision") == table.precision
        and manifest["device"].get("cores") == table.device.get("cores")
        and isinstance(runtime, Mapping)
        and all(runtime.get(key) == table.runtime[key] for key in ("name", "threads", "delegate"))
    )


def _export(contents: Contents, export: ExportView) -> dict[str, Any]:
    kept = ("measured_ms", "predicted_ms", "table_source", "file_accuracy", "size_bytes")
    return {
        **_size(contents, export.arch),
        **{key: export.manifest.get(key) for key in kept},
        "name": export.name,
        "command": export_again(contents, export),
    }


def _front(contents: Contents, device: DeviceView, exports: Sequence[ExportView]) -> list[dict[str, Any]]:
    if device.front is None:
        return []
    exported = {export.arch: export for export in exports}
    points = []
    for code, score, cost in zip(device.front.codes, device.front.scores, device.front.costs, strict=True):
        arch = contents.config.space.decode_one(code)
        points.append(
            {
                **_size(contents, arch),
                "ms": float(cost),
                "accuracy": float(score),
                "command": export_budget(contents, device, float(cost)),
                "export": _export(contents, exported[arch]) if arch in exported else None,
            }
        )
    return points


def _evaluated(contents: Contents, device: DeviceView) -> list[float | None]:
    """Latencies of the evaluated subnets; None at resolutions that the table does not cover."""
    if not contents.pairs or device.costs is None:
        return []
    costs = device.costs(contents.config.space.encode([arch for arch, _ in contents.pairs]))
    return [float(cost) if np.isfinite(cost) else None for cost in costs]


def _training(contents: Contents) -> dict[str, Any]:
    """Loss and accuracies over the steps of all stages, one after the other."""
    stages, loss = [], []
    accuracies: dict[str, list[tuple[int, float]]] = {name: [] for name in PROBES}
    start = 0
    for stage in STAGES:
        record = contents.stages.get(stage)
        if record is None or record.source is not None:
            continue
        curves = contents.curves[stage]
        stop = start + max([record.step, *(int(curve.steps[-1]) for curve in curves.values())])
        stages.append({"name": stage, "start": start, "stop": stop})
        if LOSS in curves:
            steps = (curves[LOSS].steps + start).tolist()
            loss.append({"stage": stage, "points": list(zip(steps, curves[LOSS].values.tolist(), strict=True))})
        for name, probes in PROBES.items():
            accuracies[name] += [(start + step, value) for step, value in _probed(curves, record, probes)]
        start = stop
    return {"stages": stages, "loss": loss, "accuracies": accuracies}


def _probed(curves: Mapping[str, Curve], record: StageRecord, probes: Sequence[str]) -> list[tuple[int, float]]:
    """Mean accuracy of some subnets at each step at which all were evaluated."""
    by_step: dict[int, list[float]] = {}
    for name in (f"{probe}_accuracy" for probe in probes):
        points = {}
        if name in curves:
            points = dict(zip(curves[name].steps.tolist(), curves[name].values.tolist(), strict=True))
        if name in record.metrics:
            points[record.steps] = float(record.metrics[name])
        for step, value in points.items():
            by_step.setdefault(step, []).append(value)
    return [(step, sum(values) / len(values)) for step, values in sorted(by_step.items()) if len(values) == len(probes)]
