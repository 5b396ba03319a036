"""The page of a workdir: what it shows, what it makes of damaged and hostile files, and how it behaves in a browser."""

import json
import os
import re
import shlex
import shutil
import subprocess
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

ASSETS = Path(__file__).resolve().parents[1] / "ofa_tf" / "report" / "assets"
HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">'`"
PNG = b"\x89PNG\r\n\x1a\n"
SECTIONS = ["front", "training", "accuracy", "latency", "exports", "cost"]


class Page(HTMLParser):
    """The text of a page, section by section, and its elements."""

    def __init__(self, path: Path):
        super().__init__()
        self.sections, self.tags, self.copies = {}, [], []
        self._section, self._script, self.data = None, False, ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "section":
            self._section = attributes["id"]
            self.sections[self._section] = ""
        if "data-copy" in attributes:
            self.copies.append(attributes["data-copy"])
        self._script = attributes.get("id") == "data"

    def handle_data(self, data):
        if self._script:
            self.data += data
        elif self._section:
            self.sections[self._section] += data

    def handle_endtag(self, tag):
        if tag in ("section", "script"):
            self._section, self._script = (None, False) if tag == "section" else (self._section, False)


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    """A front that is searched for a moment only."""
    from ofa_tf.search import pareto

    monkeypatch.setattr("ofa_tf.project.report.pareto", partial(pareto, population=64, generations=4, steps=2))


# --- what it shows ----------------------------------------------------------------------------------------------------


def test_everything_of_a_workdir_is_on_one_page(workdir, ofa):
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
    run = ofa("report", "-w", workdir)
    assert run.code == 0, run.err
    assert "4 stages, 12 evaluated subnets, 1 devices with a front, 1 exports" in run.out
    path = workdir / "report.html"
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != "report.html"} == before

    page = Page(path)
    manifest = json.loads((workdir / "exports/first/manifest.json").read_text())
    ledger = json.loads((workdir / "ledger.json").read_text())
    assert list(page.sections) == SECTIONS
    assert "small, 400 subnets" in path.read_text()
    for stage, record in ledger["stages"].items():
        assert stage in page.sections["training"]
        assert f"{record['metrics']['largest_accuracy'] * 100:.1f} %" in page.sections["training"]
    assert f"{manifest['measured_ms']:.3g} ms" in page.sections["exports"]
    assert manifest["sha256"] in page.sections["exports"]
    assert "12 subnets evaluated" in page.sections["accuracy"]
    assert "on average" in page.sections["latency"]
    assert "stage 2" in page.sections["latency"]
    assert "host (int8, measured)" in page.sections["front"]
    assert "predicted" in page.sections["front"]
    assert all(command.startswith("ofa-tf export ") for command in page.copies)

    data = json.loads(page.data)
    assert len(data["subnets"]) == 12
    (device,) = data["devices"]
    accuracies = [point["accuracy"] for point in device["front"]]
    assert accuracies == sorted(accuracies)
    assert [point["ms"] for point in device["front"]] == sorted(point["ms"] for point in device["front"])
    assert device["exports"][0]["measured_ms"] == manifest["measured_ms"]
    assert [stage["name"] for stage in data["training"]["stages"]] == list(ledger["stages"])
    largest = [value for _, value in data["training"]["accuracies"]["largest"]]
    assert largest == pytest.approx([record["metrics"]["largest_accuracy"] for record in ledger["stages"].values()])


@pytest.mark.parametrize(
    ("part", "change"),
    [("device", {"soc": "Raspberry Pi 5"}), ("device", {"cores": [3]}), ("runtime", {"threads": 4})],
)
def test_what_was_measured_elsewhere_is_not_this_machines(workdir, ofa, part, change):
    path = workdir / "exports/first/manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {part: manifest[part] | change}))
    assert ofa("report", "-w", workdir).code == 0
    page = Page(workdir / "report.html")
    (device,) = json.loads(page.data)["devices"]
    assert (device["label"], device["exports"]) == ("host (int8, measured)", [])
    assert f"{manifest['measured_ms']:.3g} ms" in page.sections["exports"]


