"""Pretrained weights from wherever they come: a name, a file, a folder, an address, a Keras model, another workdir."""

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ofa_tf.data import Preprocessing
from ofa_tf.errors import FormatError
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import SearchSpace
from ofa_tf.supernet import Supernet
from ofa_tf.zoo import efficientnet_lite
from ofa_tf.zoo.catalog import IMAGENET_MEAN, IMAGENET_STD
from ofa_tf.zoo.keras_blocks import read_keras
from ofa_tf.zoo.pretrained import LITE, MAX_BYTES, MOBILENET_V2, SUPERNET, find_row, unknown
from ofa_tf.zoo.sources import Source, get_file, is_address
from ofa_tf.zoo.supernets import supernet_space
from ofa_tf.zoo.torch_file import state_dict
from ofa_tf.zoo.transplant import load_network
from ofa_tf.zoo.weights import load_torch_weights

ARCHIVES, KERAS_FILES = (".tar.gz", ".tgz", ".tar"), (".keras", ".h5", ".hdf5")
ONE_TO_ONE = Preprocessing((127.5,) * 3, (127.5,) * 3)
WIDTHS_V2 = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
CLASSES_V2 = 1000
MOST_ENTRIES = 1000  # of an archive


@dataclass(frozen=True)
class Pretrained:
    """Weights that a training can begin with.

    Args:
        name: their name.
        space: a space that contains the network as its largest subnet.
        preprocessing: what the network expects of pixels.
        source: `address` and `sha256`.
        fill: puts the weights into a supernet of the space, or of one that contains the network, too; all but those of
            the classifier.
        elastic: whether the smaller subnets are trained, too.
        notes: what the user should know about them.
    """

    name: str
    space: SearchSpace
    preprocessing: Preprocessing
    source: Mapping[str, str]
    fill: Callable[[Supernet], None]
    elastic: bool = False
    notes: tuple[str, ...] = ()

    def to_document(self) -> dict[str, str]:
        """Name, address and hash, as JSON values."""
        return {"name": self.name, **self.source}


def load_pretrained(source: Any, progress: Progress = SILENT) -> Pretrained:
    """Reads pretrained weights.

    Args:
        source: a name of `pretrained.PRETRAINED`; a `keras.Model`; an address; or a path: of a PyTorch state, of a
            Keras model or the weights of a MobileNetV2, of the authors' TensorFlow checkpoint, as a folder or an
            archive.
        progress: where to report downloads.

    Raises:
        FormatError: no such source, or one that cannot be read, or a network that no space contains.
        DownloadError: it could not be downloaded.
    """
    if isinstance(source, keras.Model):
        return _of_model(source, source.name, {"address": "a Keras model", "sha256": _model_hash(source)})
    source = str(source)
    if (row := find_row(source)) is not None:
        return FAMILIES[row.family](row.fetch(progress), row.name)
    if not is_address(source) and not Path(source).exists():
        raise unknown(source)
    if Path(source).is_dir():
        return _of_checkpoint(Path(source), source, Source(_data_file(Path(source)), str(Path(source).resolve())))
    file = get_file(source, MAX_BYTES, progress)
    name = Path(source).name
    if name.endswith(ARCHIVES):
        return _of_lite(file, name)
    if name.endswith(KERAS_FILES):
        return _of_keras_file(file, name)
    state = state_dict(file.path)
    if any(name.startswith("_conv_stem.") for name in state):
        return _of_lite_state(state, file, name)
    return _of_supernet(file, name)


# --- EfficientNet-Lite ------------------------------------------------------------------------------------------------


def _of_lite(file: Source, name: str) -> Pretrained:
    if not name.endswith(ARCHIVES) and not file.path.name.endswith(ARCHIVES):
        return _of_lite_state(state_dict(file.path), file, name)
    with tempfile.TemporaryDirectory() as folder:
        _unpack(file.path, Path(folder))
        return _of_checkpoint(Path(folder), str(file.path), file)


def _of_lite_state(state: Mapping[str, np.ndarray], file: Source, name: str) -> Pretrained:
    return _of_lite_weights(*efficientnet_lite.from_torch(state, name), file)


def _of_lite_weights(name: str, weights: efficientnet_lite.Weights, file: Source) -> Pretrained:
    space = efficientnet_lite.lite_space(name)

    def fill(supernet: Supernet) -> None:
        load_network(supernet, space, weights, name)

    return Pretrained(name, space, efficientnet_lite.PIXELS, file.to_document(), fill)


def _of_checkpoint(folder: Path, where: str, file: Source) -> Pretrained:
    index = _index_file(folder)
    if index is None:
        raise FormatError(f"{where} holds no TensorFlow checkpoint (a file with the ending .index).")
    try:
        reader = tf.train.load_checkpoint(str(index.with_suffix("")))
        shapes = reader.get_variable_to_shape_map()
        wanted = [name for name in shapes if "/model/" in name]
        if sum(4 * int(np.prod(shapes[name])) for name in wanted) > MAX_BYTES:
            raise FormatError(f"{where} claims more than {MAX_BYTES} bytes of weights.")
        variables = {name: np.asarray(reader.get_tensor(name)) for name in wanted}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{where} holds a damaged TensorFlow checkpoint ({str(error)[:120]}).") from None
    return _of_lite_weights(*efficientnet_lite.from_tensorflow(variables, where), file)


