"""How exactly the published networks, tables and predictor are read, and how long an import takes.

    python benchmarks/published.py --fixtures DIR [--quick] [--json FILE]

DIR holds `torch_parity/`, `specialized/` and `note10/` with reference numbers of the published project. Figures:
`parity_max_rel_error`, the largest difference of outputs over the largest output, over `parity_archs` subnets, each in
the supernet and extracted; `specialized_checked` networks of which `specialized_exact` have exactly the parameters and
MACs of the reference; `note10_max_abs_error_ms`, `note10_max_rel_error` and `predictor_max_abs_error` against the
reference's predictions, each latency from the table of its resolution (`note10_merged_max_rel_error`: from all of them
merged, as `zoo import` does); `import_seconds` and `import_peak_mb`, time and memory beyond TensorFlow's own that the
import of a full-size checkpoint takes. That checkpoint is a synthetic one: random values under the published names, in
the published container (`--quick` leaves it out).
"""

import argparse
import dataclasses
import json
import os
import pickle
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from _common import report

from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.blocks import Block, count_macs, count_params, walk
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import MOBILENET_V3

SEED = 0
CHILD = "--import-child"


# --- exactness --------------------------------------------------------------------------------------------------------


def parity(folder: Path) -> dict[str, float]:
    """Outputs of the reference's archs, from the supernet and from extracted subnets."""
    from ofa_tf.subnet import extract
    from ofa_tf.supernet import Supernet
    from ofa_tf.zoo.supernets import supernet_space
    from ofa_tf.zoo.weights import load_torch_weights

    worst, n_archs = 0.0, 0
    for description in sorted(folder.glob("*.json")):
        facts = json.loads(description.read_text())
        with np.load(description.with_suffix(".npz")) as file:
            state = {name.removeprefix("state_dict/"): file[name] for name in file.files if name.startswith("state")}
            images, outputs = file["input"].transpose(0, 2, 3, 1), file["outputs"]
        space, n_classes = supernet_space(state)
        space = dataclasses.replace(space, resolutions=(facts["resolution"],))
        supernet = Supernet(space, n_classes)
        load_torch_weights(supernet, state)
        for arch, expected in zip(facts["archs"], outputs, strict=True):
            depths = [min(depth, stage.depths[-1]) for depth, stage in zip(arch["d"], space.stages, strict=True)]
            ours = space.arch(facts["resolution"], depths, arch["ks"], arch["e"])
            for found in (supernet(images, space.encode(ours)), extract(supernet, ours)(images)):
                worst = max(worst, float(np.abs(np.asarray(found) - expected).max() / np.abs(expected).max()))
            n_archs += 1
    return {"parity_max_rel_error": worst, "parity_archs": n_archs}


def specialized(folder: Path) -> dict[str, float]:
    """Parameters and MACs of the specialised networks."""
    from ofa_tf.zoo.net_config import read_net_config

    expected = json.loads((folder / "expected.json").read_text())
    exact = 0
    for name, facts in expected.items():
        space, arch, n_classes = read_net_config(folder / f"{name}.net.config.json", facts["image_size"])
        blocks = walk(space, arch, n_classes)
        exact += (count_params(blocks), count_macs(blocks)) == (facts["n_params"], facts["macs"])
    return {"specialized_checked": len(expected), "specialized_exact": exact}


def predictions(folder: Path) -> dict[str, float]:
    """Latencies and accuracies that the reference predicts."""
    from ofa_tf.zoo.note10 import merge_note10, read_note10
    from ofa_tf.zoo.published_predictor import read_published_predictor

    space = dataclasses.replace(MOBILENET_V3, width_mult=1.2, padding="symmetric")
    references = json.loads((folder / "reference_predictions.json").read_text())
    codes = space.encode([space.arch(row["r"], row["d"], row["ks"], row["e"]) for row in references])
    tables = {path.name.split("_")[0]: read_note10(path) for path in folder.glob("*_lookup_table.yaml")}
    costs = {resolution: table.costs(space, 1000) for resolution, table in tables.items()}
    predictor: Predictor = read_published_predictor(folder / "ofa_accuracy_predictor.pth", space)
    rows = zip(references, codes, strict=True)
    latencies = np.array([costs[str(row["r"])](code[None])[0] for row, code in rows])
    accuracies = predictor(codes)
    expected = np.array([row["note10_ms"] for row in references])
    merged = merge_note10(list(tables.values())).costs(space, 1000)(codes)
    return {
        "note10_max_abs_error_ms": float(np.abs(latencies - expected).max()),
        "note10_max_rel_error": float(np.abs(latencies / expected - 1).max()),
        "note10_merged_max_rel_error": float(np.abs(merged / expected - 1).max()),
        "predictor_max_abs_error": float(np.abs(accuracies - [row["predicted_acc"] for row in references]).max()),
    }


# --- a full-size checkpoint -------------------------------------------------------------------------------------------


