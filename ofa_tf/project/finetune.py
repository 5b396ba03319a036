"""Fine-tuning of chosen subnets in a workdir: `ofa-tf export --finetune`."""

from typing import Any

from ofa_tf.data import Images
from ofa_tf.energy import Meter
from ofa_tf.errors import ArgumentError
from ofa_tf.project.choice import Choice
from ofa_tf.project.evaluator import make_evaluator
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.requirements import require_labels
from ofa_tf.space import Arch
from ofa_tf.training.evaluation import SubnetEvaluator
from ofa_tf.training.finetune import FineTuned, FineTuner

MOST_EPOCHS = 1000


def checked_epochs(epochs: float) -> float:
    """Refuses more epochs than anybody can mean.

    Raises:
        ArgumentError: says how many there may be.
    """
    if epochs > MOST_EPOCHS:
        raise ArgumentError(f"--finetune {epochs:.15g} must be at most {MOST_EPOCHS} epochs.")
    return epochs


def fine_tuner(project: OpenedWorkdir, evaluator: SubnetEvaluator, epochs: float) -> FineTuner:
    """What fine-tunes the subnets of a workdir.

    Args:
        project: the workdir.
        evaluator: of its supernet.
        epochs: passes over the training images.

    Raises:
        DataError: there are no images, or they have no labels.
    """
    require_labels(project)
    return FineTuner(project.workdir.finetuned, project.config, project.data, evaluator, epochs, project.progress)


def finetune(project: OpenedWorkdir, choice: Choice | Arch, epochs: float) -> FineTuned:
    """Fine-tunes one subnet.

    Raises:
        TrainingError: the loss is not a number.
        ArgumentError: too many epochs.
        OfaError: as for `fine_tuner`, and where a stage is not trained.
    """
    arch = choice if isinstance(choice, Arch) else choice.arch
    arch = project.config.space.arch_from_document(arch.to_document())
    tuner = fine_tuner(project, make_evaluator(project, traced=False), checked_epochs(epochs))
    meter = Meter()
    with project.workdir.lock():
        tuned = told(project, tuner.tune(arch))
        project.workdir.ledger().spend("fine-tuning", meter.lap())
    return tuned


def told(project: OpenedWorkdir, tuned: FineTuned) -> FineTuned:
    """Says what fine-tuning has gained."""
    kept = "they are kept" if tuned.better else "they are no better, so those of the supernet are kept"
    project.progress.note(
        f"Fine-tuning for {tuned.epochs:g} epochs: {tuned.after:.1%} of the held-out training images with its own "
        f"weights, {tuned.before:.1%} with those of the supernet ({(tuned.after - tuned.before) * 100:+.1f} points); "
        f"{kept}."
    )
    return tuned


def gain(tuned: FineTuned, evaluator: SubnetEvaluator, images: Images) -> dict[str, Any]:
    """What fine-tuning has gained on validation images, for the manifest.

    Args:
        tuned: the subnet.
        evaluator: of the supernet.
        images: if they have no labels, the accuracies are None.
    """

    def accuracy(of: SubnetEvaluator) -> float | None:
        return of.accuracy(tuned.arch, images) if images.labelled else None

    return {
        "epochs": tuned.epochs,
        "supernet_accuracy": accuracy(evaluator),
        "finetuned_accuracy": accuracy(tuned.evaluator),
        "kept": "finetuned" if tuned.better else "supernet",
    }
