"""What pretrained weights are worth on a few thousand photos, and an elastic network against one at a time.

    python benchmarks/transfer.py --data DIR [--init SOURCE] [--work DIR] [--only PART] [--quick] [--json FILE]

DIR holds `train/<class>/` and `val/<class>/`; all accuracies are of the images in `val`, of float networks whose
batch norm statistics were recomputed. Trainings, their times and what was measured stay in --work, so that a run that
ends early goes on; `--only transfer` and `--only scratch` end after that part.

`transfer_*`: a training with default options that begins with SOURCE; `transfer_minutes` is its wall time with its
evaluations, `transfer_macs_share` what the smallest subnet costs of the largest at the same image size. `scratch_*`:
the same without pretrained weights, in at most as much time.

`searched_over_alone_points`: the pretrained network is fine-tuned by itself for as many passes, once at the highest and
once at the lowest image size, and so are the networks of `--alone` (names for --init). For each, a search looks for a
subnet of the same latency, measured on this machine; the figure is how much more accurate these subnets are on average.
`alone_minutes` is the time of those trainings. `import_max_rel_error`: the imported largest subnet against a network in
plain Keras layers, over the largest feature, for EfficientNet-Lite0. `--quick` trains for a tenth of the passes.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from _common import report

TESTS = Path(__file__).resolve().parents[1] / "tests"
QUICK = 0.1
PRECISION = "int8"


@dataclass(frozen=True)
class Setting:
    """What is compared, on which images, and where the trainings are."""

    data: str
    init: str
    alone: tuple[str, ...]
    work: Path
    quick: bool
    seed: int
    only: str | None = None

    def kept(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """A result of an earlier run, or a new one, which is kept."""
        path = self.work / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(make()))
        return json.loads(path.read_text())


def opened(setting: Setting, name: str, init: str, hours: float | None = None):
    """The workdir of a training with default options."""
    from ofa_tf.project.opened import open_project
    from ofa_tf.terminal import default_progress

    path = setting.work / name
    given = partial(open_project, path, data=setting.data, seed=setting.seed, progress=default_progress(), init=init)
    project = given(hours=hours, create=not setting.quick)
    if not setting.quick or project.workdir.exists:
        return project
    recipe = project.config.recipe
    phases = tuple(replace(phase, epochs=phase.epochs * QUICK) for phase in recipe.phases)
    return given(space=project.config.space, recipe=replace(recipe, phases=phases))


def trained(setting: Setting, name: str, init: str, hours: float | None = None) -> dict[str, Any]:
    """Trains, and evaluates the smallest, the largest and four random subnets at the highest image size."""
    from ofa_tf.project.evaluator import make_evaluator
    from ofa_tf.project.train import train
    from ofa_tf.training.sampling import probe_archs

    project = opened(setting, name, init, hours)
    minutes = timed(setting, name, lambda: train(project, "all"))
    evaluator, space = make_evaluator(project), project.config.space
    probes = probe_archs(space, setting.seed)
    accuracies = {
        probe: evaluator.accuracy(space.decode_one(code), project.data.val)
        for probe, code in probes.items()
        if not probe.endswith("px")
    }
    macs = {probe: n_macs(space, space.decode_one(probes[probe])) for probe in ("smallest", "largest")}
    return {"minutes": minutes, "accuracies": accuracies, "macs": macs}


def timed(setting: Setting, name: str, work: Callable[[], Any]) -> float:
    """Minutes that something has taken, in all runs of it together."""
    path, start = setting.work / f"minutes-{name}.json", time.monotonic()
    before = json.loads(path.read_text()) if path.exists() else 0.0
    try:
        work()
    finally:
        minutes = before + (time.monotonic() - start) / 60
        path.write_text(json.dumps(minutes))
    return minutes


def n_macs(space, arch) -> int:
    """Multiply-accumulates of a subnet."""
    from ofa_tf.blocks import count_macs, walk

    return count_macs(walk(space, arch, 2))


def fine_tuned(setting: Setting, source: str, resolution: int | None) -> dict[str, Any]:
    """One network trained by itself for as many passes as the elastic one: accuracy, latency, time of the training."""
    from ofa_tf.project.initial import load_initial
    from ofa_tf.training.evaluation import SubnetEvaluator
    from ofa_tf.training.standalone import train_standalone

    project = opened(setting, "transfer", setting.init)
    found = load_initial(source)
    size = resolution or project.config.space.resolutions[-1]
    space = replace(found.space, resolutions=(size,))
    data, start = project.data, time.monotonic()
    network = train_standalone(
        space, space.largest(), data, project.config.recipe, seed=setting.seed, preprocessing=found.preprocessing,
        initial=found.fill,
    )  # fmt: skip
    minutes = (time.monotonic() - start) / 60
    accuracy = SubnetEvaluator(network, found.preprocessing, data.train).accuracy(space.largest(), data.val)
    return {"minutes": minutes, "accuracy": accuracy, "space": space.to_document()}


def against_alone(setting: Setting, alone: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The subnets that a search finds at the latencies of other networks; all are measured in turns."""
    from ofa_tf.export.block_files import BlockFiles
    from ofa_tf.latency.device import Workload
    from ofa_tf.latency.host import HostDevice
    from ofa_tf.project.choice import Budgets
    from ofa_tf.project.evaluator import make_evaluator
    from ofa_tf.project.search import find_all
    from ofa_tf.space import SearchSpace

    project = opened(setting, "transfer", setting.init)
    n_classes = project.config.n_classes

    def milliseconds(networks: list[tuple[Any, Any]]) -> list[float]:
        files = [BlockFiles(space, n_classes, PRECISION).convert([arch])[0] for space, arch in networks]
        return [timing.percentile_ms(10) for timing in HostDevice(seconds=20).measure([Workload(f) for f in files])]

    spaces = [SearchSpace.from_document(network["space"]) for network in alone.values()]
    networks = [(space, space.largest()) for space in spaces]
    budgets = [Budgets({"host": limit}) for limit in milliseconds(networks)]
    answers, _ = find_all(project, budgets, PRECISION)
    archs = [answer.choice.arch for answer in answers]
    measured = milliseconds([*networks, *((project.config.space, arch) for arch in archs)])
    evaluator = make_evaluator(project, traced=False)
    rows = []
    for index, (name, network) in enumerate(alone.items()):
        accuracy = evaluator.accuracy(archs[index], project.data.val)
        times = {"alone_ms": measured[index], "searched_ms": measured[len(alone) + index]}
        rows.append({"name": name, "alone": network["accuracy"], "searched": accuracy, **times})
    return {"rows": rows}


