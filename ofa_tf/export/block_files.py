"""The files that a latency table is measured with, each converted once: kept by content, made in parallel."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ofa_tf.atomic import write_bytes
from ofa_tf.blocks import Block, walk
from ofa_tf.export.converters import convert_all
from ofa_tf.jsonio import read_json, write_json
from ofa_tf.latency.host import n_cores
from ofa_tf.progress import SILENT, Progress
from ofa_tf.quiet import load_tensorflow
from ofa_tf.space import Arch, SearchSpace

CONVERTERS = ("tensorflow", "keras")
VERSIONS = "versions.json"  # of them, beside the files, for machines without them
FORMAT = "1"  # part of every name: another one where this module makes other files of the same block
FILES_PER_PROCESS = 30  # a process takes as long to start as these take to convert


@dataclass(frozen=True)
class BlockFiles:
    """Makes the files of blocks and of whole subnets, with fresh weights and random ranges.

    Where all of them are in the cache, TensorFlow is neither loaded nor needed: a small computer can time them.

    Args:
        space: of the archs.
        n_classes: outputs of their classifiers.
        precision: "int8", "fp16" or "fp32".
        cache: folder where files are kept from one table to the next; None for nowhere.
    """

    space: SearchSpace
    n_classes: int
    precision: str
    cache: Path | None = None

    def convert(self, wanted: Sequence[Block | Arch], progress: Progress = SILENT) -> list[bytes]:
        """The files of blocks, whose inputs may be resized, and of subnets; in the order given.

        Raises:
            ExportError: the converter fails.
            MissingDependencyError: a file has to be made, and TensorFlow is not installed.
        """
        files: dict[Block | Arch, bytes] = {}
        for item in wanted:
            if (content := self.kept(item)) is not None:
                files[item] = content
        missing = [item for item in dict.fromkeys(wanted) if item not in files]
        if not missing:
            return [files[item] for item in wanted]
        load_tensorflow(f"Converting {len(missing)} blocks and subnets")
        if self.cache is not None:
            self.cache.mkdir(parents=True, exist_ok=True)
            write_json(self.cache / VERSIONS, dict(zip(CONVERTERS, self._versions, strict=True)))
        with progress.task("converting", len(set(wanted)), "files", done=len(files)) as advance:
            for item, content in zip(missing, self._made(missing), strict=True):
                files[item] = content
                self._keep(item, content)
                advance(1)
        return [files[item] for item in wanted]

    def _made(self, missing: Sequence[Block | Arch]) -> Iterable[bytes]:
        """Conversion is single-threaded Python for the most part: processes share it, where there is enough of it."""
        from ofa_tf.export.convert import BlockConverter

        # A whole subnet takes as long as its blocks together would, less what they share: about a quarter.
        effort = sum(1 if isinstance(item, Block) else self.space.n_blocks // 4 for item in missing)
        processes = min(n_cores(), 1 + effort // FILES_PER_PROCESS)
        arguments = (self.space, self.n_classes, self.precision)
        if processes == 1:
            return map(BlockConverter(*arguments).convert, missing)
        return convert_all(missing, processes, *arguments)

    @cached_property
    def _versions(self) -> list[str]:
        """Of the converter that is installed, or else of the one that made the files at hand."""
        try:
            return [version(name) for name in CONVERTERS]
        except PackageNotFoundError:
            noted = read_json(self.cache / VERSIONS) if self.cache and (self.cache / VERSIONS).exists() else {}
            return [str(noted.get(name)) for name in CONVERTERS]

    def _path(self, item: Block | Arch) -> Path:
        assert self.cache is not None
        blocks = [item] if isinstance(item, Block) else walk(self.space, item, self.n_classes)
        epsilon = f"{self.space.bn_epsilon:g}"
        signature = "\n".join(
            [FORMAT, *self._versions, self.precision, epsilon, type(item).__name__] + [block.key for block in blocks]
        )
        return self.cache / f"{hashlib.sha256(signature.encode()).hexdigest()[:32]}.tflite"

    def kept(self, item: Block | Arch) -> bytes | None:
        """A file made before; None if there is none, or one that is not whole."""
        if self.cache is None:
            return None
        try:
            digest, content = (parts := self._path(item).read_bytes())[:32], parts[32:]
        except OSError:
            return None
        return content if hashlib.sha256(content).digest() == digest else None

    def _keep(self, item: Block | Arch, content: bytes) -> None:
        if self.cache is not None:
            write_bytes(self._path(item), hashlib.sha256(content).digest() + content)
