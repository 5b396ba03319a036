"""The import of the published ResNet50D into a workdir."""

import numpy as np
import pytest
from published_answers import answers, assert_answers
from published_networks import Published, published_arch, read_published
from torch_writer import checkpoint

from ofa_tf.errors import FormatError
from ofa_tf.export.convert import to_tflite
from ofa_tf.project.evaluator import load_supernet
from ofa_tf.project.opened import open_existing
from ofa_tf.project.workdir import Workdir
from ofa_tf.spaces import RESNET50D
from ofa_tf.subnet import extract
from ofa_tf.zoo.supernets import supernet_space

pytestmark = pytest.mark.fixtures


@pytest.fixture(scope="session")
def resnet(fixtures_dir) -> Published:
    return read_published(fixtures_dir / "resnet50" / "parity" / "resnet50d_w0.2")


def test_the_space_of_resnet50d_is_read_off_the_tensors(resnet):
    space, n_classes = supernet_space(resnet.state)
    facts, found = resnet.facts, (list(space.width_mults), n_classes, space.bn_epsilon, space.padding)
    assert found == (facts["width_mult_list"], facts["n_classes"], facts["bn_eps"], "symmetric")
    assert (space.name, space.resolutions) == ("resnet50d", RESNET50D.resolutions)
    shorter = {name.replace(".conv.conv.weight", ".conv.weight"): tensor for name, tensor in resnet.state.items()}
    assert len(shorter.keys() - resnet.state.keys()) > 50
    assert supernet_space(shorter)[0] == space
    for name in ("classifier.linear.linear.weight", "input_stem.0.conv.conv.weight", "blocks.7.conv3.conv.conv.weight"):
        with pytest.raises(FormatError, match="not a supernet of `resnet50d`: its stem has the widths"):
            supernet_space({**resnet.state, name: np.array(1.0, np.float32)})
    for start in ("classifier.", "input_stem.2.", "blocks.17.", "blocks.3.conv1."):
        with pytest.raises(FormatError, match="not a supernet of `resnet50d`"):
            supernet_space({name: tensor for name, tensor in resnet.state.items() if not name.startswith(start)})


def test_a_supernet_of_resnet50d_in_a_workdir_answers_as_published(resnet, tmp_path, ofa):
    file, names, folder = tmp_path / "resnet.pth", tmp_path / "names.txt", tmp_path / "workdir"
    file.write_bytes(checkpoint(resnet.state))
    names.write_text("\n".join(f"class {number}" for number in range(100)))
    options = ["-w", folder, "--classes", names, "--resolution", 64]
    run = ofa("zoo", "import", "supernet", file, *options)
    assert run.code == 0, run.err
    assert "`resnet50d` of width 0.13, 0.16, 0.2 (1.91 M parameters, 100 classes, 64 to 64 px)" in run.out
    supernet, space = load_supernet(open_existing(folder)), Workdir(folder).config().space
    smallest = published_arch(space, resnet.facts["archs"][1], 64)
    assert smallest == space.smallest()
    model = extract(supernet, smallest)
    for outputs in (supernet(resnet.images, space.encode(smallest)), model(resnet.images)):
        assert_answers(outputs, resnet.outputs[1], space, smallest, model, resnet.images)
    found = answers(to_tflite(model, "fp32"), resnet.images.astype(np.float32))
    assert np.abs(found - resnet.outputs[1]).max() < 1e-4 * np.abs(resnet.outputs[1]).max()


def test_a_damaged_checkpoint_of_resnet50d_leaves_nothing_behind(resnet, tmp_path, ofa):
    file, names = tmp_path / "wrong.pth", tmp_path / "names.txt"
    names.write_text("\n".join(f"class {number}" for number in range(100)))
    for name, change, message in (
        ("blocks.9.conv2.bn.bn.running_var", None, "lacks blocks.9.conv2.bn.running_var"),
        ("input_stem.1.conv.conv.conv.weight", None, "lacks input_stem.1.conv.weight"),
        ("blocks.4.downsample.bn.bn.bias", np.zeros(7, np.float32), "has the shape [7]; [104] is needed"),
        ("blocks.18.conv3.bn.bn.bias", np.zeros(8, np.float32), "is not a supernet of `resnet50d`"),
    ):
        state = {key: tensor for key, tensor in resnet.state.items() if key != name}
        file.write_bytes(checkpoint(state if change is None else {**state, name: change}))
        run = ofa("zoo", "import", "supernet", file, "-w", tmp_path / "new", "--classes", names)
        assert (run.code, run.out) == (2, "")
        assert message in run.err
        assert not (tmp_path / "new").exists()
