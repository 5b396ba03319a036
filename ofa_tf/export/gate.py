"""The gate: the file itself, run on validation images and compared with the network that it was made from."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ofa_tf.data import Images, Preprocessing
from ofa_tf.latency.host import n_cores
from ofa_tf.tflite.operators import read_operators
from ofa_tf.tflite.run import ModelFile

LEAST_IMAGES = 300
MOST_MACS = 1e11  # of all images together: about 10 s of one core
BAD_SNR_DB = 10.0  # a layer whose error has a tenth of the power of its output


@dataclass(frozen=True)
class Tolerance:
    """What a file may lose.

    Args:
        points_lost: accuracy that may be lost on labelled images, in percentage points; with few images, always at
            least one image.
        agreement: least share of images that file and network put into the same class.
    """

    points_lost: float = 2.0
    agreement: float = 0.95


@dataclass(frozen=True)
class Parity:
    """How a file compares with the network that it was made from, on the same images.

    Args:
        images: how many.
        float_accuracy: of the network (0 to 1); None without labels.
        file_accuracy: accuracy of the file (0 to 1); None without labels.
        agreement: share of images that both put into the same class.
        snr_db: power of the logits over the power of their error, in decibels; None where there is no error at all.
    """

    images: int
    float_accuracy: float | None
    file_accuracy: float | None
    agreement: float
    snr_db: float | None

    def complaint(self, limits: Tolerance) -> str | None:
        """What is beyond the limits, as the beginning of a sentence; None if nothing is."""
        if self.float_accuracy is not None and self.file_accuracy is not None:
            lost = (self.float_accuracy - self.file_accuracy) * 100
            if lost > max(limits.points_lost, 100 / self.images) + 1e-9:
                return (
                    f"The file is {lost:.1f} points less accurate than the network it was made from "
                    f"({self.file_accuracy:.1%} against {self.float_accuracy:.1%} on {self.images} images; "
                    f"at most {limits.points_lost:g} are allowed)"
                )
        if self.agreement < limits.agreement:
            return (
                f"The file agrees with the network it was made from on {self.agreement:.1%} of {self.images} images; "
                f"at least {limits.agreement:.0%} is needed"
            )
        return None


def compare(float_logits: np.ndarray, file_logits: np.ndarray, labels: np.ndarray | None) -> Parity:
    """Compares logits of shape (images, classes); `labels` are int32 of shape (images,), or None."""

    def accuracy(logits: np.ndarray) -> float | None:
        return None if labels is None else float((logits.argmax(1) == labels).mean())

    return Parity(
        images=len(float_logits),
        float_accuracy=accuracy(float_logits),
        file_accuracy=accuracy(file_logits),
        agreement=float((float_logits.argmax(1) == file_logits.argmax(1)).mean()),
        snr_db=snr_db(float_logits, file_logits),
    )


def snr_db(signal: np.ndarray, approximation: np.ndarray) -> float | None:
    """Power of a signal over the power of the approximation's error, in decibels; None if there is no error.

    A signal that is zero everywhere, and approximated with an error, has -100 dB.
    """
    error = float(np.square(approximation - signal, dtype=np.float64).sum())
    power = float(np.square(signal, dtype=np.float64).sum())
    if not error:
        return None
    return max(-100.0, 10 * float(np.log10(power / error))) if power else -100.0


def gate_images(images: Images, n_macs: int) -> Images:
    """All images, or for a large network an evenly spread part of at least 300 that takes only seconds to run."""
    return images.spread(max(LEAST_IMAGES, int(MOST_MACS / n_macs)))


def run_file(content: bytes, images: Images, preprocessing: Preprocessing) -> np.ndarray:
    """Logits of a file, shape (images, classes), on all cores; each image is computed by only one thread."""
    parts = np.array_split(np.arange(len(images)), min(n_cores(), len(images)))
    with ThreadPoolExecutor(len(parts)) as pool:
        logits = pool.map(lambda part: ModelFile(content).logits(images.take(part), preprocessing), parts)
        return np.concatenate(list(logits))


# --- where the error starts -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerError:
    """A layer of a file, compared with the same one in fp32.

    Args:
        name: name of the layer.
        snr_db: of its output; None where there is no error.
    """

    name: str
    snr_db: float | None


def layer_errors(reference: bytes, content: bytes, inputs: Sequence[np.ndarray]) -> list[LayerError]:
    """Compares the outputs of all operators of a file with those of the same network in fp32.

    Args:
        reference: the fp32 file.
        content: the file.
        inputs: what the network sees, each of shape (1, resolution, resolution, 3).

    Returns:
        One for each operator, in order; nothing where the two files have different operators.
    """
    (kinds, names, exact), (other_kinds, _, found) = _outputs(reference, inputs), _outputs(content, inputs)
    if kinds != other_kinds:
        return []
    return [LayerError(name, snr_db(a, b)) for name, a, b in zip(names, exact, found, strict=True)]


def first_bad_layer(errors: Sequence[LayerError]) -> LayerError | None:
    """The first layer below 10 dB, or else the one that loses most against the layer before; None if none loses."""
    ratios = [100.0 if error.snr_db is None else error.snr_db for error in errors]
    for error, ratio in zip(errors, ratios, strict=True):
        if ratio < BAD_SNR_DB:
            return error
    drops = np.diff(ratios, prepend=100.0)
    return errors[int(drops.argmin())] if len(errors) and drops.min() < 0 else None


def _outputs(content: bytes, inputs: Sequence[np.ndarray]) -> tuple[list[str], list[str], list[np.ndarray]]:
    """Kinds and names of the operators that compute, and their outputs as floats, shape (images, ...)."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    operators = [op for op in read_operators(content) if op.name not in ("QUANTIZE", "DEQUANTIZE")]
    outputs = [op.outputs[0] for op in operators if op.outputs[0] is not None]
    names = [_layer_name(tensor.name) for tensor in outputs]
    names[-1] = "classifier"  # its tensor bears the name of the file's output
    interpreter = Interpreter(
        model_content=content,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    quantization = {details["index"]: details["quantization"] for details in interpreter.get_tensor_details()}
    rows: list[list[np.ndarray]] = []
    for values in inputs:
        scale, zero_point = source["quantization"]
        if scale:
            limits = np.iinfo(source["dtype"])
            values = np.clip(np.rint(values / scale) + zero_point, limits.min, limits.max)
        interpreter.set_tensor(source["index"], values.astype(source["dtype"]))
        interpreter.invoke()
        row = []
        for tensor in outputs:
            scale, zero_point = quantization[tensor.index]
            stored = interpreter.get_tensor(tensor.index).astype(np.float32)
            row.append((stored - zero_point) * scale if scale else stored)
        rows.append(row)
    return [op.name for op in operators], names, [np.stack(column) for column in zip(*rows, strict=True)]


def _layer_name(tensor: str) -> str:
    """`stage1_block2` of `subnet/stage1_block2_project_1/Conv2D;…`: the block of `blocks.walk`, and the layer in it."""
    found = re.search(r"(?:^|/)((?:stem|first|stage\d+_block\d+|head|pool|feature|classifier)(?:_[a-z_]+)?)", tensor)
    return found.group(1).rstrip("_") if found else tensor
