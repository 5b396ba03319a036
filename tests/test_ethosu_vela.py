"""The driver of Vela: against the real one, and against stand-ins that fail in every way."""

import json
import os
import sys
import time
from pathlib import Path

import pytest
from ethosu_files import COLUMNS, FLASH, SUMMARY, WRITE, put_vela, relu_file, require_vela

from ofa_tf.errors import ExportError
from ofa_tf.ethosu.lint import check
from ofa_tf.ethosu.targets import parse_target
from ofa_tf.ethosu.vela import NPU_OPERATOR, Vela, find_vela
from ofa_tf.tflite.operators import read_operators

TARGET = parse_target("ethos-u55-128")


@pytest.fixture(scope="module")
def vela() -> Vela:
    return require_vela()


@pytest.fixture(scope="module")
def relu() -> bytes:
    return relu_file()


def refused(program: str, content: bytes, match: str, seconds: float = 20) -> None:
    """Compiling raises one sentence."""
    with pytest.raises(ExportError, match=match) as caught:
        Vela(program, seconds).compile(content, TARGET)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


# --- the real one -----------------------------------------------------------------------------------------------------


def test_a_file_is_compiled_and_reported(vela, relu):
    compiled = vela.compile(relu, TARGET)
    assert [op.name for op in read_operators(compiled.content)] == [NPU_OPERATOR]
    report = compiled.report
    assert 0 < report.latency_ms < 1
    assert report.sram_bytes >= 8 * 8 * 4
    assert (report.n_on_npu, report.n_on_cpu, report.dram_bytes) == (1, 0, 0)
    assert report.origin == f"vela {vela.version}, Ethos_U55_High_End_Embedded, Shared_Sram"
    assert json.loads(json.dumps(report.to_document()))["source"] == f"modelled by {report.origin}"


def test_many_files_in_one_process_are_what_they_are_one_by_one(vela, relu):
    """Also where one of them is wanted twice; the target counts."""
    larger = relu_file(shape=(1, 32, 32, 8))
    assert vela.here
    first, second, again = vela.compile_all([relu, larger, relu], TARGET)
    assert first == again == vela.compile(relu, TARGET)
    assert second.report.latency_ms > first.report.latency_ms
    slower = vela.compile(larger, parse_target("ethos-u55-32:Ethos_U55_Deep_Embedded"))
    assert slower.report.latency_ms > second.report.latency_ms


def test_operators_on_the_cpu_are_counted(vela):
    report = vela.compile(relu_file(name="FLOOR"), TARGET).report
    assert (report.on_cpu, report.n_on_npu, report.latency_ms) == ({"FLOOR": 1}, 0, 0)


def test_a_file_that_it_refuses_is_one_sentence(vela, relu):
    refused(vela.program, b"no model", "vela failed with status 1: it says '.*Error")
    with pytest.raises(ExportError, match="vela failed with status 1"):
        vela.compile_all([relu, b"no model"], TARGET)


# --- stand-ins --------------------------------------------------------------------------------------------------------


def test_the_stand_in_is_read(tmp_path, relu):
    compiled = Vela(put_vela(tmp_path)).compile(relu, TARGET)
    assert compiled.content == relu
    report = compiled.report
    assert (report.version, report.latency_ms) == ("5.2.0", 0.25)
    assert (report.sram_bytes, report.flash_bytes) == (round(88.5 * 1024), round(3.25 * 1024))
    assert (report.n_on_npu, report.on_cpu) == (6, {"RELU": 1})


def without(column: str) -> str:
    header, row = (line.split(",") for line in SUMMARY.splitlines())
    kept = [index for index, name in enumerate(header) if name != column]
    return "\n".join(",".join(words[index] for index in kept) for words in (header, row)) + "\n"


@pytest.mark.parametrize("column", [*COLUMNS, *FLASH])
def test_a_summary_of_another_format_is_one_sentence(tmp_path, relu, column):
    match = f"vela 7.1 wrote a summary without '{column}': ofa-tf was made for vela 5.2.0"
    refused(put_vela(tmp_path, without(column), version="echo 7.1"), relu, match)


@pytest.mark.parametrize(
    ("summary", "match"),
    [
        ("", "a summary that cannot be read"),
        (SUMMARY.splitlines()[0], "a summary that cannot be read"),
        (SUMMARY.replace("0.00025", "soon"), "a summary that cannot be read"),
        (SUMMARY.replace("0.00025", "nan"), "impossible numbers"),
        (SUMMARY.replace("88.5", "-1"), "impossible numbers"),
        (SUMMARY.replace("88.5", "inf"), "impossible numbers"),
        (SUMMARY.replace("88.5", "1e308"), "impossible numbers"),
        (SUMMARY.splitlines()[0] + "\n1\n", "a summary that cannot be read"),
        (SUMMARY.replace("88.5", "8" * 200_000), "a summary that cannot be read"),
        (SUMMARY + " " * 1_000_000, "wrote no summary model_summary_.*csv that can be read"),
    ],
)
def test_a_summary_that_makes_no_sense_is_one_sentence(tmp_path, relu, summary, match):
    refused(put_vela(tmp_path, summary), relu, match)


