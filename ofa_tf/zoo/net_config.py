"""Published net configs: the description of one specialised network, as an arch of our spaces.

A description is read for what an arch needs, and then checked: what our own walk gives for that arch, in the published
words, must equal the description in every field. So nothing of it goes unread, and what we cannot build is refused.
"""

import dataclasses
import os
from collections.abc import Mapping
from itertools import product
from typing import Any

from ofa_tf.blocks import Block, walk
from ofa_tf.channels import divisible
from ofa_tf.errors import FormatError
from ofa_tf.jsonio import check_keys, read_object
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.spaces import MOBILENET_V3, PROXYLESS

NETWORKS = {"MobileNetV3": MOBILENET_V3, "ProxylessNASNets": PROXYLESS}
ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "hard_swish": "h_swish"}
# Round multipliers first: at small ones several give the same widths.
WIDTH_MULTS = [percent / 100 for percent in sorted(range(5, 401), key=lambda p: (p % 10 > 0, p % 5 > 0, p))]


def read_net_config(source: str | os.PathLike | Mapping[str, Any], image_size: int) -> tuple[SearchSpace, Arch, int]:
    """Reads a published net config.

    Args:
        source: its file, or the JSON object itself.
        image_size: height and width of the input in pixels, which the config does not hold.

    Returns:
        The space (with the config's width multiplier and batch-norm epsilon, symmetric padding, and `image_size` among
        its resolutions), the arch, and the number of classes.

    Raises:
        FormatError: not a net config, or a network that is no point of our spaces; names the field and what it must be.
    """
    if isinstance(image_size, bool) or not isinstance(image_size, int) or not 32 <= image_size <= 1024:
        raise FormatError(f"`image_size` (={image_size!r}) must be an integer from 32 to 1024.")
    where = "The net config" if isinstance(source, Mapping) else str(source)
    document = source if isinstance(source, Mapping) else read_object(source)
    base = NETWORKS.get(str(document.get("name")))
    if base is None:
        raise FormatError(f"{where}: `name` (={document.get('name')!r}) must be one of {list(NETWORKS)}.")
    # MobileNetV3 mixes features after the global average, ProxylessNAS before it.
    convs = ["final_expand_layer", "feature_mix_layer"] if base.feature_channels else ["feature_mix_layer"]
    check_keys(document, {"name", "bn", "first_conv", "blocks", *convs, "classifier"}, set(), where)

    rows = [_block_row(block, f"{where}, block {i + 1}") for i, block in enumerate(_list(document, "blocks", where))]
    if not rows:
        raise FormatError(f"{where}: `blocks` must not be empty.")
    layers = ["first_conv", *convs]
    fixed = [_integer(document[layer], "out_channels", f"{where}, `{layer}`") for layer in layers]
    n_classes = _integer(document["classifier"], "out_features", f"{where}, `classifier`")
    bn = document["bn"]
    _match(bn, {"momentum": 0.1, "eps": _number(bn, "eps", f"{where}, `bn`")}, {"ws_eps": None}, f"{where}, `bn`")

    width_mult, depths = _fit(base, fixed, [row[:2] for row in rows], where)
    space = dataclasses.replace(
        base,
        resolutions=tuple(sorted({*base.resolutions, image_size})),
        width_mult=width_mult,
        padding="symmetric",
        bn_epsilon=bn["eps"],
    )
    kernels, expands = [0] * space.n_blocks, [0] * space.n_blocks
    used = [position < depths[stage] for stage, position in zip(space.block_stages, space.block_positions, strict=True)]
    slots = [slot for slot, use in enumerate(used) if use]
    for number, (slot, (*_, kernel, expand)) in enumerate(zip(slots, rows[1:], strict=True), start=2):
        for name, value, choices in (("kernel_size", kernel, space.kernels), ("expand_ratio", expand, space.expands)):
            if value not in choices:
                raise FormatError(f"{where}, block {number}: `{name}` (={value!r}) must be one of {list(choices)}.")
        kernels[slot], expands[slot] = kernel, expand
    arch = space.arch(image_size, depths, kernels, expands)
    _match_network(document, walk(space, arch, n_classes), convs, where)
    return space, arch, n_classes


def _fit(base: SearchSpace, fixed: list[int], rows: list[tuple[int, int]], where: str) -> tuple[float, tuple[int, ...]]:
    """The width multiplier and the depths that give the widths of the convolutions and blocks.

    Args:
        base: the space.
        fixed: output channels of stem, head and, where the space has one, feature layer.
        rows: output channels and stride of every block.
        where: for messages.
    """
    widths = [base.stem_channels, base.head_channels, base.feature_channels]
    for mult in WIDTH_MULTS:
        if [divisible(width * mult) for width in widths if width] != fixed:
            continue
        for depths in product(*(stage.depths for stage in base.stages)):
            expected = [(divisible(base.first_channels * mult), 1)]
            for stage, depth in zip(base.stages, depths, strict=True):
                width = divisible(stage.channels * mult)
                expected += [(width, stage.stride), *[(width, 1)] * (depth - 1)]
            if expected == rows:
                return mult, depths
    raise FormatError(
        f"{where} is not of the space `{base.name}`: no width multiplier and depths of it give the widths {fixed} "
        f"outside the blocks and the widths and strides {rows} of the blocks."
    )


