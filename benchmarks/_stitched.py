"""Whole subnets put together from the files of their blocks, in a thousandth of the time of converting them."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ofa_tf.blocks import Block, walk
from ofa_tf.export.block_files import BlockFiles
from ofa_tf.latency.measure import CONVERTED_SIZE
from ofa_tf.progress import SILENT, Progress
from ofa_tf.space import Arch
from ofa_tf.tflite.resize import resize_file

# mypy: disable-error-code="attr-defined,union-attr,index"


@dataclass(frozen=True)
class StitchedFiles:
    """Makes the files of a latency table; those of subnets have the operators, shapes and weights of their blocks.

    Where two blocks meet, the tensor has the quantisation of the block that computes it. So what such a file computes
    means nothing, which does not matter to a compiler that estimates its time.

    Args:
        blocks: makes the files of blocks.
    """

    blocks: BlockFiles

    def convert(self, wanted: Sequence[Block | Arch], progress: Progress = SILENT) -> list[bytes]:
        """The files of blocks, whose inputs may be resized, and of subnets; in the order given."""
        walks = {
            item: list(walk(self.blocks.space, item, self.blocks.n_classes))
            for item in wanted
            if isinstance(item, Arch)
        }
        parts = [item for item in wanted if isinstance(item, Block)] + [
            as_converted(block) for blocks in walks.values() for block in blocks
        ]
        files = dict(zip(parts, self.blocks.convert(parts, progress), strict=True))
        resized: dict[tuple[bytes, int], bytes] = {}

        def part(block: Block) -> bytes:
            content = files[as_converted(block)]
            if not block.takes_images or block.in_size == CONVERTED_SIZE:
                return content
            return resized.setdefault((content, block.in_size), resize_file(content, block.in_size))

        return [
            stitch([part(block) for block in walks[item]]) if isinstance(item, Arch) else files[item] for item in wanted
        ]


def as_converted(block: Block) -> Block:
    """The block whose file is resized; the one that `build_table` asks for, too."""
    size = CONVERTED_SIZE if block.takes_images else block.in_size
    return dataclasses.replace(block, in_size=size)


def with_classes(content: bytes, n_classes: int) -> bytes:
    """The file of a classifier with another number of outputs, whose weights are drawn from the rows that it has.

    Args:
        content: a file of one fully connected layer and reshapes.
        n_classes: the number of outputs.
    """
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    graph = model.subgraphs[0]
    (before,) = graph.tensors[graph.outputs[0]].shape[-1:]
    rows = np.random.default_rng(0).integers(0, before, n_classes)
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if data is not None and int(tensor.shape[0]) == before:  # weights and bias
            model.buffers[tensor.buffer].data = np.asarray(data, np.uint8).reshape(before, -1)[rows].ravel()
            tensor.shape = [n_classes, *tensor.shape[1:]]
        elif data is None and int(tensor.shape[-1]) == before:
            tensor.shape = [*tensor.shape[:-1], n_classes]
        tensor.shapeSignature = None
        quantisation = tensor.quantization
        if quantisation is not None and quantisation.scale is not None and len(quantisation.scale) == before > 1:
            quantisation.scale = np.asarray(quantisation.scale)[rows]
            quantisation.zeroPoint = np.asarray(quantisation.zeroPoint)[rows]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def stitch(contents: Sequence[bytes]) -> bytes:
    """One file that runs files after each other, each on the output of the one before.

    Args:
        contents: files of one input and one output.
    """
    whole = schema.ModelT.InitFromPackedBuf(contents[0], 0)
    graph = whole.subgraphs[0]
    for content in contents[1:]:
        more = schema.ModelT.InitFromPackedBuf(content, 0)
        part = more.subgraphs[0]
        joint, start = graph.outputs[0], len(graph.tensors)
        renamed = {index: start + index for index in range(len(part.tensors))} | {part.inputs[0]: joint, -1: -1}
        for tensor in part.tensors:
            tensor.buffer = tensor.buffer + len(whole.buffers) if tensor.buffer else 0
            tensor.name = f"{start} ".encode() + tensor.name
        for op in part.operators:
            op.opcodeIndex += len(whole.operatorCodes)
            op.inputs, op.outputs = ([renamed[int(index)] for index in some] for some in (op.inputs, op.outputs))
        graph.tensors += part.tensors
        graph.operators += part.operators
        whole.buffers += more.buffers
        whole.operatorCodes += more.operatorCodes
        graph.outputs = [renamed[int(part.outputs[0])]]
    whole.signatureDefs = whole.metadata = []
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(whole.Pack(builder), b"TFL3")
    return bytes(builder.Output())
