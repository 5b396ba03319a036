"""The predictor's inputs, its sums and its file."""

import dataclasses
import io
import json
import zipfile
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich_spaces import RICH, RICH_SPACES

from ofa_tf.accuracy.predictor import Predictor, features, n_features
from ofa_tf.errors import FormatError
from ofa_tf.spaces import MOBILENET_V3, PROXYLESS, TINY

N_INPUTS = 6 * 6 + 3


def make_predictor(members=2, hidden=(5, 4)):
    rng = np.random.default_rng(0)
    widths = [N_INPUTS, *hidden, 1]
    nets = [
        tuple(
            (rng.normal(size=(a, b)).astype(np.float32), rng.normal(size=b).astype(np.float32))
            for a, b in pairwise(widths)
        )
        for _ in range(members)
    ]
    return Predictor(TINY, TINY.resolutions, tuple(nets))


def arrays_of(predictor, tmp_path):
    predictor.save(tmp_path / "good.npz")
    with np.load(tmp_path / "good.npz") as file:
        return {name: file[name] for name in file.files}


# --- inputs ----------------------------------------------------------------------------------------------------------


def test_features_are_one_hot_and_zero_for_blocks_left_out():
    arch = TINY.arch(28, [1, 2, 1], [3, 0, 5, 7, 7, 0], [6, 0, 4, 3, 4, 0])
    kernels = [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0]
    expands = [0, 0, 1, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]
    rows = features(TINY, TINY.encode([arch]), TINY.resolutions)
    assert rows.dtype == np.float32
    assert rows.tolist() == [kernels + expands + [0, 1, 0]]
    assert features(TINY, TINY.encode([arch]), (24, 32))[0, 36:].tolist() == [0, 0]


@pytest.mark.parametrize("kernels", [(3,), (3, 5), (3, 5, 7, 9)])
def test_every_choice_of_a_block_has_an_input(kernels):
    space = dataclasses.replace(MOBILENET_V3, kernels=kernels, expands=(2, 6))
    codes = space.sample(np.random.default_rng(0), 200)
    rows = features(space, codes, space.resolutions)
    assert rows.shape == (200, n_features(space, space.resolutions))
    assert rows.shape[1] == 20 * (len(kernels) + 2) + len(space.resolutions)
    assert rows.sum(1).tolist() == (2 * space.active(codes).sum(1) + 1).tolist()


@pytest.mark.parametrize("space", [TINY, *RICH_SPACES.values()], ids=lambda space: space.name)
def test_different_archs_have_different_features(space):
    codes = np.unique(space.sample(np.random.default_rng(0), 2000), axis=0)
    assert len(np.unique(features(space, codes, space.resolutions), axis=0)) == len(codes)


def test_every_choice_of_channels_has_an_input():
    codes = RICH.sample(np.random.default_rng(0), 100)
    rows = features(RICH, codes, RICH.resolutions)
    assert rows.shape[1] == n_features(RICH, RICH.resolutions) == 5 * (2 + 2) + 5 * 3 + 2
    assert rows.sum(1).tolist() == (2 * RICH.active(codes).sum(1) + 5 + 1).tolist()
    of_channels = rows[:, 20:35].reshape(100, 5, 3)
    assert (of_channels.argmax(2) == codes[:, RICH.channel_genes]).all()


# --- predictions -----------------------------------------------------------------------------------------------------


def test_the_prediction_is_the_mean_of_plain_relu_networks():
    predictor = make_predictor()
    codes = TINY.sample(np.random.default_rng(1), 30)
    inputs = features(TINY, codes, TINY.resolutions).astype(np.float64)
    expected = []
    for (w1, b1), (w2, b2), (w3, b3) in predictor.members:
        hidden = np.maximum(np.maximum(inputs @ w1 + b1, 0) @ w2 + b2, 0)
        expected.append((hidden @ w3 + b3)[:, 0])
    np.testing.assert_allclose(predictor.predict_members(codes), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(predictor(codes), np.mean(expected, axis=0), rtol=1e-4, atol=1e-5)
    assert predictor(codes).shape == (30,)
    assert predictor(codes).dtype == np.float64


@pytest.mark.fixtures
def test_the_published_predictor_answers_as_published(fixtures_dir):
    with np.load(fixtures_dir / "note10" / "ofa_accuracy_predictor.npz") as file:
        layers = tuple((file[f"{n}.weight"].T, file[f"{n}.bias"]) for n in (0, 2, 4, 6))
    predictor = Predictor(MOBILENET_V3, tuple(range(112, 225, 16)), (layers,))
    rows = json.loads((fixtures_dir / "note10" / "reference_predictions.json").read_text())
    codes = MOBILENET_V3.encode([MOBILENET_V3.arch(row["r"], row["d"], row["ks"], row["e"]) for row in rows])
    # In float32 both sides round; 1e-6 is what the published numbers can hold.
    np.testing.assert_allclose(predictor(codes), [row["predicted_acc"] for row in rows], rtol=0, atol=1e-6)


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "hidden"), [(1, ()), (1, (3,)), (3, (5, 4)), (11, (2,)), (1, (2,) * 11)])
def test_a_predictor_is_the_same_after_its_file(tmp_path, members, hidden):
    predictor = make_predictor(members, hidden)
    predictor.save(tmp_path / "p.npz")
    again = Predictor.load(tmp_path / "p.npz", TINY)
    assert again.resolutions == TINY.resolutions
    codes = TINY.sample(np.random.default_rng(2), 40)
    assert again.predict_members(codes).tolist() == predictor.predict_members(codes).tolist()


