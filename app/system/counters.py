"""Metrics in memory that worker processes share: each writes to a sheet of its own, and whichever is scraped adds the
sheets up.

No lock is needed: only the event loop of a process writes to its sheet, and a number is 8 bytes, which are written and
read at once. prometheus_client would keep a file for each process, take a lock for each number, and leave the files of
processes that have died behind.

What a sheet holds, in this order:

    head      how many bytes of names there are, the process that writes here, when its event loop last turned
    names     a line of JSON for each key: how many numbers it has, the name of its metric, the values of its labels
    numbers   those of all keys, one after the other in the order of the names

A key is added at the end and never removed, so its place on a sheet is fixed. Sheets are made with the keys that were
known before the fork, which therefore have the same place on all; later ones stand where each process put them, and
are found by name when the sheets are added up.
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

# Enough for a thousand models. The system provides memory only for pages that are written to.
MAX_NAMES_BYTES = 2**23
MAX_NUMBERS = 2**19
# Shares of a sheet. What counts for models may not use it up, and the columns of models even less: the counters of
# requests, each of which is made when it first counts something, must always find room.
ALL, MODELS_SHARE, COLUMNS_SHARE = 1.0, 0.75, 0.5
# Bytes of names, process id (0: nobody writes here), `time.monotonic` of the last turn of the event loop.
HEAD = struct.Struct("qqd")

Kind = type[CounterMetricFamily] | type[GaugeMetricFamily] | type[HistogramMetricFamily]
# The name of a metric, then the values of its labels.
Key = tuple[str, ...]


class Sheet:
    """The numbers of one process, as the docstring of the module describes them."""

    def __init__(self) -> None:
        memory = memoryview(mmap.mmap(-1, HEAD.size + MAX_NAMES_BYTES + 8 * MAX_NUMBERS))
        self._head = memory[: HEAD.size]
        self._names = memory[HEAD.size : HEAD.size + MAX_NAMES_BYTES]
        self.numbers = memory[HEAD.size + MAX_NAMES_BYTES :].cast("d")

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
        """Notes who writes here, and that its event loop has turned just now."""
        HEAD.pack_into(self._head, 0, HEAD.unpack(self._head)[0], pid, monotonic())

    def append(self, names: bytes, share: float = ALL) -> None:
        """Adds lines to the names; MemoryError where more than that share of their room would be taken. Their bytes are
        written before the head counts them, so that whoever scrapes meanwhile sees no half of a line."""
        used, pid, turned_at = HEAD.unpack(self._head)
        if used + len(names) > MAX_NAMES_BYTES * share:
            raise MemoryError("the metrics' names are longer than there is memory for; restart the service")
        self._names[used : used + len(names)] = names
        HEAD.pack_into(self._head, 0, used + len(names), pid, turned_at)

    def places(self) -> dict[Key, slice]:
        """Where the numbers of each key stand."""
        found, start = {}, 0
        for line in self.names.splitlines():
            width, *key = json.loads(line)
            found[tuple(key)] = slice(start, start + width)
            start += width
        return found


class Cell:
    """A counter or a gauge with certain labels, as this process counts it."""

    __slots__ = ("_ledger", "_place")

    def __init__(self, ledger: "Ledger", place: int) -> None:
        self._ledger, self._place = ledger, place

    def add(self, amount: float = 1.0) -> None:
        self._ledger.numbers[self._place] += amount

    def set(self, value: float) -> None:
        self._ledger.numbers[self._place] = value

    def on(self, sheet: int) -> float:
        """What the process of that sheet has counted."""
        return self._ledger.sheets[sheet].numbers[self._place]


class Distribution:
    """A histogram with certain labels: how many values fell into each bucket, and the sum of all."""

    __slots__ = ("_edges", "_ledger", "_place", "_sum")

    def __init__(self, ledger: "Ledger", place: int, edges: tuple[float, ...]) -> None:
        self._ledger, self._place, self._edges = ledger, place, edges
        self._sum = place + len(edges) + 1

    def observe(self, *values: float) -> None:
        numbers, place, edges = self._ledger.numbers, self._place, self._edges
        for value in values:
            numbers[place + bisect_left(edges, value)] += 1.0
            numbers[self._sum] += value


class Family(NamedTuple):
    """A metric with the names of its labels; one with `edges`, the upper ends of its buckets, is a histogram."""

    ledger: "Ledger"
    kind: Kind
    name: str
    text: str
    labels: tuple[str, ...]
    edges: tuple[float, ...]

    @property
    def share(self) -> float:
        return MODELS_SHARE if "model" in self.labels else ALL

    def cell(self, *labels: str) -> Cell:
        """The counter or gauge with these values of the labels, which is 0 until something is counted."""
        return Cell(self.ledger, self.ledger.place((self.name, *labels), 1, self.share))

    def value(self, numbers: list[float]) -> tuple[Any, ...]:
        """What `add_metric` of this kind takes besides the values of labels."""
        if not self.edges:
            return (numbers[0],)
        *counts, total = numbers
        edges = map(floatToGoString, (*self.edges, math.inf))
        return [*zip(edges, accumulate(counts), strict=True)], total

    def distribution(self, *labels: str) -> Distribution:
        place = self.ledger.place((self.name, *labels), len(self.edges) + 2, self.share)
        return Distribution(self.ledger, place, self.edges)


class Ledger(Collector):
    """The sheets of all processes of a service, and the metrics that stand on them."""

    def __init__(self) -> None:
        # Shared by all processes since the fork: one for each.
        self.sheets = [Sheet()]
        self._families: list[Family] = []
        # Of this process: which sheet it writes to, and where the numbers in use end there.
        self.own = 0
        self._end = 0
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

    def place(self, key: Key, width: int, share: float = ALL) -> int:
        """Where the numbers of a key begin on this process's sheet and on those of the workers that it will fork;
        MemoryError where more than that share of the sheet would be taken."""
        if key not in self._places:
            start = self._end
            if start + width > MAX_NUMBERS * share:
                raise MemoryError("there are more metrics than there is memory for; restart the service")
            self.sheets[self.own].append(json.dumps([width, *key]).encode() + b"\n", share)
            self._places[key], self._end = slice(start, start + width), start + width
        return int(self._places[key].start)

    def on_each_sheet(self, key: Key) -> list[list[float]]:
        """The numbers of a key on the sheet of every process that has any."""
        places = [(sheet, sheet.places()) for sheet in self.sheets]
        return [[*sheet.numbers[found[key]]] for sheet, found in places if key in found]

    def share(self, workers: int) -> None:
        """Before the fork: makes a sheet for each worker, with the names there are, so that places which are known now
        are right on all. What was counted so far goes to the first."""
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
        """In a new process: writes to that sheet from now on, and counts on from where a worker that died left off."""
        self._open(number)
        self.turn()

    def turn(self) -> None:
        """Notes that the event loop has turned."""
        self.sheets[self.own].sign(os.getpid())

    def leave(self, number: int) -> None:
        """The worker of that sheet is gone: its counters stay, and its gauges, such as requests in flight, become 0."""
        sheet = self.sheets[number]
        sheet.sign(0)
        gauges = {family.name for family in self._families if family.kind is GaugeMetricFamily}
        for key, place in sheet.places().items():
            if key[0] in gauges:
                sheet.numbers[place.start] = 0.0

    def collect(self) -> Iterator[Metric]:
        """The sums over all sheets."""
        totals: dict[Key, list[float]] = {}
        shown = {family.name for family in self._families}
        for sheet in self.sheets:
            for key, place in sheet.places().items():
                if key[0] not in shown:
                    continue
                added = totals.setdefault(key, [0.0] * (place.stop - place.start))
                totals[key] = [*map(add, added, sheet.numbers[place])]
        for family in self._families:
            metric = family.kind(family.name, family.text, labels=family.labels)
            for (name, *labels), numbers in totals.items():
                if name == family.name:
                    metric.add_metric(labels, *family.value(numbers))
            yield metric
