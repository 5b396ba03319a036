"""What a published supernet is, read off its tensors, and the names of its classes."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ofa_tf.blocks import walk
from ofa_tf.channels import divisible
from ofa_tf.errors import FormatError
from ofa_tf.space import SearchSpace
from ofa_tf.zoo import catalog, imagenet
from ofa_tf.zoo.net_config import NETWORKS, WIDTH_MULTS


def supernet_space(state: Mapping[str, np.ndarray]) -> tuple[SearchSpace, int]:
    """The space of a published supernet, and its number of classes, from the shapes of some of its tensors.

    Raises:
        FormatError: it is none of the known ones.
    """

    def width(start: str, part: str = ".conv.") -> int:
        names = [name for name in state if name.startswith(start) and part in name and name.endswith(".weight")]
        return state[names[0]].shape[0] if names and state[names[0]].ndim else 0

    n_blocks = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    n_classes = width("classifier.", ".linear.")
    found = [width("first_conv."), width("final_expand_layer."), width("feature_mix_layer.")]
    projections = [width(f"blocks.{index}.", ".point_linear.conv.") for index in range(n_blocks)]
    for base in NETWORKS.values():
        feature = [base.head_channels, base.feature_channels] if base.feature_channels else [0, base.head_channels]
        if n_blocks != base.n_blocks + 1 or n_classes < 2:
            continue
        for mult in WIDTH_MULTS:
            space = dataclasses.replace(
                base, width_mult=mult, padding="symmetric", bn_epsilon=catalog.BN_EPSILON[base.name]
            )
            if found != [divisible(wide * mult) if wide else 0 for wide in (base.stem_channels, *feature)]:
                continue
            blocks = walk(space, space.largest(), n_classes)
            elastic = [block.out_channels for block in blocks if block.name == "first" or block.slot >= 0]
            if elastic == projections:
                return _published_resolutions(space), n_classes
    raise FormatError(
        f"it is not a supernet of {' or '.join(f'`{base.name}`' for base in NETWORKS.values())}: it has {n_blocks} "
        f"blocks, first and last convolutions of the widths {found}, and {n_classes} classes."
    )


def _published_resolutions(space: SearchSpace) -> SearchSpace:
    for supernet in catalog.SUPERNETS:
        if (supernet.space, supernet.width_mult) == (space.name, space.width_mult):
            lowest, highest = supernet.resolutions
            return dataclasses.replace(space, resolutions=tuple(range(lowest, highest + 1, 4)))
    return space


def class_names(classes: Sequence[str] | None, n_classes: int) -> Sequence[str]:
    """The names given, or those of ImageNet.

    Raises:
        FormatError: another number of names than of classes.
    """
    if classes is None and n_classes == imagenet.N_CLASSES:
        return imagenet.class_names()
    if classes is None:
        raise FormatError(f"it has {n_classes} classes, not those of ImageNet: name them with --classes.")
    if len(classes) != n_classes:
        raise FormatError(f"it has {n_classes} classes, and {len(classes)} names are given.")
    return classes


def read_classes(path: str | os.PathLike) -> tuple[str, ...]:
    """Names of classes from a file with one name a line.

    Raises:
        FormatError: no such file, not UTF-8, an empty line, or a name that is there twice.
    """
    try:
        names = Path(path).read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise FormatError(f"{path} is not a text file in UTF-8.") from None
    except OSError as error:
        raise FormatError(f"{path} cannot be read: {error.strerror}.") from None
    before: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name.strip() or name in before:
            raise FormatError(f"{path}, line {number}: {name!r} must be a name that no earlier line has.")
        before.add(name)
    return tuple(names)
