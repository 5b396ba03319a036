"""One table of several."""

import dataclasses
from collections.abc import Sequence

from ofa_tf.errors import TableError
from ofa_tf.latency.table import LatencyTable

SAME = ("device", "runtime", "precision", "source", "statistic", "calibration")


def merge_tables(tables: Sequence[LatencyTable]) -> LatencyTable:
    """Merges the entries of all tables; for a block that several have, the last one counts.

    The errors of the tables are not valid for the merged one, which has none.

    Args:
        tables: at least one, of the same device, runtime, precision, source, statistic and calibration.

    Raises:
        TableError: they differ in one of these, which the message names.
    """
    first = tables[0]
    for other in tables[1:]:
        for name in SAME:
            if getattr(other, name) != getattr(first, name):
                advice = (
                    "; measure one for all resolutions with `ofa-tf lut build`, which keeps what a table has"
                    if name == "calibration"
                    else ""
                )
                raise TableError(
                    f"The tables differ in `{name}` and cannot be merged: {getattr(first, name)} and "
                    f"{getattr(other, name)}{advice}."
                )
    entries = {key: entry for table in tables for key, entry in table.entries.items()}
    return dataclasses.replace(first, entries=entries, validation=first.validation if len(tables) == 1 else None)
