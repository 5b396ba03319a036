"""Imports of published networks: into a workdir, through search, to a file that answers as the network does."""

import hashlib
import json
import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from ofa_tf.cli.main import main
from PIL import Image
from published_answers import answers, assert_answers
from torch_writer import checkpoint

from ofa_tf.blocks import walk
from ofa_tf.errors import DataError, FormatError, WorkdirError
from ofa_tf.export.convert import to_tflite
from ofa_tf.export.verified import FileOptions
from ofa_tf.jsonio import write_json
from ofa_tf.project.choice import Budgets
from ofa_tf.project.evaluator import load_supernet, make_evaluator
from ofa_tf.project.export import ExportOptions, Target, export
from ofa_tf.project.finder import find_within
from ofa_tf.project.opened import open_existing, open_project
from ofa_tf.project.predictor import fit
from ofa_tf.project.train import train
from ofa_tf.project.workdir import Workdir
from ofa_tf.project.zoo import import_supernet
from ofa_tf.subnet import build_subnet, extract
from ofa_tf.training.recipe import STAGES
from ofa_tf.zoo import catalog, imagenet, state_dict
from ofa_tf.zoo.net_config import read_net_config
from ofa_tf.zoo.specialized import import_specialized
from ofa_tf.zoo.subnet_weights import load_torch_subnet, plain_weights
from ofa_tf.zoo.supernets import read_classes, supernet_space
from ofa_tf.zoo.weights import block_rows

pytestmark = pytest.mark.fixtures
CLASSES = tuple(f"class {letter}" for letter in "abcdefghij")
UNGATED = ExportOptions(FileOptions(gate=False))
SPECIALIZED = "note10_lat-8ms_top1-71.4_finetune-25"


@pytest.fixture(scope="session")
def parity(fixtures_dir) -> Path:
    return fixtures_dir / "torch_parity"


@pytest.fixture(scope="session")
def imported(parity, tmp_path_factory) -> Path:
    """A workdir with an imported supernet, at 64 pixels; not to be changed."""
    folder = tmp_path_factory.mktemp("imported") / "workdir"
    import_supernet(str(parity / "mbv3_w0.25.pth"), folder, CLASSES, [64])
    return folder


@pytest.fixture
def workdir(imported, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(imported, tmp_path / "workdir"))


@pytest.fixture(scope="session")
def make_images(tmp_path_factory):
    """Makes a folder of noise: `make_images({"train/cat": 3})`."""

    def make(counts: dict[str, int]) -> Path:
        folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
        for name, n in counts.items():
            (folder / name).mkdir(parents=True)
            for index in range(n):
                Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / name / f"{index}.png")
        return folder

    return make


@pytest.fixture(scope="session")
def images(make_images) -> Path:
    return make_images({"train/class_A": 80, "train/class b": 80, "val/Class b": 12})


