"""Fitting the accuracy predictor of a workdir to its subnets, with TensorFlow."""

import keras

from ofa_tf.accuracy.collect import JOURNAL, Pairs, balanced_archs, collect_pairs
from ofa_tf.accuracy.fit import fit_predictor
from ofa_tf.accuracy.store import FittedPredictor
from ofa_tf.blocks import count_macs, walk
from ofa_tf.energy import Meter
from ofa_tf.export.convert import to_tflite
from ofa_tf.export.gate import run_file
from ofa_tf.export.representative import representative_inputs
from ofa_tf.project.evaluator import make_evaluator
from ofa_tf.project.opened import OpenedWorkdir
from ofa_tf.project.requirements import require_labels
from ofa_tf.space import Arch
from ofa_tf.subnet import extract
from ofa_tf.training.evaluation import SubnetEvaluator

INT8_JOURNAL = "int8_pairs.jsonl"


def fit_to_subnets(
    project: OpenedWorkdir,
    n_archs: int = 100,
    evaluator: SubnetEvaluator | None = None,
    target: str = "float",
    n_int8: int = 24,
) -> FittedPredictor:
    """Evaluates subnets and fits the predictor to them; arguments and errors as for `predictor.fit`."""
    workdir, config = project.workdir, project.config
    require_labels(project)
    evaluator, images = (evaluator or make_evaluator(project)).ranking(), project.data.tune
    meter = Meter()
    with workdir.lock():
        pairs = collect_pairs(
            config.space,
            balanced_archs(config.space, config.seed),
            lambda arch: evaluator.accuracy(arch, images),
            n_archs,
            workdir.accuracy / JOURNAL,
            project.progress,
        )
        quantised = _int8_pairs(project, evaluator, pairs, n_int8) if target == "int8" else None
        fitted = FittedPredictor(
            *fit_predictor(config.space, pairs, config.seed, len(images), quantised), target=target
        )
        fitted.save(workdir.accuracy)
        workdir.ledger().spend("predictor", meter.lap())
    return fitted


def _int8_pairs(project: OpenedWorkdir, evaluator: SubnetEvaluator, pairs: Pairs, n: int) -> Pairs:
    """Accuracies of the int8 files of the first `n` of these archs, on the images that the float ones are of."""

    def accuracy(arch: Arch) -> float:
        evaluator.calibrate(arch)
        return _int8_accuracy(project, extract(evaluator.supernet, arch), arch)

    archs = [arch for arch, _ in pairs]
    journal = project.workdir.accuracy / INT8_JOURNAL
    quantised = collect_pairs(
        project.config.space, archs, accuracy, min(n, len(archs)), journal, project.progress, "evaluating int8 files"
    )
    known = set(archs)
    return [pair for pair in quantised if pair[0] in known]


def _int8_accuracy(project: OpenedWorkdir, model: keras.Model, arch: Arch) -> float:
    """Converts a subnet as the export does and runs the file on the held-out images, on all cores."""
    config, images = project.config, project.data.tune
    n_macs = count_macs(walk(config.space, arch, config.n_classes))
    chosen = representative_inputs(project.data.train, arch.resolution, config.preprocessing, config.seed, n_macs)
    logits = run_file(to_tflite(model, "int8", chosen.inputs), images, config.preprocessing)
    return float((logits.argmax(1) == images.labels).mean())
