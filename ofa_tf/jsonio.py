"""JSON documents: written whole or not at all, read strictly."""

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from typing import Any

from ofa_tf.atomic import write_bytes
from ofa_tf.errors import FormatError
from ofa_tf.reading import JSON_BYTES, read_regular

SCHEMA = 1
SPACE_SCHEMA = 2  # of spaces and archs, and of the configs of workdirs, which hold a space


def write_json(path: str | os.PathLike, document: Mapping[str, Any], schema: int = SCHEMA) -> None:
    """Writes `document` with its `schema` number to `path`, atomically.

    Raises:
        ValueError: the document holds NaN or infinity, which JSON has no word for.
    """
    text = json.dumps({"schema": schema, **document}, indent=1, allow_nan=False)
    write_bytes(path, text.encode() + b"\n")


def read_json(path: str | os.PathLike, newest: int = SCHEMA) -> dict[str, Any]:
    """Reads a JSON object and checks its schema number, which is taken out of the result.

    Args:
        path: the file.
        newest: the newest schema of files of its kind; those of all earlier ones are readable, too.

    Raises:
        FormatError: not JSON, not an object, no schema number or one this version does not know.
    """
    document = read_object(path)
    schema = document.pop("schema", None)
    known = range(1, newest + 1)
    if schema not in known or not isinstance(schema, int) or isinstance(schema, bool):
        newer = isinstance(schema, int) and schema > newest
        numbers = " or ".join(map(str, known))
        hint = "it was written by a newer ofa-tf, so update this one" if newer else f"it must be {numbers}"
        raise FormatError(f"{path} has schema {schema!r}: {hint}.")
    return document


def read_object(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a JSON object that need not be one of ours. NaN and infinity are refused, large numbers like 1e999 too.

    Raises:
        FormatError: no such file, one that cannot be read, not JSON, not an object.
    """
    content = read_regular(path, "JSON", JSON_BYTES)
    try:
        document = json.loads(content, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise FormatError(f"{path} must hold a JSON object, not a {type(document).__name__}.")
    return document


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def check_keys(document: Any, required: set[str], optional: set[str], where: str) -> None:
    """Refuses a document that lacks a required key or has one that is not known.

    Raises:
        FormatError: names the keys and the place.
    """
    if not isinstance(document, Mapping):
        raise FormatError(f"{where} must be a JSON object, not {document!r}.")
    unknown = sorted(set(document) - required - optional)
    missing = sorted(required - set(document))
    if unknown:
        raise FormatError(f"{where} has the unknown key {unknown[0]!r}; known keys: {sorted(required | optional)}.")
    if missing:
        raise FormatError(f"{where} lacks the key {missing[0]!r}.")


def from_document(cls: type, document: Any, where: str) -> Any:
    """Builds the dataclass `cls` from a JSON object; lists become tuples, nothing else is converted.

    Raises:
        FormatError: unknown or missing keys, or values that the class refuses.
    """
    fields = dataclasses.fields(cls)
    required = {
        field.name
        for field in fields
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    check_keys(document, required, {field.name for field in fields} - required, where)
    try:
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in document.items()})
    except TypeError as error:
        raise FormatError(f"{where} has a value of the wrong type: {error}.") from None
