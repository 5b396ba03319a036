"""How exactly the published networks, tables and predictors are read, and how long an import takes.

    python benchmarks/published.py --fixtures DIR [--seeds N] [--quick] [--json FILE]

DIR holds `torch_parity/`, `specialized/`, `note10/` and `resnet50/` with reference numbers of the published project.
Figures: `parity_max_rel_error`, the largest difference of outputs over the largest output, over `parity_archs` subnets
of all networks, each in the supernet and extracted; `parity_error_over_reference_max`, how far such a subnet is from
the supernet in float64 at most, over how far the reference's own float32 is (`parity_max_error_from_float64`: without
dividing); `specialized_checked` networks of which `specialized_exact` have exactly the parameters and MACs of the
reference; `note10_max_abs_error_ms`, `note10_max_rel_error` and `predictor_max_abs_error` against the reference's
predictions, each latency from the table of its resolution (`note10_merged_max_rel_error`: from all of them merged, as
`zoo import` does); `resnet50_exact`, 1 if the MACs and parameters of all archs of ResNet50D (`resnet50_archs`) are the
reference's, and `resnet50_predictor_max_abs_error`; `resnet50_search_<M>M_worst`, the worst predicted accuracy that
searches of `--seeds` (10) find in `resnet50d` within 1,500, 2,500 and 3,500 million MACs, `resnet50_search_spread_max`,
the largest difference between two seeds at one budget, `resnet50_search_s_max`, the slowest of these searches on one
core, and `resnet50_over_evolution_min`, by how much the worst seed beats the best of three of the published
evolutionary search (one with `--quick`), at the budget where that is least; `import_seconds` and `import_peak_mb`, time
and memory beyond TensorFlow's own that the import of a full-size checkpoint takes. That checkpoint is a synthetic one:
random values under the published names, in the published container (`--quick` leaves it out).
"""

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"

import dataclasses
import json
import pickle
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import report
from _evolution import Evolution

from ofa_tf.accuracy.predictor import Predictor
from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.costs import arch_costs
from ofa_tf.kinds import Block
from ofa_tf.search import Budget, search
from ofa_tf.space import Arch, SearchSpace
from ofa_tf.spaces import MOBILENET_V3, RESNET50D

SEED = 0
MACS_M = (1500, 2500, 3500)  # budgets of the searches of ResNet50D
N_CLASSES = 1000
CHILD = "--import-child"


# --- exactness --------------------------------------------------------------------------------------------------------


def published_arch(space: SearchSpace, row: Mapping[str, Any], resolution: int) -> Arch:
    """An arch as the reference describes it: for ResNet50D, depths beyond the smallest, and widths."""
    if space.name == RESNET50D.name:
        stem, *stages = row["d"]
        depths = [2 if stem else 1, 1]
        depths += [stage.depths[0] + more for stage, more in zip(space.stages[2:], stages, strict=True)]
        return space.arch(resolution, depths, [3] * space.n_blocks, [1, 1, 1, *row["e"]], row["w"])
    depths = [min(depth, stage.depths[-1]) for depth, stage in zip(row["d"], space.stages, strict=True)]
    return space.arch(resolution, depths, row["ks"], row["e"])


def parity(descriptions: Sequence[Path]) -> dict[str, float]:
    """Outputs of the reference's archs, from the supernet and from extracted subnets."""
    errors = np.concatenate([parity_errors(description) for description in descriptions])
    from_reference, ours, theirs = errors.T
    return {
        "parity_max_rel_error": from_reference.max(),
        "parity_error_over_reference_max": (ours / theirs).max(),
        "parity_max_error_from_float64": ours.max(),
        "parity_archs": len(errors) // 2,
    }


def parity_errors(description: Path) -> np.ndarray:
    """Errors of one network: ours from the reference, ours from float64, the reference's: shape (2 * archs, 3)."""
    from ofa_tf.subnet import extract
    from ofa_tf.supernet import Supernet
    from ofa_tf.zoo.supernets import supernet_space
    from ofa_tf.zoo.weights import load_torch_weights

    facts = json.loads(description.read_text())
    with np.load(description.with_suffix(".npz")) as file:
        state = {name.removeprefix("state_dict/"): file[name] for name in file.files if name.startswith("state")}
        images, outputs = file["input"].transpose(0, 2, 3, 1), file["outputs"]
    space, n_classes = supernet_space(state)
    space = dataclasses.replace(space, resolutions=(facts["resolution"],))
    supernet, exact = Supernet(space, n_classes), Supernet(space, n_classes, dtype="float64")
    for net in (supernet, exact):
        load_torch_weights(net, state)

    def error(outputs: Any, expected: np.ndarray) -> float:
        return float(np.abs(np.asarray(outputs) - expected).max() / np.abs(expected).max())

    stated = facts.get("reference_float32_error", [None] * len(outputs))
    errors = []
    for row, expected, of_reference in zip(facts["archs"], outputs, stated, strict=True):
        arch = published_arch(space, row, facts["resolution"])
        code = space.encode(arch)
        right = np.asarray(exact(images.astype(np.float64), code))
        theirs = error(expected, right) if of_reference is None else of_reference
        for found in (supernet(images, code), extract(supernet, arch)(images)):
            errors.append((error(found, expected), error(found, right), theirs))
    return np.array(errors)


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


