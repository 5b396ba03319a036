"""The front door: a project of a user, with a method for each command."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofa_tf.errors import ArgumentError, WorkdirError
from ofa_tf.latency.settings import Settings
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.arguments import one_of, optional, positive, required, table_precision, whole
from ofa_tf.project.command_groups import PredictorCommands, TableCommands
from ofa_tf.project.opened import OpenedWorkdir, open_existing, open_project
from ofa_tf.project.wording import library_wording, note_caution
from ofa_tf.project.workdir import Workdir
from ofa_tf.quiet import load_tensorflow
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.terminal import default_progress
from ofa_tf.training.recipe import STAGES, Recipe

if TYPE_CHECKING:
    import keras

    from ofa_tf.project.benchmark import Benchmark
    from ofa_tf.project.choice import Choice, Fronts
    from ofa_tf.project.evaluate import Evaluation
    from ofa_tf.project.export import Export
    from ofa_tf.project.report import Report
    from ofa_tf.project.train import Training
    from ofa_tf.tflite.describe import Description
    from ofa_tf.training.estimate import Estimate
    from ofa_tf.training.finetune import FineTuned

AUTO = "auto"
SEEDS = 0, 2**31 - 1


@dataclass(frozen=True, repr=False)
class Project(OpenedWorkdir):
    """A workdir and everything that can be done in it; `open` makes or opens one.

    Every command of `ofa-tf` is a method with the same name and options. Arguments with a unit have it in their name.

    Examples:
        >>> project = ofa.open("work")
        >>> project
        Project('work': small, digits of 10 classes; trained: full, kernel, depth, width)
        >>> project.search(macs_millions=1.2).n_macs <= 1.2e6
        True
    """

    @classmethod
    def of(cls, opened: OpenedWorkdir) -> "Project":
        """The same workdir with methods; images that are already loaded stay loaded."""
        project = cls(**{field.name: getattr(opened, field.name) for field in fields(opened)})
        project.__dict__.update({name: opened.__dict__[name] for name in ("data", "host") if name in opened.__dict__})
        return project

    @library_wording
    def train(
        self,
        stage: str = "all",
        *,
        epochs: float | None = None,
        batch: int | None = None,
        lr: float | None = None,
        strategy: str = "none",
        restart: bool = False,
        dry_run: bool = False,
    ) -> "Training | Estimate":
        """Trains the supernet by progressive shrinking; stages that are already trained are kept.

        Args:
            stage: "full", "kernel", "depth", "width" or "all"; missing earlier ones are trained first.
            epochs: epochs of this stage, instead of the recipe's.
            batch: images per step of this stage.
            lr: peak learning rate of this stage for 64 images per step.
            strategy: where to train: "none" (one device), "mirrored", "multiworker" or "tpu".
            restart: whether to train the stage again from its start.
            dry_run: whether to only estimate time and memory and change nothing.

        Returns:
            The record of each stage; with `dry_run`, the estimate.

        Raises:
            OfaError: something is wrong with the data, the workdir or an argument; the message says what.

        Examples:
            >>> project = ofa.open("work")
            >>> training = project.train()  # nothing is left to train
            >>> list(training.stages)
            ['full', 'kernel', 'depth', 'width']
        """
        load_tensorflow()
        from ofa_tf.project.train import estimate_training, train
        from ofa_tf.training.cluster import STRATEGIES, make_cluster

        required("stage", one_of, stage, (*STAGES, "all"))
        required("strategy", one_of, strategy, STRATEGIES)
        given = {
            "epochs": optional("epochs", positive, epochs),
            "batch": optional("batch", whole, batch, 1, 1 << 20),
            "base_lr": optional("lr", positive, lr),
        }
        overrides = {name: value for name, value in given.items() if value is not None}
        cluster = make_cluster(strategy, self.progress)
        if dry_run:
            return estimate_training(self, stage, restart, overrides, cluster)
        return train(self, stage, restart, overrides, cluster)

    @property
    def predictor(self) -> PredictorCommands:
        """The accuracy predictor: `fit` and `show`.

        Examples:
            >>> ofa.open("work").predictor.show()
            FittedPredictor(12 subnets, error 5.58 points (RMSE), rank correlation 0.65)
        """
        return PredictorCommands(self)

    @property
    def lut(self) -> TableCommands:
        """The latency tables: `build`, `validate`, `list`, `show`, `import_` and `merge`.

        Examples:
            >>> [table.precision for table in ofa.open("work").lut.list() if table.source == "measured"]
            ['int8']
        """
        return TableCommands(self)

    @library_wording
    def search(
        self,
        latency_ms: float | Mapping[str, float] | None = None,
        *,
        device: str = "host",
        macs_millions: float | None = None,
        params_thousands: float | None = None,
        size_kb: float | None = None,
        ram_kb: float | None = None,
        flash_kb: float | None = None,
        verify: int | None = None,
        precision: str = "int8",
        out: str | Path | None = None,
    ) -> "Choice":
        """Searches for the most accurate subnet within budgets.

        Args:
            latency_ms: milliseconds on `device`; for several devices at the same time, a mapping from names to budgets.
            device: `host`, a device that has a latency table, `mcu`, or `mcu:BOARD`, whose memories are the budgets.
            macs_millions: budget of multiply-accumulates for one image, in millions.
            params_thousands: budget of parameters, in thousands.
            size_kb: budget of the predicted file size, in kilobytes (1,000 bytes).
            ram_kb: budget of the predicted peak RAM in TensorFlow Lite Micro, in kilobytes.
            flash_kb: another name of `size_kb`.
            verify: number of candidates to evaluate and measure before choosing one.
            precision: precision of the file: "int8", "fp16" or "fp32".
            out: file to write the arch to; None for `arch.json` in the workdir.

        Raises:
            InfeasibleError: no subnet is within the budgets; the message names the nearest.
            OfaError: there is no budget, the device has no table, or nothing is trained yet.

        Examples:
            >>> project = ofa.open("work")
            >>> choice = project.search(macs_millions=0.8, size_kb=90)
            >>> choice
            Choice(24 px | 5x4 3x3 | 5x3 3x3: 55.8 % predicted, 0.79 M MACs, 78 kB)
        """
        from ofa_tf.project.memories import make_budgets
        from ofa_tf.project.search import find_all

        budgets = make_budgets(latency_ms, device, macs_millions, params_thousands, size_kb, ram_kb, flash_kb)
        n_verified = optional("verify", whole, verify, 1, 1000) or 0
        (answer,), _ = find_all(self, [budgets], table_precision(precision), n_verified, out)
        note_caution(self.progress, answer.choice.predictor_caution)
        return replace(answer.choice, verified=answer.verified)

    @library_wording
    def pareto(
        self,
        device: str | Sequence[str] = "host",
        *,
        points: int = 20,
        precision: str = "int8",
        out: str | Path | None = None,
        plot: str | Path | None = None,
        ram_kb: float | None = None,
        flash_kb: float | None = None,
    ) -> "Fronts":
        """Searches for the best subnets at many latencies, or sizes of RAM: `ofa-tf search --pareto`.

        Args:
            device: `host`, or a device that has a latency table; several give a front for each. `mcu` or `mcu:BOARD`
                gives one over RAM.
            points: number of latencies or sizes of RAM, from the least to that of the largest subnet that fits.
            precision: precision of the files: "int8", "fp16" or "fp32".
            out: file to also write the fronts to, as JSON.
            plot: `.png` or `.svg` file to also draw them in.
            ram_kb, flash_kb: budgets that all must meet: peak RAM in TensorFlow Lite Micro and file size, in kilobytes.

        Examples:
            >>> project = ofa.open("work")
            >>> front = project.pareto(device="edgetpu", points=5)
            >>> front[0].predicted_ms < front[-1].predicted_ms
            True
            >>> list(front.to_pandas().columns)[:3]
            ['arch', 'device', 'predicted_ms']
        """
        from ofa_tf.project.memories import make_budgets
        from ofa_tf.project.search import find_fronts

        devices = [device] if isinstance(device, str) else list(device)
        n_points = required("points", whole, points, 2, 1000)
        memories = make_budgets(ram_kb=ram_kb, flash_kb=flash_kb)
        fronts = find_fronts(self, devices, table_precision(precision), n_points, out, plot, memories)
        note_caution(self.progress, fronts[0].predictor_caution)
        return fronts

    @library_wording
    def export(
        self,
        choice: "Choice | Arch | str | Path | None" = None,
        *,
        latency_ms: float | None = None,
        ram_kb: float | None = None,
        flash_kb: float | None = None,
        device: str | None = None,
        precision: str = "int8",
        io: str = "int8",
        finetune: float | None = None,
        qat: bool = False,
        epochs: float | None = None,
        gate: bool = True,
        name: str | None = None,
        out: str | Path | None = None,
        allow_cpu: bool = False,
        force: bool = False,
        pictures: bool = False,
        author: str = "",
        license: str = "",
        description: str = "",
    ) -> "Export":
        """Exports a subnet as a verified `.tflite` file in a folder with its labels, its arch and a manifest.

        Args:
            choice: what `search` found, an arch, or the file of one; None to search within the budgets.
            latency_ms: latency budget in milliseconds; this and the next two only without a choice.
            ram_kb, flash_kb: budgets of the predicted peak RAM in TensorFlow Lite Micro and of the file, in kilobytes.
            device: the device that the file is for; None for that of the choice, or `host`.
            precision: "int8", "fp16", "fp32" or "dynamic" (int8 weights, float activations).
            io: type of the input and output of an int8 file: "int8" or "uint8".
            finetune: epochs that the subnet is first trained for with weights of its own; None for none.
            qat: whether to train the subnet for int8 (quantisation-aware training).
            epochs: epochs of this training; None for 3.
            gate: whether to refuse a file that differs too much from its subnet.
            name: name of the export's folder; None for one made of device, budget and precision.
            out: where to put that folder; None for `exports/` in the workdir.
            allow_cpu: whether operators that an Edge TPU does not have may run on the CPU.
            force: whether an export of the same name may be replaced.
            pictures: whether to draw what the file gets wrong, too: `confusion.png` and `worst.png`.
            author: author to record in the file.
            license: license to record in the file.
            description: description to record in the file.

        Raises:
            ExportError: the file does not answer as its subnet does, or the folder exists.
            OfaError: as for `search`.

        Examples:
            >>> project = ofa.open("work")
            >>> choice = project.search(macs_millions=0.8)
            >>> project.export(choice, name="small", force=True)
            Export('work/exports/small': int8, ...)
        """
        load_tensorflow()
        from ofa_tf.project.choice import Choice
        from ofa_tf.project.export import Target, export_all, export_choice, make_options
        from ofa_tf.project.memories import make_budgets

        budget_ms = optional("latency_ms", positive, latency_ms, "milliseconds")
        limits = make_budgets(budget_ms, device or "host", flash_kb=flash_kb, ram_kb=ram_kb)
        if (choice is None) != (limits.given or (choice is None and bool(limits.latency_ms))):
            raise ArgumentError("Give either a choice or a budget: `latency_ms`, `ram_kb` or `flash_kb`.")
        n_epochs = optional("epochs", positive, epochs, "epochs")
        about, tuned = (author, license, description), optional("finetune", positive, finetune, "epochs")
        options = make_options(precision, io, qat, n_epochs, gate, name, out, allow_cpu, force, *about, pictures, tuned)
        if choice is None:
            target = Target(device or "host", budget_ms, limits.ram_bytes, limits.size_bytes)
            (exported,) = export_all(self, [target], options)
            note_caution(self.progress, exported.predictor_caution)
            return exported
        if isinstance(choice, str | Path):
            return export_all(self, [Target(device or "host")], options, choice)[0]
        if not isinstance(choice, Choice | Arch):
            found = type(choice).__name__
            raise ArgumentError(f"`choice` is of type {found}: give what `search` found, an arch, or the file of one.")
        return export_choice(self, choice, device, options)

    @library_wording
    def finetune(self, choice: "Choice | Arch", epochs: float) -> "FineTuned":
        """Gives a subnet weights of its own and trains it on; `export(…, finetune=epochs)` uses them.

        Args:
            choice: what `search` found, or an arch.
            epochs: passes over the training images.

        Returns:
            Its accuracies before and after on held-out training images, by which `export` chooses the weights.

        Raises:
            OfaError: as for `export`.

        Examples:
            >>> ofa.open("work").finetune(ofa.open("work").config.space.smallest(), epochs=0.1)
            FineTuned(...before=..., after=...)
        """
        load_tensorflow()
        from ofa_tf.project.finetune import finetune

        return finetune(self, choice, required("epochs", positive, epochs, "epochs"))

    @library_wording
    def evaluate(
        self,
        model: str | Path,
        data: str | None = None,
        *,
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        labels: str | Path | None = None,
    ) -> "Evaluation":
        """Measures the accuracy of any classification `.tflite` file, by default on the project's validation images.

        Args:
            model: the file.
            data: other images: a folder with `val/<class>/` or `<class>/`, or a data set by name.
            mean: mean in the normalisation, `(pixel - mean) / std`: one number or three; empty for what the file says.
            std: standard deviation in it; give both or neither.
            labels: a file with the names of the outputs, one per line.

        Examples:
            >>> ofa.open("work").evaluate("work/exports/first/model.tflite")
            Evaluation('work/exports/first/model.tflite' on 359 images of digits: 60.7 % top-1, 95.3 % top-5)
        """
        load_tensorflow()
        from ofa_tf.project.evaluate import evaluate_file

        return evaluate_file(model, data, self.workdir.path, mean, std, labels, self.progress)

    @library_wording
    def benchmark(
        self,
        model: str | Path,
        device: str = "host",
        *,
        seconds: float = 5.0,
        threads: int | None = None,
        delegate: str | None = None,
        cores: Sequence[int] = (),
        benchmark_model: str | None = None,
        app: str | None = None,
    ) -> "Benchmark":
        """Measures how fast any `.tflite` file runs and how much memory it takes.

        Args:
            model: the file.
            device: `host`, `adb:SERIAL`, `edgetpu` or `ethos-u55-128`.
            seconds: how long to measure.
            threads: threads of the interpreter.
            delegate: "none" or "xnnpack".
            cores: the processor cores of this machine that may be used; empty for all.
            benchmark_model: TFLite's program for a phone's processor, or an app that contains it.
            app: ofa-tf's benchmark app, which runs the files on a phone itself.

        Examples:
            >>> benchmark = ofa.open("work").benchmark("work/exports/first/model.tflite", seconds=0.1)
            >>> benchmark.timing.percentile_ms(50) > 0
            True
        """
        from ofa_tf.project.benchmark import benchmark_file

        settings = Settings(optional("threads", whole, threads, 1, 64), delegate, tuple(cores), benchmark_model, app)
        return benchmark_file(model, device, settings, required("seconds", positive, seconds, "seconds"), self.progress)

    @library_wording
    def show(self, model: str | Path) -> "Description":
        """Describes a `.tflite` file: input, operators, size, and the metadata in it.

        Examples:
            >>> ofa.open("work").show("work/exports/first/model.tflite").facts.n_macs
            1591360
        """
        from ofa_tf.tflite.describe import describe_file

        return describe_file(model)

    @library_wording
    def report(self, out: str | Path | None = None) -> "Report":
        """Writes everything that the workdir holds to one HTML page.

        Args:
            out: the file; None for `report.html` in the workdir.

        Examples:
            >>> ofa.open("work").report("report.html").path
            PosixPath('report.html')
        """
        load_tensorflow()
        from ofa_tf.project.report import write_report

        return write_report(self.workdir.path, out)

    @library_wording
    def subnet(self, arch: Arch) -> "keras.Model":
        """A plain Keras model of one arch, its batch norm statistics recalibrated on training images.

        Args:
            arch: the arch, such as `choice.arch`.

        Returns:
            A functional model from images `(batch, resolution, resolution, 3)`, which `project.config.preprocessing`
            makes from pixels, to logits `(batch, classes)`.

        Examples:
            >>> project = ofa.open("work")
            >>> model = project.subnet(project.config.space.smallest())
            >>> model.output_shape
            (None, 10)
        """
        load_tensorflow()
        from ofa_tf.project.evaluator import plain_subnet

        return plain_subnet(self, arch)


@library_wording
def open(
    path: str | Path = ".",
    data: Any = None,
    *,
    space: SearchSpace | str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    hours: float | None = None,
    seed: int | None = None,
    classes: Sequence[str] | None = None,
    init: Any = None,
    progress: Progress | str | None = AUTO,
) -> Project:
    """Opens a workdir, or makes one.

    Args:
        path: the folder.
        data: the images: a folder with `train/<class>/*.jpg`, the name of a data set, or an `.npz` file; a pair
            `(images, labels)` of arrays, a `tf.data.Dataset` of such pairs, or a mapping with either for each part:
            `{"train": …, "val": …}`. The workdir keeps arrays and datasets itself. None for the workdir's own data; a
            new workdir then gets `street-digits`.
        space: a search space, the name of one, a JSON file, or "auto" to choose one that suits the images. A new
            workdir gets `tiny` for a data set by name, otherwise "auto".
        recipe: a recipe, the name of one, a JSON file, or "auto" to choose one that suits the images and `hours`. A
            new workdir gets `demo` for a data set by name, otherwise "auto".
        hours: the longest that training should take, by an estimate, for the recipe "auto"; 2 by default, 1 with
            pretrained weights.
        seed: seed for everything random; 0 by default.
        classes: names of the classes, for arrays and datasets.
        init: the pretrained weights that training begins with: the name of a network (`ofa-tf zoo list`), a file, an
            address, another workdir, or a Keras model; "none" for none. A new workdir for photos begins with those that
            are installed.
        progress: where to report progress: by default bars on a terminal and in a notebook; None for silence.

    Raises:
        WorkdirError: the workdir was made with something else, or another process is at work in it.
        OfaError: the images, the space or the recipe cannot be used.

    Examples:
        >>> project = ofa.open("work")
        >>> project.config.space.name
        'small'
        >>> import numpy as np
        >>> images, labels = np.zeros((60, 32, 32, 3), np.uint8), np.arange(60) % 3
        >>> ofa.open("mine", data=(images, labels), classes=["cat", "dog", "fox"])
        Project('mine': tiny, arrays:... of 3 classes; trained: nothing)
    """
    shown = default_progress() if progress == AUTO else progress or SILENT
    if not isinstance(shown, Progress):
        raise ArgumentError(f"`progress` (={progress!r}) must be a Progress, None, or {AUTO!r}.")
    checked_seed = optional("seed", whole, seed, *SEEDS)
    checked_hours = optional("hours", positive, hours, "hours")
    workdir = Workdir(path)
    if workdir.exists and workdir.ledger().imported:
        if data is not None and not isinstance(data, str | Path):
            raise WorkdirError(f"{path} holds an imported network: name a folder of images, not arrays.")
        open_project(path, space, None, recipe, checked_seed, shown, init=init)
        return Project.of(open_existing(path, shown, data))
    return Project.of(
        open_project(path, space, data, recipe, checked_seed, shown, classes=classes, hours=checked_hours, init=init)
    )