def supernet_tensors(space: SearchSpace, n_classes: int, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    """Random tensors under the published names and shapes of a MobileNetV3 supernet."""

    def values(*shape: int) -> np.ndarray:
        return rng.normal(0, 0.05, shape).astype(np.float32)

    def bn(name: str, channels: int) -> Iterator[tuple[str, np.ndarray]]:
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.{part}", np.abs(values(channels)) + np.float32(part == "running_var")
        yield f"{name}.num_batches_tracked", np.array(1, np.int64)

    def inverted(name: str, block: Block, elastic: bool) -> Iterator[tuple[str, np.ndarray]]:
        conv, norm = ("conv.conv", "bn.bn") if elastic else ("conv", "bn")
        mid = block.mid_channels
        if block.expanded:
            yield f"{name}.inverted_bottleneck.{conv}.weight", values(mid, block.in_channels, 1, 1)
            yield from bn(f"{name}.inverted_bottleneck.{norm}", mid)
        yield f"{name}.depth_conv.{conv}.weight", values(mid, 1, block.kernel, block.kernel)
        for size in (3, 5) if elastic else ():
            yield f"{name}.depth_conv.conv.{size + 2}to{size}_matrix", values(size**2, size**2)
        yield from bn(f"{name}.depth_conv.{norm}", mid)
        if block.se_channels:
            for part, shape in (("reduce", (block.se_channels, mid)), ("expand", (mid, block.se_channels))):
                yield f"{name}.depth_conv.se.fc.{part}.weight", values(*shape, 1, 1)
                yield f"{name}.depth_conv.se.fc.{part}.bias", values(shape[0])
        yield f"{name}.point_linear.{conv}.weight", values(block.out_channels, mid, 1, 1)
        yield from bn(f"{name}.point_linear.{norm}", block.out_channels)

    n_inverted = 0
    for block in walk(space, space.largest(), n_classes):
        if block.kind == "mbconv":
            yield from inverted(f"blocks.{n_inverted}.mobile_inverted_conv", block, block.slot >= 0)
            n_inverted += 1
        elif block.kind == "conv":
            name = "first_conv" if block.name == "stem" else "final_expand_layer"
            yield f"{name}.conv.weight", values(block.out_channels, block.in_channels, block.kernel, block.kernel)
            yield from bn(f"{name}.bn", block.out_channels)
        elif block.name == "feature":
            yield "feature_mix_layer.conv.weight", values(block.out_channels, block.in_channels, 1, 1)
        elif block.name == "classifier":
            yield "classifier.linear.weight", values(block.out_channels, block.in_channels)
            yield "classifier.linear.bias", values(block.out_channels)


def write_checkpoint(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes `{"state_dict": tensors}` in PyTorch's older container, without PyTorch."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    ordered = b"ccollections\nOrderedDict\n)R"
    stream = b"\x80\x02}" + text("state_dict") + ordered + b"("
    for key, (name, values) in enumerate(tensors.items()):
        kind = {"f": "Float", "i": "Long"}[values.dtype.kind]
        strides = tuple(stride // values.itemsize for stride in values.strides)
        storage = b"(" + text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(str(key)) + text("cpu")
        stream += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(values.size) + b"NtQ"
        stream += number(0) + numbers(values.shape) + numbers(strides) + b"\x89" + ordered + b"tR"
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    with open(path, "wb") as file:
        for value in (0x1950A86A20F9469CFC6C, 1001, system):
            file.write(pickle.dumps(value, protocol=2))
        file.write(stream + b"us.")
        file.write(pickle.dumps([str(key) for key in range(len(tensors))], protocol=2))
        for values in tensors.values():
            file.write(struct.pack("<q", values.size) + values.tobytes())


def import_child(path: str) -> None:
    """Imports a checkpoint into a fresh workdir and prints seconds and megabytes; runs in a separate process."""
    import tensorflow as tf

    import ofa_tf.project.zoo as importing

    tf.constant(0.0) + 1.0  # what the first operation of a process costs is not the import's
    with open("/proc/self/statm") as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        importing.import_supernet(path, f"{folder}/workdir")
        seconds = time.perf_counter() - start
    peak_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 1e6
    print(json.dumps({"import_seconds": seconds, "import_peak_mb": peak_mb}))


def full_size_import() -> dict[str, float]:
    """Time and memory of the import of a checkpoint of the size of the published one of width 1.2."""
    space = dataclasses.replace(MOBILENET_V3, width_mult=1.2, padding="symmetric")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint"
        write_checkpoint(path, dict(supernet_tensors(space, 1000, np.random.default_rng(SEED))))
        command = [sys.executable, __file__, CHILD, str(path)]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
        answer = json.loads(done.stdout.splitlines()[-1])
        return {**answer, "import_file_mb": path.stat().st_size / 1e6}


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fixtures", metavar="DIR", type=Path, help="folder of reference numbers")
    parser.add_argument("--quick", action="store_true", help="leave the full-size import out")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument(CHILD, metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.import_child:
        import_child(options.import_child)
        return
    if options.fixtures is None or not options.fixtures.is_dir():
        parser.error("--fixtures must name a folder of reference numbers.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    figures = parity(options.fixtures / "torch_parity")
    figures |= specialized(options.fixtures / "specialized")
    figures |= predictions(options.fixtures / "note10")
    if not options.quick:
        figures |= full_size_import()
    report(figures, SEED, options.json)


if __name__ == "__main__":
    main()
