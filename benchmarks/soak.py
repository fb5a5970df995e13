"""A long run of mixed load: does memory or tail latency grow, and is any request lost?

    make soak MIN=30                                          the bundled model, eight bots at 60 Hz
    .venv/bin/python -m benchmarks.soak --minutes 600 --bots 32 --out night.png

Bots call /embed, /predict, /loss and /v2 in JSON and binary, send malformed requests, disconnect in the middle of a
request and open new connections, while versions of the model come and go. Memory is the proportional set size, which
counts shared memory once. The first fifth of the time is warm-up. Exit code 0 if memory is flat and nothing failed.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
from matplotlib.figure import Figure

from benchmarks.programs import Service, write_body
from bundle.folders import MANIFEST, locate
from bundle.manifest import read_manifest
from cli import plots

HZ = 60.0
SAMPLES = 300
# The share of the time that is not measured.
WARM_UP = 0.2
# Memory may grow this much over the measured time, summed over all processes.
FLAT_MIB = 5.0
# Cosine above which two embeddings count as the same: int8 rounding depends on the other rows of a run.
MIN_COSINE = 0.98
CONNECTION_REQUESTS = (20, 400)
BINARY, JSON = "application/octet-stream", "application/json"


class Question(NamedTuple):
    name: str
    path: str
    body: bytes
    kind: str
    status: int = 200


class Sample(NamedTuple):
    at_s: float
    requests: int
    # By process id.
    mib: dict[int, float]
    p99_ms: float


@dataclass
class Books:
    asked: Counter[str] = field(default_factory=Counter)
    # Wrong answers.
    errors: Counter[str] = field(default_factory=Counter)
    # Requests without an answer, by reason.
    lost: Counter[str] = field(default_factory=Counter)
    # Since the last sample.
    latencies_s: list[float] = field(default_factory=list)
    swaps_s: list[float] = field(default_factory=list)


def questions(bundle: Path) -> list[Question]:
    manifest = read_manifest(bundle)
    name, width, horizon = manifest.name, manifest.input_dim, manifest.horizons[0]
    rows = np.random.default_rng(0).uniform(0, 1, (16, width)).astype("<f4")
    one, two = rows[0].tolist(), rows[1].tolist()

    def document(**body: object) -> bytes:
        return json.dumps(body).encode()

    tensor = {"name": "features", "datatype": "FP32", "shape": [1, width], "data": one}
    return [
        Question("embed", "/embed", document(features=one), JSON),
        Question("embed", "/embed", rows.tobytes(), BINARY),
        Question("predict", "/predict", document(features=[one, two], horizon=horizon), JSON),
        Question("loss", "/loss", np.hstack([rows[:2], rows[2:4]]).tobytes(), BINARY),
        Question("v2", f"/v2/models/{name}/infer", document(inputs=[tensor]), JSON),
        Question("too wide", "/embed", document(features=[*one, 0.0]), JSON, 422),
        Question("not a number", "/embed", rows[:1].tobytes()[:-4] + np.float32(np.nan).tobytes(), BINARY, 422),
        Question("no JSON", "/predict", b"{", JSON, 400),
        Question("no such model", "/embed", document(features=one, model="nobody"), JSON, 404),
    ]


async def bot(url: str, asked: list[Question], books: Books, until: float, draw: random.Random) -> None:
    """Sends each frame when it is due, and skips those that became due while it waited, as in a game."""
    due = time.monotonic() + draw.random() / HZ
    # The first answer, which the others must match.
    right: np.ndarray | None = None
    while time.monotonic() < until:
        # Loading certificates takes longer than many frames, and plain HTTP needs none.
        async with httpx.AsyncClient(base_url=url, timeout=20, verify=False) as client:
            for _ in range(draw.randint(*CONNECTION_REQUESTS)):
                if time.monotonic() >= until:
                    return
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                question = draw.choice(asked)
                books.asked[question.name] += 1
                try:
                    answer = await client.post(
                        question.path,
                        content=question.body,
                        headers={"content-type": question.kind, "accept": question.kind},
                    )
                except httpx.HTTPError as error:
                    books.lost[type(error).__name__] += 1
                    continue
                finally:
                    was_due, due = due, max(due + 1 / HZ, time.monotonic())
                books.latencies_s.append(time.monotonic() - was_due)
                if answer.status_code != question.status:
                    books.errors[f"{question.name}: {answer.status_code}"] += 1
                elif question == asked[1]:
                    rows = _rows(answer)
                    right = rows if right is None else right
                    if not _are_alike(rows, right):
                        books.errors["embed: other numbers"] += 1
        await _leave(url, asked[0])


def _rows(answer: httpx.Response) -> np.ndarray:
    return np.frombuffer(answer.content, "<f4").reshape(16, -1)


def _are_alike(rows: np.ndarray, right: np.ndarray) -> bool:
    cosine = (rows * right).sum(1) / np.linalg.norm(rows, axis=1) / np.linalg.norm(right, axis=1)
    return bool((cosine > MIN_COSINE).all())


async def _leave(url: str, question: Question) -> None:
    """Disconnects in the middle of a request."""
    host, _, port = url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {question.path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(question.body)}\r\n\r\n"
    writer.write(head.encode() + question.body[: len(question.body) // 2])
    await writer.drain()
    writer.close()


async def swap(home: Path, every_s: float, books: Books, started: float) -> None:
    """Until cancelled, adds the next version or removes the highest."""
    number = 1
    while True:
        await asyncio.sleep(every_s)
        if number % 2:
            await asyncio.to_thread(put, home / "1", home / str(number + 1))
        else:
            await asyncio.to_thread(shutil.rmtree, home / str(number))
        number += 1
        books.swaps_s.append(time.monotonic() - started)


def put(bundle: Path, folder: Path) -> None:
    """Publishes the bundle as another version, with one rename."""
    staged = folder.parent / f".tmp-{folder.name}"
    shutil.copytree(bundle, staged)
    manifest = json.loads((staged / MANIFEST).read_text())
    (staged / MANIFEST).write_text(json.dumps(manifest | {"version": int(folder.name)}))
    staged.rename(folder)


async def watch(service: Service, books: Books, seconds: float, started: float) -> list[Sample]:
    samples: list[Sample] = []
    while (at_s := time.monotonic() - started) < seconds:
        latencies, books.latencies_s = books.latencies_s, []
        p99_ms = float(np.percentile(latencies, 99)) * 1e3 if latencies else float("nan")
        samples.append(Sample(at_s, books.asked.total(), service.proportional_mib(), p99_ms))
        if len(samples) % (SAMPLES // 10) == 0:
            requests, mib = books.asked.total(), sum(samples[-1].mib.values())
            print(f"{at_s / 60:6.1f} min  {requests:>10,} requests  {mib:6.1f} MiB  p99 {p99_ms:6.1f} ms", flush=True)
        await asyncio.sleep(max(0.1, seconds / SAMPLES))
    return samples


def verdict(samples: list[Sample], books: Books) -> tuple[bool, str]:
    steady = samples[int(WARM_UP * len(samples)) :]
    hours, millions = (np.array([each[i] for each in steady]) for i in (0, 1))
    hours, millions = hours / 3600, millions / 1e6
    total = [sum(each.mib.values()) for each in steady]
    an_hour, a_million = (float(np.polyfit(x, total, 1)[0]) for x in (hours, millions))
    growth = an_hour * float(hours[-1] - hours[0])
    p99_ms = [each.p99_ms for each in steady]
    half = len(steady) // 2
    is_flat, failed = growth < FLAT_MIB, books.errors.total() + books.lost.total()
    lines = [
        f"memory    {total[-1]:.1f} MiB in {len(steady[-1].mib)} processes, {growth:+.2f} MiB over the time: "
        f"{an_hour:+.2f} an hour, {a_million:+.2f} a million requests",
        f"p99       {np.nanmedian(p99_ms[:half]):.1f} ms in the first half of it, "
        f"{np.nanmedian(p99_ms[half:]):.1f} ms in the second",
        f"requests  {books.asked.total():,}: " + ", ".join(f"{n:,} {name}" for name, n in books.asked.most_common()),
        f"swaps     {len(books.swaps_s)}",
        *(
            f"{what:10}{counts.total()} " + ", ".join(f"{n} × {name}" for name, n in counts.items())
            for what, counts in (("errors", books.errors), ("lost", books.lost))
        ),
        "held" if is_flat and not failed else "NOT held: " + ("memory grows" if not is_flat else "requests failed"),
    ]
    return is_flat and not failed, "\n".join(line.rstrip() for line in lines)


def draw(samples: list[Sample], books: Books, path: Path) -> None:
    figure = Figure(figsize=(8, 6), layout="constrained")
    memory, tail = figure.subplots(2, sharex=True)
    minutes = [each.at_s / 60 for each in samples]
    for i, pid in enumerate(sorted({pid for each in samples for pid in each.mib})):
        style = {"color": plots.COLOURS[i % len(plots.COLOURS)], "linestyle": plots.LINES[i % len(plots.LINES)]}
        mib = [each.mib.get(pid, float("nan")) for each in samples]
        memory.plot(minutes, mib, label="parent" if i == 0 else f"process {i}", **style)
    tail.plot(minutes, [each.p99_ms for each in samples], color=plots.COLOURS[0])
    for axes in (plots.plain(memory), plots.plain(tail)):
        axes.set_ylim(bottom=0)
        for at_s in books.swaps_s:
            axes.axvline(at_s / 60, color=plots.COLOURS[0], alpha=0.1, linewidth=1)
    memory.set(ylabel="memory, MiB", title="thin lines: the model changes")
    memory.legend()
    tail.set(ylabel="p99, ms", xlabel="minutes")
    plots.save(figure, path)


async def soak(service: Service, home: Path, given: argparse.Namespace) -> tuple[list[Sample], Books]:
    books, asked, started = Books(), questions(home / "1"), time.monotonic()
    seconds = given.minutes * 60
    swapping = asyncio.create_task(swap(home, given.swap_s, books, started))
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch(service, books, seconds, started))
        for number in range(given.bots):
            group.create_task(bot(service.url, asked, books, started + seconds, random.Random(number)))
    swapping.cancel()
    return watching.result(), books


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--bots", type=int, default=8)
    parser.add_argument("--swap-s", type=float, default=20, help="seconds between changes of the model")
    parser.add_argument("--bundle", default="default", help="as `jepa inspect` takes it")
    parser.add_argument("--out", type=Path, default=Path("soak.png"), help="where the picture goes")
    given = parser.parse_args()
    bundle = locate(given.bundle)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / bundle.parent.name
        home.mkdir()
        put(bundle, home / "1")
        with Service(Path(folder)) as service:
            service.wait_until_it_answers(write_body(Path(folder), "binary", read_manifest(bundle).input_dim, 1))
            samples, books = asyncio.run(soak(service, home, given))
    draw(samples, books, given.out)
    held, text = verdict(samples, books)
    print(f"{text}\nsee {given.out}")
    sys.exit(not held)


if __name__ == "__main__":
    main()
