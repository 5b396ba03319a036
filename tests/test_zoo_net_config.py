"""The published specialised networks: our walk must count what the published project counts, exactly."""

import contextlib
import copy
import dataclasses
import json
from pathlib import Path

import pytest
from hostile import changed, mutations, paths, place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ofa_tf.blocks import count_macs, count_params, walk
from ofa_tf.errors import FormatError, OfaError
from ofa_tf.spaces import MOBILENET_V3, PROXYLESS
from ofa_tf.zoo.net_config import NETWORKS, read_net_config

pytestmark = pytest.mark.fixtures
PROXYLESS_NAME = "tx2_gpu16-35ms_top1-70.3_finetune-25"
MOBILENET_NAME = "note10_lat-41ms_top1-79.3_finetune-75"


@pytest.fixture(scope="module")
def expected(fixtures_dir: Path) -> dict:
    return json.loads((fixtures_dir / "specialized" / "expected.json").read_text())


@pytest.fixture(scope="module")
def documents(fixtures_dir: Path, expected: dict) -> dict:
    folder = fixtures_dir / "specialized"
    return {name: json.loads((folder / f"{name}.net.config.json").read_text()) for name in expected}


def test_every_network_has_exactly_the_published_parameters_and_macs(fixtures_dir, expected):
    assert len(expected) == 20
    for name, facts in expected.items():
        path = fixtures_dir / "specialized" / f"{name}.net.config.json"
        space, arch, n_classes = read_net_config(path, facts["image_size"])
        blocks = walk(space, arch, n_classes)
        found = (count_params(blocks), count_macs(blocks), space.name, arch.resolution)
        network = NETWORKS[facts["network"]]
        assert found == (facts["n_params"], facts["macs"], network.name, facts["image_size"]), name


@pytest.mark.parametrize(("network", "space"), [("mbv3", MOBILENET_V3), ("proxyless", PROXYLESS)])
def test_subnets_of_the_reference_have_exactly_as_many_parameters(fixtures_dir, network, space):
    facts = json.loads((fixtures_dir / "torch_parity" / f"{network}_w0.25.json").read_text())
    space = dataclasses.replace(space, width_mult=facts["width_mult"])
    for arch, n_params in zip(facts["archs"], facts["n_params"], strict=True):
        depths = [min(depth, stage.depths[-1]) for depth, stage in zip(arch["d"], space.stages, strict=True)]
        blocks = walk(space, space.arch(128, depths, arch["ks"], arch["e"]), facts["n_classes"])
        assert count_params(blocks) == n_params


def test_what_the_space_takes_from_the_config(documents):
    space, arch, n_classes = read_net_config(documents[PROXYLESS_NAME], 188)
    assert (space.width_mult, space.bn_epsilon, space.padding, n_classes) == (1.3, 1e-3, "symmetric", 1000)
    assert space.resolutions == PROXYLESS.resolutions
    assert str(arch) == "188 px | 3x4 3x3 | 3x6 7x6 | 5x6 5x3 | 5x3 3x4 | 5x6 3x4 | 5x4"
    space, arch, _ = read_net_config(documents[MOBILENET_NAME], 260)
    assert (space.width_mult, space.bn_epsilon) == (1.2, 1e-5)
    assert space.resolutions == (*MOBILENET_V3.resolutions, 260)
    assert arch.depths == (2, 3, 4, 4, 4)


def test_the_newer_spelling_of_the_published_project_reads_the_same(documents):
    old = documents[MOBILENET_NAME]
    new = copy.deepcopy(old)
    new["bn"]["ws_eps"] = None
    for layer in (new["first_conv"], new["final_expand_layer"], new["feature_mix_layer"]):
        layer["use_se"] = False
    for block in new["blocks"]:
        conv = {**block.pop("mobile_inverted_conv"), "name": "MBConvLayer", "groups": None, "mid_channels": None}
        block.update(name="ResidualBlock", conv=conv)
    assert read_net_config(new, 220) == read_net_config(old, 220)


@pytest.mark.parametrize("name", [PROXYLESS_NAME, MOBILENET_NAME])
def test_no_field_goes_unread(documents, name):
    document = documents[name]
    size = 224
    original = read_net_config(document, size)
    for path in paths(document):
        value = place(document, path)
        for replacement in (KeyError, "x", [], {}, 1e9, -1, not value if isinstance(value, bool) else 64):
            try:
                result = read_net_config(changed(document, path, replacement), size)
            except FormatError:
                continue
            assert result != original, (path, replacement)
            # Another number of classes and one block fewer are networks of the space, too.
            assert path == ("classifier", "out_features") or replacement is KeyError, (path, replacement)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_hostile_config_is_refused_or_works(documents, data):
    document = data.draw(mutations(documents[PROXYLESS_NAME]))
    if not isinstance(document, dict):
        return
    with contextlib.suppress(OfaError):
        assert count_macs(walk(*read_net_config(document, 128))) > 0


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("name",), "ResNets", r"`name` \(='ResNets'\) must be one of \['MobileNetV3', 'ProxylessNASNets'\]"),
        (("bn", "momentum"), 0.01, r"`bn`: `momentum` \(=0.01\) must be 0.1"),
        (("bn", "extra"), 1, "unknown key 'extra'"),
        (("blocks",), {}, "`blocks`"),
        (("blocks",), [], "`blocks` must not be empty"),
        (("blocks", 1, "mobile_inverted_conv", "kernel_size"), 9, r"block 2: `kernel_size` \(=9\) must be one of"),
        (("blocks", 1, "mobile_inverted_conv", "expand_ratio"), 5, r"block 2: `expand_ratio` \(=5\)"),
        (("blocks", 1, "mobile_inverted_conv", "mid_channels"), 80, r"`mid_channels` \(=80\) must be 72 or None"),
        (("blocks", 1, "mobile_inverted_conv", "stride"), 1, "not of the space `mobilenet_v3`"),
        (("blocks", 0, "mobile_inverted_conv", "kernel_size"), 5, r"block 1: `kernel_size` \(=5\) must be 3"),
        (("blocks", 3, "mobile_inverted_conv", "use_se"), False, r"block 4: `use_se` \(=False\) must be True"),
        (("blocks", 2, "shortcut"), None, "block 3, `shortcut` must be a JSON object"),
        (("blocks", 1, "shortcut"), {"name": "IdentityLayer"}, r"block 2: `shortcut` .* must be None"),
        (("first_conv", "out_channels"), 32, "no width multiplier"),
        (("classifier", "bias"), False, r"`classifier`: `bias` \(=False\) must be True"),
        (("classifier", "in_features"), 1280, r"`in_features` \(=1280\) must be 1536"),
        (("classifier", "out_features"), 0, r"`out_features` \(=0\) must be a positive integer"),
    ],
)
def test_what_we_cannot_build_is_refused_by_name(documents, path, value, match):
    with pytest.raises(FormatError, match=match):
        read_net_config(changed(documents[MOBILENET_NAME], path, value), 220)


@pytest.mark.parametrize("image_size", [0, 31, 1025, 224.0, True, None, "224"])
def test_bad_image_size(documents, image_size):
    with pytest.raises(FormatError, match="`image_size`"):
        read_net_config(documents[MOBILENET_NAME], image_size)


def test_bad_files(tmp_path):
    with pytest.raises(FormatError, match="There is no file"):
        read_net_config(tmp_path / "none.json", 224)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(FormatError, match="must hold a JSON object"):
        read_net_config(tmp_path / "list.json", 224)
