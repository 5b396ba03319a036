"""The C library's memory: kept for the next tensor instead of being given back after every one."""

import ctypes
import os
import platform

# Parameters of glibc's `mallopt`, and their values.
OPTIONS = {
    -8: 1,  # M_ARENA_MAX: one pool for all threads, whose size has no limit
    -4: 0,  # M_MMAP_MAX: large blocks come from it, too
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: what is free at its end is kept
    -2: 64 << 20,  # M_TOP_PAD: it grows in large steps
}


def keep_freed_memory() -> bool:
    """Has glibc keep memory that is freed; says whether it does so.

    It maps every block of more than 32 MB anew and gives it back at once, so that each large tensor of a training step
    costs thousands of page faults. `benchmarks/kept_memory.py` measures what a step gains. Nothing changes where the
    user has set a `MALLOC_…` variable, or with another C library.
    """
    if any(name.startswith("MALLOC_") for name in os.environ) or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(option, value) for option, value in OPTIONS.items())
