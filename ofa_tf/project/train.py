"""Training the stages of a workdir: which ones, from where, and what the user overrides: `ofa-tf train`."""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ofa_tf.atomic import remove_folders
from ofa_tf.energy import Assumptions
from ofa_tf.errors import ArgumentError, DamagedError, WorkdirError
from ofa_tf.formatting import percent
from ofa_tf.npzio import read_arrays
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.opened import OpenedWorkdir, open_project
from ofa_tf.training import checkpoint
from ofa_tf.training.cluster import Cluster, make_cluster
from ofa_tf.training.estimate import Estimate, estimate
from ofa_tf.training.ledger import Ledger, StageRecord
from ofa_tf.training.recipe import STAGES
from ofa_tf.training.trainer import Trainer

OPTIONS = {"epochs": "--epochs", "batch": "--batch", "base_lr": "--lr"}


@dataclass(frozen=True, repr=False)
class Training:
    """What `train` did.

    Args:
        stages: the record of each requested stage, and of the earlier ones.
        traces: how often each function of the training step was traced in this process.
    """

    stages: Mapping[str, StageRecord]
    traces: Mapping[str, int]

    def __repr__(self) -> str:
        ends = {name: percent(record.metrics.get("largest_accuracy")) for name, record in self.stages.items()}
        return f"Training(largest subnet after {', '.join(f'{name}: {share}' for name, share in ends.items())})"


def open_and_train(
    path: str | Path,
    stage: str,
    restart: bool = False,
    overrides: Mapping[str, Any] | None = None,
    strategy: str = "none",
    dry_run: bool = False,
    progress: Progress = SILENT,
    **choices: Any,
) -> Training | Estimate:
    """Opens a workdir, or makes one, and trains in it: `ofa-tf train`.

    Args:
        path: the workdir; for an estimate it need not exist.
        stage: as for `train`, and so are `restart` and `overrides`.
        restart: see there.
        overrides: see there.
        strategy: the devices: one ("none"), or as for `make_cluster`.
        dry_run: whether to only estimate time and memory and change nothing.
        progress: where to report progress.
        choices: `space`, `data`, `recipe`, `hours`, `seed` and `init`, as for `open_project`.
    """
    cluster = make_cluster(strategy, progress)
    if dry_run:
        project = open_project(path, **choices, progress=progress, create=False)
        return estimate_training(project, stage, restart, overrides, cluster)
    project = cluster.chief_first(lambda: open_project(path, **choices, progress=progress))
    return train(project, stage, restart, overrides, cluster)


def train(
    project: OpenedWorkdir,
    stage: str,
    restart: bool = False,
    overrides: Mapping[str, Any] | None = None,
    cluster: Cluster | None = None,
) -> Training:
    """Trains a stage, and the earlier ones that are missing.

    Args:
        project: the workdir.
        stage: "full", "kernel", "depth", "width", or "all".
        restart: whether to train this stage again although it is done or begun; others are left as they are.
        overrides: `epochs`, `batch` or `base_lr` of this stage (of every stage for "all"), instead of the recipe's;
            they are remembered until the stage is done.
        cluster: the devices to train on; by default one.

    Raises:
        OfaError: something is wrong with the data, the workdir or the training itself; the message says what. Nothing
            has been changed if that shows before the first step.
    """
    wanted, named = _stages(project, stage)
    workdir, cluster = project.workdir, cluster or make_cluster("none")
    _refuse_imported(project)
    assumptions = Assumptions.from_environment()
    with workdir.lock() if cluster.chief else nullcontext(), cluster.noticing_lost_workers():
        missing = cluster.chief_first(lambda: _prepare(project, wanted, named, restart, overrides or {}, cluster))
        traces: Mapping[str, int] = {}
        if missing:
            if assumptions.known:
                project.progress.note(f"The ledger counts energy: {assumptions}.")
            earlier = [name for name in missing if name != wanted[-1]]
            if earlier and stage != "all":
                project.progress.note(f"Stage `{stage}` needs {', '.join(earlier)} first: training them now.")
            trainer = Trainer(workdir, project.config, project.data, project.progress, cluster)
            for name in missing:
                trainer.train(name)
            traces = trainer.traces
    stages = workdir.ledger().stages
    return Training({name: stages[name] for name in wanted}, traces)


def estimate_training(
    project: OpenedWorkdir,
    stage: str,
    restart: bool = False,
    overrides: Mapping[str, Any] | None = None,
    cluster: Cluster | None = None,
) -> Estimate:
    """Estimates time and memory of what `train` would do, with the same arguments, and changes nothing.

    If nothing is left to train, the stages are estimated as if they were trained again.
    """
    wanted, named = _stages(project, stage)
    cluster = cluster or make_cluster("none")
    _refuse_imported(project)
    trainer = Trainer(project.workdir, project.config, project.data, project.progress, cluster)
    for name in named if restart else ():
        trainer.ledger.stages.pop(name, None)
    begun = _check_overrides(project, trainer.ledger, named, overrides or {}, cluster)
    trainer.ledger.stages.update({name: _begun(overrides or {}) for name in begun})
    missing = [name for name in wanted if not trainer.ledger.done(name)]
    if not missing:
        trainer.ledger.stages.clear()
    return estimate(trainer, missing or wanted)


