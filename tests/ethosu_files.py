"""What the tests of Ethos-U share: the real Vela, stand-ins for it, and small files that need no converter."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofa_tf.ethosu.vela import ABSENT, Vela, find_vela

COLUMNS = ("inference_time", "sram_memory_used", "dram_memory_used")
FLASH = ("on_chip_flash_memory_used", "off_chip_flash_memory_used")
SUMMARY = ",".join((*COLUMNS, *FLASH)) + "\n0.00025,88.5,0.0,0.0,3.25\n"
SAID = "CPU operators = 0 (0.0%)\nNPU operators = 6 (100.0%)\n"
WRITE = 'cp "$1" "${11}/model_vela.tflite"; cp {folder}/summary.csv "${11}/model_summary_$5.csv"; cat {folder}/said.txt'


def require_vela() -> Vela:
    """The real one; a test skips without it, except in CI, where it fails."""
    program = find_vela()
    if program is None:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(ABSENT)
    return Vela(program)


def put_vela(
    folder: Path, summary: str = SUMMARY, said: str = SAID, then: str = WRITE, version: str = "echo 5.2.0"
) -> str:
    """Writes a stand-in for `vela`: what it does with `--version`, and with a file."""
    folder.mkdir(exist_ok=True)
    (folder / "summary.csv").write_text(summary)
    (folder / "said.txt").write_text(said)
    program = folder / "vela"
    then = then.replace("{folder}", str(folder))
    program.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then {version}; exit; fi\n{then}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def relu_file(
    dtype: str = "INT8",
    shape: Sequence[int] = (1, 8, 8, 4),
    name: str = "RELU",
    constants: Sequence[tuple[Sequence[int], np.ndarray]] = (),
    out_shape: Sequence[int] | None = None,
    options: Any = None,
) -> bytes:
    """A file of one operator, of one input and some constants."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model, graph, code, op = schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT()
    model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, [schema.BufferT()], [code], [graph]
    code.builtinCode = getattr(schema.BuiltinOperator, name)
    code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
    graph.tensors, graph.operators = [], [op]

    def tensor(size: Sequence[int], kind: str, values: np.ndarray | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type = f"t{len(graph.tensors)}", list(size), getattr(schema.TensorType, kind)
        made.buffer = 0
        if values is not None:
            data = schema.BufferT()
            data.data = np.ascontiguousarray(values).view(np.uint8).ravel()
            model.buffers.append(data)
            made.buffer = len(model.buffers) - 1
        if kind.startswith(("INT8", "UINT8", "INT16")):
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = [0.05], [0]
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    first = tensor(shape, dtype)
    op.inputs = [first, *(tensor(size, str(values.dtype).upper(), values) for size, values in constants)]
    op.outputs = [tensor(shape if out_shape is None else out_shape, dtype)]
    op.opcodeIndex = 0
    if options is not None:
        op.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        op.builtinOptions = options
    graph.inputs, graph.outputs = [first], list(op.outputs)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
