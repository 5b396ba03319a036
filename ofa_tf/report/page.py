"""A workdir as one HTML page that needs nothing but itself: no network, no other file."""

import base64
import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from ofa_tf._version import VERSION
from ofa_tf.report.charts import chart_data
from ofa_tf.report.contents import Contents
from ofa_tf.report.cost import cost
from ofa_tf.report.html import Html, element, join
from ofa_tf.report.sections import accuracy, exports, front, latency, training

ASSETS = files("ofa_tf.report") / "assets"
NAVIGATION = (("front", "Front"), ("training", "Training"), ("accuracy", "Accuracy"), ("latency", "Latency"),
              ("exports", "Exports"), ("cost", "Cost"))  # fmt: skip


def render(contents: Contents, now: datetime) -> str:
    """The page.

    Args:
        contents: what it shows.
        now: the time that it names.
    """
    name = contents.path.resolve().name
    library = _asset("chart.umd.min.js").rsplit("//# sourceMappingURL", 1)[0]
    scripts = [library, _asset("page.js")]
    sections = [front(contents), training(contents), accuracy(contents), latency(contents), exports(contents)]
    sections.append(cost(contents))
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(scripts)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", f"{name}: ofa-tf report"),
        element("style", Html(_asset("page.css"))),
    ]
    body = [
        element("a", "Skip to the content", href="#front", class_="skip"),
        _header(contents, name, now),
        element("main", *sections),
        element("div", id="toast", role="status"),
        element("script", Html(_json(chart_data(contents))), type="application/json", id="data"),
        *(element("script", Html(script)) for script in scripts),
    ]
    return "<!doctype html>\n" + element("html", element("head", *head), element("body", *body), lang="en") + "\n"


def _header(contents: Contents, name: str, now: datetime) -> Html:
    config = contents.config
    data = "no images" if contents.data is None else Path(contents.data).name
    facts = [
        ("space", join([f"{config.space.name}, ", _count(config.space.size()), " subnets"])),
        ("data", f"{data}, {config.n_classes} classes"),
        ("recipe", config.recipe.name),
        ("made", f"{now:%Y-%m-%d %H:%M} by ofa-tf {VERSION}"),
    ]
    links = [element("a", title, href=f"#{anchor}") for anchor, title in NAVIGATION]
    return element(
        "header",
        element("h1", name),
        element("dl", *(element("div", element("dt", key), element("dd", value)) for key, value in facts)),
        element("nav", *links, aria_label="Sections"),
    )


def _count(n: int) -> Html:
    if n < 10**7:
        return Html(f"{n:,}")
    exponent = len(str(n)) - 1
    return join([f"{n / 10**exponent:.1f} · 10", element("sup", exponent)])


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """Allows the page's own scripts and styles, and nothing from anywhere else."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def _json(document: Any) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(document, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
