"""Counts the connections to a port by asking the kernel, for a library that keeps them to itself, as grpcio does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# The connections of this network namespace, a line for each (man 5 proc_net): its number, its local address as
# hexadecimal `address:port`, the remote one, and its state. A socket for both kinds of addresses is in the second.
TABLES = Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6")
ESTABLISHED = b"01"
# The kernel takes some milliseconds for a table, so it is not asked more often than this.
FRESH_S = 1.0


class PortConnections(Collector):
    """A gauge of the connections to a port, in whichever process; 0 before `begin`, and where there is no /proc."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text
        self._port: int | None = None
        self._count, self._counted_at = 0, -FRESH_S

    def begin(self, port: int) -> None:
        self._port = port

    async def refresh(self) -> None:
        """Counts them anew, in a thread, unless they were counted just now."""
        if self._port is not None and monotonic() - self._counted_at >= FRESH_S:
            self._counted_at = monotonic()
            self._count = await asyncio.to_thread(established, self._port)

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(self._name, self._text, value=self._count)


def established(port: int) -> int:
    """The number of established connections to a local port."""
    ending, count = b":%04X" % port, 0
    for table in TABLES:
        for line in table.read_bytes().splitlines()[1:] if table.exists() else ():
            _, local, _, state, *_ = line.split()
            count += local.endswith(ending) and state == ESTABLISHED
    return count
