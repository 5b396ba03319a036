"""Memory that is freed stays with the process, unless the user or the system has it otherwise."""

import os
import subprocess
import sys

import pytest

from ofa_tf import allocator

PROGRAM = """
import resource
import numpy as np
from ofa_tf.allocator import keep_freed_memory
print(keep_freed_memory())
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(1 << 26)  # 512 MB, freed at once
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(allocator.platform.libc_ver()[0] != "glibc", reason="another C library")
@pytest.mark.parametrize(("variables", "kept"), [({}, True), ({"MALLOC_PERTURB_": "0"}, False)])
def test_a_block_that_was_freed_is_used_again_without_page_faults(variables, kept):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | variables
    out = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    assert out[0] == str(kept)
    first, *later = map(int, out[1:])
    assert first > 100
    assert all((faults < first / 10) == kept for faults in later)


def test_another_c_library_is_left_alone(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(allocator.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocator.ctypes, "CDLL", None)
    assert not allocator.keep_freed_memory()