@pytest.fixture
def run(capfd):
    """Runs a command: its exit status and what it printed."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stopped:
            status = int(stopped.code or 0)
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return run


# --- supernets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", ["mbv3", "proxyless"])
def test_the_space_is_read_off_the_tensors(parity, network):
    facts = json.loads((parity / f"{network}_w0.25.json").read_text())
    with np.load(parity / f"{network}_w0.25.npz") as file:
        state = {name.removeprefix("state_dict/"): file[name] for name in file.files if name.startswith("state")}
    space, n_classes = supernet_space(state)
    found = (space.width_mult, n_classes, space.bn_epsilon, space.padding)
    assert found == (facts["width_mult"], facts["n_classes"], facts["bn_eps"], "symmetric")
    for name in ("classifier.linear.weight", "first_conv.conv.weight", "blocks.3.conv.point_linear.conv.conv.weight"):
        with pytest.raises(FormatError, match="not a supernet of `mobilenet_v3` or `proxyless`"):
            supernet_space({key: tensor for key, tensor in state.items() if key != name})
        with pytest.raises(FormatError, match="not a supernet"):
            supernet_space({**state, name: np.array(1.0, np.float32)})


def test_a_workdir_ready_for_search_and_export(parity, imported):
    workdir = Workdir(imported)
    config, ledger = workdir.config(), workdir.ledger()
    assert config.data is None
    assert config.classes == CLASSES
    assert config.preprocessing.mean == (123.675, 116.28, 103.53)
    assert config.preprocessing.std == (58.395, 57.12, 57.375)
    content = (parity / "mbv3_w0.25.pth").read_bytes()
    assert ledger.imported
    for stage in STAGES:
        source = ledger.stages[stage].source
        assert ledger.done(stage)
        assert source is not None
        assert source["sha256"] == hashlib.sha256(content).hexdigest()
        assert source["address"].endswith("mbv3_w0.25.pth")
    facts = json.loads((parity / "mbv3_w0.25.json").read_text())
    with np.load(parity / "mbv3_w0.25.npz") as file:
        inputs, expected = file["input"].transpose(0, 2, 3, 1), file["outputs"][0]
    supernet = load_supernet(open_existing(imported))
    largest = config.space.largest()
    assert facts["archs"][0]["d"] == list(largest.depths)
    model = extract(supernet, largest)
    for outputs in (supernet(inputs, config.space.encode(largest)), model(inputs)):
        assert_answers(outputs, expected, config.space, largest, model, inputs)


def test_both_containers_give_the_same_workdir(parity, imported, tmp_path):
    import_supernet(str(parity / "mbv3_w0.25_legacy.pth"), tmp_path / "legacy", CLASSES, [64])
    weights = "checkpoints/width/step-00000000.npz"
    with np.load(imported / weights) as one, np.load(tmp_path / "legacy" / weights) as other:
        assert all(np.array_equal(one[name], other[name]) for name in one.files)


def test_an_existing_workdir_is_left_alone(parity, workdir, imported):
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    with pytest.raises(WorkdirError, match="is already a workdir"):
        import_supernet(str(parity / "mbv3_w0.25.pth"), workdir, CLASSES)
    assert before == {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    (workdir / "config.json").unlink()
    mine = workdir / "checkpoints" / "width" / "step-00000002.npz"
    mine.write_bytes(b"trained")
    with pytest.raises(WorkdirError, match="parts of a workdir"):
        import_supernet(str(parity / "mbv3_w0.25.pth"), workdir, CLASSES, [64])
    assert mine.read_bytes() == b"trained"


def test_an_import_that_was_killed_is_done_again(parity, workdir, imported):
    """Before its last file was written, and before its first was whole."""
    for missing in (["config.json"], ["config.json", "ledger.json"]):
        for name in missing:
            (workdir / name).unlink()
        (workdir / "checkpoints" / "width" / ".step-00000000.npz.999999999.tmp").write_bytes(b"half")
        import_supernet(str(parity / "mbv3_w0.25.pth"), workdir, CLASSES, [64])
        assert {path.name for path in workdir.rglob("*")} == {path.name for path in imported.rglob("*")}
        assert (workdir / "config.json").read_bytes() == (imported / "config.json").read_bytes()


def test_bad_sources_leave_nothing_behind(parity, tmp_path, run):
    folder, empty = tmp_path / "new", tmp_path / "empty"
    truncated, wrong = tmp_path / "truncated.pth", tmp_path / "wrong.pth"
    truncated.write_bytes((parity / "mbv3_w0.25.pth").read_bytes()[:100_000])
    state = state_dict(parity / "mbv3_w0.25.pth")
    name = next(name for name in state if name.endswith("5to3_matrix"))
    wrong.write_bytes(checkpoint({key: value for key, value in state.items() if key != name}))
    names = tmp_path / "names.txt"
    names.write_text("\n".join(CLASSES))
    (tmp_path / "nine.txt").write_text("\n".join(CLASSES[:9]))
    empty.mkdir()
    good = parity / "mbv3_w0.25.pth"
    for arguments, message in (
        ([tmp_path / "absent.pth", "--classes", names], r"no supernet '.*absent.pth': give a file"),
        ([truncated, "--classes", names], "truncated.pth is"),
        ([wrong, "--classes", names], f"lacks {re.escape(name.replace('.conv.conv.', '.conv.'))}"),
        ([parity / "mbv3_w0.25.npz"], "npz is refused"),
        ([good], "10 classes, not those of ImageNet: name them with --classes"),
        ([good, "--classes", tmp_path / "nine.txt"], "10 classes, and 9 names"),
        ([good, "--classes", tmp_path / "none.txt"], "There is no file"),
        ([good, "--classes", names, "--resolution", 3], "`resolutions`"),
        (["https://nowhere.invalid/net"], "no connection to nowhere.invalid"),
    ):
        for target in (folder, empty):
            status, out, err = run("zoo", "import", "supernet", "-w", target, *arguments)
            assert status == 2, arguments
            assert re.search(message, err), err
            assert len(err.strip().splitlines()) == 1, err
            assert out == ""
        assert not folder.exists()
        assert not list(empty.iterdir())


def test_a_failed_write_leaves_nothing_behind(parity, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Workdir, "create", fail)
    for folder in (tmp_path / "new", tmp_path):
        with pytest.raises(OSError, match="No space"):
            import_supernet(str(parity / "mbv3_w0.25.pth"), folder, CLASSES, [64])
        assert [path.name for path in tmp_path.rglob("*")] in ([], [".lock"])


def test_classes_of_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("a cat\nçiçek\n", encoding="utf-8")
    assert read_classes(path) == ("a cat", "çiçek")
    for content, message in ((b"a\n\nb\n", "line 2: ''"), (b"a\nb\na\n", "line 3: 'a'"), (b"\xff\xfe", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(FormatError, match=message):
            read_classes(path)


def test_an_imported_network_is_not_trained(workdir, images):
    for restart in (False, True):
        with pytest.raises(WorkdirError, match="imported network, which is trained already"):
            train(open_project(workdir, data=str(images)), "width", restart)
    assert load_supernet(open_existing(workdir)) is not None


# --- images -----------------------------------------------------------------------------------------------------------


def test_without_images_it_says_what_is_enough(workdir, run):
    write_json(workdir / "arch.json", Workdir(workdir).config().space.largest().to_document())
    for arguments in (
        ["export", "--arch", workdir / "arch.json"],
        ["export", "--latency", 5],
        ["predictor", "fit"],
        ["search", "--latency", 5],
    ):
        status, _, err = run(*arguments, "-w", workdir)
        assert status == 2
        assert re.search(r"--data that has train/<class>/\*.jpg, about 2000 images .*at least 100.*val/", err), err
    assert not (workdir / "lut").exists()


def test_folders_named_after_classes(workdir, images):
    data = open_existing(workdir, data=str(images)).data
    assert data.classes == CLASSES
    assert set(np.unique(data.train.labels)) == {0, 1}
    assert set(data.val.labels) == {1}
    assert len(data.train) + len(data.tune) == 160
    assert Workdir(workdir).config().data == str(images)
    assert open_existing(workdir).data.classes == CLASSES
    with pytest.raises(WorkdirError, match="was made with --data"):
        open_existing(workdir, data=str(images.parent))


def test_wordnet_ids_name_the_classes_of_imagenet(workdir, make_images):
    document = json.loads((workdir / "config.json").read_text())
    document["classes"] = list(imagenet.class_names())
    (workdir / "config.json").write_text(json.dumps(document))
    counts = {"train/n01443537": 70, "train/crane": 70, "train/Great_White_Shark": 10, "train/Cardigan": 9}
    folder = make_images({**counts, "val/cardigan": 3})
    with pytest.raises(DataError, match="'CARDIGAN', which may be 'Cardigan' or 'cardigan'"):
        open_existing(workdir, data=str(make_images({**counts, "val/CARDIGAN": 3})))
    data = open_existing(workdir, data=str(folder)).data
    assert set(np.unique(data.train.labels)) == {1, 517, 2, imagenet.class_names().index("Cardigan")}
    assert set(data.val.labels) == {imagenet.class_names().index("cardigan")}


def test_images_that_do_not_fit_are_refused_and_not_remembered(workdir, make_images):
    for counts, message in (
        ({"train/class a": 90, "val/class a": 5}, "leaves 81 training images after the split; at least 100"),
        ({"train/class a": 60, "train/cat": 60}, "'cat', which is not a class of the network"),
        ({"val/class a": 3}, "no folder `train`"),
        ({"train/class a": 120, "val/cat": 3, "val/class b": 3}, "has the class 'cat'"),
    ):
        with pytest.raises(DataError, match=message):
            open_existing(workdir, data=str(make_images(counts)))
    with pytest.raises(DataError, match="There is no folder 'digits'"):
        open_existing(workdir, data="digits")
    assert Workdir(workdir).config().data is None


@pytest.fixture(scope="module")
def evaluator(imported, images, tmp_path_factory):
    """Of the imported supernet; tracing it takes most of the time of the tests below."""
    copy = shutil.copytree(imported, tmp_path_factory.mktemp("evaluator") / "workdir")
    return make_evaluator(open_existing(copy, data=str(images)))


def test_export_to_int8(workdir, images, evaluator):
    project = open_existing(workdir, data=str(images))
    arch = project.config.space.smallest()
    exported = export(project, arch, Target("note10"), UNGATED, evaluator=evaluator)
    manifest = exported.manifest
    assert manifest.file_accuracy is not None
    assert manifest.validation_images == 12
    assert manifest.imported_from == Workdir(workdir).ledger().stages["width"].source
    assert manifest.tensor_types.keys() <= {"INT8", "INT32"}
    assert (exported.folder / "labels.txt").read_text().splitlines() == list(CLASSES)


def test_images_without_labels_calibrate_and_give_no_accuracy(workdir, make_images, evaluator):
    project = open_existing(workdir, data=str(make_images({"train/all": 150})))
    assert not project.data.train.labelled
    for work in (fit, lambda same: find_within(same, Budgets({"host": 5.0}))):
        with pytest.raises(DataError, match="have no labels"):
            work(project)
    assert not project.workdir.tables.exists()
    arch = project.config.space.smallest()
    options = ExportOptions(FileOptions("fp32"))
    own = make_evaluator(project, evaluator.supernet, traced=False)
    manifest = export(project, arch, Target("note10"), options, evaluator=own).manifest
    assert (manifest.float_accuracy, manifest.file_accuracy) == (None, None)
    assert manifest.agreement == 1.0


# --- specialised networks ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def specialized(fixtures_dir, tmp_path_factory) -> Path:
    """A folder as published: a real description, weights of our own."""
    folder = tmp_path_factory.mktemp("specialized") / SPECIALIZED
    folder.mkdir()
    shutil.copy(fixtures_dir / "specialized" / f"{SPECIALIZED}.net.config.json", folder / "net.config")
    (folder / "run.config").write_text(json.dumps({"image_size": 160}))
    space, arch, n_classes = read_net_config(folder / "net.config", 160)
    model, tensors, inverted = build_subnet(space, arch, n_classes), {}, 0
    rng = np.random.default_rng(0)
    for block in walk(space, arch, n_classes):
        if not block.n_params:
            continue
        names = {"stem": "first_conv", "head": "final_expand_layer", "feature": "feature_mix_layer.conv"}
        name = names.get(block.name, f"blocks.{inverted}.mobile_inverted_conv")
        name = "classifier.linear" if block.name == "classifier" else name
        inverted += name.startswith("blocks.")
        for key, variable, axes in block_rows(block, name, plain_weights(model, block)):
            values = rng.normal(0, 0.5 if "running" in key else 0.05, variable.shape).astype(np.float32)
            values = np.abs(values) + 1 if key.endswith(("running_var", "bn.weight")) else values * 1.5
            if axes is not None:
                values = values.reshape((1,) * (len(axes) - values.ndim) + values.shape).transpose(np.argsort(axes))
            tensors[key] = values
            if key.endswith("running_mean"):
                tensors[key.replace("running_mean", "num_batches_tracked")] = np.array(3, np.int64)
    (folder / "init").write_bytes(checkpoint(tensors))
    return folder


@pytest.mark.parametrize("network", ["mbv3", "proxyless"])
def test_weights_of_a_specialised_network_answer_as_the_reference(parity, network):
    """The largest subnet uses the supernet's tensors as they are, kernel matrices left out."""
    with np.load(parity / f"{network}_w0.25.npz") as file:
        state = {name.removeprefix("state_dict/"): file[name] for name in file.files if name.startswith("state")}
        inputs, expected = file["input"].transpose(0, 2, 3, 1), file["outputs"][0]
    space, n_classes = supernet_space(state)
    arch = space.largest()
    model = build_subnet(space, arch, n_classes, fixed_size=False)
    state = {name: tensor for name, tensor in state.items() if not name.endswith("_matrix")}
    load_torch_subnet(model, space, arch, n_classes, state)
    assert_answers(model(inputs), expected, space, arch, model, inputs)
    name = "blocks.2.conv.depth_conv.conv.conv.weight"
    with pytest.raises(FormatError, match=r"lacks blocks.2.conv.depth_conv.conv.weight"):
        load_torch_subnet(model, space, arch, n_classes, {key: value for key, value in state.items() if key != name})


