"""Everything that a `.tflite` file says about itself: `ofa-tf show`."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from ofa_tf.errors import ExportError
from ofa_tf.reading import read_regular
from ofa_tf.tflite.inspect import FileFacts, inspect_file
from ofa_tf.tflite.metadata import Metadata, read_metadata

LARGEST_FILE = (1 << 31) - 1  # bytes that the offsets of a FlatBuffer can reach


@dataclass(frozen=True, repr=False)
class Description:
    """A `.tflite` file that was inspected, not run.

    Args:
        path: path of the file.
        content: its bytes.
        sha256: SHA-256 of these bytes.
        facts: what it consists of.
        metadata: what it says about itself; None if it has no metadata.
    """

    path: Path
    content: bytes = field(repr=False)
    sha256: str
    facts: FileFacts
    metadata: Metadata | None

    def __repr__(self) -> str:
        inputs = ", ".join(f"{tensor.dtype.lower()} {list(tensor.shape)}" for tensor in self.facts.inputs)
        sizes = f"{self.facts.n_macs / 1e6:.2f} M MACs, {self.facts.size_bytes / 1e3:.0f} kB"
        return f"Description({str(self.path)!r}: {inputs}, {sum(self.facts.ops.values())} operators, {sizes})"


def describe_file(path: str | Path) -> Description:
    """Inspects any `.tflite` file without running it.

    Raises:
        ExportError: there is no such file, it cannot be read, or it is too large to be one.
        DamagedError: it is not a `.tflite` file, or is damaged.

    Examples:
        >>> ofa.show("work/exports/first/model.tflite")
        Description('work/exports/first/model.tflite': int8 [1, 32, 32, 3], 21 operators, 1.59 M MACs, 90 kB)
    """
    content = _read(path)
    return Description(
        path=Path(path),
        content=content,
        sha256=hashlib.sha256(content).hexdigest(),
        facts=inspect_file(content, str(path)),
        metadata=read_metadata(content, str(path)),
    )


def _read(path: str | Path) -> bytes:
    content = read_regular(path, ".tflite", LARGEST_FILE, ExportError)
    if not content:
        raise ExportError(f"{path} has 0 bytes; a .tflite file is needed.")
    return content
