"""The answers of `ofa-tf search`: the best subnet within each set of budgets, its candidates evaluated and measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofa_tf.atomic import check_place
from ofa_tf.errors import ArgumentError, FormatError, SpaceError, WorkdirError
from ofa_tf.jsonio import SPACE_SCHEMA, read_json, write_json
from ofa_tf.project.arguments import NO_BUDGET
from ofa_tf.project.choice import Budgets, Choice, Verified
from ofa_tf.project.finder import Finder, find_fronts
from ofa_tf.project.memories import with_memories
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.requirements import require_labels
from ofa_tf.quiet import load_tensorflow

__all__ = ["Answer", "Budgets", "find_all", "find_fronts"]
ARCH = "arch.json"


@dataclass(frozen=True)
class Answer:
    """The best subnet within budgets.

    Args:
        budgets: the budgets that it had to meet.
        choice: the subnet.
        resolutions: the resolutions that were searched, in pixels.
        verified: the candidates that it was chosen from, best first; empty if none was evaluated.
    """

    budgets: Budgets
    choice: Choice
    resolutions: tuple[int, ...]
    verified: tuple[Verified, ...] = ()

    def to_document(self) -> dict[str, Any]:
        """The answer as JSON values."""
        document = {**self.choice.to_document(), "resolutions": list(self.resolutions)}
        return {**document, "verified": [candidate.to_document() for candidate in self.verified]}


def find_all(
    project: OpenedWorkdir,
    wanted: Sequence[Budgets],
    precision: str = "int8",
    verify: int = 0,
    out: str | Path | None = None,
) -> tuple[list[Answer], Path]:
    """Searches for the best subnet within each set of budgets, and writes the arch of the last.

    Args:
        project: the workdir.
        wanted: the budgets of each search; all of the same devices.
        precision: of the files that the tables are of, whose size is predicted and, with `verify`, whose latency
            is measured.
        verify: number of candidates of each search that are evaluated and, if the host is among the devices, measured,
            before the most accurate within the host's limit is chosen; 0 to use only the predictions.
        out: file to write the arch to; None for `arch.json` in the workdir, which may replace only an arch.

    Returns:
        The answers, and where the arch was written.

    Raises:
        InfeasibleError: no subnet is within the budgets of a search; the message has the nearest.
        OfaError: no such device, nothing trained yet, or a file in the way.
    """
    wanted = [with_memories(budgets, project.config.space, precision) for budgets in wanted]
    if not all(budgets.given for budgets in wanted):
        raise ArgumentError(NO_BUDGET)
    path = _own_arch_file(project) if out is None else Path(out)
    check_place(path)
    if verify:
        require_labels(project)
    finder = Finder.of(project, wanted[0].latency_ms, precision)
    shortlists = [finder.candidates(budgets, max(verify, 1)) for budgets in wanted]
    candidates: list[tuple[Verified, ...]] = [()] * len(wanted)
    if verify:
        load_tensorflow()
        from ofa_tf.project.verification import verify_all

        candidates = verify_all(finder, wanted, shortlists)
        shortlists = [[candidate.choice for candidate in found] for found in candidates]
    answers = [
        Answer(budgets, choices[0], finder.resolutions, found)
        for budgets, choices, found in zip(wanted, shortlists, candidates, strict=True)
    ]
    write_json(path, answers[-1].choice.arch.to_document(), SPACE_SCHEMA)
    return answers, path


def _own_arch_file(project: OpenedWorkdir) -> Path:
    """The default file of an arch.

    Raises:
        WorkdirError: something else is there.
    """
    path, space = project.workdir.path / ARCH, project.config.space
    if path.exists():
        try:
            space.arch_from_document(read_json(path, SPACE_SCHEMA), str(path))
        except (FormatError, SpaceError):
            raise WorkdirError(
                f"{path} is not an arch of `{space.name}` and stays as it is: name another file with --out."
            ) from None
    return path
