"""Strategies for documents that nobody should have written."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**400), 10**400)
    | st.integers(-3, 300)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["relu", "tiny", "same", "int8", "median_ms"]),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=8,
)


def paths(document: Any, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside a JSON document."""
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from paths(value, (*path, key))


def place(document: Any, path: tuple) -> Any:
    """The value at a path."""
    for key in path:
        document = document[key]
    return document


def changed(document: Any, path: tuple, value: Any) -> Any:
    """A copy with another value at a path; the value KeyError removes it."""
    document = copy.deepcopy(document)
    parent = place(document, path[:-1])
    if value is KeyError:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return document


@st.composite
def mutations(draw: st.DrawFn, document: dict) -> Any:
    """A valid document with one to three values replaced, removed or added, or something else entirely."""
    if draw(st.integers(0, 9)) == 0:
        return draw(json_values)
    for _ in range(draw(st.integers(1, 3))):
        known = list(paths(document))
        if not known:
            break
        path = draw(st.sampled_from(known))
        what = draw(st.sampled_from(["replace", "remove", "add"]))
        if what == "add":
            path = (*path[:-1], draw(st.text(max_size=5))) if isinstance(path[-1], str) else path
        value = KeyError if what == "remove" else draw(json_values)
        document = changed(document, path, value)
    return document
