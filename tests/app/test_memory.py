import ctypes
import platform
from pathlib import Path

import pytest

from app.memory import give_back

BLOCK, BLOCKS = 1000, 50_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_what_was_freed_is_the_systems_again() -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    *blocks, last = [libc.malloc(ctypes.c_size_t(BLOCK)) for _ in range(BLOCKS)]
    for block in [*blocks, last]:
        ctypes.memset(block, 1, BLOCK)
    for block in blocks:
        libc.free(block)
    held = resident_bytes()
    give_back()
    assert resident_bytes() < held - BLOCK * BLOCKS / 2
    libc.free(last)
