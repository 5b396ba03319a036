"""A model of Edge TPU latency, for users who have none at hand.

The latency is a fixed overhead, the dense and the depthwise multiply-accumulates at two rates, the bytes of the
activations at a third, and the time to stream over USB the parameters that the on-chip memory cannot hold. The dense
rate is the chip's specification; the other four numbers are fitted to published latencies of 17 networks on a USB
accelerator (`benchmarks/edgetpu_model.py`); fitted too, the dense rate comes out within 2 % of the specification.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from ofa_tf.blocks import Block
from ofa_tf.errors import DeviceError
from ofa_tf.latency.table import Calibration, LatencyTable, distinct_blocks
from ofa_tf.ops import Op
from ofa_tf.precision import get_precision, integer_precisions
from ofa_tf.space import SearchSpace

NAME = "edgetpu"
PARAMETER_MEMORY_BYTES = int(7.7 * 2**20)  # 8 MiB less what the compiler reserves for executables, as published
RUNTIME = {"name": "latency-model", "version": "1", "threads": 1, "delegate": "edgetpu"}
FEATURES = ("overhead_ms", "ms_per_dense_gmac", "ms_per_depthwise_gmac", "ms_per_activation_mb", "ms_per_streamed_mb")


@dataclass(frozen=True)
class EdgeTpuModel:
    """The parameters of the model.

    Args:
        overhead_ms: overhead of a call.
        ms_per_dense_gmac: time of convolutions and dense layers.
        ms_per_depthwise_gmac: time of depthwise convolutions, which leave most of the array idle.
        ms_per_activation_mb: time of the activations that every operator reads and writes.
        ms_per_streamed_mb: time of parameters beyond the on-chip memory, over USB 3.
    """

    overhead_ms: float
    ms_per_dense_gmac: float
    ms_per_depthwise_gmac: float
    ms_per_activation_mb: float
    ms_per_streamed_mb: float

    def compute_ms(self, ops: Iterable[Op]) -> float:
        """What operations add to a network's latency, streaming apart."""
        _, dense, depthwise, activations, _ = features(ops)
        return (
            dense * self.ms_per_dense_gmac
            + depthwise * self.ms_per_depthwise_gmac
            + activations * self.ms_per_activation_mb
        )

    def latency_ms(self, ops: Iterable[Op]) -> float:
        """Latency of a whole network, with overhead and streaming."""
        return sum(count * getattr(self, name) for name, count in zip(FEATURES, features(ops), strict=True))


# 4 TOPS by the data sheet: 2 tera-MACs a second. The other figures are printed by `python benchmarks/edgetpu_model.py`,
# which fits them to latencies that Coral publishes on its model and benchmark pages (USB accelerator at USB 3.0, one
# image, int8).
SPECIFIED_MS_PER_DENSE_GMAC = 0.5
MODEL = EdgeTpuModel(
    overhead_ms=0.7679,
    ms_per_dense_gmac=SPECIFIED_MS_PER_DENSE_GMAC,
    ms_per_depthwise_gmac=22.22,
    ms_per_activation_mb=0.1066,
    ms_per_streamed_mb=2.123,
)
# The 9 MobileNets and EfficientNets, each predicted by a fit to the other 16 networks. Over all 17 the mean is 13 %.
VALIDATION = {"subnets": 9, "mape": 0.0831, "within_10pct": 0.6667, "spearman": 0.9833, "bias": -0.0192}


def features(ops: Iterable[Op]) -> tuple[float, float, float, float, float]:
    """What the parameters are multiplied with, in the order of `FEATURES`: 1, giga-MACs (two), megabytes (two)."""
    ops = list(ops)
    streamed = max(0, sum(map(op_param_bytes, ops)) - PARAMETER_MEMORY_BYTES)
    return (
        1.0,
        sum(op.n_macs for op in ops if not op.depthwise) / 1e9,
        sum(op.n_macs for op in ops if op.depthwise) / 1e9,
        sum(map(op_activation_bytes, ops)) / 1e6,
        streamed / 1e6,
    )


def op_param_bytes(op: Op) -> int:
    """Bytes of the weights (8 bits) and biases (32 bits) of an operation, batch norm folded into it."""
    return op.n_weights + 4 * op.out_channels * (op.n_weights > 0)


def op_activation_bytes(op: Op) -> int:
    """Bytes that an operation reads and writes, its activation included."""
    return op.in_size**2 * op.in_channels + op.out_size**2 * op.out_channels


def param_bytes(block: Block) -> int:
    """Bytes of a block's parameters in the on-chip memory."""
    return sum(map(op_param_bytes, block.ops))


def require_legal(space: SearchSpace, precision: str = "int8") -> None:
    """Refuses what an Edge TPU cannot run, before any work is wasted.

    Raises:
        DeviceError: the precision is not int8, or there is hard-swish or squeeze-and-excite.
    """
    if not get_precision(precision).integer:
        raise DeviceError(
            f"An Edge TPU runs only full-integer files: --precision must be {integer_precisions()}, not {precision}."
        )
    stages = space.stages
    activations = {space.stem_activation, space.first_activation, space.head_activation}
    found = []
    if "hard_swish" in activations | {stage.activation for stage in stages}:
        found.append("the activation hard_swish, an operator that an Edge TPU does not have")
    if any(stage.se for stage in stages):
        found.append("squeeze-and-excite, which the networks published for it leave out")
    if found:
        raise DeviceError(
            f"The space `{space.name}` is not for an Edge TPU: it has {' and '.join(found)}. "
            "Train one that is: `ofa-tf train --space edge`."
        )


def modelled_table(space: SearchSpace, n_classes: int) -> LatencyTable:
    """The table of a space by this model, at all its resolutions.

    It is valid for networks whose parameters fit into the on-chip memory (`parameter_memory_bytes` of the device):
    streaming does not add up over blocks, so no entry includes it.

    Raises:
        DeviceError: the space has what an Edge TPU cannot run.
    """
    require_legal(space)
    blocks = distinct_blocks(space, space.resolutions, n_classes)
    return LatencyTable(
        device={
            "name": NAME,
            "model": "Coral USB Accelerator, USB 3.0",
            "parameter_memory_bytes": PARAMETER_MEMORY_BYTES,
        },
        runtime=RUNTIME,
        precision="int8",
        source="modelled",
        entries={
            key: {"mean_ms": float(f"{MODEL.compute_ms(block.ops):.4g}"), "runs": 0} for key, block in blocks.items()
        },
        statistic="mean_ms",
        calibration=Calibration(scale=1.0, per_block_ms=0.0, constant_ms=MODEL.overhead_ms, subnets=0),
        validation=VALIDATION,
    )
