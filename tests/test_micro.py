"""Files for microcontrollers: their plan, their arena in TensorFlow Lite Micro, and what a C++ program needs."""

import itertools
import shutil
import subprocess

import numpy as np
import pytest

from ofa_tf.arena import aligned
from ofa_tf.errors import DamagedError, ExportError, MissingDependencyError
from ofa_tf.latency.backend import Exported
from ofa_tf.micro import interpreter
from ofa_tf.micro.files import c_text, feeding, files_for_programs
from ofa_tf.micro.interpreter import run_in_micro, run_reference
from ofa_tf.micro.plan import (
    ENTRY,
    Buffer,
    file_arena,
    find_offsets,
    greedy_peak,
    most_at_once,
    planned_offsets,
    read_buffers,
    with_plan,
)
from ofa_tf.micro.rules import METHODS, missing
from ofa_tf.tflite.metadata_writer import add_entry
from ofa_tf.tflite.operators import read_operators

# The stem and the first block of `photos`' largest subnet at 64 px, where the interpreter's planner wastes memory.
WASTED = [
    Buffer(12288, 0, 0, 0),
    Buffer(16384, 0, 1, 1),
    Buffer(16384, 1, 2, 2),
    Buffer(8192, 2, 3, 3),
    Buffer(49152, 3, 4, 4),
    Buffer(12288, 4, 5, 5),
    Buffer(4096, 5, 8, 6),
    Buffer(24576, 6, 7, 7),
    Buffer(24576, 7, 8, 8),
    Buffer(4096, 8, 9, 9),
]


def chain(rng, n):
    """Buffers of a network of inverted residuals of random widths."""
    found, turn, last = [], 0, Buffer(int(rng.integers(1, 20)) * 16, 0, 0, 0)
    for _ in range(n):
        mid, skip = last.size_bytes * int(rng.integers(1, 7)), bool(rng.random() < 0.5)
        out = last.size_bytes if skip else int(rng.integers(1, 20)) * 16
        end = turn + 3 if skip else turn
        found += [
            Buffer(last.size_bytes, last.first, end, last.tensor),
            Buffer(mid, turn, turn + 1, last.tensor + 1),
            Buffer(mid, turn + 1, turn + 2, last.tensor + 2),
        ]
        if skip:
            found.append(Buffer(out, turn + 2, turn + 3, last.tensor + 3))
        turn += 4 if skip else 3
        last = Buffer(out, turn - 1, turn, last.tensor + 4)
    return [*found, last]


def check(buffers, offsets):
    """A plan in which nothing overlaps that is needed at the same time."""
    for (one, low), (other, high) in itertools.combinations(offsets.items(), 2):
        first, second = buffers[one], buffers[other]
        if first.meets(second):
            assert low + first.size_bytes <= high or high + second.size_bytes <= low
    return max(offset + buffers[place].size_bytes for place, offset in offsets.items())


def test_a_plan_saves_what_the_planner_of_the_interpreter_wastes():
    assert check(WASTED, find_offsets(WASTED)) == most_at_once(WASTED) < greedy_peak(WASTED)


@pytest.mark.parametrize("seed", range(20))
def test_networks_of_inverted_residuals_always_have_a_plan(seed):
    buffers = chain(np.random.default_rng(seed), 12)
    assert check(buffers, find_offsets(buffers)) == most_at_once(buffers)


def test_equal_buffers_are_placed_from_the_last():
    # Found by experiment: 40,960 bytes if the first of the two of 16,384 came first.
    buffers = [Buffer(16384, 0, 1), Buffer(16384, 1, 2), Buffer(8192, 2, 3), Buffer(24576, 3, 4)]
    assert greedy_peak(buffers) == 32768


def test_a_plan_is_read_back_and_leaves_the_operators(clean):
    operators, buffers = read_operators(clean), read_buffers(clean)
    offsets = {place: 16 * place for place, of in enumerate(buffers) if of.tensor >= 0}
    n_tensors = 1 + max(tensor.index for operator in operators for tensor in operator.tensors)
    by_tensor = np.full(n_tensors, -1, "<i4")
    by_tensor[[buffers[place].tensor for place in offsets]] = list(offsets.values())
    planned = add_entry(clean, ENTRY, np.array([1, 0, n_tensors], "<i4").tobytes() + by_tensor.tobytes())
    assert planned_offsets(planned, buffers) == offsets
    assert planned_offsets(clean, buffers) == {}
    assert [op.name for op in read_operators(planned)] == [op.name for op in operators]
    with pytest.raises(DamagedError, match="its plan of the memory is not of its tensors"):
        planned_offsets(add_entry(clean, ENTRY, b"abc"), buffers)


def test_a_file_that_needs_no_plan_stays_as_it_is(clean):
    assert greedy_peak(read_buffers(clean)) == most_at_once(read_buffers(clean))
    assert with_plan(clean) == clean


def test_operators_are_known_by_their_methods():
    assert METHODS["DEPTHWISE_CONV_2D"] == "AddDepthwiseConv2D"
    assert METHODS["HARD_SWISH"] == "AddHardSwish"
    assert missing(["CONV_2D", "SEGMENT_SUM", "CUSTOM thing"]) == ["CUSTOM thing", "SEGMENT_SUM"]


def about(**changes):
    facts = {
        "classes": ("cat", 'a "dog"?', "füchse"),
        "resolution": 24,
        "dtype": "int8",
        "raw_pixels": True,
        "mean": (128.0,) * 3,
        "std": (128.0,) * 3,
        "scale": 1 / 128,
        "zero_point": 0,
        "answers": lambda most: None,
    }
    return Exported(**{**facts, **changes})


