"""How long an export takes, and what quantisation costs.

    python benchmarks/export.py [--workdir DIR] [--subnets N] [--trained N] [--epochs E] [--accuracies-only] [--quick]
        [--json FILE]

DIR is a trained workdir of the `tiny` space; it is copied. Without it the demo is run first. Figures: `export_tiny_s`,
wall time of `ofa-tf export --latency MS` as a process, from the workdir with table and predictor to the verified int8
folder; `export_20_block_s`, likewise for a network of all 20 blocks of the `edge` space at 224 px, with random kernels
and expand ratios, given with --arch (no search), random weights and images, the gate open: for timing alone;
`..._cpu_s`, the CPU time of the same processes. `ptq_drop_points_max` and `qat_drop_points_max`, the most accuracy that
a file loses against its float subnet on the validation images, in percentage points, over the smallest, the largest and
random subnets (6 in all unless told, of which `--quick` trains 2 for int8), negative where every file is better;
`..._mean`; `agreement_min` of the files without training; `float_tensors` in all these files together; `bit_identical`,
1 if two processes made the same bytes.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import COMMAND, report, run_timed

N_TRAIN, N_VAL = 2300, 400  # random images of 224 px


def run(*arguments, quiet: bool = True) -> tuple[float, float]:
    """Runs `ofa-tf`; wall and CPU seconds."""
    stderr = subprocess.DEVNULL if quiet else None
    return run_timed([COMMAND, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=stderr)


def budget_of(workdir: Path) -> float:
    """A budget in the middle of what the host's table covers."""
    from ofa_tf.latency.table import LatencyTable
    from ofa_tf.project.workdir import Workdir

    config = Workdir(workdir).config()
    table = LatencyTable.load(next((workdir / "lut").glob("host__*__int8.json")))
    costs = table.costs(config.space, config.n_classes)
    fastest, slowest = costs(np.stack([costs.cheapest(), config.space.encode(config.space.largest())]))
    return float(f"{(fastest * slowest) ** 0.5:.3g}")


def tiny(workdir: Path) -> dict[str, float]:
    """Two exports with search, in two processes."""
    if not (workdir / "accuracy" / "predictor.json").exists():
        run("predictor", "fit", "-w", workdir, "--archs", 60, quiet=False)
    if not list(workdir.glob("lut/host__*__int8.json")):
        run("lut", "build", "-w", workdir, quiet=False)
    budget = budget_of(workdir)
    walls, cpus = zip(
        *(run("export", "-w", workdir, "--latency", budget, "--name", name) for name in "ab"), strict=True
    )
    first, second = ((workdir / "exports" / name / "model.tflite").read_bytes() for name in "ab")
    return {"export_tiny_s": min(walls), "export_tiny_cpu_s": min(cpus), "bit_identical": float(first == second)}


def twenty_blocks(folder: Path) -> dict[str, float]:
    """One export of a large network whose weights are random."""
    from PIL import Image

    from ofa_tf.blocks import count_macs, walk
    from ofa_tf.jsonio import SPACE_SCHEMA, write_json
    from ofa_tf.project.opened import open_project
    from ofa_tf.supernet import Supernet
    from ofa_tf.training import checkpoint
    from ofa_tf.training.ledger import StageRecord
    from ofa_tf.training.recipe import STAGES
    from ofa_tf.training.weights import weights_of

    rng = np.random.default_rng(0)
    for part, n in (("train", N_TRAIN), ("val", N_VAL)):
        for index in range(n):
            path = folder / "images" / part / f"class{index % 10}" / f"{index}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3)).astype(np.uint8))
            coarse.resize((224, 224), Image.Resampling.BILINEAR).save(path)
    project = open_project(folder / "work", space="edge", data=str(folder / "images"))  # decodes the images, once
    space, ledger = project.config.space, project.workdir.ledger()
    weights = weights_of(Supernet(space, project.config.n_classes))
    checkpoint.save(project.workdir.checkpoints(STAGES[-1]), 0, weights)
    for stage in STAGES:
        ledger.record(stage, StageRecord("done", 0, 0))
    depths = [stage.depths[-1] for stage in space.stages]
    kernels, expands = (rng.choice(choices, space.n_blocks).tolist() for choices in (space.kernels, space.expands))
    arch = space.arch(224, depths, kernels, expands)
    write_json(folder / "arch.json", arch.to_document(), SPACE_SCHEMA)
    n_macs = count_macs(walk(space, arch, project.config.n_classes))
    wall, cpu = run("export", "-w", folder / "work", "--arch", folder / "arch.json", "--no-gate")
    manifest = json.loads(next(folder.glob("work/exports/*/manifest.json")).read_text())
    return {
        "export_20_block_s": wall,
        "export_20_block_cpu_s": cpu,
        "export_20_block_macs_m": n_macs / 1e6,
        "export_20_block_gate_images": manifest["validation_images"],
    }


