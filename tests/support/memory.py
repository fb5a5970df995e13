"""How much memory Python's objects and NumPy's arrays take."""

import tracemalloc
from collections.abc import Callable


def peak_bytes(work: Callable[[], None]) -> int:
    """The most that was held at once during the work, beyond what was held before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        work()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
