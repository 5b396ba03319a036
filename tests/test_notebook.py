"""`docs/notebook.ipynb`: it runs from its first cell to its last, and what it shows was made by a run.

After a change, run it in an empty folder, with `jupyter execute --inplace`, and take it back.
"""

import json
import os
import re
import types
from pathlib import Path

import numpy as np
import pytest

import ofa_tf as ofa

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
MOST_BYTES = 300_000
STEPS = {"full": 60, "kernel": 5, "depth": 5, "width": 40}
BATCH, N_DIGITS = 32, 600


@pytest.fixture
def desk(tmp_path, monkeypatch, small_space) -> Path:
    """A folder in which the notebook finds fewer images than it would make, and a workdir that trains for seconds."""
    from sklearn import datasets

    digits = datasets.load_digits()
    few = types.SimpleNamespace(images=digits.images[:N_DIGITS], target=digits.target[:N_DIGITS])
    monkeypatch.setattr(datasets, "load_digits", lambda: few)
    monkeypatch.chdir(tmp_path)
    exec(compile(CODE[0], "the first cell", "exec"), {})
    epoch = BATCH / (N_DIGITS * 0.81)
    phases = [{"stage": stage, "epochs": n * epoch, "warmup_epochs": 0, "base_lr": 0.1} for stage, n in STEPS.items()]
    recipe = {"schema": 1, "name": "few", "batch": BATCH, "phases": phases, "augment": {"area": [0.8, 1.2]}}
    Path("few.json").write_text(json.dumps(recipe))
    ofa.open("work", data="my-images", space=small_space, recipe="few.json", progress=None)
    return tmp_path


def test_it_runs(desk):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, 4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": os.fspath(desk)}}).execute()
    shown = [
        text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for text in (output.get("text"), output.get("data", {}).get("text/plain"))
        if text
    ]
    assert f"{N_DIGITS} images in my-images\n" in shown
    assert any(text.startswith("Training(largest subnet after full: ") for text in shown)
    assert any(text.startswith("Export('work/exports/twice': int8, ") for text in shown)
    assert re.fullmatch(r"my-images/train/0/\d+\.png is taken for \d\n", shown[-2])
    (choice,) = (text for text in shown if text.startswith("Choice("))
    assert np.isfinite(float(re.search(r"([\d.]+) ms", choice)[1]))
    assert (desk / "work/exports/twice/model.tflite").stat().st_size > 10_000


def test_what_it_shows_is_whole_and_names_no_machine():
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert len(text.encode()) < MOST_BYTES
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert all(cell["outputs"] for cell in code)
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
    texts = json.dumps([{**output, "data": {**output.get("data", {}), "image/png": ""}} for output in outputs])
    assert not re.search(r"/(home|root|tmp|usr|Users|work/)\b|[A-Z]:\\\\", texts)


def test_its_links_lead_somewhere_and_the_pages_lead_to_it():
    text = "".join("".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown")
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    assert all((ROOT / "docs" / link).is_file() for link in links)
    first = re.search(r"### Pages\n\n\[[^]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert first is not None
    assert first[1] == "docs/notebook.ipynb"
    assert "(notebook.ipynb)" in (ROOT / "docs" / "index.md").read_text()
