"""Published supernets, latency tables and accuracy predictors taken into a workdir: `ofa-tf zoo import`."""

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ofa_tf.accuracy.store import WEIGHTS, FittedPredictor
from ofa_tf.data import Preprocessing
from ofa_tf.errors import FormatError, WorkdirError
from ofa_tf.formatting import multipliers
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.published_tables import import_note10
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.space import SearchSpace
from ofa_tf.supernet import Supernet
from ofa_tf.training import checkpoint
from ofa_tf.training.ledger import StageRecord
from ofa_tf.training.recipe import RECIPES, STAGES
from ofa_tf.training.weights import weights_of
from ofa_tf.zoo import catalog, imagenet
from ofa_tf.zoo.published_predictor import read_published_predictor
from ofa_tf.zoo.sources import get_file, is_address
from ofa_tf.zoo.specialized import SpecializedNetwork, import_specialized
from ofa_tf.zoo.supernets import class_names, read_classes, supernet_space
from ofa_tf.zoo.torch_file import state_dict
from ofa_tf.zoo.weights import load_torch_weights

__all__ = [
    "ImportedSupernet",
    "SpecializedNetwork",
    "import_note10",
    "import_predictor",
    "import_specialized",
    "import_supernet",
    "read_classes",
]
MAX_CHECKPOINT_BYTES, MAX_PREDICTOR_BYTES = 500_000_000, 50_000_000
IMAGENET_CROP = 0.875  # of the published evaluation
IMAGENET_PIXELS = Preprocessing(catalog.IMAGENET_MEAN, catalog.IMAGENET_STD)


# --- supernets --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ImportedSupernet:
    """A workdir with an imported supernet, ready for `search` and `export`.

    Args:
        workdir: its folder.
        space: its space.
        n_classes: number of outputs of the classifier.
        n_params: trainable parameters of all subnets together.
        source: `address` and `sha256` of the checkpoint.
    """

    workdir: Path
    space: SearchSpace
    n_classes: int
    n_params: int
    source: Mapping[str, str]


def import_supernet(
    source: str,
    workdir: str | Path,
    classes: Sequence[str] | None = None,
    resolutions: Sequence[int] | None = None,
    progress: Progress = SILENT,
) -> ImportedSupernet:
    """Makes a workdir from a published supernet: all stages are done, and its weights are those of the last one.

    Its space and width multiplier follow from the shapes of the tensors. No checkpoint contains the epsilon of the
    batch norms: it is that of the published networks of the same space.

    Args:
        source: a name of the catalog, a file, or an address.
        workdir: the folder; it must not be a workdir yet.
        classes: names of the classes, in the order of the outputs; None for those of ImageNet.
        resolutions: the image sizes to choose from, in pixels; None for those that it was trained at, as published.
        progress: where to report progress.

    Raises:
        WorkdirError: the folder is a workdir.
        FormatError: no such file, or not a checkpoint of a supernet of our spaces; names the tensor.
        DownloadError: the checkpoint could not be fetched.
    """
    target = Workdir(workdir)
    if target.exists:
        raise WorkdirError(f"{target} is already a workdir: import into another folder.")
    published = catalog.find_supernet(source)
    if published is None and not Path(source).is_file() and not is_address(source):
        names = ", ".join(supernet.name for supernet in catalog.SUPERNETS)
        raise FormatError(f"There is no supernet {source!r}: give a file, an address, or one of {names}.")
    file = get_file(source if published is None else published.address, MAX_CHECKPOINT_BYTES, progress)
    state = state_dict(file.path)
    try:
        space, n_classes = supernet_space(state)
        if resolutions is not None:
            space = dataclasses.replace(space, resolutions=tuple(sorted(set(resolutions))))
        classes = class_names(classes, n_classes)
        supernet = Supernet(space, n_classes)
        load_torch_weights(supernet, state)
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from None
    config = Config(space, None, tuple(classes), IMAGENET_PIXELS, RECIPES["imagenet"], seed=0)
    if tuple(classes) == imagenet.class_names():
        config = dataclasses.replace(config, crop=IMAGENET_CROP)
    _write_workdir(target, config, supernet, file.to_document())
    n_params = sum(int(np.prod(variable.shape)) for variable in supernet.trainable_variables)
    return ImportedSupernet(target.path, space, n_classes, n_params, file.to_document())


def _write_workdir(target: Workdir, config: Config, supernet: Supernet, source: Mapping[str, str]) -> None:
    """Weights, ledger, and last the config, which makes a workdir of the folder."""
    existed, folder, ledger = target.path.exists(), target.checkpoints(STAGES[-1]), target.ledger()
    with target.lock():
        if target.exists or not _left_by_import(target):
            raise WorkdirError(f"{target} holds parts of a workdir: import into another folder.")
        try:
            checkpoint.save(folder, 0, weights_of(supernet))
            for stage in STAGES:
                ledger.record(stage, StageRecord("done", 0, 0, source=source))
            target.create(config)
        except BaseException:
            ledger.path.unlink(missing_ok=True)
            shutil.rmtree(target.path if not existed else folder.parent, ignore_errors=True)
            raise


def _left_by_import(target: Workdir) -> bool:
    """Whether a folder holds nothing of a workdir but what an import that was killed may have written."""
    checkpoints, ledger = target.path / "checkpoints", target.ledger()
    imported = checkpoint.checkpoint_path(target.checkpoints(STAGES[-1]), 0)
    others = (target.tables, target.accuracy, target.exports, target.finetuned, target.images, target.logs)
    return (
        all(path == imported for path in checkpoints.rglob("*") if not path.is_dir())
        and all(record.source is not None for record in ledger.stages.values())
        and ledger.init is None
        and not ledger.costs
        and not any(path.exists() for path in others)
    )


# --- predictor --------------------------------------------------------------------------------------------------------


def import_predictor(
    source: str | None = None, workdir: str | Path = ".", force: bool = False, progress: Progress = SILENT
) -> FittedPredictor:
    """Imports a published accuracy predictor into the workdir of the network that it is of.

    Args:
        source: a file or an address; None for the one that is published for the network.
        workdir: the workdir.
        force: whether a predictor that the workdir has may be replaced.
        progress: where to report progress.

    Raises:
        WorkdirError: there is no workdir, it has a predictor, or another network.
        FormatError: no such file, or not the weights of such a predictor.
        DownloadError: it could not be fetched.
    """
    target = Workdir(workdir)
    config = target.config()
    published = catalog.find_predictor(config.space.name, config.space.width_mult)
    if published is None or config.n_classes != imagenet.N_CLASSES:
        known = " and of ".join(f"`{row.space}` of width {multipliers(row.width_mult)}" for row in catalog.PREDICTORS)
        raise WorkdirError(
            f"{target} has `{config.space.name}` of width {multipliers(config.space.width_mult)} with "
            f"{config.n_classes} classes; the published predictors are of subnets of {known} with {imagenet.N_CLASSES}."
        )
    if (target.accuracy / WEIGHTS).exists() and not force:
        raise WorkdirError(f"{target} already has a predictor: replace it with --force.")
    file = get_file(published.address if source is None else source, MAX_PREDICTOR_BYTES, progress)
    predictor = read_published_predictor(file.path, config.space)
    fitted = FittedPredictor(predictor, published.errors, "imported", file.to_document())
    with target.lock():
        fitted.save(target.accuracy)
    return fitted
