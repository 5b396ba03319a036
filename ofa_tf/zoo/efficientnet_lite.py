"""EfficientNet-Lite0 to Lite4: shapes and tensors.

Liu, "Higher accuracy on vision models with EfficientNet-Lite", TensorFlow blog, 2020. The networks have neither
squeeze-and-excite nor swish, so that integer hardware runs them. Their weights are the authors' TensorFlow checkpoints,
or the same as PyTorch states.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ofa_tf.blocks import walk
from ofa_tf.channels import divisible
from ofa_tf.data import Preprocessing
from ofa_tf.errors import FormatError
from ofa_tf.kinds import Block
from ofa_tf.ops import Op
from ofa_tf.space import SearchSpace
from ofa_tf.zoo.containing_space import Blocks, containing_space
from ofa_tf.zoo.weights import AXES

PIXELS = Preprocessing((127.0,) * 3, (128.0,) * 3)
BN_EPSILON = 1e-3
STEM, HEAD = 32, 1280  # the same in all five
FIRST = 16
BASE = (
    Blocks(3, 6, 24, 2, 2),
    Blocks(5, 6, 40, 2, 2),
    Blocks(3, 6, 80, 3, 2),
    Blocks(5, 6, 112, 3, 1),
    Blocks(5, 6, 192, 4, 2),
    Blocks(3, 6, 320, 1, 1),
)
N_CLASSES = 1000


@dataclass(frozen=True)
class Scaling:
    """How one of the five is made of the smallest.

    Args:
        width: what channels are multiplied by, but for those of stem and head.
        depth: what the numbers of blocks are multiplied by, but for those of the first and the last group.
        resolution: size of the images that it was trained on, in pixels.
    """

    width: float
    depth: float
    resolution: int


SCALINGS = {
    "efficientnet-lite0": Scaling(1.0, 1.0, 224),
    "efficientnet-lite1": Scaling(1.0, 1.1, 240),
    "efficientnet-lite2": Scaling(1.1, 1.2, 260),
    "efficientnet-lite3": Scaling(1.2, 1.4, 280),
    "efficientnet-lite4": Scaling(1.4, 1.8, 300),
}


def lite_space(name: str) -> SearchSpace:
    """The space whose largest subnet is one of the five, by its name."""
    scaling = SCALINGS[name]

    def scaled(group: Blocks) -> Blocks:
        depth = group.depth if group is BASE[-1] else math.ceil(group.depth * scaling.depth)
        channels = divisible(group.channels * scaling.width)
        return Blocks(group.kernel, group.expand, channels, depth, group.stride)

    return containing_space(
        name.replace("-", "_"),
        [scaled(group) for group in BASE],
        scaling.resolution,
        stem_channels=STEM,
        stem_stride=2,
        stem_activation="relu6",
        first_channels=divisible(FIRST * scaling.width),
        first_activation="relu6",
        head_channels=HEAD,
        feature_channels=0,
        head_activation="relu6",
        bn_epsilon=BN_EPSILON,
    )


# --- tensors ----------------------------------------------------------------------------------------------------------

Weights = dict[str, list[np.ndarray]]
# The names of a convolution and of its batch norm, for an operation of a block: of ends by their names, of others by
# their suffixes. With an expansion its numbers come first, so those of TensorFlow's layers differ without one.
TORCH_ENDS = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1"), "classifier": ("_fc", "")}
TORCH_BLOCK = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}
TORCH_NORM = ("weight", "bias", "running_mean", "running_var")
TF_ENDS = {
    "stem": ("stem/conv2d", "stem/tpu_batch_normalization"),
    "head": ("head/conv2d", "head/tpu_batch_normalization"),
    "classifier": ("head/dense", ""),
}
TF_KERNELS = {"depthwise": "depthwise_kernel"}
TF_NORM = ("gamma", "beta", "moving_mean", "moving_variance")
AVERAGED = "/ExponentialMovingAverage"


def from_torch(state: Mapping[str, np.ndarray], where: str) -> tuple[str, Weights]:
    """Which of the five a PyTorch state is, and its weights.

    Args:
        state: tensors by name, as from `state_dict`.
        where: the file, for messages.

    Returns:
        Its name, and the weights of the plain layers of the largest subnet of its space, by their names.

    Raises:
        FormatError: none of the five, a tensor that is missing, surplus or of another shape; names it.
    """

    def names(block: Block, index: int, op: Op) -> tuple[str, str]:
        if block.name in TORCH_ENDS:
            return TORCH_ENDS[block.name]
        conv, norm = TORCH_BLOCK[op.suffix]
        return f"_blocks.{index}.{conv}", f"_blocks.{index}.{norm}"

    def read(tensors: "_Tensors", op: Op, conv: str, norm: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        axes = AXES[op.kind]
        shape = tuple(np.array(op.weight_shape)[list(np.argsort(axes))].tolist())
        kernel = tensors.take(f"{conv}.weight", shape).transpose(axes)
        bias = [tensors.take(f"{conv}.bias", (op.out_channels,))] if op.bias else []
        norms = [tensors.take(f"{norm}.{part}", (op.out_channels,)) for part in TORCH_NORM] if op.norm else []
        return [kernel, *bias], norms

    tensors = {name: tensor for name, tensor in state.items() if not name.endswith(".num_batches_tracked")}
    return _read(tensors, names, read, ("_blocks.{}._expand_conv.weight", 0), where)


def from_tensorflow(variables: Mapping[str, np.ndarray], where: str) -> tuple[str, Weights]:
    """The same for the variables of a TensorFlow checkpoint of the authors, of which the averaged ones are taken."""
    tensors: dict[str, np.ndarray] = {}
    for name in sorted(variables):  # the averaged ones come last
        _, model, short = name.partition("/model/")
        if model and not short.endswith(("/RMSProp", "/RMSProp_1", "/Momentum")):
            tensors[short.removesuffix(AVERAGED)] = variables[name]

    def names(block: Block, index: int, op: Op) -> tuple[str, str]:
        if block.name in TF_ENDS:
            return TF_ENDS[block.name]
        place = [part.suffix for part in block.ops if part.n_weights].index(op.suffix)
        expands = any(part.suffix == "expand" for part in block.ops)
        names = {"depthwise": "depthwise_conv2d", "project": "conv2d_1" if expands else "conv2d"}
        conv = names.get(op.suffix, "conv2d")
        norm = f"tpu_batch_normalization_{place}" if place else "tpu_batch_normalization"
        return f"blocks_{index}/{conv}", f"blocks_{index}/{norm}"

    def read(tensors: "_Tensors", op: Op, conv: str, norm: str) -> tuple[list[np.ndarray], list[np.ndarray]]:
        kernel = tensors.take(f"{conv}/{TF_KERNELS.get(op.kind, 'kernel')}", tuple(op.weight_shape))
        bias = [tensors.take(f"{conv}/bias", (op.out_channels,))] if op.bias else []
        norms = [tensors.take(f"{norm}/{part}", (op.out_channels,)) for part in TF_NORM] if op.norm else []
        return [kernel, *bias], norms

    return _read(tensors, names, read, ("blocks_{}/conv2d/kernel", 3), where)


class _Tensors:
    """Tensors that are taken one by one, so that what is left over can be named."""

    def __init__(self, tensors: Mapping[str, np.ndarray], network: str, where: str):
        self.left = dict(tensors)
        self.network = network
        self.where = where

    def take(self, name: str, shape: Sequence[int]) -> np.ndarray:
        if name not in self.left:
            raise FormatError(f"{self.where} lacks {name}, which {self.network} has.")
        tensor = self.left.pop(name)
        if tensor.shape != tuple(shape):
            raise FormatError(f"{self.where}: {name} has the shape {list(tensor.shape)}; {list(shape)} is needed.")
        if tensor.dtype.kind != "f" or not np.isfinite(tensor).all():
            raise FormatError(f"{self.where}: {name} must hold finite floating-point numbers.")
        return tensor.astype(np.float32)


def _read(
    tensors: Mapping[str, np.ndarray],
    names: Callable[[Block, int, Op], tuple[str, str]],
    read: Callable[[_Tensors, Op, str, str], tuple[list[np.ndarray], list[np.ndarray]]],
    expansion: tuple[str, int],
    where: str,
) -> tuple[str, Weights]:
    """Recognizes the network by the widths of its expansions, a name and an axis, and takes its tensors."""
    pattern, axis = expansion
    found: list[int] = []
    while (name := pattern.format(len(found) + 1)) in tensors:  # the first block has no expansion
        tensor = tensors[name]
        found.append(tensor.shape[axis] if tensor.ndim == 4 else 0)
    network = next((name for name in SCALINGS if _expansions(name) == found), None)
    if network is None:
        raise FormatError(
            f"{where} holds none of EfficientNet-Lite0 to Lite4: it has {len(found)} blocks with expansions, of the "
            f"widths {found}."
        )
    left = _Tensors(tensors, network, where)
    space, weights, index = lite_space(network), Weights(), -1
    for block in walk(space, space.largest(), N_CLASSES):
        index += bool(block.n_params) and block.name not in TORCH_ENDS
        for op in block.ops:
            if op.n_weights:
                kernels, norms = read(left, op, *names(block, index, op))
                weights[block.layer_name(op)] = kernels
                if norms:
                    weights[block.layer_name(op, "bn")] = norms
    if left.left:
        raise FormatError(f"{where} has {min(left.left)}, which {network} does not have.")
    return network, weights


def _expansions(name: str) -> list[int]:
    space = lite_space(name)
    return [block.mid_channels for block in walk(space, space.largest(), N_CLASSES) if block.slot >= 0]
