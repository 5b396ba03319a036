"""How far off the model of Edge TPU latency is, and whether exported networks are legal on an Edge TPU.

    python benchmarks/edgetpu_model.py --fixtures DIR [--tables] [--no-lint] [--quick] [--json FILE]

DIR holds `edgetpu/published_latency.json`. Fits the parameters of `ofa_tf/latency/edgetpu.py` to the published
latencies, to the least squared relative error, and prints them. Figures: `edgetpu_loo_mape_mobile`, mean absolute error
of the MobileNets and EfficientNets, each predicted by a fit to all other networks, `edgetpu_loo_mape_all`, of all
networks likewise; `edgetpu_macs_worst`, `edgetpu_params_worst`, the largest difference of a network as it is described
here from its published counts; `edgetpu_clean_of_120`, of 30 random archs, half of `edge` and half of `proxyless`, at
four resolutions, how many int8 files the linter passes as one partition (`--quick` converts a tenth of them,
`--no-lint` none). `--tables` writes the table in `lut/`.
"""

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _common import report
from edgetpu_networks import NETWORKS
from scipy.optimize import nnls

from ofa_tf.edgetpu.latency_model import FEATURES, SPECIFIED_MS_PER_DENSE_GMAC, EdgeTpuModel, features, modelled_table
from ofa_tf.latency.store import SHIPPED, table_name
from ofa_tf.spaces import EDGE, PROXYLESS
from ofa_tf.statistics import latency_errors

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
SEED = 0
N_CLASSES = 1000
RESOLUTIONS = (128, 160, 192, 224)
MOBILE = ("mobilenet", "efficientnet")


def fit(counts: np.ndarray, published_ms: np.ndarray) -> np.ndarray:
    """Parameters, none negative, of the least squared relative error; the dense rate is given. Shape (features,)."""
    dense = FEATURES.index("ms_per_dense_gmac")
    rest_ms = published_ms - counts[:, dense] * SPECIFIED_MS_PER_DENSE_GMAC
    fitted = nnls(np.delete(counts, dense, 1) / published_ms[:, None], rest_ms / published_ms)[0]
    return np.insert(fitted, dense, SPECIFIED_MS_PER_DENSE_GMAC)


def fit_model(published: Mapping[str, float]) -> tuple[EdgeTpuModel, dict[str, float], np.ndarray]:
    """Fits the model to published latencies by network.

    Returns:
        The model, the latency of each network by a fit to all others, and the parameters of these fits: shape
        (networks, features).
    """
    names = list(published)
    counts = np.array([features(NETWORKS[name]) for name in names])
    published_ms = np.array(list(published.values()))
    others = [np.arange(len(names)) != index for index in range(len(names))]
    fits = np.array([fit(counts[rest], published_ms[rest]) for rest in others])
    left_out = dict(zip(names, (counts * fits).sum(1).tolist(), strict=True))
    parameters = [float(f"{value:.4g}") for value in fit(counts, published_ms)]
    return EdgeTpuModel(*parameters), left_out, fits


def errors(published: Mapping[str, float], predicted: Mapping[str, float]) -> dict[str, float]:
    """Errors of predictions by network."""
    return latency_errors(np.array(list(predicted.values())), np.array([published[name] for name in predicted]))


def description_errors(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How far the networks described here are from the published counts, at most."""
    macs, params = [], []
    for row in rows:
        layers = NETWORKS[row["name"]]
        macs.append(abs(sum(layer.n_macs for layer in layers) / 1e6 / row["macs_m"] - 1))
        params.append(abs(sum(layer.n_weights for layer in layers) / 1e6 / row["params_m"] - 1))
    return {"edgetpu_macs_worst": max(macs), "edgetpu_params_worst": max(params)}


def clean_files(n_archs: int = 30) -> int:
    """How many int8 files of random archs, half `edge` and half `proxyless`, pass the linter as one partition.

    Each arch is converted at the four `RESOLUTIONS`, with random weights: only operators and shapes matter.
    """
    from ofa_tf.edgetpu.lint import lint
    from ofa_tf.export.convert import BlockConverter

    clean = 0
    for space, archs in ((EDGE, n_archs // 2), (PROXYLESS, n_archs - n_archs // 2)):
        converter = BlockConverter(space, N_CLASSES, "int8")
        for arch in space.decode(space.sample(np.random.default_rng(SEED), archs)):
            for resolution in RESOLUTIONS:
                sized = dataclasses.replace(arch, resolution=resolution)
                found = lint(converter.network(sized))
                clean += found.clean and found.n_partitions == 1
                print(f"{space.name} {sized}: {found.explain()}", flush=True)
    return clean


def write_table() -> None:
    """Writes the table that comes with the package: the spaces `edge` and `proxyless`, 1,000 classes."""
    edge, proxyless = modelled_table(EDGE, N_CLASSES), modelled_table(PROXYLESS, N_CLASSES)
    path = SHIPPED / table_name(edge.device, edge.runtime, edge.precision)
    dataclasses.replace(edge, entries={**edge.entries, **proxyless.entries}).save(path)
    print(f"written to {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixtures", type=Path, metavar="DIR", required=True, help="folder with edgetpu/")
    parser.add_argument("--tables", action="store_true", help="write the tables that come with the package")
    parser.add_argument("--no-lint", action="store_true", help="convert nothing")
    parser.add_argument("--quick", action="store_true", help="convert a tenth of the files")
    parser.add_argument("--json", metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    document = json.loads((options.fixtures / "edgetpu" / "published_latency.json").read_text())
    published = {row["name"]: row["latency_ms"] for row in document["models"]}
    model, left_out, fits = fit_model(published)
    for name, low, high in zip(FEATURES, fits.min(0), fits.max(0), strict=True):
        print(f"{name:<22} {getattr(model, name):8.4g}  ({low:.4g} to {high:.4g} with one network left out)")
    for name, latency_ms in published.items():
        predicted_ms = left_out[name]
        print(
            f"{name:<28} {latency_ms:6.1f} ms  left out {predicted_ms:6.1f} ms ({predicted_ms / latency_ms - 1:+.0%})"
        )
    mobile = {name: value for name, value in left_out.items() if name.startswith(MOBILE)}
    print("mobile:", errors(published, mobile))
    figures = {
        "edgetpu_loo_mape_mobile": errors(published, mobile)["mape"],
        "edgetpu_loo_mape_all": errors(published, left_out)["mape"],
        **description_errors(document["models"]),
    }
    if options.tables:
        write_table()
    if not options.no_lint:
        n_archs = 3 if options.quick else 30
        figures[f"edgetpu_clean_of_{n_archs * len(RESOLUTIONS)}"] = clean_files(n_archs)
    report(figures, SEED, options.json)


if __name__ == "__main__":
    main()