def test_a_specialised_network_as_a_tflite_file_answers_as_in_keras(specialized, tmp_path):
    network = import_specialized(str(specialized), tmp_path / "out")
    assert (network.n_params, network.n_macs, network.name) == (3_761_168, 75_802_880, SPECIALIZED)
    assert network.to_document()["weights"] == "imported"
    model = keras.models.load_model(tmp_path / "out" / "model.keras")
    inputs = np.random.default_rng(1).normal(0, 1, (4, 160, 160, 3)).astype(np.float32)
    outputs = np.asarray(model(inputs))
    assert outputs.std() > 0.1
    assert np.array_equal(outputs, np.asarray(network.model(inputs)))
    found = answers(to_tflite(model, "fp32"), inputs)
    assert np.abs(found - outputs).max() < 1e-4 * np.abs(outputs).max()
    assert json.loads((tmp_path / "out" / "arch.json").read_text())["resolution"] == 160
    assert (tmp_path / "out" / "labels.txt").read_text().splitlines()[0] == "tench"


def test_specialised_networks_on_the_command_line(specialized, tmp_path, run):
    status, out, _ = run("zoo", "import", "specialized", specialized, "--json")
    document = json.loads(out)
    assert status == 0
    assert (document["n_params"], document["n_macs"], document["weights"]) == (3_761_168, 75_802_880, None)
    assert document["published"]["device"] == "Samsung Note10"
    config, out_folder = specialized / "net.config", tmp_path / "out"
    status, out, _ = run(
        "zoo", "import", "specialized", config, "--image-size", 224, "--no-weights", "--out", out_folder
    )
    assert status == 0
    assert "75802880" not in out
    assert "fresh weights" in out
    for arguments, message in (
        ([specialized, "--out", out_folder], "already holds a network"),
        ([specialized, "--out", specialized], "is not an imported network"),
        ([config], "--image-size"),
        ([config, "--image-size", 7], "`image_size`"),
        ([config, "--image-size", 224, "--out", tmp_path / "b"], "comes without weights"),
        ([tmp_path], "has no `net.config`"),
        (["note10_lat-9ms"], "no specialised network 'note10_lat-9ms'"),
        ([specialized, "--out", "."], "must name a folder"),
        ([specialized, "--out", ".."], "must name a folder"),
    ):
        status, out, err = run("zoo", "import", "specialized", *arguments)
        assert (status, out) == (2, "")
        assert message in err
    assert not (tmp_path / "b").exists()
    with open(specialized / "init", "rb") as file:
        broken = Path(shutil.copytree(specialized, tmp_path / "broken"))
        (broken / "init").write_bytes(file.read()[:-1000])
    before = sorted(path.name for path in tmp_path.iterdir())
    status, _, err = run("zoo", "import", "specialized", broken, "--out", tmp_path / "c")
    assert status == 2
    assert "init" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert run("zoo", "import", "specialized", specialized, "--out", out_folder, "--force")[0] == 0