def test_a_predictor_of_int8_files_is_said_to_be_one(workdir, ofa):
    path = workdir / "accuracy/predictor.json"
    facts = json.loads(path.read_text())
    facts["errors"] |= {"int8_pairs": 7, "int8_drop_points": 0.3}
    path.write_text(json.dumps(facts | {"target": "int8"}))
    assert ofa("report", "-w", workdir).code == 0
    page = Page(workdir / "report.html")
    assert "7 of them as int8 files too, which lose 0.30 points on average" in page.sections["accuracy"]
    assert json.loads(page.data)["devices"][0]["origin"] == "fitted int8"


def test_a_manifest_of_a_thousand_levels_is_shown_as_far_as_it_goes(workdir, ofa):
    path = workdir / "exports/first/manifest.json"
    manifest = json.loads(path.read_text())
    text = json.dumps(manifest | {"deep": "DEEP"}).replace('"DEEP"', '{"a":' * 700 + "1" + "}" * 700)
    path.write_text(text)
    run = ofa("report", "-w", workdir)
    assert run.code == 0, run.err
    assert "a: a: a: a: …" in Page(workdir / "report.html").sections["exports"]


def test_the_shares_of_a_subnet_add_up_to_its_predicted_latency(finished):
    from ofa_tf.project.report import read_contents

    contents = read_contents(finished)
    (device,) = contents.devices
    space = contents.config.space
    ends = space.encode([space.smallest(space.resolutions[-1]), space.largest()])
    sums = [sum(shares.values()) for shares in device.breakdown.values()]
    np.testing.assert_allclose(sums, device.costs(ends))


@pytest.mark.parametrize("latency_ms", [0.0, 1e-9, 0.1449, 0.14491, 0.99999, 1.0, 12.3456, 98765.4])
def test_the_budget_of_a_point_is_never_below_it(finished, latency_ms):
    from ofa_tf.project.report import read_contents
    from ofa_tf.report.commands import export_budget

    contents = read_contents(finished)
    words = shlex.split(export_budget(contents, contents.devices[0], latency_ms))
    limit_ms = float(words[words.index("--latency") + 1])
    assert limit_ms >= latency_ms
    assert limit_ms <= max(latency_ms * 1.0011, 1.001e-6)


def test_it_is_written_where_asked_and_says_so_for_programs(workdir, ofa, tmp_path):
    run = ofa("report", "-w", workdir, "--out", tmp_path / "page.html", "--json")
    facts = json.loads(run.out)
    assert facts["path"] == str(tmp_path / "page.html")
    assert facts["size_bytes"] == (tmp_path / "page.html").stat().st_size < 3e6
    assert not (workdir / "report.html").exists()


def test_thousands_of_subnets_are_thinned_out_evenly(workdir, ofa):
    journal = workdir / "accuracy" / "pairs.jsonl"
    journal.write_text(journal.read_text() * 250)
    run = ofa("report", "-w", workdir, "--json")
    assert json.loads(run.out)["subnets"] == 3000
    page = Page(workdir / "report.html")
    assert len(json.loads(page.data)["subnets"]) == 2000
    assert "3,000 subnets evaluated on held-out training images, 2,000 of them drawn" in page.sections["accuracy"]
    assert json.loads(run.out)["size_bytes"] < 3e6


