"""Results as pandas frames, where pandas is installed."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ofa_tf.errors import MissingDependencyError

if TYPE_CHECKING:
    import pandas


def to_frame(rows: Iterable[Mapping[str, Any]], index: Iterable[str] | None = None) -> "pandas.DataFrame":
    """A frame with a row for each mapping.

    Args:
        rows: values by the name of the column.
        index: names of the rows; None to number them.

    Raises:
        MissingDependencyError: pandas is not installed.
    """
    try:
        import pandas
    except ModuleNotFoundError:
        raise MissingDependencyError("Frames need pandas, which is not installed: `pip install pandas`.") from None
    return pandas.DataFrame(list(rows), index=None if index is None else list(index))
