"""A space whose subnets straddle a latency budget: `ofa-tf space suggest`.

It begins with the space that `--space auto` would choose for the images and, if the budget does not lie well inside the
latencies of its smallest and largest subnet, tries narrower or wider ones.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf, log, sqrt
from pathlib import Path

from ofa_tf.atomic import check_place
from ofa_tf.blocks import count_macs, walk
from ofa_tf.errors import InfeasibleError, TableError, WorkdirError
from ofa_tf.export.block_files import BlockFiles
from ofa_tf.formatting import milliseconds
from ofa_tf.jsonio import SPACE_SCHEMA, write_json
from ofa_tf.latency.backend import Backend
from ofa_tf.latency.backends import backend_of
from ofa_tf.latency.device import Workload
from ofa_tf.latency.host import HOST, HostDevice
from ofa_tf.latency.measure import PERCENTILES, STATISTIC
from ofa_tf.latency.store import find_table
from ofa_tf.latency.table import LatencyTable
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.arguments import positive, required
from ofa_tf.project.automatic import choose
from ofa_tf.project.opened import data_spec
from ofa_tf.project.space import PRECISION, SpaceDescription, describe_space
from ofa_tf.project.workdir import Workdir
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import SPACES

SECONDS = 3.0  # to measure two files on the host
WIDTHS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)  # multipliers that are tried
SMALLER, LARGER = (0.5, 0.7), (1.4, 2.0)  # what resolutions are multiplied with where widths are not enough
LEAST_PIXELS, PIXEL_STEP = 16, 4
# The budget lies well inside a space if it is at least 1.3 times the latency of the smallest subnet, and at most 0.8
# times that of the largest.
OVER_SMALLEST, OF_LARGEST = 1.3, 0.8


@dataclass(frozen=True)
class _Latencies:
    """The latencies of a space's smallest and largest subnet, in milliseconds, and where they are from."""

    label: str
    smallest_ms: float
    largest_ms: float

    @property
    def middle_ms(self) -> float:
        return sqrt(self.smallest_ms * self.largest_ms)

    def margin(self, budget_ms: float) -> float:
        """How far inside a budget lies: its ratio to the nearer end, below 1 where it is outside."""
        return min(budget_ms / self.smallest_ms, self.largest_ms / budget_ms)

    def well_inside(self, budget_ms: float) -> bool:
        return OVER_SMALLEST * self.smallest_ms <= budget_ms <= OF_LARGEST * self.largest_ms

    def too_slow(self, budget_ms: float) -> bool:
        """Whether a smaller space is needed; where the ends are too close to each other, their middle decides."""
        slow, fast = OVER_SMALLEST * self.smallest_ms > budget_ms, OF_LARGEST * self.largest_ms < budget_ms
        return self.middle_ms > budget_ms if slow and fast else slow


Source = Callable[[SearchSpace], _Latencies | None]  # None for a space that no table covers


def suggest_space(
    data: str | Path,
    latency_ms: float,
    device: str = HOST,
    out: str | Path | None = None,
    force: bool = False,
    workdir: str | Path = ".",
    progress: Progress = SILENT,
) -> SpaceDescription:
    """A space that suits a data set, with subnets below and above a latency budget.

    Args:
        data: the images, as for `open`: a name or a folder.
        latency_ms: the budget, in milliseconds.
        device: `host`, on which whole subnets are measured, or a device whose latency table covers the space; an Edge
            TPU is modelled.
        out: file to write the space to, as JSON; None for none.
        force: whether that file may be replaced.
        workdir: the folder whose latency tables are used.
        progress: where to report progress, and what was tried.

    Raises:
        InfeasibleError: no space that was tried has subnets on both sides of the budget; the message has the nearest
            latency and what would have to change.
        TableError: no table of the device covers the space.
        WorkdirError: the file exists, or cannot be where it should.
        OfaError: no such data set or device.

    Examples:
        >>> ofa.suggest_space("digits", latency_ms=0.9, device="edgetpu")
        SpaceDescription(tiny_x...: 729,000 subnets, ... M MACs, ... kB, ... ms to ... ms on edgetpu (int8, modelled))
    """
    budget_ms = required("latency_ms", positive, latency_ms, "milliseconds")
    if out is not None:
        check_place(out)
        if Path(out).exists() and not force:
            raise WorkdirError(f"{out} exists: replace it with --force, or name another file with --out.")
    from ofa_tf.data.source import open_source, survey_images

    backend = backend_of(device)
    classes, parts = open_source(data_spec(data), None, progress)
    survey, n_classes = survey_images(parts["train"]), len(classes)
    base = choose(survey, None, None).space
    spaces = variants(base, survey.side)
    if backend.always_at_hand:
        source = _measured(device, backend, n_classes, progress)
    else:
        source = _tabulated(device, backend, n_classes, Workdir(workdir), progress)
    if (first := _known(source, base, progress)) is None:
        raise _not_covered(device, backend, base, n_classes, Workdir(workdir))
    tried = _approach(spaces, spaces.index(base), first, source, budget_ms, progress)
    space = max(tried, key=lambda space: tried[space].margin(budget_ms))
    found = tried[space]
    if found.margin(budget_ms) < 1:
        raise _infeasible(space, found, device, budget_ms)
    if not found.well_inside(budget_ms):
        end = "smallest" if budget_ms / found.smallest_ms < found.largest_ms / budget_ms else "largest"
        progress.note(f"The budget is close to the latency of the {end} subnet: no space that was tried has it midway.")
    if space != base:
        times = _middle_macs(space, n_classes) / _middle_macs(base, n_classes)
        progress.note(f"By its MACs, `{space.name}` takes about {times:.1f} times as long to train as `{base.name}`.")
    description = describe_space(space, n_classes).with_latencies(found.label, found.smallest_ms, found.largest_ms)
    if out is None:
        return description
    write_json(out, space.to_document(), SPACE_SCHEMA)
    return replace(description, path=Path(out))