@pytest.mark.parametrize(
    ("removed", "section", "says", "command"),
    [
        (["ledger.json", "logs"], "training", "Nothing is trained yet", "train --stage width"),
        (["accuracy"], "front", "no accuracy predictor yet", "predictor fit"),
        (["accuracy"], "accuracy", "no accuracy predictor yet", "predictor fit"),
        (["lut"], "latency", "No device has a latency table yet", "lut build"),
        (["exports", "accuracy"], "exports", "Nothing is exported yet", "export --latency 1"),
        (["logs"], "training", "no logs of this training", None),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_the_command_that_makes_it(workdir, ofa, removed, section, says, command):
    for name in removed:
        path = workdir / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert ofa("report", "-w", workdir).code == 0
    page = Page(workdir / "report.html")
    assert says in page.sections[section]
    if command is not None:
        assert f"ofa-tf {command} --workdir work" in page.copies


def test_the_first_export_that_is_offered_is_of_the_middle_of_a_front(workdir, ofa):
    shutil.rmtree(workdir / "exports")
    ofa("report", "-w", workdir)
    page = Page(workdir / "report.html")
    (command,) = {command for command in page.copies if command in page.sections["exports"]}
    points = [point["ms"] for point in json.loads(page.data)["devices"][0]["front"]]
    limit_ms = float(shlex.split(command)[shlex.split(command).index("--latency") + 1])
    assert min(points) <= limit_ms <= max(points) * 1.002


# --- damaged and hostile files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("exports/first/manifest.json", "{", "manifest.json is not valid JSON"),
        ("exports/first/manifest.json", '{"schema":1,"size_bytes":"<b>"}', "`size_bytes` (='<b>') must be a number"),
        ("exports/first/manifest.json", '{"schema":1,"device":7}', "`device` must be an object"),
        ("exports/first/manifest.json", '{"schema":1,"device":{"name":"host"}}', "lacks the key 'arch'"),
        ("accuracy/pairs.jsonl", "no\nno\n", "pairs.jsonl, line 1"),
        ("accuracy/predictor.npz", "no", "predictor.npz is not a predictor"),
        ("lut/other.json", "[]", "other.json must hold a JSON object"),
        ("ledger.json", '{"schema":2}', "ledger.json has schema 2"),
        ("config.json", "{}", "config.json has schema None"),
    ],
)
def test_damaged_files_are_named(workdir, ofa, name, content, says):
    (workdir / name).write_text(content)
    run = ofa("report", "-w", workdir)
    assert run.code == 2
    assert run.err.startswith("Error: ")
    assert says in run.err
    assert not (workdir / "report.html").exists()


def test_places_that_cannot_be_written_are_refused(workdir, ofa, tmp_path):
    for out in (tmp_path / "none" / "page.html", tmp_path):
        run = ofa("report", "-w", workdir, "--out", out)
        assert (run.code, run.err.strip()) == (2, f"Error: --out {out} must be a file in a folder that exists.")
    run = ofa("report", "-w", tmp_path / "nothing")
    assert run.code == 2
    assert "is not a workdir yet" in run.err
    assert not (tmp_path / "nothing").exists()


@pytest.fixture
def hostile(workdir) -> Path:
    """A workdir whose files are full of HTML."""
    table = next((workdir / "lut").glob("*.json"))
    document = json.loads(table.read_text())
    document["device"] = {"name": HOSTILE, "model": HOSTILE}
    document["runtime"]["version"] = HOSTILE
    table.write_text(json.dumps(document))
    manifest = workdir / "exports/first/manifest.json"
    document = json.loads(manifest.read_text())
    document["device"]["name"] = document["precision"] = HOSTILE
    document["ops"] = {HOSTILE: 1}
    manifest.write_text(json.dumps(document))
    (workdir / "exports/first").rename(workdir / "exports" / HOSTILE.replace("/", ""))
    config = json.loads((workdir / "config.json").read_text())
    config["data"] = config["recipe"]["name"] = HOSTILE
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir


def test_what_files_say_stays_text(hostile, ofa):
    run = ofa("report", "-w", hostile)
    assert run.code == 0, run.err
    page = Page(hostile / "report.html")
    assert not [tag for tag, _ in page.tags if tag in ("img", "iframe", "object", "link")]
    assert sum(tag == "script" for tag, _ in page.tags) == 3
    assert HOSTILE in page.sections["latency"]
    assert HOSTILE.replace("/", "") in page.sections["exports"]
    assert json.loads(page.data)["devices"][0]["label"] == f"{HOSTILE} (int8, measured)"


def test_names_are_quoted_for_the_shell(hostile, ofa):
    ofa("report", "-w", hostile)
    data = json.loads(Page(hostile / "report.html").data)
    arguments = shlex.split(data["devices"][0]["front"][0]["command"])
    assert arguments[:4] == ["ofa-tf", "export", "--device", HOSTILE]


