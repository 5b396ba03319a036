"""`--init`: the pretrained weights that a new workdir begins with, and what follows from them."""

from pathlib import Path
from typing import Any

from ofa_tf.errors import WorkdirError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.project.workdir import Config, Workdir
from ofa_tf.supernet import Supernet
from ofa_tf.training.recipe import STAGES
from ofa_tf.training.trainer import load_stage
from ofa_tf.training.transfer import save_imported
from ofa_tf.zoo.download import file_sha256
from ofa_tf.zoo.pretrained_sources import Pretrained, copy_body, load_pretrained


def load_initial(source: Any, progress: Progress = SILENT) -> Pretrained:
    """Reads the weights that a training is to begin with: those of another workdir, or pretrained ones.

    Args:
        source: a workdir, or as for `load_pretrained`.
        progress: where to report downloads.

    Raises:
        WorkdirError: a workdir in which nothing is trained.
        OfaError: as for `load_pretrained`.
    """
    if isinstance(source, str | Path) and Path(source).is_dir() and Workdir(source).exists:
        return _of_workdir(Workdir(source))
    return load_pretrained(source, progress)


def _of_workdir(workdir: Workdir) -> Pretrained:
    config, ledger = workdir.config(), workdir.ledger()
    done = [stage for stage in STAGES if ledger.done(stage)]
    if not done:
        raise WorkdirError(f"Nothing is trained in {workdir}, so that no training can begin with its weights.")
    stage, place = done[-1], str(workdir.path.resolve())
    trained = Supernet(config.space, config.n_classes)
    load_stage(workdir, stage, trained)
    file = workdir.checkpoints(stage) / f"step-{ledger.stages[stage].steps:08d}.npz"

    def fill(supernet: Supernet) -> None:
        copy_body(trained, supernet, place)

    source = {"address": place, "sha256": file_sha256(file)}
    return Pretrained(
        workdir.path.resolve().name, config.space, config.preprocessing, source, fill, elastic=stage == STAGES[-1]
    )


def write_initial(workdir: Workdir, config: Config, pretrained: Pretrained, keep: bool) -> None:
    """Puts the weights into the workdir.

    Args:
        workdir: the workdir.
        config: its config, with all classes.
        pretrained: the weights.
        keep: whether to write them; if not, it is only checked that they fit.

    Raises:
        FormatError: the space does not contain the network; names the difference.
    """
    supernet = Supernet(config.space, config.n_classes, seed=config.seed)
    pretrained.fill(supernet)
    if keep:
        save_imported(workdir, supernet)
