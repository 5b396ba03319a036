"""The one walk over an arch: from (space, arch) to the list of its blocks.

MACs, parameters, latency table keys and the plain Keras subnet all come from this list.
"""

from collections.abc import Sequence

from ofa_tf.channels import se_channels
from ofa_tf.kinds import KINDS, Block
from ofa_tf.space import Arch, SearchSpace


def walk(space: SearchSpace, arch: Arch, n_classes: int) -> tuple[Block, ...]:
    """The blocks of an arch, from stem to classifier.

    Args:
        space: the space of the arch.
        arch: one of its points.
        n_classes: number of outputs of the classifier.

    Examples:
        >>> space = ofa.get_space("tiny")
        >>> blocks = ofa.walk(space, space.smallest(), n_classes=10)
        >>> [block.name for block in blocks][:3]
        ['stem', 'first', 'stage1_block1']
        >>> sum(block.n_macs for block in blocks)
        637504
    """
    blocks: list[Block] = []
    size, channels = arch.resolution, 3

    def add(kind: str, out_channels: int, **rest) -> None:
        nonlocal size, channels
        blocks.append(
            Block(
                kind=kind, in_size=size, in_channels=channels, out_channels=out_channels, padding=space.padding, **rest
            )
        )
        size, channels = blocks[-1].out_size, out_channels

    chosen = space.channels_of(arch)
    if space.stem_channels:
        add("conv", chosen["stem"], name="stem", kernel=3, stride=space.stem_stride, activation=space.stem_activation)
    for position in range(space.first_depth if space.first_channels else 0):
        add(
            "mbconv", chosen["first"], name="first" if position == 0 else f"first_block{position + 1}", kernel=3,
            mid_channels=channels, activation=space.first_activation,
            skip=space.first_skip and (position > 0 or space.reads_alike("first")),
        )  # fmt: skip
    for slot, (index, position) in enumerate(zip(space.block_stages, space.block_positions, strict=True)):
        if position >= arch.depths[index]:
            continue
        stage, name = space.stages[index], f"stage{index + 1}"
        kind, out, stride = KINDS[stage.kind], chosen[name], stage.stride if position == 0 else 1
        mid = 0 if kind.mid is None else kind.mid(channels, out, arch.expands[slot])
        add(
            stage.kind, out, name=f"{name}_block{position + 1}", mid_channels=mid, kernel=arch.kernels[slot],
            stride=stride, activation=stage.activation, se_channels=se_channels(mid) if stage.se else 0,
            skip=stride == 1 and (position > 0 or space.reads_alike(name)), slot=slot,
            keeps_expansion=kind.expands and space.stage_expands[index][-1] > 1,
        )  # fmt: skip
    if space.head_channels:
        add("conv", chosen["head"], name="head", activation=space.head_activation)
    add("pool", channels, name="pool")
    if space.feature_channels:
        add("linear", space.feature_outputs, name="feature", activation=space.head_activation)
    add("linear", n_classes, name="classifier", bias=True)
    return tuple(blocks)


def count_macs(blocks: Sequence[Block]) -> int:
    """Multiply-accumulates of a network, for one image."""
    return sum(block.n_macs for block in blocks)


def count_params(blocks: Sequence[Block]) -> int:
    """Trainable parameters of a network."""
    return sum(block.n_params for block in blocks)
