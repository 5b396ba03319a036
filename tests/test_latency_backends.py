"""What holds for every kind of device: a new one joins these tests by its row in the registry."""

import sys
from pathlib import Path

import numpy as np
import pytest

from ofa_tf.errors import AbsentError, DeviceError
from ofa_tf.latency.adb import PROGRAM_VARIABLE
from ofa_tf.latency.backend import Backend
from ofa_tf.latency.backends import BACKENDS, TABLE_ONLY, all_backends, backend_of, cannot_be_measured, open_device
from ofa_tf.latency.host import HostDevice
from ofa_tf.latency.settings import Settings
from ofa_tf.latency.store import add_table, find_table, list_tables, name_from_here, renamed, table_name
from ofa_tf.latency.table import LatencyTable
from ofa_tf.precision import table_precisions
from ofa_tf.space import SearchSpace
from ofa_tf.spaces import MOBILENET_V3, TINY

ROOT = Path(__file__).resolve().parents[1]
REGISTRY = ("latency/backend.py", "latency/backends.py", "latency/host.py", "latency/adb.py", "edgetpu/", "ethosu/")
KINDS = pytest.mark.parametrize("backend", [pytest.param(backend, id=backend.usage) for backend in all_backends()])


def make_table(name: str, precision: str = "int8", **facts) -> LatencyTable:
    """A table of one entry, of the runtime that is installed."""
    entries = {"pool in=4x4x8 out=1x1x8": {"p10_ms": 0.1, "runs": 4}}
    return LatencyTable({"name": name, **facts}, HostDevice().runtime(), precision, "measured", entries, "p10_ms")


def assert_one_sentence(error: pytest.ExceptionInfo) -> None:
    said = str(error.value)
    assert said[0].isupper() or said[0] == "`" or said.startswith(("adb ", "edgetpu_compiler "))
    assert said.endswith(".")
    assert "\n" not in said


def test_every_row_is_a_backend_of_another_name():
    backends = list(all_backends())
    assert len(backends) == len(BACKENDS) == len({backend.usage for backend in backends})
    for kind, backend in zip(BACKENDS, backends, strict=True):
        assert isinstance(backend, Backend)
        assert backend.usage.split(":")[0] == kind


@KINDS
def test_a_name_is_recognised_by_one_kind(backend):
    assert type(backend_of(backend.usage)) is type(backend)
    assert [other.usage for other in all_backends() if other.recognises(backend.usage)] == [backend.usage]


@pytest.mark.parametrize("name", ["pixel", "", " host", "host-amd-epyc", "adbx", "edgetpu2", "HOST"])
def test_other_names_are_of_tables_only(name):
    assert backend_of(name) is TABLE_ONLY
    with pytest.raises(DeviceError, match="cannot be measured from here; `host` and `adb:SERIAL` can") as error:
        open_device(name)
    assert_one_sentence(error)


@KINDS
def test_what_can_be_measured_is_said(backend):
    measured = backend.measurable and backend.source == "measured"
    assert (f"`{backend.usage}`" in str(cannot_be_measured("pixel"))) == measured


@KINDS
def test_a_setting_that_it_does_not_have_is_a_sentence(backend, monkeypatch):
    monkeypatch.setenv(PROGRAM_VARIABLE, sys.executable)
    with pytest.raises(DeviceError, match=r"threads|cores") as error:
        backend.open(backend.usage, Settings(threads=-1, cores=(4096,)))
    assert_one_sentence(error)


@KINDS
def test_one_that_is_not_there_is_a_sentence(backend, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(PROGRAM_VARIABLE, sys.executable)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))  # programs are looked for beside it, too
    if backend.always_at_hand:
        assert backend.open(backend.usage).facts()["name"] == backend.usage
        return
    with pytest.raises(DeviceError) as error:
        backend.open(backend.usage)
    assert_one_sentence(error)
    assert (backend.model_table(TINY, 3) is not None) == isinstance(error.value, AbsentError)


@KINDS
@pytest.mark.parametrize("space", [TINY, MOBILENET_V3], ids=lambda space: space.name)
def test_what_is_legal_there(backend, space):
    """`tiny` is for all; a space that is refused is refused with its name, and no table of it is modelled."""
    assert set(backend.precisions) <= set(table_precisions())
    for precision in table_precisions():
        said = refusal(backend, space, precision)
        if precision not in backend.precisions:
            assert precision in said
        elif said:
            assert space != TINY
            assert f"`{space.name}`" in said
            with pytest.raises(DeviceError, match=f"`{space.name}`"):
                backend.model_table(space, 3)


def refusal(backend: Backend, space: SearchSpace, precision: str) -> str:
    """Why something is not legal on a device; empty if it is."""
    try:
        backend.require_legal(space, precision)
    except DeviceError as error:
        return str(error)
    return ""


@KINDS
def test_a_modelled_table_says_so_and_covers_its_space(backend):
    table = backend.model_table(TINY, 3)
    if table is not None:
        assert (table.device["name"], table.source) == (backend.usage, "modelled")
        assert table.resolutions(TINY, 3) == list(TINY.resolutions)


@KINDS
def test_a_table_is_found_again_under_its_name(backend, tmp_path):
    table = make_table(backend.usage, backend.precisions[0])
    assert find_table(tmp_path, backend.usage, table.precision, lambda _: 1.0, shipped=False) is None
    path = add_table(tmp_path, table)
    assert path.name == table_name(table.device, table.runtime, table.precision)
    assert (path, table) in list_tables(tmp_path)
    assert find_table(tmp_path, backend.usage, table.precision, lambda _: 1.0) == table
    assert name_from_here(table.device) == backend.usage
    kept_to = make_table(backend.usage, backend.precisions[0], cores=[1])
    assert (table_name(kept_to.device, kept_to.runtime, kept_to.precision) != path.name) == backend.cores_are_chosen
    with pytest.raises(DeviceError, match="A table cannot be called"):
        renamed(table, backend.usage)


@KINDS
def test_settings_of_a_table_open_the_device_again(backend):
    settings = backend.settings_of(make_table(backend.usage))
    if backend.always_at_hand:
        assert backend.open(backend.usage, settings).runtime() == make_table(backend.usage).runtime
    assert all(threads > 0 for threads in backend.threads_to_try())


@KINDS
def test_memory_is_limited_by_what_a_table_says(backend):
    assert list(backend.memory_limits(make_table("pixel"), TINY, 3)) == []
    codes = TINY.encode([TINY.smallest(), TINY.largest()])
    for limit in backend.memory_limits(make_table(backend.usage, parameter_memory_bytes=1), TINY, 3):
        assert limit.fits(codes).tolist() == [False, False]


def test_tables_of_a_name_without_a_kind_are_taken_as_they_are(tmp_path):
    table = make_table("pixel", cores=[4, 5])
    path = add_table(tmp_path, table)
    assert "cores-4-5" in path.name
    assert find_table(tmp_path, "pixel", "int8", lambda _: np.inf) == table
    with pytest.raises(DeviceError, match="There is no table of a device 'pixel' in fp32"):
        find_table(tmp_path, "pixel", "fp32", lambda _: 1.0)
