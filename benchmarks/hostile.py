"""Whether files and outputs that strangers have made end in an error of ours, soon, and in little memory.

    python benchmarks/hostile.py [--inputs N] [--readers NAME,NAME] [--seed N] [--json FILE]

Every reader gets a valid input of its kind, changed at random: bytes flipped, cut, doubled and inserted, and in JSON
values replaced by what nobody expects (numbers of 400 digits, infinities, halves of characters, empty and deep things).
Each reader runs in a separate process.

`inputs_per_reader` is how many each got (images a tenth). `failures` counts inputs that ended in anything but an answer
or an error of ours; the first of each reader is printed with its number, so that `--seed` brings it back. `slowest_s`
is the longest that one input took, `largest_mb` the most memory that a reader's process came to need beyond what it
had after the first, valid input.
"""

import argparse
import copy
import io
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from _common import report

NASTY: list[Any] = [
    None, True, False, 0, -1, 1e308, 5e-324, 10**400, -(10**17), 2**63, 0.1 + 0.2, "", " ", "\0", "\ud800", "\x1b[2J",
    "x" * 10_000, "../../etc/passwd", "1" * 5000, [], {}, [[]], [None], {"": ""}, [[[[[[[[]]]]]]]], [1, 0], ["a", "a"],
]  # fmt: skip
PIECES = [
    b"\0", b"\xff" * 4, b"9" * 5000, b" " * 5000, b"[" * 3000, b'{"a":' * 1000, b"NaN", b"1e999", b"\x7f\xff\xff\xff",
    b"!!int ''", b"&a [*a]", "\u202e\ud7ff\uff11\uff12".encode(),
]  # fmt: skip
EXPORT = Path(__file__).resolve().parents[1] / "tests/data/version_0_1/exports/first"
IMAGES = 0.1  # of the inputs that other readers get


@dataclass(frozen=True)
class Reader:
    """Something that reads.

    Args:
        sample: a valid input.
        read: reads one; it raises an error of ours, or returns.
        text: whether `read` takes text instead of bytes.
        values: whether the sample is JSON, whose values can be changed.
        share: of the inputs.
    """

    sample: bytes
    read: Callable[[Any], Any]
    text: bool = False
    values: bool = False
    share: float = 1.0


def of_file(read: Callable[[Path], Any], name: str) -> Callable[[bytes], Any]:
    """A reader of bytes from one that takes a file."""
    folder = Path(tempfile.mkdtemp())

    def run(content: bytes) -> Any:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return read(path)

    return run


def arrays(**named: np.ndarray) -> bytes:
    """A file of arrays."""
    stream = io.BytesIO()
    np.savez(stream, **named)  # type: ignore[arg-type]
    return stream.getvalue()


def as_json(document: dict[str, Any], schema: int) -> bytes:
    """A document as our files hold it."""
    return json.dumps({"schema": schema, **document}).encode()


