"""`import ofa_tf as ofa`: its names, their examples, and a project whose methods do and refuse what the commands do."""

import ast
import doctest
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import run_command

import ofa_tf as ofa
from ofa_tf.progress import Progress

DATA = Path(__file__).parent / "data" / "version_0_1"
PARTS = [name for name in ofa.__all__ if name != "__version__" and not name.endswith("Error")]


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(DATA, "work")
    return Path("work")


def python(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


# --- names ------------------------------------------------------------------------------------------------------------


def test_importing_loads_nothing():
    code = "import sys, typing; before = set(sys.modules); import ofa_tf; print(sorted(set(sys.modules) - before))"
    assert ast.literal_eval(python(code)) == ["ofa_tf", "ofa_tf._version"]


@pytest.mark.parametrize("name", ofa.__all__)
def test_every_name_is_there(name):
    assert getattr(ofa, name) is not None
    assert name in dir(ofa)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = ofa.nonsense
    with pytest.raises(ImportError):
        from ofa_tf import nonsense  # noqa: F401


def test_the_search_is_called_and_imported_from():
    code = (
        "from ofa_tf.search import Budget\nimport ofa_tf as ofa\n"
        "assert ofa.search.Budget is Budget is ofa.Budget\nprint(callable(ofa.search))"
    )
    assert python(code) == "True\n"


# --- examples ---------------------------------------------------------------------------------------------------------


def documented():
    """Every name of the front door, and every method of a project."""
    for name in PARTS:
        yield name, ofa.search.search if name == "search" else getattr(ofa, name)
    for name, method in vars(ofa.Project).items():
        if not name.startswith("_") and name != "of":
            yield f"Project.{name}", method.fget if isinstance(method, property) else method
    yield "OfaError", ofa.OfaError


@pytest.mark.parametrize(("name", "thing"), [pytest.param(*item, id=item[0]) for item in documented()])
def test_examples_run(old, name, thing):
    names = {"ofa": ofa, "np": np, "Path": Path}
    (found,) = doctest.DocTestFinder(recurse=False).find(inspect.unwrap(thing), name, globs=names)
    assert found.examples, f"{name} has no example"
    failed, tried = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(found, clear_globs=False)
    assert tried
    assert not failed


# --- the ten lines ----------------------------------------------------------------------------------------------------

LINES = """
import ofa_tf as ofa

project = ofa.open("work", data="digits")
project.train()
choice = project.search(macs_millions=1.0)
export = project.export(choice, name="small")
model = project.subnet(choice.arch)
print(choice, export, model.count_params() >= choice.n_params)
"""


def test_they_run_in_a_script(old):
    Path("script.py").write_text(LINES)
    run = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("Choice(24 px")
    assert "Export('work/exports/small': int8" in run.stdout
    assert run.stdout.endswith("True\n")
    assert run.stderr == ""  # no terminal: no bars


def test_they_run_in_a_notebook(old):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [nbformat.v4.new_code_cell(cell) for cell in (LINES, "choice", "project")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": os.getcwd()}}).execute()
    shown = [output.get("data", output) for cell in notebook.cells for output in cell.outputs]
    texts = [output.get("text/plain", output.get("text", "")) for output in shown]
    assert any(text.startswith("Choice(24 px") for text in texts)
    assert any(text.startswith("Project('work': small, digits of 10 classes") for text in texts)
    assert any("running" in text or "measuring" in text or "/" in text for text in texts[:-2]), "no progress is shown"
    assert not any("output_type" in output and output["output_type"] == "error" for output in shown)


# --- data -------------------------------------------------------------------------------------------------------------


def arrays(n: int = 60):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (n, 32, 32, 3)).astype(np.uint8), np.arange(n) % 3


def test_arrays_are_kept_for_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    project = ofa.open("work", data=arrays(), classes=["cat", "dog", "fox"], progress=None)
    assert project.config.data.startswith("arrays:")
    again = ofa.open("work", data=arrays(), classes=["cat", "dog", "fox"], progress=None)
    for opened in (again, ofa.open("work", progress=None)):
        assert opened.config == project.config
        np.testing.assert_array_equal(opened.data.train.labels, project.data.train.labels)
        np.testing.assert_array_equal(opened.data.val.resized(32).images, project.data.val.resized(32).images)
    with pytest.raises(ofa.WorkdirError, match="made with `data` arrays:"):
        ofa.open("work", data=arrays(30), classes=["cat", "dog", "fox"], progress=None)
    assert run_command("train", "-w", "work", "--dry-run", "--json") == 0


def test_datasets_are_opened(tmp_path):
    import tensorflow as tf

    images, labels = arrays()
    dataset = tf.data.Dataset.from_tensor_slices((images, labels))
    project = ofa.open(tmp_path / "work", data={"train": dataset.batch(16), "val": dataset.take(9)}, progress=None)
    assert project.config.classes == ("0", "1", "2")
    assert len(project.data.val) == 9


# --- what is refused --------------------------------------------------------------------------------------------------


def endless():
    import tensorflow as tf

    return tf.data.Dataset.from_tensors(arrays()).repeat()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": "nowhere"}, "There is no data set 'nowhere'"),
        ({"data": arrays(), "space": "nowhere"}, "There is no space 'nowhere'"),
        ({"recipe": "nowhere"}, "There is no recipe 'nowhere'"),
        ({"seed": -1}, "`seed`: -1 is not a whole number from 0 to"),
        ({"seed": 1.5}, "`seed`: 1.5 is not a whole number"),
        ({"progress": 3}, "`progress` .=3. must be"),
        ({"data": (arrays()[0], arrays()[1][:5])}, "60 images and labels of shape"),
        ({"data": (arrays()[0] / 255.0, arrays()[1])}, "without normalisation"),
        ({"data": (arrays()[0][0, 0], arrays()[1])}, "images of shape"),
        ({"data": arrays(), "classes": ["cat"]}, "one name for each class"),
        ({"data": "digits", "classes": ["cat"]}, "`classes` are for arrays"),
        ({"data": endless}, "without an end"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_open_refuses(tmp_path, options, said):
    options = {name: value() if callable(value) else value for name, value in options.items()}
    with pytest.raises(ofa.OfaError, match=said):
        ofa.open(tmp_path / "new", **{"progress": None, **options})
    assert not (tmp_path / "new" / "config.json").exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: p.train("half"), "`stage`: 'half' is not one of 'full', 'kernel'"),
        (lambda p: p.train(epochs=0), "`epochs`: 0 is not a positive number"),
        (lambda p: p.train(batch=0), "`batch`: 0 is not a whole number"),
        (lambda p: p.train(strategy="magic"), "`strategy`: 'magic' is not one of"),
        (lambda p: p.train("full", epochs=2), "leave `epochs`, `batch` and `lr` out, or train it again"),
        (lambda p: p.search(), "Missing argument '`latency_ms`'"),
        (lambda p: p.search(latency_ms=-1), "`latency_ms`: -1 is not a positive number of milliseconds"),
        (lambda p: p.search(latency_ms="fast"), "`latency_ms`: 'fast' is not a positive number"),
        (lambda p: p.search(macs_millions=float("nan")), "`macs_millions`: nan is not a positive number"),
        (lambda p: p.search(macs_millions=1e-6), "No subnet of `small` meets the budget for MACs"),
        (lambda p: p.search(latency_ms=1, device="pi4"), "no table of a device 'pi4'"),
        (lambda p: p.search(macs_millions=1, precision="int4"), "`precision`: 'int4' is not one of 'int8'"),
        (lambda p: p.search(macs_millions=1, out="."), "`out` . must be a file"),
        (lambda p: p.search(size_kb=100, flash_kb=50), "Give `size_kb` or `flash_kb`, not both"),
        (lambda p: p.pareto(points=1), "`points`: 1 is not a whole number from 2"),
        (lambda p: p.pareto([]), "`device` is empty: name at least one"),
        (lambda p: p.pareto(plot="front.gif"), "must be a file named"),
        (lambda p: p.export(), "Give either a choice or a budget: `latency_ms`"),
        (lambda p: p.export(7), "`choice` is of type int"),
        (lambda p: p.export("nowhere.json"), "There is no file nowhere.json"),
        (lambda p: p.export(p.config.space.smallest(), io="int4"), "`io`"),
        (lambda p: p.export(p.config.space.smallest(), epochs=3), "`epochs` is for `qat=True`"),
        (lambda p: p.export(p.config.space.smallest(), name="first"), "with `name`, or replace it with `force=True`"),
        (lambda p: p.export(ofa.get_space("tiny").smallest()), "is of the space 'tiny', not of 'small'"),
        (lambda p: p.subnet(ofa.get_space("tiny").smallest()), "is of the space 'tiny', not of 'small'"),
        (lambda p: p.evaluate("nowhere.tflite"), "There is no file nowhere.tflite"),
        (lambda p: p.evaluate("work/exports/first/model.tflite", mean=[1.0]), "Give `mean` and `std` together"),
        (lambda p: p.benchmark("nowhere.tflite", seconds=0), "`seconds`: 0 is not a positive number"),
        (lambda p: p.benchmark("work/exports/first/model.tflite", "toaster"), "'toaster' cannot be measured"),
        (lambda p: p.show("work"), "is a folder"),
        (lambda p: p.report("."), "must be a file"),
        (lambda p: p.predictor.fit(archs=3), "`archs`: 3 is not a whole number from 10"),
        (lambda p: p.predictor.fit(target="int4"), "`target`: 'int4' is not one of"),
        (lambda p: p.lut.build("toaster"), "'toaster' cannot be measured"),
        (lambda p: p.lut.build(resolutions=[23]), "`resolution` .=23. must be one of"),
        (lambda p: p.lut.build(threads=0), "`threads`: 0 is not a whole number"),
        (lambda p: p.lut.validate(subnets=1), "`subnets`: 1 is not a whole number from 3"),
        (lambda p: p.lut.show("work/config.json"), "unknown key|lacks the key"),
        (lambda p: p.lut.show("toaster"), "'toaster' is neither a device that has a table"),
        (lambda p: p.lut.show("host", precision="fp32"), "`project.lut.build.precision='fp32'.`"),
        (lambda p: p.lut.import_("work/arch.json"), "unknown key|lacks the key"),
        (lambda p: p.lut.merge(["work/config.json"], "merged.json"), "unknown key|lacks the key"),
    ],
)
def test_methods_refuse(old, call, said):
    project = ofa.open("work", progress=None)
    with pytest.raises(ofa.OfaError, match=said) as error:
        call(project)
    assert "--" not in str(error.value)
    assert "`ofa-tf" not in str(error.value)


def test_a_workdir_in_use_is_refused(old):
    project = ofa.open("work", progress=None)
    with project.workdir.lock():
        code = "import ofa_tf as ofa\ntry: ofa.open('work', progress=None).predictor.fit(archs=12)\n"
        code += "except ofa.WorkdirError as error: print(error)"
        assert "Another ofa-tf is at work in work" in python(code)


# --- progress ---------------------------------------------------------------------------------------------------------


def test_progress_may_be_ones_own(old):
    titles = []

    class Heard(Progress):
        def task(self, title, total, unit="steps", done=0):
            titles.append(title)
            return super().task(title, total, unit, done)

    project = ofa.open("work", progress=Heard())
    project.evaluate("work/exports/first/model.tflite")
    assert "running the file" in titles
