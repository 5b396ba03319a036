"""HTML that cannot be broken by what is put into it: text is escaped unless it is HTML already."""

import html
from collections.abc import Iterable, Sequence
from typing import Any

from ofa_tf.formatting import visible

VOID = ("meta", "img")


class Html(str):
    """Text that is HTML already."""


def element(tag: str, *children: Any, **attributes: Any) -> Html:
    """An element; children that are not `Html` are escaped, those that are None left out.

    Args:
        tag: its name.
        children: text, numbers, elements.
        attributes: by name, `_` for `-` and a trailing `_` for words of Python; None leaves one out.
    """
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_text(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{shown}>" if tag in VOID else f"<{tag}{shown}>{join(children)}</{tag}>")


def join(children: Iterable[Any]) -> Html:
    """Children one after the other."""
    parts = [child if isinstance(child, Html) else _text(child) for child in children if child is not None]
    return Html("".join(parts))


def _text(value: Any) -> str:
    """Escaped, control characters and halves of characters shown: a page is valid Unicode."""
    return html.escape(visible(str(value)))


def table(columns: Sequence[Any], rows: Iterable[Sequence[Any]], caption: str | None = None) -> Html:
    """A table that scrolls by itself where the screen is too narrow; the first cell of a row is its heading."""
    head = element("tr", *(element("th", column, scope="col") for column in columns))
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:])) for row in rows
    ]
    inner = element("table", caption and element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption or str(columns[0]))


def label(kind: str) -> Html:
    """What kind of number stands beside it: predicted, measured, modelled, imported or evaluated."""
    return element("span", kind, class_="label")


def command_line(command: str) -> Html:
    """A command with a button that copies it."""
    return element(
        "span",
        element("code", command),
        element("button", "Copy", type="button", data_copy=command, aria_label=f"Copy {command}"),
        class_="command",
    )
