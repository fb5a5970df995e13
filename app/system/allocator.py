"""Memory that the allocator holds on to."""

import ctypes
from contextlib import suppress

M_ARENA_MAX = -8  # of glibc's malloc.h


def give_back() -> None:
    """Returns to the system what was freed. glibc keeps it: a third of a process after some changes of its model.

    Takes milliseconds and lets other threads of Python run. Where the C library is another, nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def share_one_heap() -> None:
    """Before there are threads: glibc gives each a heap of its own, which keeps the most that it ever held, and what
    one frees is of no use to another. With runs of changing sizes on two threads a process grew by a third that way.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)
