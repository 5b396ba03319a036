"""Commands that consist of several commands, as methods of `project.predictor` and `project.lut`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ofa_tf.latency.settings import Settings
from ofa_tf.project.arguments import one_of, optional, required, table_precision, whole
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.wording import library_wording, note_caution

if TYPE_CHECKING:
    from ofa_tf.accuracy.store import FittedPredictor
    from ofa_tf.latency.app_job import AppJob
    from ofa_tf.latency.table import LatencyTable
    from ofa_tf.project.lut import TableFile


@dataclass(frozen=True)
class PredictorCommands:
    """`ofa-tf predictor fit` and `show`, as methods of `project.predictor`."""

    project: OpenedWorkdir

    @library_wording
    def fit(self, archs: int = 100, *, target: str = "float", int8_archs: int = 24) -> "FittedPredictor":
        """Evaluates subnets on held-out training images and fits the predictor to them.

        Args:
            archs: total number of subnets to evaluate, including those evaluated earlier.
            target: "float" to predict the accuracy of the float network, "int8" to predict that of its int8 file.
            int8_archs: number of subnets to convert for "int8".

        Examples:
            >>> ofa.open("work").predictor.fit(archs=12)
            FittedPredictor(12 subnets, error ... points (RMSE), rank correlation ...)
        """
        from ofa_tf.accuracy.store import TARGETS
        from ofa_tf.project.predictor import fit

        required("target", one_of, target, TARGETS)
        n_archs, n_int8 = (
            required(name, whole, value, least, 10**6)
            for name, value, least in (("archs", archs, 10), ("int8_archs", int8_archs, 5))
        )
        return _with_caution(self.project, fit(self.project, n_archs, target=target, n_int8=n_int8))

    @library_wording
    def show(self) -> "FittedPredictor":
        """The predictor and what is known about its error.

        Raises:
            WorkdirError: there is no predictor yet.
        """
        from ofa_tf.project.predictor import show

        return _with_caution(self.project, show(self.project))


def _with_caution(project: OpenedWorkdir, fitted: "FittedPredictor") -> "FittedPredictor":
    note_caution(project.progress, fitted.caution)
    return fitted


@dataclass(frozen=True)
class TableCommands:
    """`ofa-tf lut build`, `validate`, `list`, `show`, `job`, `import` and `merge`, as methods of `project.lut`."""

    project: OpenedWorkdir

    @library_wording
    def build(
        self,
        device: str = "host",
        *,
        precision: str = "int8",
        resolutions: Sequence[int] = (),
        threads: int | None = None,
        delegate: str | None = None,
        cores: Sequence[int] = (),
        runtime: str = "default",
        validation_subnets: int | None = None,
        benchmark_model: str | None = None,
        app: str | None = None,
    ) -> "LatencyTable":
        """Measures every block of the space on a device; the latencies of an absent Edge TPU are modelled.

        Args:
            device: `host`, `adb:SERIAL`, `edgetpu` or `ethos-u55-128`.
            precision: precision of the files: "int8", "fp16" or "fp32".
            resolutions: the resolutions to measure; empty for all of the space.
            threads: threads of the interpreter.
            delegate: "none" or "xnnpack".
            cores: the processor cores of this machine that may be used; empty for all.
            runtime: "auto" to try threads and delegates on whole subnets and keep the fastest.
            validation_subnets: number of held-out subnets to also measure, to report the table's error.
            benchmark_model: TFLite's program for a phone's processor, or an app that contains it.
            app: ofa-tf's benchmark app, which runs the files on a phone itself.
        """
        from ofa_tf.project.lut import measure_table

        settings = Settings(optional("threads", whole, threads, 1, 64), delegate, tuple(cores), benchmark_model, app)
        auto = required("runtime", one_of, runtime, ("default", "auto")) == "auto"
        n_held_out = optional("validation_subnets", whole, validation_subnets, 3, 1000) or 0
        sizes = list(resolutions) or None
        return measure_table(self.project, device, table_precision(precision), sizes, settings, auto, n_held_out)[1]

    @library_wording
    def validate(
        self,
        device: str = "host",
        *,
        precision: str = "int8",
        subnets: int = 40,
        benchmark_model: str | None = None,
        app: str | None = None,
    ) -> "LatencyTable":
        """Measures a table's error on random subnets that it has not seen, and records it in the table."""
        from ofa_tf.project.lut import validate

        n_subnets = required("subnets", whole, subnets, 3, 1000)
        settings = Settings(benchmark_model=benchmark_model, app=app)
        return validate(self.project, device, table_precision(precision), n_subnets, settings)[1]

    @library_wording
    def list(self) -> "list[LatencyTable]":
        """The tables of the workdir and those that come with ofa-tf."""
        from ofa_tf.project.lut import list_files

        return [found.table for found in list_files(self.project.workdir.path)]

    @library_wording
    def show(self, table: str | Path, plot: str | Path | None = None, *, precision: str | None = None) -> "TableFile":
        """A table's device, its error, and where the time goes.

        Args:
            table: a device, such as `host`; the name of a table's file in the workdir; or any table's file.
            plot: `.png` or `.svg` file to draw where the time goes.
            precision: precision of a device's table; None for int8, or for the first that it has.
        """
        from ofa_tf.project.lut import show

        wanted = None if precision is None else table_precision(precision)
        return show(table, self.project.workdir.path, plot, wanted)

    @library_wording
    def job(
        self,
        out: str | Path,
        *,
        precision: str = "int8",
        resolutions: Sequence[int] = (),
        threads: int = 1,
        delegate: str = "xnnpack",
    ) -> "AppJob":
        """Writes every block of the space into a folder that the Android app measures, for a phone without a cable.

        Args:
            out: a new folder; copy it to the phone, choose it in the app, and import the results that the app shares.
            precision: precision of the files: "int8", "fp16" or "fp32".
            resolutions: the resolutions to measure; empty for all of the space.
            threads: threads of the interpreter.
            delegate: "none" or "xnnpack".
        """
        from ofa_tf.project.lut import write_job

        n_threads = required("threads", whole, threads, 1, 64)
        sizes = list(resolutions) or None
        return write_job(self.project, out, table_precision(precision), sizes, n_threads, delegate)

    @library_wording
    def import_(self, source: str | Path, name: str | None = None, *, force: bool = False) -> "LatencyTable":
        """Imports a table into the workdir: one from `ofa-tf lut build`, or tables in the published format.

        Args:
            source: the file; or, as published tables cover one resolution each, a folder of all tables of a device.
            name: new name for the table's device, such as `pi4`; required for published tables.
            force: whether a table of the same device, runtime and precision may be replaced.
        """
        from ofa_tf.project.lut import import_any

        return import_any(source, self.project.workdir.path, force, name, self.project.progress).table

    @library_wording
    def merge(self, files: Sequence[str | Path], out: str | Path) -> "LatencyTable":
        """Merges tables that cover several resolutions or spaces of one device and runtime, into the file `out`."""
        from ofa_tf.project.lut import merge

        return merge(files, out).table