def variants(base: SearchSpace, side: int) -> list[SearchSpace]:
    """The space at several widths, from small to large, and beyond them at lower and higher resolutions.

    Args:
        base: the space; it is one of them.
        side: the shorter side of the images, in pixels, beyond which there is no higher resolution.
    """
    scales = [(WIDTHS[0], scale) for scale in SMALLER] + [(width, 1.0) for width in WIDTHS]
    scales += [(WIDTHS[-1], scale) for scale in LARGER if base.resolutions[-1] * scale <= side]
    return list(dict.fromkeys(_variant(base, *of) for of in scales))


def _variant(base: SearchSpace, width: float, scale: float) -> SearchSpace:
    """The space with widths and resolutions multiplied, called after what was changed, such as `photos_x0_5`."""
    name, resolutions = base.name, base.resolutions
    if width != 1:
        name += f"_x{width:g}".replace(".", "_")
    if scale != 1:
        scaled = {max(LEAST_PIXELS, round(size * scale / PIXEL_STEP) * PIXEL_STEP) for size in resolutions}
        resolutions = tuple(sorted(scaled))
        name += f"_{resolutions[-1]}px"
    mults = tuple(mult * width for mult in base.width_mults)
    width_mult = mults if isinstance(base.width_mult, tuple) else mults[0]
    return replace(base, name=name, resolutions=resolutions, width_mult=width_mult)


def _approach(
    spaces: Sequence[SearchSpace],
    start: int,
    first: _Latencies,
    source: Source,
    budget_ms: float,
    progress: Progress,
) -> Mapping[SearchSpace, _Latencies]:
    """Tries spaces, given from small to large, until the budget lies well inside one or there are no more to try."""
    macs = [_middle_macs(space) for space in spaces]
    tried = {spaces[start]: first}
    low, high, index = 0, len(spaces) - 1, start
    found: _Latencies | None = first
    target = macs[start]
    while True:
        if found is None:  # nor are those beyond it covered
            low, high = (index + 1, high) if index < start else (low, index - 1)
        elif found.well_inside(budget_ms):
            return tried
        else:
            low, high = (low, index - 1) if found.too_slow(budget_ms) else (index + 1, high)
            target = macs[index] * budget_ms / found.middle_ms
        if low > high:
            return tried
        index = min(range(low, high + 1), key=lambda at: abs(log(macs[at] / target)))
        found = _known(source, spaces[index], progress)
        if found is not None:
            tried[spaces[index]] = found


def _known(source: Source, space: SearchSpace, progress: Progress) -> _Latencies | None:
    """The latencies of a space, with a note of them."""
    found = source(space)
    if found is not None:
        ends = f"{milliseconds(found.smallest_ms)} to {milliseconds(found.largest_ms)}"
        progress.note(f"The subnets of `{space.name}` take {ends} on {found.label}.")
    return found