def put_pictures(folder: Path, **contents: bytes) -> None:
    for name, content in contents.items():
        (folder / f"{name}.png").write_bytes(content)


def test_pictures_are_bounded_and_nothing_but_png(workdir, ofa, monkeypatch):
    first, second = workdir / "exports/first", workdir / "exports/second"
    shutil.copytree(first, second)
    put_pictures(first, confusion=PNG + b"a" * 900, worst=b"<script>alert(1)</script>")
    put_pictures(second, confusion=PNG + b"b" * 900, worst=PNG + b"c" * 50)
    monkeypatch.setattr("ofa_tf.project.report.MOST_PICTURE_BYTES", 1000)
    assert ofa("report", "-w", workdir).code == 0
    page = Page(workdir / "report.html")
    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert [image["alt"] for image in images] == ["Confusion matrix of first", "Worst validation images of second"]
    assert all(image["src"].startswith("data:image/png;base64,") for image in images)
    assert "no room for confusion.png" in page.sections["exports"]
    assert "alert" not in (workdir / "report.html").read_text()


# --- colours ----------------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 has it."""
    channels = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_words_and_marks_stand_out_in_both_schemes():
    blocks = re.findall(r":root \{([^}]*)\}", (ASSETS / "page.css").read_text())
    assert len(blocks) == 2
    for block in blocks:
        colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", block))
        for name in ("text", "soft", "accent", *(f"p{index}" for index in range(8))):
            for back in ("back", "panel") if name in ("text", "soft", "accent") else ("back",):
                dark, light = sorted([luminance(colours[name]), luminance(colours[back])])
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, back)


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium; tests skip without it, except in CI, where they fail."""
    stop = pytest.fail if os.environ.get("CI") else pytest.skip
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        stop("there is no Chromium: on Debian, `apt-get install chromium`")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        stop("there is no playwright: pip install -e '.[dev]'")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, workdir, ofa):
    """Opens the report of a workdir; `troubles` are errors of the console and requests for anything but the page."""
    contexts = []

    def open_page(folder=workdir, **options):
        assert ofa("report", "-w", folder).code == 0
        context = browser.new_context(**options)
        contexts.append(context)
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.troubles = []
        address = (folder / "report.html").resolve().as_uri()
        page.on("console", lambda message: page.troubles.append(message.text))
        page.on("pageerror", lambda error: page.troubles.append(str(error)))
        page.on("request", lambda request: request.url != address and page.troubles.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()


POSITION = """([set, index]) => {
  const chart = Chart.getChart("front-chart"), {x, y} = chart.getDatasetMeta(set).data[index];
  chart.canvas.scrollIntoView({block: "center", behavior: "instant"});
  const box = chart.canvas.getBoundingClientRect();
  return [box.x + x, box.y + y];
}"""
EXPORTS, FRONT, EVALUATED = 0, 1, 2


def test_points_react_to_the_pointer_and_the_copied_command_runs(opened, workdir, ofa):
    page = opened()
    data = json.loads(page.text_content("#data"))
    point = data["devices"][0]["front"][0]
    page.mouse.move(*page.evaluate(POSITION, [FRONT, 0]))
    panel = page.text_content("#front-point")
    assert point["command"] in panel
    assert f"{point['ms']:.3g}" in panel
    assert page.locator("#front-point .arch rect").count() == point["arch"].count("x") - point["arch"].count("px")

    page.mouse.click(*page.evaluate(POSITION, [FRONT, 0]))
    page.wait_for_selector("#toast.shown")
    assert page.text_content("#toast") == "Command copied"
    command = page.evaluate("navigator.clipboard.readText()")
    assert command == point["command"]
    assert page.troubles == []

    # The network of the tests is hardly trained: its file need not agree with it.
    run = ofa(*shlex.split(command)[1:], "--name", "copied", "--no-gate")
    assert run.code == 0, run.err
    manifest = json.loads((workdir / "exports/copied/manifest.json").read_text())
    assert manifest["predicted_accuracy"] >= point["accuracy"] - 1e-6
    assert manifest["predicted_ms"] <= point["ms"] * 1.002


@contextmanager
def standard_input(path):
    """The rest of a pipe: `/dev/stdin` is the file."""
    before = os.dup(0)
    with open(path) as file:
        os.dup2(file.fileno(), 0)
    try:
        yield
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_the_keyboard_reaches_every_point(opened, workdir, ofa, tmp_path):
    page = opened()
    data = json.loads(page.text_content("#data"))
    device = data["devices"][0]
    page.focus("#front-chart")
    page.keyboard.press("Home")
    for point in device["front"]:
        assert point["command"] in page.text_content("#front-point")
        page.keyboard.press("ArrowRight")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    assert "export first" in page.text_content("#front-point")
    page.keyboard.press("ArrowUp")
    assert "evaluated subnet" in page.text_content("#front-point")
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    page.wait_for_selector("#toast.shown")
    command = page.evaluate("navigator.clipboard.readText()")
    last = int(np.argmax(device["evaluated"]))
    assert command == f"{data['subnets'][last]['echo']} | {device['exportGiven']} subnet-{last + 1}"
    assert page.troubles == []

    (tmp_path / "arch.json").write_bytes(subprocess.run(["sh", "-c", command.split(" | ")[0]], stdout=-1).stdout)
    with standard_input(tmp_path / "arch.json"):
        run = ofa(*shlex.split(command.split(" | ")[1])[1:])
    assert run.code == 0, run.err
    manifest = json.loads((workdir / f"exports/subnet-{last + 1}/manifest.json").read_text())
    assert {"schema": 2, **manifest["arch"]} == json.loads(shlex.split(data["subnets"][last]["echo"])[1])


def test_kinds_of_points_can_be_hidden(opened):
    page = opened()
    visible = "Chart.getChart('front-chart').isDatasetVisible(2)"
    assert page.evaluate(visible)
    page.get_by_label("evaluated subnets").uncheck()
    assert not page.evaluate(visible)
    page.get_by_role("checkbox", name="host (int8, measured)").uncheck()
    assert not any(page.evaluate("[0, 1, 2].map((set) => Chart.getChart('front-chart').isDatasetVisible(set))"))


def test_it_fits_a_phone_and_follows_the_colour_scheme(opened):
    page = opened(viewport={"width": 390, "height": 844}, color_scheme="light", has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.touchscreen.tap(*page.evaluate(POSITION, [FRONT, 0]))
    page.wait_for_selector("#toast.shown")
    ink = "Chart.getChart('front-chart').data.datasets[1].borderColor"
    back = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(f"[{ink}, {back}]")
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(100)
    assert all(one != other for one, other in zip(light, page.evaluate(f"[{ink}, {back}]"), strict=True))
    assert page.troubles == []


def test_hostile_names_do_nothing_in_a_browser(opened, hostile):
    page = opened(hostile)
    assert page.title() == "work: ofa-tf report"
    assert page.locator("img").count() == 0
    assert HOSTILE in page.text_content("#front-point")
    assert page.troubles == []


def test_pictures_of_an_export_are_seen(opened, workdir):
    from PIL import Image

    for name in ("confusion", "worst"):
        Image.new("RGB", (900, 500), "red").save(workdir / f"exports/first/{name}.png")
    page = opened(viewport={"width": 390, "height": 844})
    assert page.locator("img").count() == 2
    shown = "[...document.images].map((image) => [image.complete, image.naturalWidth, image.width <= 390])"
    assert page.evaluate(shown) == [[True, 900, True]] * 2
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.troubles == []


@pytest.mark.parametrize(
    "kept", [(), ("ledger.json", "logs"), ("lut",), ("accuracy",), ("accuracy", "ledger.json", "lut")]
)
def test_a_workdir_with_only_parts_opens_without_errors(opened, workdir, kept):
    for path in workdir.iterdir():
        if path.name not in (*kept, "config.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert opened().troubles == []
