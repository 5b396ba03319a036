"""The loop over the steps of a stage (progressive shrinking: Cai et al., ICLR 2020, section 3.3, figure 4)."""

import time
from dataclasses import dataclass

import keras
import numpy as np

from ofa_tf.accuracy.evaluate import SubnetEvaluator
from ofa_tf.data import Data, training_batches
from ofa_tf.errors import TrainingError, WorkdirError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import SearchSpace
from ofa_tf.supernet import Supernet
from ofa_tf.training import checkpoint
from ofa_tf.training.ledger import StageRecord
from ofa_tf.training.recipe import STAGES, Span, spans
from ofa_tf.training.step import TrainingStep
from ofa_tf.workdir import Config, Workdir

SECONDS_BETWEEN_CHECKPOINTS = 60


@dataclass(frozen=True)
class StepPlan:
    """All that is drawn for one step: a pure function of seed, stage and step.

    Args:
        resolution: of the images, in pixels.
        codes: the sampled archs, int32 of shape (subnets, genes).
    """

    resolution: int
    codes: np.ndarray


def plan_step(space: SearchSpace, span: Span, seed: tuple[int, ...], step: int) -> StepPlan:
    """Draws the resolution and the archs of a step."""
    rng = np.random.default_rng([*seed, 0, step])
    resolution = int(rng.integers(len(space.resolutions)))
    codes = space.sample(rng, span.phase.subnets, **span.phase.sampling())
    codes[:, 0] = resolution
    return StepPlan(space.resolutions[resolution], codes)


class Trainer:
    """Trains the stages of a workdir; its compiled functions serve all of them.

    Args:
        workdir: where checkpoints and the ledger are.
        config: what the workdir was made with.
        data: its images.
        progress: told about the work.
    """

    def __init__(self, workdir: Workdir, config: Config, data: Data, progress: Progress = SILENT):
        self.workdir = workdir
        self.config = config
        self.data = data
        self.progress = progress
        self.ledger = workdir.ledger()
        self.supernet = Supernet(config.space, len(config.classes), seed=config.seed)
        self.step = TrainingStep(self.supernet, config.recipe)
        self.evaluator = SubnetEvaluator(self.supernet, config.preprocessing, data.train)
        self.weights = weights_of(self.supernet)
        self.state = {
            **self.weights,
            **{
                f"momentum/{variable.path}": momentum
                for variable, momentum in zip(self.step.variables, self.step.optimizer.momentums, strict=True)
            },
        }

    @property
    def traces(self) -> dict[str, int]:
        """How often each function of the training step was traced."""
        return dict(self.step.traces)

    def train(self, stage: str) -> StageRecord:
        """Trains a stage to its end, from its newest checkpoint or from the end of the stage before.

        On `KeyboardInterrupt` it writes a checkpoint, unless a phase is just beginning, and raises on.

        Raises:
            TrainingError: a loss that is not a number; the last checkpoint stays.
            WorkdirError: the stage before is not done.
        """
        layout = spans(self.config.recipe, stage, len(self.data.train))
        n_steps = layout[-1].stop
        folder = self.workdir.checkpoints(stage)
        self.step.reset_optimizer()
        step = checkpoint.load_newest(folder, self.state, self.progress)
        if step == 0 and stage != STAGES[0]:
            load_stage(self.workdir, STAGES[STAGES.index(stage) - 1], self.supernet)
        self.step.optimizer.iterations.assign(step)
        if layout[0].phase.distils:
            self._load_teacher()
        seed = (self.config.seed, STAGES.index(stage))
        batches = training_batches(
            self.data.train,
            self.config.preprocessing,
            self.config.recipe.augment,
            self.config.recipe.batch,
            seed,
            range(step, n_steps),
            lambda number: plan_step(self.config.space, span_of(layout, number), seed, number).resolution,
        )
        self.ledger.record(stage, StageRecord("running", step, n_steps))
        saved = time.monotonic()
        try:
            with self.progress.task(f"training `{stage}`", n_steps, "steps", done=step) as advance:
                for images, labels in batches:
                    self._train_step(stage, span_of(layout, step), seed, step, images, labels)
                    step += 1
                    advance(1)
                    if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS and step < n_steps:
                        self._save(stage, step, n_steps)
                        saved = time.monotonic()
        except KeyboardInterrupt:
            # It may have come after the weights changed and before that was counted, or while channels were sorted.
            step = int(self.step.optimizer.iterations.numpy())
            if all(step != span.start for span in layout):
                self._save(stage, step, n_steps)
            raise
        checkpoint.save(folder, step, self.state)
        record = StageRecord("done", step, n_steps, self._metrics())
        self.ledger.record(stage, record)
        return record

    def _load_teacher(self) -> None:
        """Puts the largest network of the end of `full` into the teacher."""
        teacher = Supernet(self.config.space, len(self.config.classes))
        load_stage(self.workdir, STAGES[0], teacher)
        self.step.set_teacher(teacher)

    def _train_step(self, stage: str, span: Span, seed: tuple[int, ...], step: int, images, labels) -> None:
        if step == span.start:
            self.step.reset_optimizer()
            if stage == "width":
                self.supernet.sort_channels()
        plan = plan_step(self.config.space, span, seed, step)
        losses = self.step.run(images, labels, plan.codes, span.learning_rate(step, len(labels)), span.phase.distils)
        if not np.all(np.isfinite(losses)):
            arch = self.config.space.decode_one(plan.codes[int(np.argmin(np.isfinite(losses)))])
            raise TrainingError(
                f"The loss of stage `{stage}` is not a number at step {step}, arch {arch}: "
                "lower the learning rate; the last checkpoint is kept."
            )

    def _save(self, stage: str, step: int, n_steps: int) -> None:
        checkpoint.save(self.workdir.checkpoints(stage), step, self.state)
        self.ledger.record(stage, StageRecord("running", step, n_steps))

    def _metrics(self) -> dict[str, float]:
        space = self.config.space
        ends = {"smallest": space.smallest(space.resolutions[-1]), "largest": space.largest()}
        return {f"{name}_accuracy": self.evaluator.accuracy(arch, self.data.tune) for name, arch in ends.items()}


def span_of(layout: list[Span], step: int) -> Span:
    """The span that a step belongs to."""
    return next(span for span in layout if span.start <= step < span.stop)


def weights_of(supernet: Supernet) -> dict[str, keras.Variable]:
    """The weights of a supernet by names that do not depend on its own."""
    weights = {variable.path: variable for variable in supernet.variables}
    assert len(weights) == len(supernet.variables), "every weight has a name of its own"
    return weights


def load_stage(workdir: Workdir, stage: str, supernet: Supernet) -> None:
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
    except ValueError as error:
        raise WorkdirError(f"{error} Train the stage again: `ofa-tf train --stage {stage} --restart`.") from None
