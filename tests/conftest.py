"""What several test modules share."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from commands import Run, run_command
from finished_workdir import CLASSES, N_TRAIN, N_VAL

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # oneDNN rounds differently from processor to processor
signal.signal(signal.SIGINT, signal.default_int_handler)  # also where it is ignored, as in background jobs of a shell
DEFAULT_FIXTURES = Path(__file__).resolve().parents[2] / "shared" / "fixtures"


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """The folder of the published project's reference numbers; tests skip without it, except in CI, where they fail."""
    folder = Path(os.environ.get("OFA_TF_FIXTURES", DEFAULT_FIXTURES))
    if not folder.is_dir():
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop(f"there is no folder {folder} of reference numbers; OFA_TF_FIXTURES names another one")
    return folder


@pytest.fixture(scope="session")
def java(tmp_path_factory) -> str:
    """Runs the Android app's code on this machine, as `compiled_app` says."""
    from stand_in_app import compiled_app

    return compiled_app(tmp_path_factory.mktemp("android") / "app")


@pytest.fixture(autouse=True)
def nothing_at_hand(monkeypatch):
    """No pretrained weights are installed or downloaded, unless a test names some."""
    monkeypatch.setattr("ofa_tf.zoo.pretrained.at_hand", lambda: None)


# --- a workdir in which everything is done ----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory) -> Path:
    """Noisy images of three tints, 32 px: `train` and `val`."""
    import numpy as np
    from PIL import Image

    folder = tmp_path_factory.mktemp("data") / "images"
    rng = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        for part, count in (("train", N_TRAIN), ("val", N_VAL)):
            (folder / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 240, (32, 32, 3))
                pixels[..., label] += 12
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"{index:02}.png")
    return folder


@pytest.fixture(scope="session")
def small_space(tmp_path_factory) -> Path:
    """The file of a space that is smaller than `tiny`: two stages, two kernels, two expand ratios."""
    from ofa_tf.spaces import TINY

    stages, resolutions = TINY.stages[:2], (24, 32)
    space = replace(TINY, name="small", stages=stages, kernels=(3, 5), expands=(3, 4), resolutions=resolutions)
    path = tmp_path_factory.mktemp("space") / "small.json"
    path.write_text(json.dumps({"schema": 1, **space.to_document()}))
    return path


@pytest.fixture(scope="session")
def recipe_file(tmp_path_factory) -> Path:
    """The file of a recipe of a few steps."""
    steps = {"full": 15, "kernel": 3, "depth": 2, "width": 2}
    epoch = 16 / (len(CLASSES) * N_TRAIN * 0.9)
    phases = [
        {"stage": stage, "epochs": count * epoch, "warmup_epochs": 0, "base_lr": 0.1} for stage, count in steps.items()
    ]
    recipe = {"schema": 1, "name": "few", "batch": 16, "phases": phases, "augment": {"area": [0.7, 1.0]}}
    path = tmp_path_factory.mktemp("recipe") / "few.json"
    path.write_text(json.dumps(recipe))
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory, image_folder, small_space, recipe_file) -> Path:
    """A workdir with trained stages, a measured table, a predictor and the export `first`; not to be changed."""
    from ofa_tf.latency.host import HostDevice

    folder = tmp_path_factory.mktemp("finished") / "work"
    options = ["--data", image_folder, "--space", small_space, "--recipe", recipe_file]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ofa_tf.project.opened.HostDevice", partial(HostDevice, seconds=0.5, least_rounds=3))
        patch.setattr("ofa_tf.project.lut.CALIBRATION_SUBNETS", 8)
        patch.setattr("ofa_tf.export.block_files.n_cores", lambda: 1)
        patch.setattr("ofa_tf.project.export.EXPORT_SECONDS", 0.1)
        assert run_command("train", "--workdir", folder, *options) == 0
        assert run_command("predictor", "fit", "--workdir", folder, "--archs", 12) == 0
        assert run_command("lut", "build", "--workdir", folder) == 0
        assert run_command("export", "--workdir", folder, "--latency", 1000, "--name", "first", "--no-gate") == 0
    return folder


@pytest.fixture
def workdir(finished, tmp_path, monkeypatch) -> Path:
    """A copy of the finished workdir, `work` in the current folder."""
    from ofa_tf.latency.host import HostDevice

    monkeypatch.setattr("ofa_tf.project.opened.HostDevice", partial(HostDevice, seconds=0.1, least_rounds=2))
    monkeypatch.setattr("ofa_tf.project.lut.CALIBRATION_SUBNETS", 8)
    monkeypatch.setattr("ofa_tf.export.block_files.n_cores", lambda: 1)
    monkeypatch.setattr("ofa_tf.project.export.EXPORT_SECONDS", 0.1)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, "work")
    return Path("work")


@pytest.fixture
def ofa(capsys) -> Callable[..., Run]:
    """Runs `ofa-tf` in this process and tells what came of it."""

    def run(*arguments) -> Run:
        capsys.readouterr()
        code = run_command(*arguments)
        return Run(code, *capsys.readouterr())

    return run


# --- what is published ------------------------------------------------------------------------------------------------


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A server on loopback in the place of the published addresses, and a cache of its own: its folder and itself."""
    from published_server import serving

    from ofa_tf.zoo import catalog, download

    monkeypatch.setattr(download, "PAUSE_S", 0.01)
    monkeypatch.setenv("OFA_TF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    root = tmp_path / "root"
    root.mkdir()
    with serving(root) as server:
        monkeypatch.setattr(catalog, "ADDRESS", f"http://127.0.0.1:{server.server_port}/")
        yield root, server


@pytest.fixture(scope="session")
def clean() -> bytes:
    """The int8 file of a `tiny` subnet: all of it runs on an Edge TPU."""
    from edgetpu_files import convert

    from ofa_tf.spaces import TINY

    return convert(TINY, "int8")


@pytest.fixture(scope="session")
def swish() -> bytes:
    """The int8 file of a subnet whose stem has a hard-swish, which an Edge TPU lacks."""
    from edgetpu_files import SWISH_SE, convert

    return convert(SWISH_SE, "int8")
