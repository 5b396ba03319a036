"""Imports of published specialised networks: an arch, and a plain Keras model of it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from ofa_tf.atomic import replacing_folder, restore_folder, write_bytes
from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.errors import FormatError
from ofa_tf.jsonio import SPACE_SCHEMA, read_object, write_json
from ofa_tf.progress import SILENT, Progress
from ofa_tf.quiet import quiet
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.subnet import build_subnet
from ofa_tf.zoo import catalog, imagenet
from ofa_tf.zoo.net_config import read_net_config
from ofa_tf.zoo.sources import Source, get_file, is_address
from ofa_tf.zoo.subnet_weights import load_torch_subnet
from ofa_tf.zoo.torch_file import state_dict

NET, RUN, WEIGHTS = "net.config", "run.config", "init"
MAX_CONFIG_BYTES, MAX_WEIGHTS_BYTES = 1_000_000, 500_000_000
FACTS = "network.json"


@dataclass(frozen=True)
class SpecializedNetwork:
    """A published specialised network.

    Args:
        name: as published, or the name of its folder or file.
        space: its space.
        arch: its arch.
        n_classes: outputs of its classifier.
        n_params: trainable parameters, counted.
        n_macs: multiply-accumulates for one image, counted.
        published: device, latency and accuracy as published, where its name is one of the catalog.
        sources: `address` and `sha256` of each file that was read.
        model: the plain Keras model, or None where none was asked for. Without the file of the weights among the
            sources its weights are fresh ones.
        folder: where it was written, or None.
    """

    name: str
    space: SearchSpace
    arch: Arch
    n_classes: int
    n_params: int
    n_macs: int
    published: Mapping[str, Any] | None
    sources: Mapping[str, Mapping[str, str]]
    model: keras.Model | None = field(default=None, repr=False)
    folder: Path | None = None

    def to_document(self) -> dict[str, Any]:
        """What is known about it, as JSON values."""
        return {
            "name": self.name,
            "space": self.space.to_document(),
            "arch": self.arch.to_document(),
            "n_classes": self.n_classes,
            "n_params": self.n_params,
            "n_macs": self.n_macs,
            "published": None if self.published is None else dict(self.published),
            "preprocessing": {"mean": list(catalog.IMAGENET_MEAN), "std": list(catalog.IMAGENET_STD)},
            "weights": "imported" if WEIGHTS in self.sources else "fresh" if self.model is not None else None,
            "sources": {name: dict(source) for name, source in self.sources.items()},
        }


def import_specialized(
    source: str,
    out: str | Path | None = None,
    image_size: int | None = None,
    weights: bool = True,
    force: bool = False,
    progress: Progress = SILENT,
) -> SpecializedNetwork:
    """Reads a published specialised network and, where a folder is named, writes it as a plain Keras model.

    Args:
        source: a name of the catalog; a folder, or the address of one, with `net.config`, `run.config` and `init`; or
            a net config itself.
        out: a folder for `model.keras`, `arch.json`, `space.json`, `network.json` and `labels.txt`; None to read only
            the description.
        image_size: height and width of the input, in pixels; None for what `run.config` says.
        weights: whether to read the weights from `init`; without it the model has fresh ones.
        force: whether a network that `out` already holds may be replaced.
        progress: where to report progress.

    Raises:
        FormatError: there is no such source, or it is not a network of our spaces; the message says what is wrong.
        DownloadError: a file could not be fetched.
    """
    target = None if out is None else Path(out)
    if target is not None:
        _check_target(target, force)
    name, files = _files(source)
    found = {NET: get_file(files[NET], MAX_CONFIG_BYTES, progress)}
    if image_size is None:
        if RUN not in files:
            raise FormatError(f"{source} does not say the size of its images: give it with --image-size.")
        found[RUN] = get_file(files[RUN], MAX_CONFIG_BYTES, progress)
        image_size = read_object(found[RUN].path).get("image_size")
    space, arch, n_classes = read_net_config(found[NET].path, image_size)  # type: ignore[arg-type]
    model = None
    if target is not None:
        if weights and WEIGHTS not in files:
            raise FormatError(f"{source} comes without weights: give a folder that has `{WEIGHTS}`, or --no-weights.")
        if weights:
            found[WEIGHTS] = get_file(files[WEIGHTS], MAX_WEIGHTS_BYTES, progress)
        model = build_subnet(space, arch, n_classes)
        if weights:
            _load(model, space, arch, n_classes, found[WEIGHTS])
    network = catalog.find_network(name)
    blocks = walk(space, arch, n_classes)
    result = SpecializedNetwork(
        name=name,
        space=space,
        arch=arch,
        n_classes=n_classes,
        n_params=count_params(blocks),
        n_macs=count_macs(blocks),
        published=None if network is None else dict(network.__dict__),
        sources={part: file.to_document() for part, file in found.items()},
        model=model,
        folder=target,
    )
    if target is not None:
        _write(result, target, force)
    return result


def _files(source: str) -> tuple[str, dict[str, str]]:
    """Name of a network, and paths or addresses of its files."""
    network = catalog.find_network(source)
    base = network.address if network is not None else source.rstrip("/")
    if network is not None or (is_address(source) and not base.endswith((NET, ".json"))):
        return base.rpartition("/")[2], {part: f"{base}/{part}" for part in (NET, RUN, WEIGHTS)}
    if Path(source).is_dir():
        folder = Path(source)
        parts = {part: os.fspath(folder / part) for part in (NET, RUN, WEIGHTS) if (folder / part).is_file()}
        if NET not in parts:
            raise FormatError(f"{source} has no `{NET}`.")
        return folder.resolve().name, parts
    if is_address(source) or Path(source).is_file():
        last = base.rpartition("/")[2]
        stem = last.removesuffix(".json").removesuffix(f".{NET}")
        return (Path(source).resolve().parent.name if last == NET else stem), {NET: source}
    raise FormatError(
        f"There is no specialised network {source!r}: `ofa-tf zoo list` has the published ones; a folder with `{NET}`, "
        "that file itself, or an address works, too."
    )


def _load(model: keras.Model, space: SearchSpace, arch: Arch, n_classes: int, file: Source) -> None:
    try:
        load_torch_subnet(model, space, arch, n_classes, state_dict(file.path))
    except FormatError as error:
        raise FormatError(f"{file.address}: {error}") from None


def _check_target(target: Path, force: bool) -> None:
    if target.name in ("", ".."):
        raise FormatError(f"--out (={str(target)!r}) must name a folder, which `.`, `..` and `/` do not.")
    empty = target.is_dir() and not any(target.iterdir())
    if target.exists() and not empty and not (target / FACTS).is_file():
        raise FormatError(f"{target} exists and is not an imported network: give another folder.")
    restore_folder(target, FACTS)
    if target.exists() and not empty and not force:
        raise FormatError(f"{target} already holds a network: give another folder, or replace it with --force.")


def _write(network: SpecializedNetwork, target: Path, force: bool) -> None:
    """The whole folder or nothing."""
    assert network.model is not None
    with replacing_folder(target, force) as temporary:
        with quiet():
            network.model.save(temporary / "model.keras")
        write_json(temporary / "arch.json", network.arch.to_document(), SPACE_SCHEMA)
        write_json(temporary / "space.json", network.space.to_document(), SPACE_SCHEMA)
        if network.n_classes == imagenet.N_CLASSES:
            labels = "".join(f"{name}\n" for name in imagenet.class_names())
            write_bytes(temporary / "labels.txt", labels.encode())
        write_json(temporary / FACTS, network.to_document())