def _index_file(folder: Path) -> Path | None:
    files = sorted(file for file in folder.rglob("*.index") if file.is_file())
    return files[0] if files else None


def _data_file(folder: Path) -> Path:
    index = _index_file(folder)
    if index is None:
        raise FormatError(f"{folder} is neither a workdir nor a folder with a TensorFlow checkpoint.")
    return next(iter(sorted(index.parent.glob(f"{index.stem}.data-*"))), index)


def _unpack(archive: Path, folder: Path) -> None:
    """Takes the files of a checkpoint out of an archive, by their last names; refuses anything else that is large."""
    left = MAX_BYTES
    try:
        with tarfile.open(archive) as tar:
            for number, entry in enumerate(tar):
                if number == MOST_ENTRIES:
                    raise FormatError(f"{archive} has more than {MOST_ENTRIES} entries.")
                name = Path(entry.name).name
                if not entry.isfile() or not (name.endswith(".index") or ".data-" in name):
                    continue
                left -= entry.size
                if left < 0:
                    raise FormatError(f"{archive} holds more than {MAX_BYTES} bytes.")
                content = tar.extractfile(entry)
                assert content is not None
                with open(folder / name, "wb") as file:
                    shutil.copyfileobj(content, file)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"{archive} cannot be read as an archive ({str(error)[:120]}).") from None


# --- Keras ------------------------------------------------------------------------------------------------------------


def _of_keras_file(file: Source, name: str) -> Pretrained:
    if not name.endswith(".keras") and (found := _mobilenet_v2(file, name)) is not None:
        return found
    try:
        model = keras.saving.load_model(file.path, compile=False, safe_mode=True)
    except Exception as error:  # noqa: BLE001 - Keras, h5py and zipfile raise some ten kinds for other files
        raise FormatError(f"{name} cannot be loaded as a Keras model ({str(error).strip()[:160]}).") from None
    if not isinstance(model, keras.Model):
        raise FormatError(f"{name} holds a {type(model).__name__}, not a Keras model.")
    return _of_model(model, Path(name).stem, file.to_document())


def _of_model(
    model: keras.Model, name: str, source: Mapping[str, str], pixels: Preprocessing | None = None
) -> Pretrained:
    network = read_keras(model, name)
    notes: tuple[str, ...] = ()
    if network.preprocessing is None and pixels is None:
        notes = (
            f"{name} does not say how its pixels are normalised: -1 to 1 is assumed; a Rescaling layer at its "
            "beginning says it.",
        )

    def fill(supernet: Supernet) -> None:
        load_network(supernet, network.space, network.weights, name)

    return Pretrained(name, network.space, network.preprocessing or pixels or ONE_TO_ONE, source, fill, notes=notes)


def _of_mobilenet_v2(file: Source, name: str) -> Pretrained:
    found = _mobilenet_v2(file, name)
    if found is None:
        raise FormatError(f"{name}: {file.path} holds no weights of MobileNetV2.")
    return found


def _mobilenet_v2(file: Source, name: str) -> Pretrained | None:
    """A MobileNetV2 of `keras.applications`, from a file that holds only weights; None if it is none."""
    top = "_no_top" not in file.path.name
    for width in WIDTHS_V2:
        model = keras.applications.MobileNetV2(
            (224, 224, 3), width, include_top=top, weights=None, classes=CLASSES_V2, name=f"mobilenet_v2_{width}"
        )
        try:
            model.load_weights(file.path)
        except Exception:  # noqa: BLE001 - Keras and h5py raise several kinds for another width or another file
            continue
        return _of_model(model, f"mobilenet-v2-{width}", file.to_document(), ONE_TO_ONE)
    return None


def _model_hash(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


# --- Once-for-All -----------------------------------------------------------------------------------------------------


def _of_supernet(file: Source, name: str) -> Pretrained:
    state = state_dict(file.path)
    try:
        space, n_classes = supernet_space(state)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None
    imported = Supernet(space, n_classes)
    load_torch_weights(imported, state)

    def fill(supernet: Supernet) -> None:
        copy_body(imported, supernet, name)

    return Pretrained(name, space, Preprocessing(IMAGENET_MEAN, IMAGENET_STD), file.to_document(), fill, elastic=True)


def copy_body(source: Supernet, target: Supernet, name: str) -> None:
    """Copies all weights but those of the classifier from one supernet to another of the same space.

    Raises:
        FormatError: a weight that the other does not have, or of another shape; names it.
    """
    values = {variable.path: variable for variable in source.variables}
    wanted = [variable for variable in target.variables if not variable.path.startswith("classifier/")]
    for variable in wanted:
        found = values.get(variable.path)
        if found is None or found.shape != variable.shape:
            shown = "nothing" if found is None else list(found.shape)
            raise FormatError(
                f"The space `{target.space.name}` does not fit {name}: `{variable.path}` has the shape "
                f"{list(variable.shape)} and {shown} there."
            )
    for variable in wanted:
        variable.assign(values[variable.path])


FAMILIES: Mapping[str, Callable[[Source, str], Pretrained]] = {
    LITE: _of_lite,
    MOBILENET_V2: _of_mobilenet_v2,
    SUPERNET: _of_supernet,
}
