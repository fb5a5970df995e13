"""Metrics in memory that worker processes share: each writes to a sheet of its own, whichever is scraped adds them up.

Nothing locks: the only writer of a sheet is the event loop of its process. prometheus_client's way, a file a process,
costs a lock and a write to a map for each number, and leaves the files of the dead behind.
"""

import json
import math
import mmap
import os
import struct
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from operator import add
from time import monotonic
from typing import Any, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# Room for a thousand models; what is not used takes no memory.
NAMES_BYTES = 2**22
NUMBERS = 2**18
HEAD = struct.Struct("qqd")  # bytes of names, process id (0: nobody writes here), when its event loop last turned

Kind = type[CounterMetricFamily] | type[GaugeMetricFamily] | type[HistogramMetricFamily]
Key = tuple[str, ...]  # a metric's name, then the values of its labels


class Sheet:
    """The numbers of one process; `names` has a line for each key and how many numbers are its."""

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, HEAD.size + NAMES_BYTES + 8 * NUMBERS))
        self._head = memory[: HEAD.size]
        self._names = memory[HEAD.size : HEAD.size + NAMES_BYTES]
        self.numbers = memory[HEAD.size + NAMES_BYTES :].cast("d")

    @property
    def names(self) -> bytes:
        return bytes(self._names[: HEAD.unpack(self._head)[0]])

    @property
    def pid(self) -> int:
        pid: int = HEAD.unpack(self._head)[1]
        return pid

    @property
    def turned_at(self) -> float:
        moment: float = HEAD.unpack(self._head)[2]
        return moment

    def sign(self, pid: int) -> None:
        """Says who writes here, and that its event loop turns."""
        HEAD.pack_into(self._head, 0, HEAD.unpack(self._head)[0], pid, monotonic())

    def append(self, names: bytes) -> None:
        used, pid, turned_at = HEAD.unpack(self._head)
        if used + len(names) > NAMES_BYTES:
            raise MemoryError("the metrics' names are longer than there is memory for")
        self._names[used : used + len(names)] = names
        HEAD.pack_into(self._head, 0, used + len(names), pid, turned_at)

    def places(self) -> dict[Key, slice]:
        found, start = {}, 0
        for line in self.names.splitlines():
            width, *key = json.loads(line)
            found[tuple(key)] = slice(start, start + width)
            start += width
        return found


class Cell:
    """A counter or a gauge."""

    __slots__ = ("_ledger", "_place")

    def __init__(self, ledger: "Ledger", place: int) -> None:
        self._ledger, self._place = ledger, place

    def add(self, amount: float = 1.0) -> None:
        self._ledger.numbers[self._place] += amount

    def set(self, value: float) -> None:
        self._ledger.numbers[self._place] = value

    def on(self, sheet: int) -> float:
        return self._ledger.sheets[sheet].numbers[self._place]


class Distribution:
    """How many values fell into each bucket, and their sum."""

    __slots__ = ("_edges", "_ledger", "_place", "_sum")

    def __init__(self, ledger: "Ledger", place: int, edges: tuple[float, ...]) -> None:
        self._ledger, self._place, self._edges = ledger, place, edges
        self._sum = place + len(edges) + 1

    def observe(self, value: float) -> None:
        numbers = self._ledger.numbers
        numbers[self._place + bisect_left(self._edges, value)] += 1.0
        numbers[self._sum] += value


class Family(NamedTuple):
    """A metric with its labels; `edges` of the buckets make it a histogram."""

    ledger: "Ledger"
    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...]
    edges: tuple[float, ...]

    def cell(self, *labels: str) -> Cell:
        return Cell(self.ledger, self.ledger.place((self.name, *labels), 1))

    def value(self, numbers: list[float]) -> tuple[Any, ...]:
        """What `add_metric` of the kind takes beside labels."""
        if not self.edges:
            return (numbers[0],)
        *counts, total = numbers
        edges = map(floatToGoString, (*self.edges, math.inf))
        return [*zip(edges, accumulate(counts), strict=True)], total

    def distribution(self, *labels: str) -> Distribution:
        return Distribution(self.ledger, self.ledger.place((self.name, *labels), len(self.edges) + 2), self.edges)


class Ledger(Collector):
    """The sheets of all processes of a service, and the metrics that stand in them."""

    def __init__(self) -> None:
        self.sheets = [Sheet()]
        self._families: list[Family] = []
        self._end = 0  # of the numbers in use
        self.own = 0  # number of the sheet that this process writes to
        self._open(0)

    def counter(self, name: str, text: str, *labels: str) -> Family:
        return self._family(CounterMetricFamily, name, text, labels)

    def gauge(self, name: str, text: str, *labels: str) -> Family:
        return self._family(GaugeMetricFamily, name, text, labels)

    def histogram(self, name: str, text: str, *labels: str, edges: tuple[float, ...]) -> Family:
        return self._family(HistogramMetricFamily, name, text, labels, edges)

    def _family(
        self, kind: Kind, name: str, text: str, labels: tuple[str, ...], edges: tuple[float, ...] = ()
    ) -> Family:
        family = Family(self, kind, name, text, labels, edges)
        self._families.append(family)
        return family

    def place(self, key: Key, width: int) -> int:
        """Where the numbers of a key begin on this process's sheet, and on those of the workers it will fork."""
        if key not in self._places:
            start = self._end
            if start + width > NUMBERS:
                raise MemoryError("there are more metrics than there is memory for")
            self.sheets[self.own].append(json.dumps([width, *key]).encode() + b"\n")
            self._places[key], self._end = slice(start, start + width), start + width
        return int(self._places[key].start)

    def on_each_sheet(self, key: Key) -> list[list[float]]:
        """The numbers of a key, of every process that has any."""
        places = [(sheet, sheet.places()) for sheet in self.sheets]
        return [[*sheet.numbers[found[key]]] for sheet, found in places if key in found]

    def share(self, workers: int) -> None:
        """Before the fork: a sheet a worker, each with the names there are, so that the places known now hold there.
        What was counted so far stands on the first."""
        before = self.sheets[0]
        self.sheets = [Sheet() for _ in range(workers)]
        for sheet in self.sheets:
            sheet.append(before.names)
        self.sheets[0].numbers[: self._end] = before.numbers[: self._end]

    def _open(self, number: int) -> None:
        self.own = number
        self.numbers = self.sheets[number].numbers
        self._places = self.sheets[number].places()
        self._end = max((place.stop for place in self._places.values()), default=0)

    def take(self, number: int) -> None:
        """In a new process: writes to that sheet from now on, and counts on where a worker that died left off."""
        self._open(number)
        self.turn()

    def turn(self) -> None:
        """The event loop turns."""
        self.sheets[self.own].sign(os.getpid())

    def leave(self, number: int) -> None:
        """The worker of that sheet is gone: what it counted stays, what it held does not."""
        sheet = self.sheets[number]
        sheet.sign(0)
        gauges = {family.name for family in self._families if family.kind is GaugeMetricFamily}
        for key, place in sheet.places().items():
            if key[0] in gauges:
                sheet.numbers[place.start] = 0.0

    def collect(self) -> Iterator[Metric]:
        totals: dict[Key, list[float]] = {}
        for sheet in self.sheets:
            for key, place in sheet.places().items():
                added = totals.setdefault(key, [0.0] * (place.stop - place.start))
                totals[key] = [*map(add, added, sheet.numbers[place])]
        for family in self._families:
            metric = family.kind(family.name, family.text, labels=family.labels)
            for (name, *labels), numbers in totals.items():
                if name == family.name:
                    metric.add_metric(labels, *family.value(numbers))
            yield metric
