"""`ofa-tf export --finetune` and `project.finetune`."""

from types import SimpleNamespace

import numpy as np
import pytest
from commands import HOST_TABLE, assert_refused
from finished_workdir import space_of, write_arch

import ofa_tf as ofa_tf_package
from ofa_tf.export.gate import run_file
from ofa_tf.jsonio import read_json
from ofa_tf.project import finetune as module
from ofa_tf.project.opened import open_existing
from ofa_tf.training.finetune import FineTuned


@pytest.fixture
def arch(workdir):
    smallest = space_of(workdir).smallest()
    write_arch("arch.json", smallest)
    return smallest


def decided(better: bool):
    """The property `better` with one answer."""
    return property(lambda self: better)


@pytest.mark.parametrize("better", [True, False])
def test_the_better_weights_are_exported_and_the_gain_is_told(ofa, workdir, arch, monkeypatch, better):
    monkeypatch.setattr(FineTuned, "better", decided(better))
    run = ofa("export", "-w", workdir, "--arch", "arch.json", "--name", "own", "--finetune", 1, "--no-gate")
    assert run.code == 0, run.err
    assert "Fine-tuning for 1 epochs: " in run.err
    assert ("they are kept" if better else "those of the supernet are kept") in run.err
    manifest = read_json(workdir / "exports" / "own" / "manifest.json")
    gain = manifest["finetune"]
    kept = "finetuned" if better else "supernet"
    assert (gain["epochs"], gain["kept"]) == (1, kept)
    assert manifest["float_accuracy"] == pytest.approx(gain[f"{kept}_accuracy"])
    images = open_existing(workdir).data.val
    content = (workdir / "exports" / "own" / "model.tflite").read_bytes()
    project = ofa_tf_package.open(workdir)
    tuned = project.finetune(arch, epochs=1)  # done already
    network = tuned.evaluator if better else module.make_evaluator(project)
    network.calibrate(arch)
    expected = network.logits(arch, images).argmax(1)
    found = run_file(content, images, project.config.preprocessing).argmax(1)
    assert (found == expected).mean() == pytest.approx(manifest["agreement"])
    assert (found == images.labels).mean() == pytest.approx(manifest["file_accuracy"])


def test_without_it_the_manifest_says_so(workdir):
    assert read_json(workdir / "exports" / "first" / "manifest.json")["finetune"] is None


def test_the_subnet_is_trained_for_int8_after_it(ofa, workdir, arch, monkeypatch):
    monkeypatch.setattr(FineTuned, "better", decided(True))
    options = ["--finetune", 0.5, "--qat", "--epochs", 0.5, "--no-gate", "--name", "both"]
    run = ofa("export", "-w", workdir, "--arch", "arch.json", *options)
    assert run.code == 0, run.err
    manifest = read_json(workdir / "exports" / "both" / "manifest.json")
    assert manifest["finetune"]["kept"] == "finetuned"
    assert manifest["qat"]["kept"] in ("ptq", "qat")


def test_devices_share_the_fine_tuning_of_one_subnet(ofa, workdir, arch, monkeypatch):
    tuned = []
    tune = module.FineTuner.tune
    monkeypatch.setattr(module.FineTuner, "tune", lambda self, arch: tuned.append(arch) or tune(self, arch))
    (table,) = workdir.glob(HOST_TABLE)
    assert ofa("lut", "import", table, "--as", "pi4", "-w", workdir).code == 0
    devices = ["--device", "host", "--device", "pi4"]
    options = ["--finetune", 0.25, "--no-gate"]
    run = ofa("export", "-w", workdir, "--arch", "arch.json", *devices, *options)
    assert run.code == 0, run.err
    assert tuned == [arch]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--finetune", "0"], ["'--finetune'", "'0'"]),
        (["--finetune", "-1"], ["'--finetune'"]),
        (["--finetune", "nan"], ["'--finetune'"]),
        (["--finetune", "1000000"], ["--finetune 1000000 must be at most 1000 epochs"]),
        (["--finetune", "1000000", "--no-gate"], ["must be at most 1000 epochs"]),
    ],
)
def test_what_nobody_can_mean_is_refused(ofa, workdir, arch, arguments, said):
    assert_refused(ofa("export", "-w", workdir, "--arch", "arch.json", "--name", "never", *arguments), *said)
    assert not (workdir / "exports" / "never").exists()


def test_the_library_refuses_it_in_its_own_words(workdir, arch):
    project = ofa_tf_package.open(workdir)
    with pytest.raises(ofa_tf_package.ArgumentError, match="`finetune"):
        project.finetune(arch, epochs=1e6)
    with pytest.raises(ofa_tf_package.ArgumentError, match="`epochs`: 0 is not a positive number"):
        project.finetune(arch, epochs=0)
    with pytest.raises(ofa_tf_package.SpaceError):
        project.finetune(ofa_tf_package.get_space("tiny").smallest(), epochs=1)


def test_images_without_labels_are_refused(workdir, arch, monkeypatch):
    project = ofa_tf_package.open(workdir)
    evaluator = module.make_evaluator(project)
    monkeypatch.setattr(type(project.data.tune), "labelled", property(lambda self: False))
    with pytest.raises(ofa_tf_package.DataError, match="no labels"):
        module.fine_tuner(project, evaluator, 1)
    assert np.isfinite(evaluator.accuracy(arch, project.data.val))


def test_the_gain_on_images_without_labels_is_not_known_but_the_fine_tuning_is_recorded():
    tuned = SimpleNamespace(epochs=1.0, arch=None, better=True, evaluator=None)
    unknown = {"supernet_accuracy": None, "finetuned_accuracy": None}
    assert module.gain(tuned, None, SimpleNamespace(labelled=False)) == {"epochs": 1.0, "kept": "finetuned", **unknown}