def test_how_a_pixel_is_fed():
    assert feeding(about()) == "net.input(0)->data.int8[i] = pixel[i] - 128;"
    assert feeding(about(dtype="uint8")) == "net.input(0)->data.uint8[i] = pixel[i];"
    assert "std::clamp(static_cast<int>(std::lround((pixel[i] - 120.000f) / 2.00000f)) + 3, -128, 127);" in feeding(
        about(raw_pixels=False, mean=(120.0,) * 3, std=(64.0,) * 3, scale=1 / 32, zero_point=3)
    )
    assert "mean = {1.00000f, 2.00000f, 3.00000f}, step = {1.00000f, 1.00000f, 1.00000f}" in feeding(
        about(raw_pixels=False, mean=(1.0, 2.0, 3.0), std=(2.0,) * 3, scale=0.5)
    )


@pytest.mark.skipif(shutil.which("g++") is None, reason="g++, a compiler for C++, is not installed")
def test_a_program_compiles_what_was_made(clean, tmp_path):
    made = files_for_programs(clean, {"CONV_2D": 3, "ADD": 1}, about(), 12_345, measured=True)
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "main.cc").write_text(
        '#include <cstdint>\n#include <cstdio>\n#include "labels.h"\n#include "model.h"\n'
        "alignas(16) static uint8_t arena[kArenaSize];\n"
        "int main() {\n"
        '  std::fprintf(stderr, "%u %u %d %zu\\n", kModelSize, kLabelCount, (int)((uintptr_t)kModel % 16), '
        "sizeof arena);\n"
        '  for (unsigned i = 0; i < kLabelCount; i++) std::fprintf(stderr, "%s\\n", kLabels[i]);\n'
        "  std::fwrite(kModel, 1, kModelSize, stdout);\n}\n"
    )
    sources = [str(tmp_path / name) for name in ("main.cc", "model.cc")]
    subprocess.run(["g++", "-std=c++17", "-Wall", "-Werror", *sources, "-o", str(tmp_path / "run")], check=True)
    ran = subprocess.run([tmp_path / "run"], capture_output=True, check=True)
    facts, *labels = ran.stderr.decode().splitlines()
    assert ran.stdout == clean
    assert facts.split() == [str(len(clean)), "3", "0", "12345"]
    assert tuple(labels) == about().classes
    readme = made["README.md"].decode()
    assert "`ops.AddConv2D();` `ops.AddAdd();`" in readme
    assert "12345 bytes" in readme


def test_any_text_becomes_a_literal():
    assert c_text('a"\\?\n') == '"a\\042\\134\\077\\012"'


def test_without_the_interpreter_it_says_how_to_get_it(clean, monkeypatch):
    monkeypatch.setattr(interpreter, "available", lambda: False)
    with pytest.raises(MissingDependencyError, match="pip install tflite-micro"):
        run_in_micro(clean, np.zeros((1, 1, 8, 8, 3), np.int8))


needs_interpreter = pytest.mark.skipif(not interpreter.available(), reason="tflite-micro is not installed")


@pytest.fixture(scope="module")
def photo_file() -> bytes:
    """An int8 file whose memory the interpreter's own planner wastes."""
    from ofa_tf.export.convert import BlockConverter
    from ofa_tf.space import Arch, SearchSpace, Stage

    space = SearchSpace(
        name="wasteful", stem_channels=16, stem_stride=2, stem_activation="relu6", first_channels=8,
        first_activation="relu6", stages=(Stage(16, 2, (2,), "relu6"),), kernels=(3,), expands=(6,), resolutions=(32,),
        head_channels=0, feature_channels=0, head_activation="relu6",
    )  # fmt: skip
    arch: Arch = space.largest()
    return BlockConverter(space, 4, "int8").network(arch)


@needs_interpreter
def test_the_predicted_arena_is_that_of_the_interpreter(photo_file):
    stored = np.random.default_rng(0).integers(-128, 128, (3, 1, 32, 32, 3), np.int8)
    for content in (photo_file, with_plan(photo_file)):
        run, predicted = run_in_micro(content, stored), file_arena(content)
        assert run.arena.activation_bytes == predicted.activation_bytes
        assert run.arena_bytes == run.arena.total_bytes
        assert predicted.total_bytes == pytest.approx(run.arena_bytes, rel=0.01)
        assert np.abs(run.outputs.astype(int) - run_reference(content, stored)).max() <= 1


def test_a_file_of_countless_tensors_is_not_planned(photo_file, monkeypatch):
    """Which would take minutes: what lies where is a matter of every pair of them."""
    monkeypatch.setattr("ofa_tf.micro.plan.MOST_TENSORS", 10)
    assert with_plan(photo_file) == photo_file
    assert file_arena(photo_file) is None


@needs_interpreter
def test_an_arena_that_is_too_small_and_a_file_that_is_none_are_refused(photo_file):
    image = np.zeros((1, 1, 32, 32, 3), np.int8)
    with pytest.raises(ExportError, match="TensorFlow Lite Micro refuses the file: Failed to"):
        run_in_micro(photo_file, image, arena_bytes=8000)
    with pytest.raises(ExportError, match="TensorFlow Lite Micro"):
        run_in_micro(b"no file" * 100, image)
    with pytest.raises(ExportError, match=r"was stopped after 0\.01 s"):
        run_in_micro(photo_file, image, limit_s=0.01)


def test_sizes_are_aligned():
    assert [aligned(size) for size in (0, 1, 16, 17)] == [0, 16, 16, 32]
