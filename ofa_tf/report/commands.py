"""The commands that a report offers to copy; they are run in the folder in which the report was made."""

import json
import math
import shlex

from ofa_tf.jsonio import SPACE_SCHEMA
from ofa_tf.report.contents import Contents, DeviceView, ExportView, MemoryPoint
from ofa_tf.space import Arch

SHORTEST_MS = 1e-6


def ofa_tf(contents: Contents, *arguments: str) -> str:
    """An `ofa-tf` command for the report's workdir, quoted for the shell."""
    place = () if str(contents.path) == "." else ("--workdir", str(contents.path))
    return shlex.join(["ofa-tf", *arguments, *place])


def export_budget(contents: Contents, device: DeviceView, latency_ms: float) -> str:
    """Exports the best subnet of a device that is no slower than a point of its front; rounded up to four digits."""
    latency_ms = max(latency_ms, SHORTEST_MS)
    step_ms = 10.0 ** (math.floor(math.log10(latency_ms)) - 3)
    limit_ms = math.ceil(latency_ms / step_ms) * step_ms
    return ofa_tf(contents, "export", *_target(device), "--latency", f"{limit_ms:.4g}", *_images(contents))


def export_fitting(contents: Contents, device: str, point: MemoryPoint) -> str:
    """Exports the best subnet of a microcontroller that needs no more memory than a point of its front, rounded up."""
    ram_kb, flash_kb = (math.ceil((size + 1) / 100) / 10 for size in (point.ram_bytes, point.size_bytes))
    limits = ("--ram-kb", f"{ram_kb:.1f}", "--flash-kb", f"{flash_kb:.1f}")
    return ofa_tf(contents, "export", "--device", device, *limits, *_images(contents))


def export_again(contents: Contents, export: ExportView) -> str:
    """Exports the subnet of an export once more, in its place."""
    arch = contents.path / "exports" / export.name / "arch.json"
    device, precision = export.manifest["device"]["name"], str(export.manifest.get("precision"))
    target = ("--device", device, "--precision", precision)
    rest = ("--arch", str(arch), "--name", export.name, "--force")
    return ofa_tf(contents, "export", *target, *rest, *_images(contents))


def export_given(contents: Contents, device: DeviceView) -> str:
    """Exports the arch that is on standard input; the name of the export is still to be appended."""
    return ofa_tf(contents, "export", *_target(device), "--arch", "/dev/stdin", *_images(contents)) + " --name"


def echo(arch: Arch) -> str:
    """Puts an arch on standard output."""
    return "echo " + shlex.quote(json.dumps({"schema": SPACE_SCHEMA, **arch.to_document()}, separators=(",", ":")))


def _target(device: DeviceView) -> tuple[str, ...]:
    return "--device", device.table.device["name"], "--precision", device.table.precision


def _images(contents: Contents) -> tuple[str, ...]:
    return () if contents.data is not None else ("--data", "my-images")
