"""Memory that the allocator holds on to."""

import ctypes
from contextlib import suppress


def give_back() -> None:
    """Returns to the system what was freed. glibc keeps it: a third of a process after some changes of its model.

    Takes milliseconds and lets other threads of Python run. Where the C library is another, nothing happens.
    """
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