def test_a_network_that_cannot_be_replaced_stays(specialized, tmp_path, monkeypatch):
    out, rename = tmp_path / "out", os.rename
    import_specialized(str(specialized), out, weights=False)
    before = (out / "network.json").read_bytes()

    def fail(source, target):
        if Path(target) == out and ".old" not in str(source):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(OSError, match="No space"):
        import_specialized(str(specialized), out, 192, weights=False, force=True)
    assert (out / "network.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


# --- downloads --------------------------------------------------------------------------------------------------------


def test_an_interrupted_download_of_a_supernet_goes_on(parity, published, tmp_path, run):
    root, server = published
    server.cut = "w1.2"
    name = "ofa_mbv3_d234_e346_k357_w1.2"
    (root / "ofa_nets").mkdir()
    shutil.copy(parity / "mbv3_w0.25_legacy.pth", root / "ofa_nets" / name)
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    options = ["--classes", tmp_path / "names.txt", "--resolution", 64, "--json"]
    status, out, err = run("zoo", "import", "supernet", name, "-w", tmp_path / "one", *options)
    assert status == 0
    assert "downloading" in err
    document = json.loads(out)
    assert document["source"]["address"] == f"{catalog.ADDRESS}ofa_nets/{name}"
    assert document["source"]["sha256"] == hashlib.sha256((root / "ofa_nets" / name).read_bytes()).hexdigest()
    assert document["space"]["width_mult"] == 0.25
    size = (root / "ofa_nets" / name).stat().st_size
    assert [request[1] for request in server.requests] == [None, f"bytes={size // 2}-"]
    address = f"{catalog.ADDRESS}ofa_nets/{name}"
    assert run("zoo", "import", "supernet", address, "-w", tmp_path / "two", *options)[0] == 0
    assert len(server.requests) == 2, "the second import takes it from the cache"


def test_a_specialised_network_by_name(specialized, published, tmp_path, run):
    root, server = published
    (root / "ofa_specialized").mkdir()
    shutil.copytree(specialized, root / "ofa_specialized" / SPECIALIZED)
    server.cut = "init"
    with_ats = re.sub(r"(lat|top1|finetune)-", r"\1@", SPECIALIZED)
    status, out, _ = run("zoo", "import", "specialized", with_ats, "--json")
    assert status == 0
    assert json.loads(out)["n_params"] == 3_761_168
    assert not any(path.endswith("init") for path, _ in server.requests)
    assert run("zoo", "import", "specialized", SPECIALIZED, "--out", tmp_path / "out")[0] == 0
    assert sum(path.endswith("init") for path, _ in server.requests) == 2
    status, _, err = run("zoo", "import", "specialized", "cpu_lat-10ms_top1-71.1_finetune-25")
    assert status == 2
    assert "404" in err
