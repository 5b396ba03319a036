"""The results that the Android app shares: benchmarks of files, and tables where it measured blocks."""

from pathlib import Path
from typing import Any

from ofa_tf.errors import FormatError, TableError
from ofa_tf.jsonio import SCHEMA, check_keys, read_object
from ofa_tf.latency.adb_app import APP_VERSION, KIND
from ofa_tf.latency.table import LatencyTable

KEYS = {
    "schema",
    "kind",
    "app_version",
    "litert",
    "state",
    "message",
    "device",
    "turns",
    "rejected_turns",
    "benchmarks",
    "tables",
    "errors",
}


def results_of_app(path: str | Path) -> dict[str, Any] | None:
    """The results in a file; None if it holds anything else, which is not for this module to judge."""
    try:
        document = read_object(path)
    except FormatError:
        return None
    return document if document.get("kind") == KIND else None


def tables_of(results: dict[str, Any], where: str) -> list[LatencyTable]:
    """The tables in the app's results.

    Args:
        results: as `results_of_app` gives them; they come from anywhere.
        where: their file, for messages.

    Raises:
        FormatError: they are of another version of the app, or were changed.
        TableError: they hold no table.
    """
    version = results.get("app_version")
    if results.get("schema") != SCHEMA or version != APP_VERSION:
        raise FormatError(
            f"{where} is from version {version!r} of the benchmark app, and this ofa-tf reads version {APP_VERSION}: "
            "measure again with the app that `make -C android_bench` builds."
        )
    check_keys(results, KEYS, set(), where)
    documents, benchmarks = results["tables"], results["benchmarks"]
    if not all(isinstance(values, list) for values in (documents, benchmarks, results["errors"])):
        raise FormatError(f"{where}: `tables`, `benchmarks` and `errors` must be lists.")
    if not documents:
        raise TableError(
            f"{where} holds no table, only the latencies of {len(benchmarks)} files with their settings: a table comes "
            "from a run over blocks that has finished."
        )
    tables = []
    for number, document in enumerate(documents):
        inner = f"{where}, table {number + 1}"
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise FormatError(f"{inner} must be a JSON object of schema {SCHEMA}.")
        rest = {key: value for key, value in document.items() if key != "schema"}
        tables.append(LatencyTable.from_document(rest, inner))
    return tables