def _block_row(block: Any, where: str) -> tuple[int, int, int, int]:
    """Output channels, stride, kernel size and expand ratio of one block of the config."""
    conv = block.get("mobile_inverted_conv", block.get("conv")) if isinstance(block, Mapping) else None
    out, stride, kernel, expand = (
        _integer(conv, name, where) for name in ("out_channels", "stride", "kernel_size", "expand_ratio")
    )
    return out, stride, kernel, expand


# --- the published words for what the walk gives ---------------------------------------------------------------------


def _match_network(document: Mapping[str, Any], blocks: tuple[Block, ...], convs: list[str], where: str) -> None:
    """Refuses a config in which any field differs from the walk."""
    stem, *inverted, classifier = [block for block in blocks if block.n_params]
    inverted, last = inverted[: -len(convs)], inverted[-len(convs) :]
    for name, block in zip(["first_conv", *convs], [stem, *last], strict=True):
        _match(document[name], _conv_fields(block), {"use_se": False}, f"{where}, `{name}`")
    for number, (entry, block) in enumerate(zip(document["blocks"], inverted, strict=True), start=1):
        _match_block(entry, block, f"{where}, block {number}")
    fields = {
        "name": "LinearLayer",
        "in_features": classifier.in_channels,
        "out_features": classifier.out_channels,
        "bias": True,
        "use_bn": False,
        "act_func": None,
        "dropout_rate": _number(document["classifier"], "dropout_rate", f"{where}, `classifier`"),
        "ops_order": "weight_bn_act",
    }
    _match(document["classifier"], fields, {}, f"{where}, `classifier`")


def _conv_fields(block: Block) -> dict[str, Any]:
    return {
        "name": "ConvLayer",
        "kernel_size": block.kernel,
        "stride": block.stride,
        "dilation": 1,
        "groups": 1,
        "bias": False,
        "has_shuffle": False,
        "in_channels": block.in_channels,
        "out_channels": block.out_channels,
        "use_bn": block.ops[0].norm,
        "act_func": ACTIVATIONS[block.activation],
        "dropout_rate": 0,
        "ops_order": "weight_bn_act",
    }


def _match_block(entry: Mapping[str, Any], block: Block, where: str) -> None:
    legacy = "mobile_inverted_conv" in entry
    conv = "mobile_inverted_conv" if legacy else "conv"
    check_keys(entry, {"name", conv, "shortcut"}, set(), where)
    _match({"name": entry["name"]}, {"name": "MobileInvertedResidualBlock" if legacy else "ResidualBlock"}, {}, where)
    fields = {
        "name": ("MBInvertedConvLayer", "MBConvLayer"),
        "in_channels": block.in_channels,
        "out_channels": block.out_channels,
        "kernel_size": block.kernel,
        "stride": block.stride,
        "expand_ratio": entry[conv]["expand_ratio"] if block.expanded else 1,
        "mid_channels": (block.mid_channels, None),
        "act_func": ACTIVATIONS[block.activation],
        "use_se": block.se_channels > 0,
    }
    _match(entry[conv], fields, {"groups": None}, where)
    if not block.skip:
        _match({"shortcut": entry["shortcut"]}, {"shortcut": None}, {}, where)
        return
    shortcut = {
        "name": "IdentityLayer",
        "in_channels": ([block.in_channels], block.in_channels),
        "out_channels": ([block.out_channels], block.out_channels),
        "use_bn": False,
        "act_func": None,
        "dropout_rate": 0,
        "ops_order": "weight_bn_act",
    }
    _match(entry["shortcut"], shortcut, {}, f"{where}, `shortcut`")


def _match(document: Any, fields: dict[str, Any], optional: dict[str, Any], where: str) -> None:
    """Refuses an object whose fields are not exactly these; a tuple holds the values that are equally good."""
    check_keys(document, set(fields), set(optional), where)
    for key, value in document.items():
        expected = {**fields, **optional}[key]
        choices = expected if isinstance(expected, tuple) else (expected,)
        if value not in choices:
            rule = " or ".join(repr(choice) for choice in choices)
            raise FormatError(f"{where}: `{key}` (={value!r}) must be {rule} in this network.")


def _list(document: Mapping[str, Any], key: str, where: str) -> list[Any]:
    if not isinstance(document[key], list):
        raise FormatError(f"{where}: `{key}` (={document[key]!r}) must be a list.")
    return document[key]


def _integer(document: Any, key: str, where: str) -> int:
    value = document.get(key) if isinstance(document, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1_000_000:
        raise FormatError(f"{where}: `{key}` (={value!r}) must be a positive integer.")
    return value


def _number(document: Any, key: str, where: str) -> float:
    value = document.get(key) if isinstance(document, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise FormatError(f"{where}: `{key}` (={value!r}) must be a number from 0 to below 1.")
    return value
