"""What a published supernet is, read off its tensors, and the names of its classes."""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import numpy as np

from ofa_tf.blocks import walk
from ofa_tf.errors import FormatError
from ofa_tf.reading import read_text
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import RESNET50D
from ofa_tf.zoo import catalog, imagenet
from ofa_tf.zoo.net_config import NETWORKS, WIDTH_MULTS

State = Mapping[str, np.ndarray]


def supernet_space(state: State) -> tuple[SearchSpace, int]:
    """The space of a published supernet, and its number of classes, from the shapes of some of its tensors.

    The tensors of ResNet50D have only the largest of three channels. The width multipliers are the published 0.65, 0.8
    and 1, all times the same number.

    Raises:
        FormatError: it is none of the known ones.
    """
    if any(name.startswith("input_stem.") for name in state):
        return _resnet50d_space(state)
    return _inverted_residual_space(state)


def _resnet50d_space(state: State) -> tuple[SearchSpace, int]:
    n_classes = _outputs(state, "classifier.", ".linear.")
    stem = [_outputs(state, f"input_stem.{index}.") for index in (0, 1, 2)]
    found = [(0, stem[0]), (0, stem[1]), (0, stem[2])]
    found += [(_outputs(state, f"blocks.{i}.conv1."), _outputs(state, f"blocks.{i}.conv3.")) for i in _blocks(state)]
    for scale in WIDTH_MULTS if n_classes >= 2 else ():
        mults = tuple(round(mult * scale, 6) for mult in RESNET50D.width_mults)
        space = _imported(RESNET50D, mults)
        blocks = walk(space, space.largest(), n_classes)
        if found == [(block.mid_channels, block.out_channels) for block in blocks if block.slot >= 0]:
            return space, n_classes
    raise FormatError(
        f"it is not a supernet of `{RESNET50D.name}`: its stem has the widths {stem}, {len(_blocks(state))} blocks "
        f"follow, and it has {n_classes} classes."
    )


def _inverted_residual_space(state: State) -> tuple[SearchSpace, int]:
    n_blocks, n_classes = len(_blocks(state)), _outputs(state, "classifier.", ".linear.")
    found = [_outputs(state, name) for name in ("first_conv.", "final_expand_layer.", "feature_mix_layer.")]
    projections = [_outputs(state, f"blocks.{index}.", ".point_linear.conv.") for index in range(n_blocks)]
    for base in NETWORKS.values():
        if n_blocks != base.n_blocks + 1 or n_classes < 2:
            continue
        for mult in WIDTH_MULTS:
            space = _imported(base, mult)
            channels, feature = space.channels_of(space.largest()), space.feature_outputs
            ends = [channels["head"], feature] if feature else [0, channels["head"]]
            if found != [channels["stem"], *ends]:
                continue
            blocks = walk(space, space.largest(), n_classes)
            elastic = [block.out_channels for block in blocks if block.name == "first" or block.slot >= 0]
            if elastic == projections:
                return space, n_classes
    raise FormatError(
        f"it is not a supernet of {' or '.join(f'`{base.name}`' for base in NETWORKS.values())}: it has {n_blocks} "
        f"blocks, first and last convolutions of the widths {found}, and {n_classes} classes."
    )


def _outputs(state: State, start: str, part: str = ".conv.") -> int:
    """Outputs of a convolution or a dense layer, by how its name begins and what is in it; 0 for none."""
    names = [name for name in state if name.startswith(start) and part in name and name.endswith(".weight")]
    return state[names[0]].shape[0] if names and state[names[0]].ndim else 0


def _blocks(state: State) -> range:
    """The indices of the blocks."""
    return range(len({name.split(".")[1] for name in state if name.startswith("blocks.")}))


def _imported(base: SearchSpace, width_mult: float | tuple[float, ...]) -> SearchSpace:
    """A space at that width, with what the published networks have and their resolutions, if they are known."""
    space = dataclasses.replace(
        base, width_mult=width_mult, padding="symmetric", bn_epsilon=catalog.BN_EPSILON[base.name]
    )
    for supernet in catalog.SUPERNETS:
        if (supernet.space, supernet.width_mult) == (space.name, width_mult):
            lowest, highest = supernet.resolutions
            published = tuple(size for size in space.resolutions if lowest <= size <= highest)
            return dataclasses.replace(space, resolutions=published)
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
    names = read_text(path, "text").splitlines()
    before: set[str] = set()
    for number, name in enumerate(names, start=1):
        if not name.strip() or name in before:
            raise FormatError(f"{path}, line {number}: {name!r} must be a name that no earlier line has.")
        before.add(name)
    return tuple(names)
