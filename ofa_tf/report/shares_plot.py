"""Where the time of a network goes, as a picture."""

import io
from collections.abc import Mapping
from pathlib import Path

from ofa_tf.jsonio import write_bytes

SUFFIXES = (".png", ".svg")


def plot_shares(path: Path, title: str, shares: Mapping[str, Mapping[str, float]]) -> None:
    """Draws one bar per subnet, made of its parts.

    Args:
        path: a `.png` or `.svg` file.
        title: of what device, and where the numbers come from.
        shares: subnet -> part -> milliseconds.
    """
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
    names = list(shares)
    parts = list(shares[names[0]])
    colours = plt.get_cmap("viridis", len(parts))
    starts = [0.0] * len(names)
    for index, part in enumerate(parts):
        widths = [shares[name][part] for name in names]
        axes.barh(names, widths, left=starts, color=colours(index), edgecolor="white", linewidth=0.5, label=part)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel("latency, ms")
    axes.set_title(title, fontsize=10)
    axes.legend(ncols=len(parts), loc="upper center", bbox_to_anchor=(0.5, -0.28), fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], dpi=150)
    plt.close(figure)
    write_bytes(path, buffer.getvalue())
