"""The precisions of `.tflite` files: what each consists of, and what follows from it. A new one is a row here."""

from dataclasses import dataclass

from ofa_tf.errors import ExportError

WEIGHT_BYTES = {"int8": 1, "float16": 2, "float32": 4}
INTEGER_ENDS = ("int8", "uint8")  # what input and output of an integer file may be; the first is the default
FLOAT_ENDS = "float32"


@dataclass(frozen=True)
class SizeRule:
    """Bytes of a file beside its weights.

    Args:
        per_channel: of one output channel of a layer: its bias and, in int8, a scale (4 bytes) and a zero point (8)
            for the weights and for the bias, as in `QuantizationParameters` of TFLite's schema.
        per_layer: names, shapes and operators of one convolution or dense layer, whatever it computes.
    """

    per_channel: int
    per_layer: int


@dataclass(frozen=True)
class Precision:
    """One kind of file.

    Args:
        name: what users call it.
        weights: element type of the weights, a key of `WEIGHT_BYTES`.
        table: the precision of the latency table that predicts it: its own, or the nearest of which there are tables.
        size: the rule for the size of its files; None where none is known.
        needs_images: whether the ranges of its activations are taken from representative images, unless the network
            was trained with them.
        integer: whether all of it is integer: no float tensor may be left, input and output may be of `INTEGER_ENDS`,
            those of other files are floats; it is what quantisation-aware training is for and what an Edge TPU runs.
    """

    name: str
    weights: str
    table: str
    size: SizeRule | None
    needs_images: bool = False
    integer: bool = False

    @property
    def weight_bytes(self) -> int:
        """Bytes of one weight."""
        return WEIGHT_BYTES[self.weights]

    def ends(self, io: str) -> str:
        """Element type of input and output, where `io`, one of `INTEGER_ENDS`, is asked of an integer file."""
        return io if self.integer else FLOAT_ENDS


# The bytes per layer are fitted to 11 converted subnets of the registered spaces, 80 kB to 21 MB; the rule was within
# 0.7 % of each int8 file and 0.2 % of the others.
PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("int8", "int8", "int8", SizeRule(28, 927), needs_images=True, integer=True),
        Precision("fp16", "float16", "fp16", SizeRule(2, 1327)),
        Precision("fp32", "float32", "fp32", SizeRule(4, 839)),
        # Quantised as the file runs. There are no tables of such files; their activations are floats, too.
        Precision("dynamic", "int8", "fp32", None),
    )
}


def get_precision(name: str) -> Precision:
    """A registered precision by its name.

    Raises:
        ExportError: there is none of that name.
    """
    if name not in PRECISIONS:
        raise ExportError(f"`precision` (={name!r}) must be one of {list(PRECISIONS)}.")
    return PRECISIONS[name]


def table_precisions() -> tuple[str, ...]:
    """The precisions for which there are latency tables."""
    return tuple(name for name, precision in PRECISIONS.items() if precision.table == name)


def integer_precisions() -> str:
    """The names of the integer precisions, as a sentence says them."""
    return " or ".join(name for name, precision in PRECISIONS.items() if precision.integer)
