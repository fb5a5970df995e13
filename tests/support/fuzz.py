"""How long the tests that draw at random go on, and what a service may take that they ask."""

import os
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.serving import Server

# `make fuzz` sets it. The service would take the variable for a misspelt setting.
ROUNDS = int(os.environ.pop("JEPA_FUZZ_ROUNDS", "1"))
MAX_GROWTH_BYTES = 2**28


@contextmanager
def limits_memory(server: Server) -> Iterator[None]:
    """Lets the process of a server grow by so much and no further."""
    pid = server.process.pid
    mapped = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    before = _peak_bytes(pid)
    resource.prlimit(pid, resource.RLIMIT_AS, (mapped + 2 * MAX_GROWTH_BYTES, resource.RLIM_INFINITY))
    yield
    assert _peak_bytes(pid) <= before + MAX_GROWTH_BYTES


@contextmanager
def fuzzed(models: Path, *flags: str) -> Iterator[Server]:
    """A server of one process to send anything to: within those limits, and without a traceback at the end."""
    with Server("--models", str(models), "--workers", "1", *flags) as server:
        with limits_memory(server):
            yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log, server.log


def _peak_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024
