"""The loop over the steps of a stage (progressive shrinking: Cai et al., ICLR 2020, section 3.3, figure 4)."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import tensorflow as tf

from ofa_tf.data import Data
from ofa_tf.data.batches import batch_indices, training_batches
from ofa_tf.energy import Meter
from ofa_tf.errors import DamagedError, FormatError, TrainingError, WorkdirError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.supernet import Supernet
from ofa_tf.training import checkpoint, transfer
from ofa_tf.training.cluster import Cluster, make_cluster
from ofa_tf.training.evaluation import SubnetEvaluator
from ofa_tf.training.ledger import StageRecord
from ofa_tf.training.recipe import STAGES, Recipe, Span, span_of, spans
from ofa_tf.training.sampling import plan_step, probe_archs, trained_widths
from ofa_tf.training.setup import Setup
from ofa_tf.training.stage_files import StageFiles
from ofa_tf.training.step import IMAGES, LABELS, TrainingStep
from ofa_tf.training.tensorboard import Scalars
from ofa_tf.training.weights import weights_of

SECONDS_BETWEEN_CHECKPOINTS = 60


class Trainer:
    """Trains the stages of a supernet; its compiled functions serve all of them.

    Args:
        workdir: where checkpoints, logs and the ledger are.
        config: the network, and how it is trained.
        data: its images.
        progress: where to report progress.
        cluster: the devices to train on; by default one.

    Raises:
        FormatError: the recipe's batch cannot be shared out over the devices.
    """

    def __init__(
        self,
        workdir: StageFiles,
        config: Setup,
        data: Data,
        progress: Progress = SILENT,
        cluster: Cluster | None = None,
    ):
        self.workdir = workdir
        self.config = config
        self.data = data
        self.progress = progress
        self.cluster = cluster or make_cluster("none")
        self.cluster.shares(config.recipe)
        self.ledger = workdir.ledger()
        with self.cluster.strategy.scope():
            self.supernet, teacher = self._supernet(), self._supernet()
            spec = self.cluster.distribute(
                tf.data.Dataset.from_generator(list, output_signature=(IMAGES, LABELS))
            ).element_spec
            self.step = TrainingStep(
                self.supernet, teacher, config.recipe, self.cluster.strategy, None if self.cluster.static else spec
            )
        self.weights = weights_of(self.supernet)
        self.state = {
            **self.weights,
            **{
                f"momentum/{variable.path}": momentum
                for variable, momentum in zip(self.step.variables, self.step.momentums, strict=True)
            },
        }

    def _supernet(self) -> Supernet:
        config, mixed = self.config, self.config.recipe.mixed_precision and self.cluster.supports_bfloat16()
        return Supernet(
            config.space,
            config.n_classes,
            seed=config.seed,
            formulation=self.cluster.formulation,
            dtype="mixed_bfloat16" if mixed else "float32",
        )

    @cached_property
    def evaluator(self) -> SubnetEvaluator:
        """Evaluates subnets of a copy of the supernet, so that measuring leaves no trace in the training."""
        copy = Supernet(self.config.space, self.config.n_classes)
        return SubnetEvaluator(copy, self.config.preprocessing, self.data.train).ranking()

    @property
    def traces(self) -> dict[str, int]:
        """How often each function of the training step was traced."""
        return dict(self.step.traces)

    def recipe_of(self, stage: str) -> Recipe:
        """The recipe, with what the user has overridden for a stage."""
        record = self.ledger.stages.get(stage)
        return self.config.recipe.overridden(stage, **(record.overrides if record else {}))

    def layout_of(self, stage: str) -> list[Span]:
        """The phases of a stage in steps."""
        return spans(self.recipe_of(stage), stage, len(self.data.train))

    def seed_of(self, stage: str) -> tuple[int, ...]:
        """The seed of all that is drawn in a stage."""
        return self.config.seed, STAGES.index(stage)

    def train(self, stage: str) -> StageRecord:
        """Trains a stage to its end, from its newest checkpoint or from the end of the stage before.

        On `KeyboardInterrupt` it writes a checkpoint, unless a phase is just beginning, and raises on.

        Raises:
            TrainingError: a loss that is not a number, and the last checkpoint stays; or another worker is gone.
            WorkdirError: the stage before is not done.
            FormatError: the stage's batch cannot be shared out over the devices.
        """
        with self.cluster.noticing_lost_workers():
            record = self._train(stage)
            self.cluster.sum(0)  # nobody leaves before the chief has written everything
        return record

    def _train(self, stage: str) -> StageRecord:
        self.meter = Meter()
        recipe, layout = self.recipe_of(stage), self.layout_of(stage)
        n_steps = layout[-1].stop
        self._refuse_other_images(stage, n_steps)
        step = self._restore(stage, layout)
        batches = self._batches(stage, recipe, layout, range(step, n_steps))
        self._record(stage, "running", step, n_steps)
        evaluations = {n_steps * part // recipe.evaluations for part in range(1, recipe.evaluations)} - {0}
        saved = time.monotonic()
        try:
            with self._scalars(stage, recipe) as scalars:
                total, before = n_steps * recipe.batch, step * recipe.batch
                with self.progress.task(f"training `{stage}`", total, "images", before) as advance:
                    for images, labels in batches:
                        self._train_step(stage, recipe, span_of(layout, step), step, images, labels, scalars)
                        step += 1
                        advance(recipe.batch)
                        if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS and step < n_steps:
                            self._save(stage, step, n_steps)
                            saved = time.monotonic()
                        if step in evaluations and scalars is not None:
                            scalars.write(step, self._metrics(stage))
                self._save(stage, step, n_steps)  # before the accuracies, which take a while
                metrics: dict[str, float] = {}
                if scalars is not None and recipe.evaluations:
                    metrics = self._metrics(stage, f"evaluating `{stage}`")
                    scalars.write(step, metrics)
        except KeyboardInterrupt:
            # It may have come after the weights changed and before that was counted, or while channels were sorted.
            step = int(self.step.iterations.numpy())
            if step < n_steps and all(step != span.start for span in layout):
                self._save(stage, step, n_steps)
            raise
        return self._record(stage, "done", step, n_steps, metrics)

    def _refuse_other_images(self, stage: str, n_steps: int) -> None:
        """Refuses to go on with a stage whose steps were laid out for other images."""
        record, n_images = self.ledger.stages.get(stage), len(self.data.train)
        if record and record.steps and ((record.steps, record.images or n_images) != (n_steps, n_images)):
            images = f"{record.images} training images and " if record.images else ""
            raise WorkdirError(
                f"Stage `{stage}` of {self.workdir} was begun with {images}{record.steps} steps, and now there are "
                f"{n_images} training images and {n_steps} steps: put the images back, or train it again with "
                f"--stage {stage} --restart."
            )

    def _restore(self, stage: str, layout: list[Span]) -> int:
        """Loads the weights, momenta and teacher to go on with; returns the step they are of."""
        if self.config.init is not None and stage == self.config.recipe.stages[0]:
            self._fit_head()
        with self.cluster.strategy.scope():
            self.step.reset_optimizer()
            step = checkpoint.load_newest(self.workdir.checkpoints(stage), self.state, self.progress)
            if step == 0:
                self._load_before(stage)
            self.step.iterations.assign(step)
            if layout[0].phase.distils:
                self._load_teacher()
        self.cluster.require_same(step, "the step to go on with")
        return step

    def _load_before(self, stage: str) -> None:
        """Loads the weights that a stage begins with: of the stage before, pretrained, or as they are made."""
        stages = self.config.recipe.stages
        if stage != stages[0]:
            load_stage(self.workdir, stages[stages.index(stage) - 1], self.supernet)
        elif self.config.init is not None:
            transfer.load_initial(self.workdir, self.supernet)

    def _load_teacher(self) -> None:
        """Loads the largest network that does not change: as the first stage left it, or the pretrained one."""
        first = self.config.recipe.stages[0]
        if first == STAGES[0]:
            load_stage(self.workdir, first, self.step.teacher)
        elif self.config.init is not None:
            transfer.load_initial(self.workdir, self.step.teacher)

    def _fit_head(self) -> None:
        """Fits a classifier to the pretrained features, unless that is done."""

        def fit() -> None:
            if not transfer.has_head(self.workdir):
                self.progress.note("A classifier is being fitted to the pretrained features.")
                net, images = self.evaluator.supernet, self.data.train
                transfer.fit_head(self.workdir, net, images, self.config.preprocessing)

        self.cluster.chief_first(fit)

    def _batches(self, stage: str, recipe: Recipe, layout: list[Span], steps: range) -> Iterator:
        """The images and labels of the steps, shared out over the replicas."""
        space, seed = self.config.space, self.seed_of(stage)
        return training_batches(
            self.data.train,
            self.config.preprocessing,
            recipe.augment,
            recipe.batch,
            seed,
            steps,
            lambda number: plan_step(space, span_of(layout, number), seed, number).resolution,
            self.cluster.rows(recipe),
            self.cluster.distribute,
        )

    @contextlib.contextmanager
    def _scalars(self, stage: str, recipe: Recipe) -> Iterator[Scalars | None]:
        """The scalars of the stage; None for workers other than the chief."""
        if not self.cluster.chief:
            yield None
            return
        scalars = Scalars(self.workdir.logs / stage, self.config.space, recipe.batch, self.progress)
        try:
            yield scalars
        finally:
            scalars.close()

    def _train_step(
        self, stage: str, recipe: Recipe, span: Span, step: int, images, labels, scalars: Scalars | None
    ) -> None:
        if step == span.start:
            with self.cluster.strategy.scope():
                self.step.reset_optimizer()
                middle_opens = "depth" if self.config.space.coupled else "width"
                if recipe.sort_channels and stage in (middle_opens, "width"):
                    trained = trained_widths(self.config.space, self.layout_of(stage), span)
                    middle, streams = stage == middle_opens, stage == "width"
                    self.supernet.sort_channels(
                        middle=middle, streams=streams, trained=trained, importance=recipe.importance
                    )
        seed = self.seed_of(stage)
        plan = plan_step(self.config.space, span, seed, step)
        share, micro_batch = self.cluster.shares(recipe)
        learning_rate = span.learning_rate(step, recipe.batch)
        losses = self.step.run(
            images, labels, share, micro_batch, plan.codes, learning_rate, span.phase.distils, plan.seed
        )
        if not np.all(np.isfinite(losses)):
            arch = self.config.space.decode_one(plan.codes[int(np.argmin(np.isfinite(losses)))])
            first = ", ".join(map(str, batch_indices(len(self.data.train), recipe.batch, seed, step)[:3]))
            raise TrainingError(
                f"The loss of stage `{stage}` is not a number at step {step}, arch {arch}, the batch of {recipe.batch} "
                f"training images numbered {first}, …: train it again at a lower learning rate "
                f"(--stage {stage} --restart --lr X); the last checkpoint is kept."
            )
        if scalars is not None:
            scalars.step(step, plan.codes, losses, learning_rate)

    def _save(self, stage: str, step: int, n_steps: int) -> None:
        if self.cluster.chief:
            if not all(np.isfinite(variable.numpy()).all() for variable in self.state.values()):
                raise TrainingError(
                    f"The weights of stage `{stage}` are not finite after step {step}: train it again at a lower "
                    f"learning rate (--stage {stage} --restart --lr X); the last checkpoint is kept."
                )
            checkpoint.save(self.workdir.checkpoints(stage), step, self.state)
        self._record(stage, "running", step, n_steps)

    def _record(
        self, stage: str, state: str, step: int, n_steps: int, metrics: Mapping[str, float] | None = None
    ) -> StageRecord:
        before, lap = self.ledger.stages.get(stage), self.meter.lap()
        spent = before.cost if before is not None else None
        known = spent is not None or before is None or before.step == 0  # earlier versions wrote no costs down
        cost = spent + lap if spent is not None else lap if known else None
        overrides = before.overrides if before is not None else {}
        record = StageRecord(state, step, n_steps, metrics or {}, overrides, len(self.data.train), cost=cost)
        if self.cluster.chief:
            self.ledger.record(stage, record)
        return record

    def _metrics(self, stage: str, title: str | None = None) -> dict[str, float]:
        """Accuracies of some subnets on the held-out training images, by name; with a title the progress shows it.

        After the first stage only those of the largest network, at some resolutions: no other is trained yet.
        """
        copy = weights_of(self.evaluator.supernet)
        for name, variable in self.weights.items():
            copy[name].assign(variable.numpy())
        space = self.config.space
        probes, metrics = probe_archs(space, self.config.seed), {}
        if stage == STAGES[0]:
            probes = {name: code for name, code in probes.items() if name.startswith("largest")}
        with (self.progress if title else SILENT).task(title or "", len(probes), "subnets") as advance:
            for name, code in probes.items():
                metrics[f"{name}_accuracy"] = self.evaluator.accuracy(space.decode_one(code), self.data.tune)
                advance(1)
        return metrics


def load_stage(workdir: StageFiles, stage: str, supernet: Supernet) -> None:
    """Loads the weights of the end of a stage.

    Raises:
        WorkdirError: the stage is not done, or its checkpoint is lost or damaged.
    """
    folder = workdir.checkpoints(stage)
    if not workdir.ledger().done(stage):
        raise WorkdirError(f"Stage `{stage}` of {workdir} is not done: run `ofa-tf train --stage {stage}`.")
    final = workdir.ledger().stages[stage].steps
    try:
        checkpoint.load(checkpoint.checkpoint_path(folder, final), weights_of(supernet))
    except DamagedError as error:
        raise WorkdirError(f"{error} Train its last steps again: `ofa-tf train --stage {stage}`.") from None
    except FormatError as error:
        raise WorkdirError(f"{error} Train the stage again: `ofa-tf train --stage {stage} --restart`.") from None