def import_error(setting: Setting) -> float:
    """The imported features against those of plain Keras layers."""
    import keras

    from ofa_tf.subnet import extract
    from ofa_tf.supernet import Supernet
    from ofa_tf.zoo import state_dict
    from ofa_tf.zoo.pretrained import find_row
    from ofa_tf.zoo.pretrained_sources import load_pretrained

    sys.path.append(str(TESTS))
    from plain_lite import plain_lite0

    found, size = load_pretrained("efficientnet-lite0"), 128
    supernet = Supernet(found.space, 2)
    found.fill(supernet)
    row = find_row("efficientnet-lite0")
    assert row is not None
    expected_model = plain_lite0(state_dict(row.fetch().path), size, classify=False)
    plain = extract(supernet, found.space.largest(), fixed_size=False)
    pixels = np.random.default_rng(setting.seed).integers(0, 256, (4, size, size, 3)).astype(np.float32)
    features = keras.Model(plain.inputs, plain.get_layer("classifier").input)(found.preprocessing(pixels)).numpy()
    expected = expected_model((pixels - 127) / 128).numpy()
    return float(np.abs(features - expected).max() / np.abs(expected).max())


def of_training(name: str, result: dict[str, Any]) -> dict[str, float]:
    """The figures of one training."""
    accuracies = {f"{name}_{probe}_accuracy": value for probe, value in result["accuracies"].items()}
    return {f"{name}_minutes": result["minutes"], **accuracies}


def measure(setting: Setting) -> dict[str, float]:
    """All figures."""
    figures: dict[str, float] = {}
    if setting.init == "efficientnet-lite0":
        figures["import_max_rel_error"] = import_error(setting)
    transfer = setting.kept("result-transfer", lambda: trained(setting, "transfer", setting.init))
    figures |= of_training("transfer", transfer)
    figures["transfer_macs_share"] = transfer["macs"]["smallest"] / transfer["macs"]["largest"]
    if setting.only == "transfer":
        return figures
    hours = transfer["minutes"] / 60
    scratch = setting.kept("result-scratch", lambda: trained(setting, "scratch", "none", hours))
    figures |= of_training("scratch", scratch)
    figures["transfer_over_scratch_points"] = 100 * (
        transfer["accuracies"]["largest"] - scratch["accuracies"]["largest"]
    )
    if setting.only == "scratch":
        return figures
    space = opened(setting, "transfer", setting.init).config.space
    networks = [(setting.init, space.resolutions[-1]), (setting.init, space.resolutions[0])]
    networks += [(name, space.resolutions[-1]) for name in setting.alone]
    alone = {
        f"{name}-{size}": setting.kept(f"result-alone-{name}-{size}", partial(fine_tuned, setting, name, size))
        for name, size in networks
    }
    rows = setting.kept("result-search", lambda: against_alone(setting, alone))["rows"]
    print("network alone                alone   ms    searched   ms")
    for row in rows:
        print(
            f"{row['name']:<26} {row['alone']:>7.1%} {row['alone_ms']:>6.2f} {row['searched']:>8.1%} "
            f"{row['searched_ms']:>6.2f}"
        )
    figures["alone_minutes"] = sum(network["minutes"] for network in alone.values())
    figures["searched_over_alone_points"] = float(np.mean([100 * (row["searched"] - row["alone"]) for row in rows]))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="photos: train/<class>/ and val/<class>/")
    parser.add_argument("--init", default="efficientnet-lite0", metavar="SOURCE", help="pretrained weights")
    parser.add_argument("--alone", default="", metavar="NAME,NAME", help="other networks to fine-tune alone")
    parser.add_argument("--work", metavar="DIR", help="where the trainings are kept; by default in a temporary folder")
    parser.add_argument("--only", choices=["transfer", "scratch"], help="end after this part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(options.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        alone = tuple(filter(None, options.alone.split(",")))
        setting = Setting(options.data, options.init, alone, work, options.quick, options.seed, options.only)
        report(measure(setting), options.seed, options.json, {"data": Path(options.data).name, "init": options.init})


if __name__ == "__main__":
    main()
