import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from app.system.allocator import give_back

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
BLOCK, BLOCKS = 1000, 50_000
HEAPS = """
import ctypes, sys, threading
from app.system.allocator import share_one_heap
if sys.argv[1] == "one":
    share_one_heap()
libc, all_at_once = ctypes.CDLL(None), threading.Barrier(4)
libc.fopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
def take():
    libc.malloc(1000)
    all_at_once.wait()
threads = [threading.Thread(target=take) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.malloc_info(0, libc.fopen(b"/dev/stdout", b"w"))
libc.fflush(None)
"""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@needs_glibc
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


@needs_glibc
def test_threads_share_one_heap() -> None:
    def heaps(wanted: str) -> int:
        command = [sys.executable, "-c", HEAPS, wanted]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.count("<heap nr=")

    assert heaps("one") == 1
    assert heaps("glibc's own") > 1
