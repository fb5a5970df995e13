"""How many threads a fit may have on a machine that does other work as well."""

import os

from app.system.cores import available_cores


def idle_cores() -> int:
    """The number of cores that are idle now, at least one, to use as the number of threads of a fit."""
    # A thread spins while it waits for a core that another process holds: on a busy machine, a fit on two threads took
    # 14 times the CPU time of a fit on one.
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, available_cores() - round(busy))
