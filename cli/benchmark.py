"""`ofa-tf benchmark`."""

import click
from ofa_tf.cli.common import Positive, json_option, library, print_json, print_table, runtime_options

from ofa_tf.formatting import milliseconds

PERCENTILES = (10, 50, 90, 99)
BARS = " ▁▂▃▄▅▆▇█"


@click.command("benchmark")
@click.argument("model", metavar="MODEL.tflite")
@click.option(
    "--device",
    default="host",
    show_default=True,
    help="`host` (this machine), `adb:SERIAL`, `edgetpu` or `ethos-u55-128`.",
)
@click.option("--seconds", type=Positive("S", "seconds"), default=5.0, show_default=True, help="How long to measure.")
@runtime_options
@json_option
def command(model, device, seconds, threads, delegate, cores, benchmark_model, app, as_json):
    """Measure how fast any .tflite file runs and how much memory it takes."""
    with library(tensorflow=False) as progress:
        from ofa_tf.latency.settings import Settings
        from ofa_tf.project.benchmark import benchmark_file

        settings = Settings(threads, delegate, cores, benchmark_model, app)
        found = benchmark_file(model, device, settings, seconds, progress)
    n_runs = len(found.timing.runs_ms)
    counts, edges_ms = found.histogram()
    latency_ms = {f"p{share}_ms": found.timing.percentile_ms(share) for share in PERCENTILES}
    if as_json:
        facts = {key: value for key, value in found.__dict__.items() if key not in ("path", "timing")}
        histogram = {"counts": counts.tolist(), "edges_ms": edges_ms.tolist()}
        more = {"n_runs": n_runs, **latency_ms, "histogram": histogram, "per_operator": None}
        print_json({"file": str(found.path), **facts, **more})
        return
    rows = [
        ("device", ", ".join(str(value) for value in found.device.values())),
        ("runtime", ", ".join(f"{key} {value}" for key, value in found.runtime.items())),
        ("runs", n_runs),
        *((name.removesuffix("_ms").replace("p50", "median"), milliseconds(ms)) for name, ms in latency_ms.items()),
        (f"{edges_ms[0]:.3g} to {edges_ms[-1]:.3g} ms", f"{bars(counts)}, {n_runs - counts.sum()} runs were slower"),
        ("loading", milliseconds(found.load_ms)),
        ("memory", "-" if found.peak_bytes is None else f"{found.peak_bytes / 1e6:.1f} MB with the file itself"),
        ("speed", f"{found.n_macs / found.timing.percentile_ms(50) / 1e6:.2f} billion MACs per second"),
        ("per operator", "not available: ai-edge-litert does not report it to Python"),
    ]
    print_table([str(found.path), ""], rows)


def bars(counts) -> str:
    """A histogram in one line of text, in which every bin that is not empty is visible."""
    most, steps = max(counts), len(BARS) - 1
    return "".join(BARS[-(-count * steps // most)] for count in counts)
