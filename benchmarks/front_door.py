"""How the library meets those who import it, and those who change it.

    python benchmarks/front_door.py [--quick] [--json FILE]

Figures: `import_s`, what `import ofa_tf` takes beyond the bare interpreter, median of interleaved rounds;
`import_loads_tensorflow` (0 or 1); `notebook_lines`, lines from the import to an exported file and its Keras model in
docs/api.md; `modules`, their `median_lines` and `most_lines`, `modules_over_500`; `import_circles`;
`device_names_compared_outside_registry`, places; `kind_comparisons_files`. The last ones name the places on standard
error. `--quick` takes fewer rounds.
"""

import argparse
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence

from _common import report, run_timed
from _structure import ROOT, circles, device_comparisons, kind_comparisons, lines

LOADS = "import sys, ofa_tf; sys.exit(any(name.split('.')[0] == 'tensorflow' for name in sys.modules))"


def import_seconds(rounds: int) -> float:
    """Median over interleaved rounds of an import minus the bare interpreter."""
    return statistics.median(
        run_timed([sys.executable, "-c", "import ofa_tf"])[0] - run_timed([sys.executable, "-c", "pass"])[0]
        for _ in range(rounds)
    )


def notebook_lines() -> int:
    """Lines of the first example of docs/api.md, without blank ones."""
    example = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    assert example is not None, "docs/api.md begins with an example"
    return sum(bool(line.strip()) for line in example[1].splitlines())


def main() -> None:
    """Parses, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", metavar="FILE", help="also write the figures to FILE")
    options = parser.parse_args()
    lengths = sorted(lines().values())
    places: dict[str, Sequence] = {
        "circles": circles(),
        "device names": device_comparisons(),
        "kinds": kind_comparisons(),
    }
    for name, found in places.items():
        print(f"{name}: {found}", file=sys.stderr)
    figures = {
        "import_s": import_seconds(5 if options.quick else 21),
        "import_loads_tensorflow": subprocess.run([sys.executable, "-c", LOADS]).returncode,
        "notebook_lines": notebook_lines(),
        "modules": len(lengths),
        "median_lines": statistics.median(lengths),
        "most_lines": lengths[-1],
        "modules_over_500": sum(length > 500 for length in lengths),
        "import_circles": len(places["circles"]),
        "device_names_compared_outside_registry": len(places["device names"]),
        "kind_comparisons_files": len(places["kinds"]),
    }
    report(figures, seed=0, json_file=options.json)


if __name__ == "__main__":
    main()
