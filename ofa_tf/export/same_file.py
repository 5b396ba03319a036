"""Exports whose files are equal, and what is said of them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_tf.errors import FormatError
from ofa_tf.export.folder import MANIFEST
from ofa_tf.jsonio import read_json


@dataclass(frozen=True)
class ExportedFile:
    """An export among others.

    Args:
        name: of its folder.
        sha256: of its file.
        device: name of the device that it is for.
        budget_ms: the latency that was searched for; None for a subnet that was given.
    """

    name: str
    sha256: str
    device: str
    budget_ms: float | None

    @classmethod
    def of(cls, name: str, manifest: Mapping[str, Any]) -> "ExportedFile | None":
        """From a manifest, which may say anything; None if it tells no hash and no device."""
        sha256, device, budget_ms = (manifest.get(key) for key in ("sha256", "device", "budget_ms"))
        of_device = device.get("name") if isinstance(device, Mapping) else None
        if not isinstance(sha256, str) or not isinstance(of_device, str):
            return None
        searched = isinstance(budget_ms, int | float) and not isinstance(budget_ms, bool)
        return cls(name, sha256, of_device, budget_ms if searched else None)

    @property
    def _order(self) -> tuple[bool, float, str]:
        return self.budget_ms is None, self.budget_ms or 0.0, self.name


def exported_files(folder: Path) -> list[ExportedFile]:
    """The exports in a folder; those whose manifest cannot be read are left out."""
    found = []
    for path in sorted(folder.glob(f"[!.]*/{MANIFEST}")):
        try:
            found.append(ExportedFile.of(path.parent.name, read_json(path)))
        except FormatError:
            continue
    return [file for file in found if file is not None]


def same_file(file: ExportedFile, others: Iterable[ExportedFile]) -> str | None:
    """The beginning of a sentence about an export that has the file of another one; None if there is none.

    Args:
        file: the export.
        others: of which the one with the least budget is named; itself does not count.
    """
    equal = [other for other in others if other.sha256 == file.sha256 and other.name != file.name]
    if not equal:
        return None
    other = min(equal, key=lambda other: other._order)
    said = f"the same file as {other.name}"
    searched = file.budget_ms is not None and other.budget_ms is not None and other.device == file.device
    if searched and (other.budget_ms or 0.0) <= (file.budget_ms or 0.0):
        return f"{said}: no larger subnet within the budget is predicted to be better"
    return said


def same_files(files: Sequence[ExportedFile]) -> dict[str, str]:
    """What is said of all exports whose file one with a smaller budget has, too, by name."""
    ordered = sorted(files, key=lambda file: file._order)
    said = {file.name: same_file(file, ordered[:index]) for index, file in enumerate(ordered)}
    return {name: sentence for name, sentence in said.items() if sentence is not None}