def test_a_predictor_of_another_space_is_refused(tmp_path):
    make_predictor().save(tmp_path / "p.npz")
    twin = dataclasses.replace(TINY, name="twin")
    for space in (PROXYLESS, twin):
        with pytest.raises(FormatError, match=f"is a predictor of another space: of `tiny`, not of `{space.name}`"):
            Predictor.load(tmp_path / "p.npz", space)


def test_a_file_that_does_not_name_its_space_is_told_by_its_shape(tmp_path):
    arrays = arrays_of(make_predictor(), tmp_path)
    assert str(arrays.pop("space")) == "tiny"
    np.savez(tmp_path / "old.npz", **arrays)
    codes = TINY.sample(np.random.default_rng(1), 9)
    assert Predictor.load(tmp_path / "old.npz", TINY)(codes).tolist() == make_predictor()(codes).tolist()
    with pytest.raises(FormatError, match="is a predictor of another space: `proxyless` needs 129 inputs"):
        Predictor.load(tmp_path / "old.npz", PROXYLESS)


BROKEN = {
    "resolutions missing": ({"resolutions": None}, "is not a predictor"),
    "resolutions scalar": ({"resolutions": np.int32(24)}, "is not a predictor"),
    "resolutions words": ({"resolutions": np.array(["a", "b", "c"])}, "is not a predictor"),
    "resolutions fewer": ({"resolutions": np.array([24])}, "is a predictor of another space"),
    "objects": ({"0/0/weights": np.array([None], object)}, "is not a predictor"),
    "an endless resolution": ({"resolutions": np.array([np.inf])}, "is not a predictor"),
    "no weights": ({"0/0/weights": None}, "an array is named '0/0/biases'"),
    "no biases": ({"0/1/biases": None}, "'0/1/biases'"),
    "a gap": ({"0/1/weights": None, "0/1/biases": None}, "an array is named '0/2/biases'"),
    "a far member": ({"999999999999/0/weights": np.zeros((39, 1))}, "an array is named '999999999999/0/weights'"),
    "a negative member": ({"-1/0/weights": np.zeros((39, 1))}, "an array is named '-1/0/weights'"),
    "a stranger": ({"name": np.array([1])}, "an array is named 'name'"),
    "scalar weights": ({"0/0/weights": np.float32(1)}, "is a predictor of another space"),
    "flat weights": ({"0/0/weights": np.zeros(39, np.float32)}, "cannot follow 39 values"),
    "layers that do not meet": ({"0/1/weights": np.zeros((6, 4), np.float32)}, "cannot follow 5 values"),
    "another member's inputs": ({"1/0/weights": np.zeros((38, 5), np.float32)}, "cannot follow 39 values"),
    "biases of another width": ({"0/0/biases": np.zeros(6, np.float32)}, "cannot follow 39 values"),
    "integers": ({"0/0/weights": np.zeros((39, 5), int)}, "cannot follow 39 values"),
    "words": ({"0/0/weights": np.full((39, 5), "a")}, "cannot follow 39 values"),
    "not a number": ({"0/2/biases": np.array([np.nan], np.float32)}, "weights that are not finite"),
    "two outputs": (
        {"1/2/weights": np.zeros((4, 2), np.float32), "1/2/biases": np.zeros(2, np.float32)},
        "it answers with 2 numbers instead of 1",
    ),
}


@pytest.mark.parametrize(("change", "match"), BROKEN.values(), ids=list(BROKEN))
def test_wrong_arrays_are_refused(tmp_path, change, match):
    arrays = {**arrays_of(make_predictor(), tmp_path), **change}
    np.savez(tmp_path / "bad.npz", **{name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(FormatError, match=match) as error:
        Predictor.load(tmp_path / "bad.npz", TINY)
    assert "bad.npz" in str(error.value)


@pytest.mark.parametrize("content", ["", "text", "npy", "pickle", "zip of text", "empty zip"])
def test_another_file_is_refused(tmp_path, content):
    path = tmp_path / "bad.npz"
    if content == "npy":
        np.save(tmp_path / "bad.npy", np.zeros(3))
        path = tmp_path / "bad.npy"
    elif content == "pickle":
        np.save(tmp_path / "bad.npy", np.array([{}], object), allow_pickle=True)
        path = tmp_path / "bad.npy"
    elif content.endswith(("text", "zip")) and content != "text":
        with zipfile.ZipFile(path, "w") as file:
            if content == "zip of text":
                file.writestr("resolutions.npy", "no array")
    else:
        path.write_text(content)
    with pytest.raises(FormatError, match="is not a predictor"):
        Predictor.load(path, TINY)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"^There is no file .*none\.npz\.$"):
        Predictor.load(tmp_path / "none.npz", TINY)
    with pytest.raises(FormatError, match="is a folder"):
        Predictor.load(tmp_path, TINY)


@pytest.fixture(scope="module")
def good_bytes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predictor")
    make_predictor(1, (2,)).save(folder / "good.npz")
    compressed = io.BytesIO()
    with np.load(folder / "good.npz") as file:
        np.savez_compressed(compressed, **{name: file[name] for name in file.files})
    return [(folder / "good.npz").read_bytes(), compressed.getvalue()]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_refused_or_works(good_bytes, tmp_path, data):
    content = bytearray(data.draw(st.sampled_from(good_bytes)))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))]
    (tmp_path / "bad.npz").write_bytes(content)
    try:
        predictor = Predictor.load(tmp_path / "bad.npz", TINY)
    except FormatError:
        return
    assert np.isfinite(predictor(TINY.sample(np.random.default_rng(0), 3))).all()


def test_saving_is_atomic(tmp_path, monkeypatch):
    make_predictor().save(tmp_path / "p.npz")
    before = (tmp_path / "p.npz").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(OSError, match="disk full"):
        dataclasses.replace(make_predictor(1), space=TINY).save(tmp_path / "p.npz")
    assert (tmp_path / "p.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]
