"""A small computer without TensorFlow: what measures and searches there does, and the rest says what is missing."""

import json
import os
import shutil
import subprocess
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from commands import Run, assert_refused, contents
from published_tables import published_table, wide_workdir

ROOT = Path(__file__).resolve().parents[1]
# As docs/new_device.md has them, and what these need themselves.
INSTALLED = ("ai-edge-litert", "click", "numpy", "pillow", "pyyaml", "rich", "scipy", "threadpoolctl")
NEEDED = ("flatbuffers", "markdown-it-py", "mdurl", "pygments")
MAIN = """
from functools import partial
from ofa_tf.project import opened as project
from ofa_tf.cli.main import main
from ofa_tf.project import lut as measuring
project.HostDevice = partial(project.HostDevice, seconds=0.1, least_rounds=2)
measuring.CALIBRATION_SUBNETS = 8
main()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The Python of an environment that has these packages and ofa-tf, and nothing else."""
    folder = tmp_path_factory.mktemp("small") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for found in map(distribution, (*INSTALLED, *NEEDED)):
        for name in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
            (site / name).symlink_to(Path(str(found.locate_file(name))))
    (site / "ofa_tf").mkdir()
    for part in [*(ROOT / "ofa_tf").iterdir(), ROOT / "cli", ROOT / "lut"]:
        if part.name != "__pycache__":
            (site / "ofa_tf" / part.name).symlink_to(part)
    return folder / "bin" / "python"


@pytest.fixture
def small(python):
    """Runs `ofa-tf` there, with little measuring."""

    def run(*arguments) -> Run:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [python, "-c", MAIN, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        return Run(done.returncode, done.stdout, done.stderr)

    return run


def test_it_is_missing_there(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # not where `ofa_tf` lies
    run = small("doctor", "--json")
    assert run.code == 0, run.err
    good = {check["name"]: check["good"] for check in json.loads(run.out)["checks"]}
    assert good["ai-edge-litert"]
    assert not good["tensorflow"]
    assert not good["keras"]


def test_the_documentation_installs_these():
    page = (ROOT / "docs" / "new_device.md").read_text()
    assert f"pip install {' '.join(INSTALLED)}\n" in page


def test_another_missing_package_is_named(small, workdir):
    run = small("search", "--workdir", workdir, "--pareto", "--points", 3, "--plot", "front.png")
    assert_refused(run, "The package matplotlib is not installed", "ofa-tf doctor")
    assert not Path("front.png").exists()


def test_a_table_is_measured_with_files_converted_elsewhere(small, workdir, tmp_path):
    there = tmp_path / "there"  # what docs/new_device.md copies
    shutil.copytree(workdir / "cache" / "block-files", there / "cache" / "block-files")
    shutil.copy(workdir / "config.json", there)
    run = small("lut", "build", "--workdir", there, "--json")
    assert run.code == 0, run.err
    before, after = (
        json.loads(next((folder / "lut").glob("host__*__int8.json")).read_text()) for folder in (workdir, there)
    )
    assert after["entries"].keys() == before["entries"].keys()
    assert after["entries"] != before["entries"]
    assert after["calibration"] is not None


def test_tables_are_imported_there(small, workdir, tmp_path):
    """Tables measured elsewhere, tables of other devices in the published format, and the Note10's."""
    (theirs,) = workdir.glob("lut/host__*__int8.json")
    run = small("lut", "import", theirs, "--as", "pi4", "--workdir", workdir)
    assert run.code == 0, run.err
    wide = wide_workdir(tmp_path / "wide")
    for suffix, write in (("json", json.dumps), ("yaml", yaml.safe_dump)):
        source = tmp_path / f"160_lookup_table.{suffix}"
        source.write_text(write(published_table(160)))
        run = small("lut", "import", source, "--as", f"of-{suffix}", "--workdir", wide)
        assert run.code == 0, run.err
    run = small("zoo", "import", "note10", source, "--workdir", wide)
    assert run.code == 0, run.err
    assert {path.name.split("__")[0] for path in wide.glob("lut/*")} == {"of-json", "of-yaml", "note10"}


def test_what_is_not_converted_is_not_measured(small, workdir):
    shutil.rmtree(workdir / "cache" / "block-files")
    before = contents(workdir)
    run = small("lut", "build", "--workdir", workdir)
    assert_refused(run, "Converting", "blocks", "needs TensorFlow, which is not installed here")
    assert contents(workdir) == before


def test_a_search_answers_there_what_it_answers_elsewhere(small, ofa, workdir):
    options = ("search", "--workdir", workdir, "--latency", 1000, "--macs", 4, "--json")
    there = small(*options)
    assert there.code == 0, there.err
    assert json.loads(there.out) == json.loads(ofa(*options).out)


def test_a_file_is_timed_there(small, workdir):
    run = small("benchmark", workdir / "exports" / "first" / "model.tflite", "--seconds", "0.1", "--json")
    assert run.code == 0, run.err
    assert json.loads(run.out)["n_runs"] > 1


@pytest.mark.parametrize(
    "arguments",
    [("train",), ("predictor", "fit"), ("export", "--latency", 1000), ("search", "--latency", 1000, "--verify", 2)],
)
def test_what_computes_with_it_says_so_in_one_sentence(small, workdir, arguments):
    before = contents(workdir)
    assert_refused(small(*arguments, "--workdir", workdir), "needs TensorFlow, which is not installed here")
    assert contents(workdir) == before
