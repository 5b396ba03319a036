"""The structure that CONTRIBUTING.md describes: no circle, short modules, devices and kinds compared in one place."""

import ast
import statistics
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import _structure


def test_no_module_imports_itself_by_way_of_others():
    assert _structure.circles() == []


def test_a_circle_is_found(monkeypatch):
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    monkeypatch.setattr(_structure, "imports", lambda: graph)
    assert _structure.circles() == [["b", "c"]]


def test_imports_inside_functions_count_and_those_of_type_checkers_do_not():
    known = {"ofa_tf.space": Path(), "ofa_tf.blocks": Path(), "ofa_tf.layers": Path(), "ofa_tf.layers.conv": Path()}
    source = (
        "if TYPE_CHECKING:\n    from ofa_tf.space import Arch\n"
        "def f():\n    from ofa_tf.layers import conv\n    import ofa_tf.blocks\n"
    )
    assert set(_structure._imports(ast.parse(source), known)) == {"ofa_tf.layers.conv", "ofa_tf.blocks"}


def test_modules_are_short():
    lengths = _structure.lines()
    assert [name for name, length in lengths.items() if length > 500] == []
    assert statistics.median(lengths.values()) < 130


def test_devices_are_compared_in_their_registry_only():
    assert _structure.device_comparisons() == []


def test_kinds_are_compared_where_blocks_are_expanded_and_operations_executed():
    assert _structure.kind_comparisons() == ["ofa_tf/ops.py", "ofa_tf/subnet.py"]


def test_a_comparison_with_a_device_is_noticed(monkeypatch, tmp_path):
    path = tmp_path / "module.py"
    path.write_text(
        "from ofa_tf.latency.host import HOST as HERE\nfrom ofa_tf.latency import adb\n"
        "name == HERE\nname in ('x', 'edgetpu')\nadb.ADB != name\nname.startswith('adb:')\nby_name.get('host')\n"
        "by_name[HERE]\nmatch name:\n  case 'host': pass\nname == 'other'\nf(device=HERE)\n"
    )
    monkeypatch.setattr(_structure, "ROOT", tmp_path)
    monkeypatch.setattr(_structure, "modules", lambda: {"module": path})
    assert _structure.device_comparisons() == sorted(f"module.py:{line}" for line in (3, 4, 5, 6, 7, 8, 10))


def test_a_class_name_means_one_thing():
    classes = [
        node.name
        for path in _structure.modules().values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert sorted(name for name in set(classes) if classes.count(name) > 1) == []
