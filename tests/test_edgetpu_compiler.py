"""The driver of the Edge TPU's compiler against stand-ins, and the check of an export."""

import dataclasses
import json
import os
import stat
import time
from pathlib import Path

import pytest

from ofa_tf.edgetpu.compiler import compile_file, parse_report
from ofa_tf.edgetpu.lint import check, lint
from ofa_tf.errors import ExportError

# --- the compiler -----------------------------------------------------------------------------------------------------

REPORT = """Edge TPU Compiler version 16.0.384591198
Started a compilation timeout timer of 180 seconds.

Model compiled successfully in 787 ms.

Input model: model.tflite
Input size: 1.30MiB
Output model: model_edgetpu.tflite
Output size: 1.54MiB
On-chip memory used for caching model parameters: 1.44MiB
On-chip memory remaining for caching model parameters: 6.21MiB
Off-chip memory used for streaming uncached model parameters: 512.00B
Number of Edge TPU subgraphs: 1
Total number of operations: 31
Operation log: model_edgetpu.log

Operator                       Count      Status

CONV_2D                        15         Mapped to Edge TPU
DEPTHWISE_CONV_2D              13         Mapped to Edge TPU
{more}
Compilation child process completed within timeout period.
Compilation succeeded!
"""
GOOD = REPORT.format(more="SOFTMAX                        1          Mapped to Edge TPU")
ON_CPU = REPORT.format(more="HARD_SWISH                     2          Operation not supported")


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Puts a stand-in for `edgetpu_compiler` on PATH: prints a report, copies the file it is given."""

    def put(report: str = GOOD, then: str = 'cp "$4" "$3/model_edgetpu.tflite"') -> str:
        (tmp_path / "report.txt").write_text(report)
        program = tmp_path / "edgetpu_compiler"
        program.write_text(f'#!/bin/sh\ntest "$1 $2" = "-s -o" || exit 64\ncat {tmp_path}/report.txt\n{then}\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return str(program)

    return put


def test_the_report_of_the_compiler_is_read(stand_in, clean):
    compiled, report = compile_file(clean, stand_in())
    assert compiled == clean
    assert report.version == "16.0.384591198"
    assert report.subgraphs == 1
    assert report.on_chip_bytes == round(1.44 * 2**20)
    assert report.on_chip_free_bytes == round(6.21 * 2**20)
    assert report.off_chip_bytes == 512
    assert [(row.operator, row.count) for row in report.operators] == [
        ("CONV_2D", 15),
        ("DEPTHWISE_CONV_2D", 13),
        ("SOFTMAX", 1),
    ]
    assert report.n_on_cpu == 0
    assert json.loads(json.dumps(report.to_document()))["operators"][0]["status"] == "Mapped to Edge TPU"


def test_an_older_compiler_says_less():
    report = parse_report("Number of Edge TPU subgraphs: 2\n")
    assert report.version == "unknown"
    assert report.on_chip_bytes is report.off_chip_bytes is None
    assert report.operators == ()


@pytest.mark.parametrize(
    ("report", "then", "match"),
    [
        ("Invalid model\nModel not quantized\n", "exit 1", "failed with status 1: it ends with 'Model not quantized'"),
        ("", "exit 3", "failed with status 3: it says nothing"),
        ("segfault", "kill -SEGV $$", "failed with status -11"),
        ("\x00\xff nonsense \n\n", "", "no readable report"),
        ("Number of Edge TPU subgraphs: many\n", "", "no readable report"),
        (GOOD, "", "wrote no TFLite file"),
        (GOOD, 'echo hello > "$3/model_edgetpu.tflite"', "wrote no TFLite file"),
    ],
)  # fmt: skip
def test_a_compiler_that_fails_is_one_sentence(stand_in, clean, report, then, match):
    with pytest.raises(ExportError, match=match):
        compile_file(clean, stand_in(report, then))


VERSION = "Edge TPU Compiler version 16.0.384591198"
STARTED = f"{VERSION}\nStarted a compilation timeout timer of 180 seconds."
DONE = "Compilation child process completed within timeout period.\nCompilation failed! "
RESTORED = "ERROR: Restored original execution plan after delegate application failure."
TOO_LARGE = "Compilation failed due to large activation tensors in model."
NO_OP = "ERROR: Didn't find op for builtin opcode 'CONV_2D' version '6'."
DYNAMIC = "ERROR: Attempting to use a delegate that only supports static-sized tensors."
TOO_LONG = "Compilation timeout. This is usually caused by large activations."
INTERNAL = "Internal compiler error. Aborting!"


@pytest.mark.parametrize(
    ("report", "why"),
    [
        (f"{STARTED}\n{RESTORED}\nCompilation failed: {TOO_LARGE}\n{DONE}", TOO_LARGE),
        (f"{VERSION}\n{NO_OP}\n\nERROR: Registration failed.\n\nModel could not be parsed", NO_OP),
        (f"{STARTED}\n{DYNAMIC}\nCompilation failed: Model failed in Tflite interpreter.\n{DONE}", DYNAMIC),
        (f"{STARTED}\n{TOO_LONG}\nCompilation failed! ", TOO_LONG),
        (f"{VERSION}\n\n{INTERNAL} \n", INTERNAL),
    ],
)
def test_the_line_that_says_why_is_told(stand_in, clean, report, why):
    for then, how in (("exit 1", "failed with status 1"), ("", "no readable report")):
        with pytest.raises(ExportError, match=how) as caught:
            compile_file(clean, stand_in(report, then))
        assert str(caught.value).endswith(f": it says {why!r}.")


def is_gone(child: Path) -> bool:
    """Whether the process that wrote its number to a file ends soon."""
    stat, until = Path("/proc") / child.read_text().strip() / "stat", time.monotonic() + 10
    while time.monotonic() < until:
        try:
            if "Z" in stat.read_text().split()[2]:
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


def test_a_compiler_that_hangs_is_ended_with_its_children(stand_in, clean, tmp_path):
    program = stand_in(GOOD, f"sh -c 'echo $$ > {tmp_path}/child; exec sleep 600' & wait")
    with pytest.raises(ExportError, match="stopped after 1 seconds without a result"):
        compile_file(clean, program, seconds=1)
    assert is_gone(tmp_path / "child")


def test_a_compiler_that_has_ended_leaves_no_child(stand_in, clean, tmp_path):
    child = tmp_path / "child"
    copy = f'cp "$4" "$3/model_edgetpu.tflite"; while [ ! -s {child} ]; do sleep 0.1; done'
    compile_file(clean, stand_in(GOOD, f"sh -c 'echo $$ > {child}; exec sleep 600' & {copy}"))
    assert is_gone(child)


def test_a_compiler_that_cannot_be_run_is_one_sentence(clean, tmp_path):
    with pytest.raises(ExportError, match="cannot be run: No such file"):
        compile_file(clean, str(tmp_path / "nothing"))


# --- the check of an export -------------------------------------------------------------------------------------------


def test_without_a_compiler_the_check_says_how_to_get_it(clean, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    found = check(clean)
    assert found.compiled is None
    assert found.document == {"lint": lint(clean).to_document(), "compiler": None}
    (note,) = found.notes
    assert note.startswith("edgetpu_compiler is not on PATH, so the file is not compiled yet: install it")
    assert "\n" not in note


def test_with_a_compiler_the_check_compiles(clean, stand_in):
    stand_in()
    found = check(clean)
    assert found.compiled == clean
    assert found.document["compiler"]["subgraphs"] == 1
    assert found.notes == ()


def test_a_fallback_fails_the_check_unless_it_is_allowed(swish, stand_in):
    stand_in()
    with pytest.raises(ExportError, match=r"Operator 2 of \d+, HARD_SWISH.*--allow-cpu.*--space edge"):
        check(swish)
    found = check(swish, allow_cpu=True)
    assert not lint(swish).clean
    assert found.notes == (lint(swish).explain(),)


def test_what_the_compiler_leaves_on_the_cpu_fails_the_check_too(clean, stand_in):
    stand_in(ON_CPU)
    with pytest.raises(ExportError, match="makes 1 parts of the file and leaves 2 operators on the CPU"):
        check(clean)
    assert check(clean, allow_cpu=True).document["compiler"]["operators"][-1]["operator"] == "HARD_SWISH"


def test_parameters_beyond_the_memory_are_told_with_a_modelled_time(clean, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    report = lint(clean)
    monkeypatch.setattr("ofa_tf.edgetpu.lint.lint", lambda _: dataclasses.replace(report, parameter_bytes=18_074_000))
    assert not dataclasses.replace(report, parameter_bytes=18_074_000).fits_on_chip
    note = check(clean).notes[0]
    assert note.startswith("10.0 MB of parameters do not fit into the Edge TPU's memory")
    assert note.endswith("about 21.2 ms (modelled).")