def readers() -> dict[str, Reader]:
    """Every reader by name."""
    from ofa_tf.accuracy.collect import read_journal
    from ofa_tf.accuracy.predictor import Predictor, n_features
    from ofa_tf.blocks import walk
    from ofa_tf.data import Preprocessing
    from ofa_tf.data.decode import decode_square, encode
    from ofa_tf.edgetpu import lint as edgetpu
    from ofa_tf.edgetpu.compiler import parse_report
    from ofa_tf.edgetpu.latency_model import modelled_table
    from ofa_tf.ethosu import lint as ethosu
    from ofa_tf.ethosu.targets import parse_target
    from ofa_tf.ethosu.vela import FIGURES, FLASH, read_results
    from ofa_tf.jsonio import SPACE_SCHEMA, read_json
    from ofa_tf.latency.adb_app import APP_VERSION, KIND
    from ofa_tf.latency.app_results import KEYS, results_of_app, tables_of
    from ofa_tf.latency.benchmark_model import parse_ms
    from ofa_tf.latency.table import LatencyTable
    from ofa_tf.micro.plan import file_arena, with_plan
    from ofa_tf.npzio import read_arrays
    from ofa_tf.project.report import read_export
    from ofa_tf.project.workdir import Config
    from ofa_tf.spaces import MOBILENET_V3, TINY, get_space
    from ofa_tf.tflite.inspect import inspect_file
    from ofa_tf.tflite.metadata import label_lines, read_metadata
    from ofa_tf.training.ledger import Ledger
    from ofa_tf.training.recipe import RECIPES, Recipe
    from ofa_tf.zoo.catalog import NOTE10
    from ofa_tf.zoo.note10 import published_key, read_note10

    rng = np.random.default_rng(0)
    recipe = RECIPES["demo"]
    config = Config(TINY, "digits", ("a", "b"), Preprocessing(), recipe, seed=0)
    record = {"state": "done", "step": 3, "steps": 3, "metrics": {"largest_accuracy": 0.5}, "overrides": {}}
    table = modelled_table(TINY, 10)
    shapes = [(n_features(TINY, TINY.resolutions), 8), (8, 1)]
    layers = tuple((rng.normal(size=shape), rng.normal(size=shape[1])) for shape in shapes)
    smallest = TINY.smallest().to_document()
    with tempfile.TemporaryDirectory() as folder:
        table.save(Path(folder) / "table.json")
        Predictor(TINY, TINY.resolutions, (layers,)).save(Path(folder) / "predictor.npz")
        table_file = (Path(folder) / "table.json").read_bytes()
        predictor_file = (Path(folder) / "predictor.npz").read_bytes()
    journal = "".join(json.dumps({**smallest, "accuracy": 0.5}) + "\n" for _ in range(5)).encode()
    phone = replace(MOBILENET_V3, width_mult=NOTE10.width_mult)
    stem = published_key(walk(phone, phone.largest(), 1000)[0])
    yaml = f"{stem}:\n  count: 3\n  mean: 1.0\n  std: 0.1\n".encode()
    timings = "count=5 avg=100\ncount=50 first=1 curr=2 min=1 max=3 avg=1234.5 std=1\n"
    compiled = (
        "Edge TPU Compiler version 16.0.384591198\nOn-chip memory used for caching model parameters: 4.16MiB\n"
        "Number of Edge TPU subgraphs: 1\nOperator  Count  Status\nCONV_2D  5  Mapped to Edge TPU\n"
    )
    picture = encode(rng.integers(256, size=(9, 9, 3)).astype(np.uint8))

    manifest, model = EXPORT / "manifest.json", (EXPORT / "model.tflite").read_bytes()
    old = Config.load(EXPORT.parents[1] / "config.json").space
    app: dict[str, Any] = {
        **dict.fromkeys(KEYS - {"schema"}, ""),
        "kind": KIND,
        "app_version": APP_VERSION,
        "benchmarks": [],
    }
    app["tables"] = [json.loads(table_file)]
    target = parse_target(ethosu.DEFAULT_NAME)
    summary = ",".join((*FIGURES, *FLASH)) + "\n0.00025,88.5,0.0,0.0,3.25\n"
    texts = {"log.txt": "NPU operators = 6 (100.0%)\n", f"model_summary_{target.system_config}.csv": summary}

    def of_json(sample: bytes, read: Callable[[Path], Any], name: str) -> Reader:
        return Reader(sample, of_file(read, name), values=True)

    def of_vela(name: str) -> Reader:
        """Of one of the two texts that Vela writes, beside the other and the file as they should be."""

        def read(path: Path) -> None:
            for other in texts.keys() - {name}:
                path.with_name(other).write_text(texts[other])
            path.with_name("model_vela.tflite").write_bytes(model)
            read_results(path.parent, path.with_name("log.txt"), "5.2.0", target)

        return Reader(texts[name].encode(), of_file(read, name))

    def of_app(path: Path) -> Any:
        results = results_of_app(path)
        return None if results is None else tables_of(results, str(path))

    def arch_of(path: Path) -> Any:
        return TINY.arch_from_document(read_json(path, SPACE_SCHEMA), str(path))

    return {
        "arch": of_json(as_json(smallest, SPACE_SCHEMA), arch_of, "arch.json"),
        "space": of_json(as_json(TINY.to_document(), SPACE_SCHEMA), lambda path: get_space(str(path)), "space.json"),
        "recipe": of_json(
            as_json(recipe.to_document(), 1), lambda path: Recipe.from_document(read_json(path)), "recipe.json"
        ),
        "config": of_json(as_json(config.to_document(), SPACE_SCHEMA), Config.load, "config.json"),
        "ledger": of_json(as_json({"stages": {"full": record, "width": record}}, 1), Ledger, "ledger.json"),
        "table": of_json(table_file, LatencyTable.load, "table.json"),
        "manifest": of_json(manifest.read_bytes(), lambda path: read_export(path, old), "exports/first/manifest.json"),
        "journal": of_json(journal, lambda path: read_journal(path, TINY), "pairs.jsonl"),
        "predictor": Reader(predictor_file, of_file(lambda path: Predictor.load(path, TINY), "predictor.npz")),
        "checkpoint": Reader(
            arrays(weights=np.zeros((3, 4), np.float32), bias=np.zeros(4)), of_file(read_arrays, "step-1.npz")
        ),
        "yaml": Reader(yaml, of_file(read_note10, "224_lookup_table.yaml")),
        "benchmark_model": Reader(timings.encode(), parse_ms, text=True),
        "app": of_json(as_json(app, 1), of_app, "results.json"),
        "compiler": Reader(compiled.encode(), parse_report, text=True),
        "vela_log": of_vela("log.txt"),
        "vela_summary": of_vela(f"model_summary_{target.system_config}.csv"),
        "labels": Reader(b"{'names': {0: 'cat', 1: 'dog'}}", label_lines, text=True),
        "tflite": Reader(model, lambda content: inspect_file(content, "model.tflite")),
        "edgetpu": Reader(model, edgetpu.lint),
        "ethosu": Reader(
            model, lambda content: [ethosu.lint(content, name) for name in (target.name, "ethos-u85-256")]
        ),
        "arena": Reader(model, lambda content: (file_arena(content), with_plan(content))),
        "metadata": Reader(model, lambda content: read_metadata(content, "model.tflite")),
        "image": Reader(picture, lambda content: decode_square(content, 8, "image"), share=IMAGES),
    }


