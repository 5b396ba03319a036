"""Collecting (arch, accuracy) pairs: which archs are evaluated, and the journal that keeps the results."""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from ofa_tf.atomic import write_bytes
from ofa_tf.errors import FormatError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.reading import JOURNAL_BYTES, read_regular
from ofa_tf.space import Arch, SearchSpace

Pairs = list[tuple[Arch, float]]
JOURNAL = "pairs.jsonl"
DRAWS_IN_VAIN = 1000  # in a row, after which a space counts as used up


def balanced_archs(space: SearchSpace, seed: int) -> Iterator[Arch]:
    """Yields different archs, balanced over resolution and total depth, until hardly any are left.

    The smallest and the largest of each resolution come first. After that every resolution and every total depth is
    drawn equally often. If each stage's depth were drawn independently, as in training, the shallowest and the deepest
    networks of a large space would hardly occur, although a search often ends there. Kernel sizes, expand ratios and
    channels are uniform.

    Args:
        space: the space.
        seed: seed of the draws. The first n archs are the same however many are taken.
    """
    known = {end(resolution): None for resolution in space.resolutions for end in (space.smallest, space.largest)}
    yield from known
    rng = np.random.default_rng([seed, 3])
    # A total depth is a number of steps from the least: that many of all steps, whichever stages they belong to.
    steps = np.repeat(np.arange(space.n_stages), [len(stage.depths) - 1 for stage in space.stages])
    in_vain = 0
    for resolution, n_steps in zip(_in_turns(rng, len(space.resolutions)), _in_turns(rng, len(steps) + 1), strict=True):
        code = rng.integers(0, space.gene_sizes)
        code[0] = resolution
        code[space.depth_genes] = np.bincount(rng.permutation(steps)[:n_steps], minlength=space.n_stages)
        arch = space.decode_one(space.canonical(code[None])[0])
        in_vain = in_vain + 1 if arch in known else 0
        if in_vain == DRAWS_IN_VAIN:
            return
        if not in_vain:
            known[arch] = None
            yield arch


def _in_turns(rng: np.random.Generator, n: int) -> Iterator[int]:
    """0 to n - 1 in random order, again and again."""
    while True:
        yield from rng.permutation(n)


def read_journal(path: Path, space: SearchSpace) -> Pairs:
    """Reads the pairs collected so far; a last line cut short by a crash is left out.

    Raises:
        FormatError: a line that is not a pair, or an accuracy that is not a number from 0 to 1.
        SpaceError: a line of another space.
    """
    if not path.exists():
        return []
    pairs: Pairs = []
    lines = read_regular(path, "journal", JOURNAL_BYTES).decode(errors="replace").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            record = json.loads(line)
            accuracy = record.pop("accuracy")
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            if number == len(lines):
                break
            raise FormatError(f"{path}, line {number}, is not a pair of arch and accuracy: remove that line.") from None
        if not isinstance(accuracy, float) or not 0 <= accuracy <= 1:
            raise FormatError(f"{path}, line {number}: `accuracy` (={accuracy!r}) must be a number from 0 to 1.")
        pairs.append((space.arch_from_document(record, f"{path}, line {number},"), accuracy))
    return pairs


def collect_pairs(
    space: SearchSpace,
    archs: Iterable[Arch],
    accuracy: Callable[[Arch], float],
    n: int,
    journal: Path,
    progress: Progress = SILENT,
    title: str = "evaluating subnets",
) -> Pairs:
    """Finds the accuracies of `n` archs; each result is in the journal, on disk, before the next is begun.

    Args:
        space: the space of the archs.
        archs: archs to take; those in the journal are skipped.
        accuracy: gives the accuracy of an arch (0 to 1).
        n: total number of pairs wanted, including those in the journal.
        journal: the file; a later call resumes there.
        progress: where to report progress.
        title: title of the progress.

    Raises:
        FormatError: the journal is damaged before its last line, or an accuracy is not a number from 0 to 1.
        SpaceError: the journal is of another space.
    """
    pairs = read_journal(journal, space)
    known = {arch for arch, _ in pairs}
    wanted = list(islice((arch for arch in archs if arch not in known), max(0, n - len(pairs))))
    total = len(pairs) + len(wanted)
    journal.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(_line(*pair) for pair in pairs).encode()
    if journal.exists() and journal.read_bytes() != text:
        write_bytes(journal, text)
    with open(journal, "a") as file, progress.task(title, total, "subnets", done=len(pairs)) as advance:
        for arch in wanted:
            found = accuracy(arch)
            if not 0 <= found <= 1:
                raise FormatError(f"The subnet {arch} has the accuracy {found}, which is not a number from 0 to 1.")
            file.write(_line(arch, found))
            file.flush()
            os.fsync(file.fileno())
            pairs.append((arch, found))
            advance(1)
    return pairs


def _line(arch: Arch, accuracy: float) -> str:
    return json.dumps({**arch.to_document(), "accuracy": accuracy}) + "\n"