@pytest.mark.parametrize(
    ("then", "match"),
    [
        ("exit 3", "vela failed with status 3: it says nothing"),
        ("echo 'Traceback:'; echo '  File x'; echo 'ValueError: no.'; exit 1", "status 1: it says 'ValueError: no.'"),
        ("echo \"error: argument --config\"; echo bye; exit 2", "status 2: it says 'error: argument --config'"),
        ("kill -SEGV $$", "failed with status -11"),
        ("cat {folder}/said.txt", "vela wrote no compiled file: it says 'NPU operators"),
        (WRITE + '; echo hello > "${11}/model_vela.tflite"', "wrote a file that cannot be read: The file"),
        (WRITE + '; rm "${11}"/*.csv', "wrote no summary model_summary_Ethos_U55_High_End_Embedded.csv"),
    ],
)  # fmt: skip
def test_one_that_fails_is_one_sentence(tmp_path, relu, then, match):
    refused(put_vela(tmp_path, then=then), relu, match)


def test_one_that_prints_something_else_is_one_sentence(tmp_path, relu):
    refused(put_vela(tmp_path, said="Compiled.\n"), relu, "does not say how many operators run on the NPU")
    refused(
        put_vela(tmp_path, version="echo; echo Vela five"), relu, "--version printed no version: it says 'Vela five'"
    )
    refused(put_vela(tmp_path, version="exit 1"), relu, "failed with status 1: it says nothing")
    colours = put_vela(tmp_path, then="printf 'Error: \\033[2J red\\n'; exit 1")
    refused(colours, relu, r"it says 'Error:  \[2J red'")


def test_one_that_hangs_is_ended_with_its_children(tmp_path, relu):
    program = put_vela(tmp_path, then="sh -c 'echo $$ > {folder}/child; exec sleep 600' & wait")
    refused(program, relu, "vela was stopped after 1 seconds without a result", seconds=1)
    child, until = Path("/proc") / (tmp_path / "child").read_text().strip(), time.monotonic() + 10
    while child.exists() and "Z" not in (child / "stat").read_text().split()[2] and time.monotonic() < until:
        time.sleep(0.05)
    assert not child.exists() or "Z" in (child / "stat").read_text().split()[2]


def test_one_that_cannot_be_run_is_one_sentence(tmp_path, relu):
    refused(str(tmp_path / "nothing"), relu, "cannot be run: No such file")


def test_it_is_looked_for_on_the_path_first_and_then_beside_python(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr("sys.executable", str(tmp_path / "beside" / "python"))
    assert find_vela() is None
    beside = put_vela(tmp_path / "beside")
    assert find_vela() == beside
    on_path = put_vela(tmp_path / "path")
    assert find_vela() == on_path
    assert not Vela(on_path).here


def test_a_worker_that_cannot_load_it_or_hangs_is_one_sentence(tmp_path, monkeypatch, relu):
    program = put_vela(tmp_path)
    other = tmp_path / "python"
    monkeypatch.setattr("sys.executable", str(other))
    monkeypatch.setattr(Vela, "here", True)
    for script, match in (
        (
            "echo \"ModuleNotFoundError: No module named 'ethosu'\" >&2; exit 1",
            "vela cannot be loaded by .*: `pip install",
        ),
        ("echo 'Error: out of memory' >&2; exit 1", "vela ended early in .*python: it says 'Error: out of memory'"),
        ("sleep 600", "stopped after"),
    ):
        other.write_text(f"#!/bin/sh\n{script}\n")
        other.chmod(0o755)
        monkeypatch.setattr("ofa_tf.ethosu.vela.VERSION_SECONDS", 1.0)
        with pytest.raises(ExportError, match=match):
            Vela(program, seconds=1).compile_all([relu, relu_file(shape=(1, 4, 4, 4))], TARGET)
    with pytest.raises(ExportError, match="stopped after"):  # a request that a pipe has no room for
        Vela(program, seconds=1).compile_all([b"%d" % number for number in range(400)], TARGET)


# --- the worker -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda _: None, 0),
        (lambda _: 4, 4),
        (lambda _: sys.exit(3), 3),
        (lambda _: sys.exit("why"), 1),
        (lambda _: 1 / 0, 1),
        (lambda _: os.kill(os.getpid(), 11), -11),
        (lambda _: time.sleep(60), None),
    ],
)  # fmt: skip
def test_a_fork_ends_alone(tmp_path, act, status):
    from ofa_tf.ethosu.worker import compile_in_fork

    assert compile_in_fork(act, ["model"], str(tmp_path / "log.txt"), 2.0) == status


# --- the check of an export -------------------------------------------------------------------------------------------


def test_without_a_compiler_the_check_says_how_to_get_it(relu):
    found = check(relu, TARGET, None)
    assert found.compiled is None
    assert found.document["vela"] is None
    (note,) = found.notes
    assert "pip install 'ofa-tf[ethosu]'" in note
    assert "export again" in note


def test_a_fallback_fails_the_check_unless_it_is_allowed(tmp_path):
    floor, vela = relu_file(name="FLOOR"), Vela(put_vela(tmp_path))
    with pytest.raises(ExportError, match=r"Operator 1 of 1, FLOOR, does not run on an ethos-u55-128.*--allow-cpu"):
        check(floor, TARGET, vela)
    found = check(floor, TARGET, vela, allow_cpu=True)
    assert len(found.notes) == 2
    assert "0.25 ms without the operators on the CPU" in found.notes[1]
    assert "modelled by vela 5.2.0" in found.notes[1]


def test_what_vela_leaves_on_the_cpu_fails_the_check_too(tmp_path, relu):
    """The stand-in compiles nothing, so that the operator stays where it was."""
    with pytest.raises(ExportError, match=r"vela leaves 1 operators on the CPU \(RELU\): export it anyway"):
        check(relu, TARGET, Vela(put_vela(tmp_path)))