def _stages(project: OpenedWorkdir, stage: str) -> tuple[Sequence[str], Sequence[str]]:
    """The stages that must be done in the end, and those that the user named."""
    recipe = project.config.recipe
    if stage == "all":
        return recipe.stages, recipe.stages
    if stage not in recipe.stages:
        raise ArgumentError(
            f"The recipe `{recipe.name}` of {project.workdir} has no stage `{stage}`: give --stage one of "
            f"{', '.join(recipe.stages)}, all."
        )
    return recipe.stages[: recipe.stages.index(stage) + 1], (stage,)


def _refuse_imported(project: OpenedWorkdir) -> None:
    if project.workdir.ledger().imported:
        raise WorkdirError(
            f"{project.workdir} holds an imported network, which is trained already: use it with `ofa-tf search` and "
            "`ofa-tf export`, or train it for your own classes in another --workdir, with this one as --init."
        )


def _begun(overrides: Mapping[str, Any]) -> StageRecord:
    return StageRecord("running", 0, 0, overrides=overrides)


def _prepare(
    project: OpenedWorkdir,
    wanted: Sequence[str],
    named: Sequence[str],
    restart: bool,
    overrides: Mapping[str, Any],
    cluster: Cluster,
) -> list[str]:
    """Clears what is trained again and notes what the user overrides; returns the stages to train."""
    workdir, ledger = project.workdir, project.workdir.ledger()
    fresh = Ledger(ledger.path)
    for name in named if restart else ():
        fresh.stages.pop(name, None)
    begun = _check_overrides(project, fresh, named, overrides, cluster)
    if not cluster.chief:
        return [name for name in wanted if not ledger.done(name)]
    if any(not fresh.done(name) for name in wanted):
        _ = project.data  # refuses images that are gone before anything is removed
    stale, had_accuracies = [workdir.accuracy, workdir.finetuned], workdir.accuracy.exists()
    if restart:  # before they are forgotten: nothing may go on from weights of before
        doomed = [folder for name in named for folder in (workdir.checkpoints(name), workdir.logs / name)]
        remove_folders(doomed + (stale if STAGES[-1] in wanted and not fresh.done(STAGES[-1]) else []))
        ledger.forget(tuple(named))
    for name in begun if overrides else ():
        ledger.record(name, _begun(overrides))
    _reopen_damaged(project, ledger, wanted)
    missing = [name for name in wanted if not ledger.done(name)]
    if STAGES[-1] in missing:  # they are of its weights, whatever becomes of earlier stages
        remove_folders(stale)
        if had_accuracies:
            project.progress.note("The accuracies and the predictor of the previous weights were removed.")
    return missing


def _check_overrides(
    project: OpenedWorkdir, ledger: Ledger, named: Sequence[str], overrides: Mapping[str, Any], cluster: Cluster
) -> list[str]:
    """The named stages that have not been begun; refuses overrides that cannot be, or come too late for the others."""
    begun = [name for name in named if name not in ledger.stages]
    for name in begun:
        cluster.shares(project.config.recipe.overridden(name, **overrides))
    late = [name for name in named if name in ledger.stages and dict(ledger.stages[name].overrides) != dict(overrides)]
    running = [name for name in late if not ledger.done(name)]
    if overrides and (running or (late and all(map(ledger.done, named)))):
        name = (running or late)[-1]
        used = " ".join(f"{OPTIONS[key]} {value:g}" for key, value in ledger.stages[name].overrides.items())
        state = "is done" if ledger.done(name) else f"was begun with {used or 'the values of its recipe'}"
        raise WorkdirError(
            f"Stage `{name}` of {project.workdir} {state}: leave --epochs, --batch and --lr out, or train it again "
            f"with --stage {name} --restart."
        )
    return begun


def _reopen_damaged(project: OpenedWorkdir, ledger: Ledger, wanted: Sequence[str]) -> None:
    """Lets stages whose last checkpoint is damaged, and is needed, go on from the one before, or start again."""

    def is_whole(name: str, step: int) -> bool:
        try:
            read_arrays(checkpoint.checkpoint_path(project.workdir.checkpoints(name), step))
        except DamagedError:
            return False
        return True

    def goes_on(name: str) -> bool:
        return any(is_whole(name, step) for step in checkpoint.steps(project.workdir.checkpoints(name)))

    def reopen(name: str) -> bool:
        """Whether the stage lacks its end; then it is no longer done."""
        record = ledger.stages[name]
        if not ledger.done(name) or is_whole(name, record.steps):
            return False
        path = checkpoint.checkpoint_path(project.workdir.checkpoints(name), record.steps)
        how = "resumes from the checkpoint before" if goes_on(name) else "has no other checkpoint and starts again"
        project.progress.note(f"{path} is damaged or lost: stage `{name}` {how}.")
        ledger.record(name, replace(record, state="running", step=0, metrics={}))
        return True

    missing, stages = [name for name in wanted if not ledger.done(name)], project.config.recipe.stages
    last = stages.index(missing[0]) - 1 if missing else stages.index(wanted[-1])
    if missing and goes_on(missing[0]):
        last = -1
    while last >= 0 and reopen(stages[last]) and not goes_on(stages[last]):
        last -= 1
    if stages[0] == STAGES[0] in ledger.stages and any(not ledger.done(name) for name in wanted[1:]):
        reopen(STAGES[0])