def _middle_macs(space: SearchSpace, n_classes: int = 10) -> float:
    """The geometric mean of the MACs of its smallest and its largest subnet."""
    small, large = (count_macs(walk(space, arch, n_classes)) for arch in (space.smallest(), space.largest()))
    return sqrt(small * large)


# --- latencies --------------------------------------------------------------------------------------------------------


def _measured(name: str, backend: Backend, n_classes: int, progress: Progress) -> Source:
    """Latencies of whole files with fresh weights, measured on a device that is at hand."""
    device = backend.open(name, host=HostDevice(seconds=SECONDS))

    def latencies(space: SearchSpace) -> _Latencies:
        files = BlockFiles(space, n_classes, PRECISION).convert([space.smallest(), space.largest()], progress)
        timings = device.measure([Workload(content) for content in files], progress=progress)
        small_ms, large_ms = (timing.percentile_ms(PERCENTILES[STATISTIC]) for timing in timings)
        return _Latencies(f"{name} ({PRECISION}, measured)", small_ms, large_ms)

    return latencies


def _tabulated(name: str, backend: Backend, n_classes: int, workdir: Workdir, progress: Progress) -> Source:
    """Latencies by the fastest table of a device that covers a space in full, or by one that is modelled."""
    listeners = [progress]  # a modelled table is explained once

    def latencies(space: SearchSpace) -> _Latencies | None:
        def largest_ms(table: LatencyTable) -> float:
            return _by_table(table, space, n_classes).largest_ms if _covers(table, space, n_classes) else inf

        table = find_table(workdir.tables, name, PRECISION, largest_ms, shipped=backend.takes_shipped)
        if table is None or not _covers(table, space, n_classes):
            table = backend.model_table(space, n_classes, listeners.pop() if listeners else SILENT)
        return None if table is None else _by_table(table, space, n_classes)

    return latencies


def _covers(table: LatencyTable, space: SearchSpace, n_classes: int) -> bool:
    return not any(table.missing(space, resolution, n_classes) for resolution in space.resolutions)


def _by_table(table: LatencyTable, space: SearchSpace, n_classes: int) -> _Latencies:
    small_ms, large_ms = table.costs(space, n_classes)(space.encode([space.smallest(), space.largest()]))
    return _Latencies(table.label, float(small_ms), float(large_ms))


# --- errors -----------------------------------------------------------------------------------------------------------


def _not_covered(device: str, backend: Backend, space: SearchSpace, n_classes: int, workdir: Workdir) -> TableError:
    table = find_table(workdir.tables, device, PRECISION, lambda table: -len(table.entries), backend.takes_shipped)
    if table is None:
        said = "there is none"
    else:
        known = {(other, n_classes) for other in SPACES.values()}
        if workdir.exists:
            config = workdir.config()
            known.add((config.space, config.n_classes))
        covered = sorted(f"`{of.name}` for {n} classes" for of, n in known if _covers(table, of, n))
        said = f"that in {workdir.tables} covers {' and '.join(covered) or 'no space that is known here'}"
    return TableError(
        f"No {PRECISION} latency table of {backend.describe(device)} covers the space `{space.name}` for {n_classes} "
        f"classes, which these images call for; {said}: make one with `ofa-tf lut build{backend.option(device)}` in a "
        "workdir of that space and these images, and name the workdir with --workdir."
    )


def _infeasible(space: SearchSpace, found: _Latencies, device: str, budget_ms: float) -> InfeasibleError:
    """The error for a budget outside all spaces, of which this one is the nearest."""
    slow = found.smallest_ms > budget_ms
    nearest_ms = found.smallest_ms if slow else found.largest_ms
    if slow:
        why = f"even the smallest subnet of the nearest, `{space.name}`, takes {milliseconds(nearest_ms)}"
        change = (
            f"raise --latency to {milliseconds(OVER_SMALLEST * nearest_ms)} or more, or write a space with fewer "
            "stages or lower resolutions"
        )
    else:
        why = f"even the largest subnet of the nearest, `{space.name}`, takes only {milliseconds(nearest_ms)}"
        change = (
            f"lower --latency to {milliseconds(OF_LARGEST * nearest_ms)} or less, or write a space with more stages or "
            "higher resolutions"
        )
    details = {"device": device, "budget_ms": budget_ms, "nearest_ms": nearest_ms, "space": space.name}
    return InfeasibleError(
        f"No space has subnets on both sides of {milliseconds(budget_ms)} on {found.label}: {why}: {change}.", details
    )