# --- ResNet50D --------------------------------------------------------------------------------------------------------


def resnet50d(folder: Path, seeds: int, evolution_seeds: int) -> dict[str, float]:
    """Counts and predicted accuracies of the reference's archs, and searches with its predictor."""
    from ofa_tf.zoo.published_predictor import read_published_predictor

    counted = [resnet50d_counts(description) for description in sorted((folder / "parity").glob("*.json"))]
    rows = json.loads((folder / "reference_predictions.json").read_text())
    archs = [published_arch(RESNET50D, row, row["r"]) for row in rows]
    for arch, row in zip(archs, rows, strict=True):
        blocks = walk(RESNET50D, arch, N_CLASSES)
        counted.append([(count_macs(blocks), count_params(blocks)) == (row["n_macs"], row["n_params"])])
    exact = [same for of in counted for same in of]
    predictor = read_published_predictor(folder / "ofa_resnet50_acc_predictor.pth", RESNET50D)
    errors = predictor(RESNET50D.encode(archs)) - [row["predicted_acc"] for row in rows]
    return {
        "resnet50_archs": len(exact),
        "resnet50_exact": float(all(exact)),
        "resnet50_predictor_max_abs_error": float(np.abs(errors).max()),
        **resnet50d_searches(predictor, seeds, evolution_seeds),
    }


def resnet50d_counts(description: Path) -> list[bool]:
    """Whether MACs and parameters of each arch of a parity file are the reference's."""
    facts = json.loads(description.read_text())
    space = dataclasses.replace(
        RESNET50D, width_mult=tuple(facts["width_mult_list"]), resolutions=(facts["resolution"],)
    )
    found = []
    for row, n_macs, n_params in zip(facts["archs"], facts["n_macs"], facts["n_params"], strict=True):
        blocks = walk(space, published_arch(space, row, facts["resolution"]), facts["n_classes"])
        found.append((count_macs(blocks), count_params(blocks)) == (n_macs, n_params))
    return found


def resnet50d_searches(predictor: Predictor, seeds: int, evolution_seeds: int) -> dict[str, float]:
    """Searches within MACs, and what the published evolutionary search finds there."""
    costs = arch_costs(RESNET50D, lambda block: block.n_macs / 1e6, N_CLASSES)
    figures, spreads, seconds, cpu_seconds, evolution_s, gains = {}, [], [], [], [], []
    for limit in MACS_M:
        scores = []
        for seed in range(seeds):
            start, cpu_start = time.perf_counter(), time.process_time()
            scores.append(search(RESNET50D, predictor, [Budget("MACs", "M", costs, float(limit))], seed=seed).score)
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
        figures[f"resnet50_search_{limit}M_worst"] = min(scores)
        spreads.append(max(scores) - min(scores))
        start = time.perf_counter()
        evolved = [Evolution(RESNET50D, predictor, costs, limit).best(seed) for seed in range(evolution_seeds)]
        evolution_s.append((time.perf_counter() - start) / evolution_seeds)
        figures[f"resnet50_evolution_{limit}M_best"] = max(evolved)
        gains.append(min(scores) - max(evolved))
    return {
        **figures,
        "resnet50_search_spread_max": max(spreads),
        "resnet50_search_s_max": max(seconds),
        "resnet50_search_s_median": float(np.median(seconds)),
        "resnet50_search_cpu_s_max": max(cpu_seconds),
        "resnet50_over_evolution_min": min(gains),
        "resnet50_evolution_s": float(np.mean(evolution_s)),
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
    parser.add_argument("--seeds", type=int, default=10, metavar="N", help="searches at each budget of MACs")
    parser.add_argument("--quick", action="store_true", help="leave the full-size import out, and evolve once")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    parser.add_argument(CHILD, metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.import_child:
        import_child(options.import_child)
        return
    if options.fixtures is None or not options.fixtures.is_dir():
        parser.error("--fixtures must name a folder of reference numbers.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    folder = options.fixtures
    figures = parity([*sorted(folder.glob("torch_parity/*.json")), *sorted(folder.glob("resnet50/parity/*.json"))])
    figures |= specialized(folder / "specialized")
    figures |= predictions(folder / "note10")
    figures |= resnet50d(folder / "resnet50", options.seeds, 1 if options.quick else 3)
    if not options.quick:
        figures |= full_size_import()
    report(figures, SEED, options.json)


if __name__ == "__main__":
    main()
