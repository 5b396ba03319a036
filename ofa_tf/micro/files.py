"""What a program for a microcontroller needs of a network: the file as a C++ array, its labels, and how to use them."""

from collections.abc import Mapping, Sequence

from ofa_tf.arena import ALIGNMENT
from ofa_tf.latency.backend import Exported
from ofa_tf.micro.rules import METHODS

PER_LINE = 16
HEADER = """\
// A network as TensorFlow Lite Micro runs it; made by ofa-tf.
#ifndef OFA_TF_MODEL_H_
#define OFA_TF_MODEL_H_

extern const unsigned char kModel[];         // model.tflite, at a multiple of {alignment} bytes
extern const unsigned int kModelSize;        // its bytes
const unsigned int kArenaSize = {arena};  // bytes of RAM for the interpreter

#endif  // OFA_TF_MODEL_H_
"""
LABELS = """\
// What each output of the network stands for; made by ofa-tf.
#ifndef OFA_TF_LABELS_H_
#define OFA_TF_LABELS_H_

const unsigned int kLabelCount = {count};
const char* const kLabels[] = {{
{labels}
}};

#endif  // OFA_TF_LABELS_H_
"""
README = """\
# A network for TensorFlow Lite Micro

1. Compile `model.cc` with your program; `model.h` and `labels.h` declare the network and its {n} labels.
2. Reserve the arena: `alignas({alignment}) static uint8_t arena[kArenaSize];` ({arena} bytes, {how}).
3. Register {n_ops} operators: `tflite::MicroMutableOpResolver<{n_ops}> ops;` and then
   {register}
4. Load it: `tflite::MicroInterpreter net(tflite::GetModel(kModel), ops, arena, kArenaSize); net.AllocateTensors();`
5. Feed an RGB picture of {size} x {size} pixels, row by row, as {dtype}: `{feed}`.
6. Call `net.Invoke()`; the answer is the label of the largest of the {n} values in `net.output(0)`.
7. Kernels tuned for a chip, such as CMSIS-NN, may need a larger arena than the reference kernels: {advice}.
"""


def c_array(content: bytes) -> bytes:
    """`model.cc`: the file as an aligned array."""
    rows = (content[start : start + PER_LINE] for start in range(0, len(content), PER_LINE))
    body = ",\n".join("    " + ", ".join(f"0x{byte:02x}" for byte in row) for row in rows)
    return (
        '#include "model.h"\n\n'
        f"alignas({ALIGNMENT}) const unsigned char kModel[] = {{\n{body},\n}};\n"
        f"const unsigned int kModelSize = {len(content)};\n"
    ).encode()


def c_text(text: str) -> str:
    """A literal of C++ for any text: what is no plain character becomes an octal escape of its UTF-8 bytes."""
    plain = (chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(plain)}"'


def files_for_programs(
    content: bytes, ops: Mapping[str, int], about: Exported, arena_bytes: int, measured: bool
) -> dict[str, bytes]:
    """The files beside `model.tflite`.

    Args:
        content: the file.
        ops: its operators.
        about: labels, and what its input stands for.
        arena_bytes: bytes of the arena.
        measured: whether that was measured, or only predicted.
    """
    header = HEADER.format(alignment=ALIGNMENT, arena=arena_bytes)
    labels = ",\n".join(f"    {c_text(name)}" for name in about.classes)
    readme = README.format(
        n=len(about.classes),
        alignment=ALIGNMENT,
        arena=arena_bytes,
        how="measured on a PC with pointers of 64 bits" if measured else "predicted, not measured",
        n_ops=len(ops),
        register=" ".join(f"`ops.{METHODS[name]}();`" for name in ops),
        size=about.resolution,
        dtype=about.dtype,
        feed=feeding(about),
        advice="enlarge it if AllocateTensors fails",
    )
    return {
        "model.h": header.encode(),
        "model.cc": c_array(content),
        "labels.h": LABELS.format(count=len(about.classes), labels=labels).encode(),
        "README.md": readme.encode(),
    }


def feeding(about: Exported) -> str:
    """What is stored for the pixel of a picture, from 0 to 255, as C++."""
    target = f"net.input(0)->data.{about.dtype}[i]"
    if about.raw_pixels:
        return f"{target} = pixel[i]{' - 128' if about.dtype == 'int8' else ''};"
    scale, zero = about.scale, about.zero_point

    low, high = (-128, 127) if about.dtype == "int8" else (0, 255)

    def stored(mean: str, step: str) -> str:
        value = f"static_cast<int>(std::lround((pixel[i] - {mean}) / {step})) + {zero}"
        return f"{target} = std::clamp({value}, {low}, {high});"

    steps = [std * scale for std in about.std]
    if len(set(about.mean)) == len(set(about.std)) == 1:
        return stored(_number(about.mean[0]), _number(steps[0]))
    return f"{stored('mean[i % 3]', 'step[i % 3]')}` with `mean = {_numbers(about.mean)}, step = {_numbers(steps)}"


def _number(value: float) -> str:
    return f"{value:#.6g}f"


def _numbers(values: Sequence[float]) -> str:
    return "{" + ", ".join(map(_number, values)) + "}"
