"""How far off the model of Edge TPU latency is, and whether exported networks are legal on an Edge TPU.

    python benchmarks/edgetpu_model.py --fixtures DIR [--tables] [--no-lint] [--quick] [--json FILE]

DIR holds `edgetpu/published_latency.json`. Fits the parameters of `ofa_tf/latency/edgetpu.py` to the published latencies,
as least squares of the relative errors, and prints them. Figures: `edgetpu_loo_mape_mobile`, mean absolute error of the
MobileNets and EfficientNets, each predicted by a fit without it, and `edgetpu_loo_mape_all`, of all networks;
`edgetpu_clean_of_120`: of 30 random archs each of `edge` and `proxyless` at two by two resolutions, how many files the
linter passes as one partition (`--quick` converts a tenth, `--no-lint` none). `--tables` writes the tables in `lut/`.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from _common import report
from edgetpu_networks import NETWORKS
from scipy.optimize import nnls

from ofa_tf.latency import edgetpu
from ofa_tf.latency.edgetpu import EdgeTpuModel, features
from ofa_tf.statistics import latency_errors

SEED = 0
MOBILE = ("mobilenet", "efficientnet")


def fit(counts: np.ndarray, published_ms: np.ndarray) -> np.ndarray:
    """Parameters, none negative, of the least squared relative error; shape (features,)."""
    return nnls(counts / published_ms[:, None], np.ones(len(published_ms)))[0]


def fit_model(published: Mapping[str, float]) -> tuple[EdgeTpuModel, dict[str, float]]:
    """Fits the model to published latencies by network.

    Returns:
        The model, and the latency of each network by a model that was fitted without it.
    """
    names = list(published)
    counts = np.array([features(NETWORKS[name]) for name in names])
    published_ms = np.array(list(published.values()))
    left_out = {}
    for index, name in enumerate(names):
        rest = np.arange(len(names)) != index
        left_out[name] = float(counts[index] @ fit(counts[rest], published_ms[rest]))
    parameters = [float(f"{value:.4g}") for value in fit(counts, published_ms)]
    return EdgeTpuModel(*parameters), left_out


def errors(published: Mapping[str, float], predicted: Mapping[str, float]) -> dict[str, float]:
    """Errors of predictions by network."""
    return latency_errors(np.array(list(predicted.values())), np.array([published[name] for name in predicted]))


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
    model, left_out = fit_model(published)
    print(model)
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
    }
    report(figures, SEED, options.json)


if __name__ == "__main__":
    main()
