"""Latency lookup tables: the milliseconds of every block on one device, runtime and precision.

The latency of an arch is the sum over its blocks (Cai et al., "ProxylessNAS", ICLR 2019, section 3.3), corrected by a
calibration of three numbers where one was measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofa_tf.blocks import Block
from ofa_tf.costs import ArchCosts, arch_costs
from ofa_tf.errors import FormatError, TableError
from ofa_tf.formatting import percent
from ofa_tf.frames import to_frame
from ofa_tf.jsonio import check_keys, read_json, write_json
from ofa_tf.precision import table_precisions
from ofa_tf.space import SearchSpace

if TYPE_CHECKING:
    import pandas

SOURCES = ("measured", "modelled", "imported")
STATISTICS = ("p10_ms", "median_ms", "mean_ms")
VALIDATION = ("subnets", "mape", "within_10pct", "spearman")
HELD_OUT = ("bias", "worst_error", "worst_arch")
RUNTIME = ("name", "version", "threads", "delegate")


def _check_numbers(numbers: Mapping[str, Any], where: str, low: float = 0, high: float = 1e12) -> None:
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise FormatError(f"{where}: `{name}` (={value!r}) must be a number from {low:g} to {high:g}.")


def _is_whole(value: Any, low: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= 1 << 20


def _check_texts(facts: Mapping[str, Any], where: str) -> None:
    """Refuses characters that could control a terminal: tables come from anywhere."""
    for name, value in facts.items():
        if not name.isprintable() or (isinstance(value, str) and not value.isprintable()):
            raise FormatError(f"{where}: {name!r} (={value!r}) must consist of printable characters.")


def _check_validation(validation: Mapping[str, Any], where: str) -> None:
    check_keys(validation, set(VALIDATION), set(HELD_OUT), f"{where},")
    _check_numbers({name: validation[name] for name in ("subnets", "mape", "within_10pct")}, where)
    _check_numbers({"spearman": validation["spearman"]}, where, -1, 1)
    _check_numbers({name: validation.get(name, 0) for name in ("bias", "worst_error")}, where, -1)
    if not isinstance(validation.get("worst_arch", {}), Mapping):
        raise FormatError(f"{where}: `worst_arch` must be an arch.")


@dataclass(frozen=True)
class Calibration:
    """The latency of a whole network, given the sum over its blocks measured one by one.

    `latency_ms = scale * sum_ms + per_block_ms * elastic blocks + constant_ms`, all three at least 0.
    """

    scale: float
    per_block_ms: float
    constant_ms: float
    subnets: int


@dataclass(frozen=True, repr=False)
class LatencyTable:
    """One table; `lut/README.md` describes its file.

    Args:
        device: facts about the device; `name` is required.
        runtime: `name`, `version`, `threads`, `delegate`.
        precision: "int8", "fp16" or "fp32".
        source: "measured" here, "modelled" or "imported"; shown wherever a latency of this table is.
        entries: by block key, statistics in milliseconds and the number of `runs`.
        statistic: which of the entries' numbers are added up.
        calibration: correction from block sums to whole networks, or None.
        validation: error on whole subnets that the prediction had not seen, or None: `subnets`, `mape`, `within_10pct`,
            `spearman`, `bias`; with `worst_error` and `worst_arch` if they were measured only for this.

    Examples:
        >>> (path,) = Path("work/lut").glob("*.json")
        >>> table = ofa.LatencyTable.load(path)
        >>> table
        LatencyTable(host (int8, measured): 41 blocks, ± 0.9 % on whole subnets)
        >>> table.to_pandas().shape
        (41, 4)
    """

    device: Mapping[str, Any]
    runtime: Mapping[str, Any]
    precision: str
    source: str
    entries: Mapping[str, Mapping[str, float]] = field(repr=False)
    statistic: str = "median_ms"
    calibration: Calibration | None = None
    validation: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        error = "" if self.validation is None else f", ± {percent(self.validation['mape'])} on whole subnets"
        return f"LatencyTable({self.label}: {len(self.entries)} blocks{error})"

    def __post_init__(self):
        where = "The table"
        for name, value in (("device", self.device), ("runtime", self.runtime), ("entries", self.entries)):
            if not isinstance(value, Mapping):
                raise FormatError(f"{where}: `{name}` must be an object, not {value!r}.")
        if not isinstance(self.device.get("name"), str):
            raise FormatError(f"{where}: `device` must have a `name`.")
        check_keys(self.runtime, set(RUNTIME), set(), f"{where}, `runtime`,")
        _check_texts(self.device, f"{where}, `device`")
        _check_texts(self.runtime, f"{where}, `runtime`")
        threads, cores = self.runtime["threads"], self.device.get("cores", [])
        if threads != "unknown" and not _is_whole(threads, 1):
            raise FormatError(f"{where}: `threads` (={threads!r}) must be an integer above 0, or 'unknown'.")
        for name in ("name", "version", "delegate"):
            if not isinstance(self.runtime[name], str):
                raise FormatError(f"{where}, `runtime`: `{name}` (={self.runtime[name]!r}) must be a string.")
        if not isinstance(cores, list | tuple) or not all(_is_whole(core, 0) for core in cores):
            raise FormatError(f"{where}: `cores` (={cores!r}) must be a list of numbers of processor cores.")
        for name, choice, known in (
            ("precision", self.precision, table_precisions()),
            ("source", self.source, SOURCES),
            ("statistic", self.statistic, STATISTICS),
        ):
            if choice not in known:
                raise FormatError(f"{where}: `{name}` (={choice!r}) must be one of {list(known)}.")
        for key, entry in self.entries.items():
            check_keys(entry, {self.statistic, "runs"}, {*STATISTICS, "p90_ms", "std_ms"}, f"{where}, entry {key!r}")
            _check_numbers(entry, f"{where}, entry {key!r}")
        if self.calibration is not None:
            _check_numbers(self.calibration.__dict__, f"{where}, `calibration`")
        if self.validation is not None:
            _check_validation(self.validation, f"{where}, `validation`")

    @property
    def label(self) -> str:
        """`name (precision, origin)`, such as `host (int8, measured)`."""
        return f"{self.device['name']} ({self.precision}, {self.origin})"

    @property
    def origin(self) -> str:
        """The source, with the program that modelled the latencies where it was one, its version and settings."""
        program = self.device.get("modelled_by")
        return f"{self.source} by {program}" if self.source == "modelled" and program else self.source

    @property
    def validated_on(self) -> str:
        """What its error was found on."""
        published = self.source == "modelled" and self.origin == "modelled"
        return "published networks" if published else "whole subnets"

    @property
    def error_sentence(self) -> str:
        """What is known about its error; that of a modelled table is on published networks."""
        errors = self.validation
        if errors is None:
            return "Its error on whole subnets is not known."
        verb = "measured" if self.origin == self.source else "compiled"
        how = f"{verb} only for this" if "worst_arch" in errors else "each left out of the fit"
        bias = f", bias {errors['bias'] * 100:+.1f} %" if "bias" in errors else ""
        worst = f", worst {errors['worst_error'] * 100:+.1f} %" if "worst_error" in errors else ""
        return (
            f"Error on {errors['subnets']} {self.validated_on}, {how}: {percent(errors['mape'])} on average, "
            f"{percent(errors['within_10pct'])} of them within 10 %, rank correlation {errors['spearman']:.3f}"
            f"{bias}{worst}."
        )

    def block_ms(self, block: Block) -> float:
        """Latency of one block, uncorrected.

        Raises:
            TableError: the table lacks the block.
        """
        try:
            return self.entries[block.key][self.statistic]
        except KeyError:
            raise TableError(
                f"The table of {self.label} lacks the block `{block.key}`: "
                "measure it with `ofa-tf lut build`, or choose a device whose table covers this space."
            ) from None

    def missing(self, space: SearchSpace, resolution: int, n_classes: int) -> list[str]:
        """Keys of the blocks that the space needs at a resolution and the table lacks."""
        return [key for key in distinct_blocks(space, [resolution], n_classes) if key not in self.entries]

    def resolutions(self, space: SearchSpace, n_classes: int) -> list[int]:
        """The resolutions of the space that the table covers in full."""
        return [resolution for resolution in space.resolutions if not self.missing(space, resolution, n_classes)]

    def require_resolutions(self, space: SearchSpace, n_classes: int) -> list[int]:
        """The resolutions of the space that the table covers in full, at least one.

        Raises:
            TableError: no resolution of the space is covered; names a missing block.
        """
        covered = self.resolutions(space, n_classes)
        if not covered:
            for block in distinct_blocks(space, space.resolutions[-1:], n_classes).values():
                self.block_ms(block)
        return covered

    def costs(self, space: SearchSpace, n_classes: int) -> ArchCosts:
        """Latency in milliseconds, calibrated, of every arch of the space; infinite at resolutions not covered.

        Raises:
            TableError: no resolution of the space is covered; names a missing block.
        """
        raw = arch_costs(space, self.block_ms, n_classes, self.require_resolutions(space, n_classes))
        if self.calibration is None:
            return raw
        fixed = raw.fixed * self.calibration.scale + self.calibration.constant_ms
        return ArchCosts(space, fixed, raw.elastic * self.calibration.scale + self.calibration.per_block_ms)

    def to_pandas(self) -> "pandas.DataFrame":
        """A row for each block by its key: statistics in milliseconds, and the number of runs.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_frame(self.entries.values(), self.entries)

    def save(self, path: str | Path) -> None:
        """Writes the table as JSON, atomically."""
        document = {
            "device": dict(self.device),
            "runtime": dict(self.runtime),
            "precision": self.precision,
            "source": self.source,
            "statistic": self.statistic,
            "calibration": None if self.calibration is None else self.calibration.__dict__,
            "validation": None if self.validation is None else dict(self.validation),
            "entries": {key: dict(entry) for key, entry in self.entries.items()},
        }
        write_json(path, document)

    @classmethod
    def load(cls, path: str | Path) -> "LatencyTable":
        """Reads a table.

        Raises:
            FormatError: not a table, another schema, unknown keys, entries that are not numbers of at least 0.
        """
        return cls.from_document(read_json(path), str(path))

    @classmethod
    def from_document(cls, document: Mapping[str, Any], where: str) -> "LatencyTable":
        """The table in a JSON object without its schema number.

        Raises:
            FormatError: unknown keys, or entries that are not numbers of at least 0; begins with `where`.
        """
        keys = {"device", "runtime", "precision", "source", "entries"}
        check_keys(document, keys, {"statistic", "calibration", "validation"}, where)
        calibration = document.get("calibration")
        if calibration is not None:
            check_keys(calibration, set(Calibration.__dataclass_fields__), set(), f"{where}, `calibration`,")
            calibration = Calibration(**calibration)
        try:
            return cls(**{**document, "calibration": calibration})
        except FormatError as error:
            raise FormatError(str(error).replace("The table", where, 1)) from None


def distinct_blocks(space: SearchSpace, resolutions: Sequence[int], n_classes: int) -> dict[str, Block]:
    """Every different block of the space at the given resolutions, by table key."""
    blocks: dict[str, Block] = {}

    def remember(block: Block) -> float:
        blocks.setdefault(block.key, block)
        return 0.0

    arch_costs(space, remember, n_classes, resolutions)
    return blocks