def mutated(rng: np.random.Generator, reader: Reader) -> bytes:
    """A valid input with one to four changes."""
    if reader.values and rng.random() < 0.5:
        return mutated_json(rng, reader.sample)
    content = bytearray(reader.sample)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(content) + 1))
        match int(rng.integers(6)):
            case 0:
                content[at:] = b""
            case 1 if at < len(content):
                content[at] = rng.integers(256)
            case 2:
                content[at:at] = PIECES[rng.integers(len(PIECES))]
            case 3:
                length = int(rng.integers(1, 64))
                content[at : at + length] = b""
            case 4:
                start = int(rng.integers(len(content) + 1))
                content[at:at] = content[start : start + int(rng.integers(1, 200))]
            case _:
                content[at : at + 4] = rng.integers(256, size=4).astype(np.uint8).tobytes()
    return bytes(content)


def mutated_json(rng: np.random.Generator, sample: bytes) -> bytes:
    """A JSON object, or a line of one, with values replaced, removed or added."""
    lines = sample.splitlines()
    whole = sample if len(lines) == 1 or b'"schema"' in sample else lines[0]
    document = json.loads(whole)
    for _ in range(rng.integers(1, 4)):
        parent = document
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                break
            key = keys[rng.integers(len(keys))]
            inner = parent[key]
            if isinstance(inner, dict | list) and inner and rng.random() < 0.7:
                parent = inner
                continue
            what = rng.random()
            if what < 0.1:
                del parent[key]
            elif what < 0.2 and isinstance(parent, dict):
                parent[str(rng.integers(100))] = copy.deepcopy(inner)
            else:
                parent[key] = copy.deepcopy(NASTY[rng.integers(len(NASTY))])
            break
    return json.dumps(document).encode() + b"\n" + (b"" if whole is sample else b"\n".join(lines[1:]))


def attack(name: str, reader: Reader, n: int, seed: int, answers: Any) -> None:
    """Gives a reader its inputs; the process that this runs in is the reader's own."""
    from ofa_tf.errors import OfaError

    n = max(1, round(n * reader.share))

    def read(content: bytes) -> None:
        reader.read(content.decode(errors="replace") if reader.text else content)

    read(reader.sample)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    failures, slowest, first = 0, 0.0, ""
    for number in range(n):
        content, start = mutated(np.random.default_rng([seed, number]), reader), time.perf_counter()
        try:
            read(content)
        except OfaError as error:
            str(error).encode(errors="surrogatepass")
        except BaseException as error:  # noqa: BLE001 - counted, and the first is shown
            failures += 1
            first = first or f"input {number}: {type(error).__name__}: {str(error)[:200]}"
        slowest = max(slowest, time.perf_counter() - start)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    answers.put((name, n, failures, slowest, grown, first))


def measure(names: list[str], n: int, seed: int) -> dict[str, float]:
    """All figures."""
    known, context = readers(), multiprocessing.get_context("fork")  # what a child imports would count as its memory
    answers = context.Queue()
    failures, slowest, largest = 0, 0.0, 0.0
    for name in names:
        process = context.Process(target=attack, args=(name, known[name], n, seed, answers))
        process.start()
        process.join()
        if process.exitcode or answers.empty():
            print(f"{name:<16} died with status {process.exitcode}")
            failures += 1
            continue
        _, count, failed, slow, grown, first = answers.get()
        print(f"{name:<16} {count:>7} inputs, {failed} failures, slowest {slow:.2f} s, {grown:.0f} MB  {first}")
        failures, slowest, largest = failures + failed, max(slowest, slow), max(largest, grown)
    return {"inputs_per_reader": n, "failures": failures, "slowest_s": slowest, "largest_mb": largest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000, metavar="N")
    parser.add_argument("--readers", default="", metavar="NAME,NAME", help="by default all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    names = list(filter(None, options.readers.split(","))) or list(readers())
    report(measure(names, options.inputs, options.seed), options.seed, options.json, {"readers": names})


if __name__ == "__main__":
    main()