def accuracies(workdir: Path, subnets: int, trained: int, epochs: float | None) -> dict[str, float]:
    """Files of several subnets, some of them trained for int8, against their float subnets."""
    from ofa_tf.export.verified import QAT_EPOCHS, FileOptions, make_file
    from ofa_tf.project.evaluator import load_supernet, make_evaluator
    from ofa_tf.project.opened import open_existing

    project = open_existing(workdir)
    space = project.config.space
    evaluator = make_evaluator(project, load_supernet(project), traced=False)
    drawn = space.decode(space.sample(np.random.default_rng(0), max(subnets - 2, 0)))
    ptq, qat, agreements, floats = [], [], [], 0
    for index, arch in enumerate([space.smallest(), space.largest(), *drawn][:subnets]):
        qat_epochs = (epochs or QAT_EPOCHS) if index < trained else 0.0
        file = make_file(project.config, project.data, evaluator, arch, FileOptions(qat_epochs=qat_epochs, gate=False))
        floats += file.facts.n_float_tensors
        accuracy = file.parity.float_accuracy or 0.0
        told = file.qat or {"ptq_accuracy": file.parity.file_accuracy, "ptq_agreement": file.parity.agreement}
        ptq.append((accuracy - told["ptq_accuracy"]) * 100)
        agreements.append(told["ptq_agreement"])
        if file.qat:
            qat.append((accuracy - file.qat["qat_accuracy"]) * 100)
        print(f"{arch}: float {accuracy:.2%}, {dict(file.qat) if file.qat else told}", file=sys.stderr)
    figures = {
        "ptq_drop_points_max": max(ptq),
        "ptq_drop_points_mean": float(np.mean(ptq)),
        "agreement_min": min(agreements),
        "float_tensors": float(floats),
    }
    if qat:
        figures |= {"qat_drop_points_max": max(qat), "qat_drop_points_mean": float(np.mean(qat))}
    return figures


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", type=Path, metavar="DIR", help="a trained workdir of the `tiny` space")
    parser.add_argument("--subnets", type=int, default=6, help="to compare with their files (default 6)")
    parser.add_argument("--trained", type=int, help="how many of them to train for int8 (default all)")
    parser.add_argument("--epochs", type=float, help="of that training (default: what `export --qat` does)")
    parser.add_argument("--accuracies-only", action="store_true", help="leave out the exports that are timed")
    parser.add_argument("--quick", action="store_true", help="train two of them for int8")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    trained = options.trained if options.trained is not None else 2 if options.quick else options.subnets
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder) / "tiny"
        if options.workdir:
            shutil.copytree(options.workdir, workdir)
        else:
            run("demo", "-w", workdir, quiet=False)
        figures = {} if options.accuracies_only else tiny(workdir) | twenty_blocks(Path(folder))
        figures |= accuracies(workdir, options.subnets, trained, options.epochs)
    report(figures, 0, options.json)


if __name__ == "__main__":
    main()
