"""`jepa bench`: a load test over httpx, with latencies counted from when a request was due rather than sent."""

import asyncio
import json
import sys
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import numpy as np
import typer
from numpy.typing import NDArray

from bundle.install import how_to_install
from cli.bench.load import Condition, Summary, due_times, parse_condition, summarise
from cli.files import check_output, replacing

WARM_UP_REQUESTS = 20
OVERHEAD_REQUESTS = 100
BAR_WIDTH = 40
# Requests per second.
MIN_RATE = 0.1
BINARY = "application/octet-stream"


class Target:
    """The request of a load test: the same rows every time, to one endpoint, as JSON or binary."""

    def __init__(
        self, url: str, endpoint: str, model: dict[str, Any], rows: int, binary: bool, key: dict[str, str]
    ) -> None:
        """`key` is the header with the API key, or empty."""
        self.url, self.rows = url, rows
        self.path = f"/{endpoint}"
        width = model["input_dim"] * (2 if endpoint == "loss" else 1)
        drawn = np.random.default_rng(0).uniform(0, 1, (rows, width)).astype("<f4")
        if binary:
            self.body = drawn.tobytes()
            self.headers = {"Content-Type": BINARY, "Accept": BINARY}
        else:
            now, later = drawn[:, : model["input_dim"]], drawn[:, model["input_dim"] :]
            document: dict[str, Any] = {"features": now.tolist(), "model": model["name"]}
            if endpoint == "loss":
                document["target_features"] = later.tolist()
            self.body = json.dumps(document).encode()
            self.headers = {"Content-Type": "application/json"}
        self.headers |= key
        self.params = {"model": model["name"]} if binary else {}

    def client(self) -> httpx.AsyncClient:
        """A client with one keep-alive connection, like a bot's."""
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        return httpx.AsyncClient(base_url=self.url, headers=self.headers, params=self.params, limits=limits, timeout=10)


class Tally:
    """Collects the latencies of requests answered with 200, and counts all other outcomes."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.errors: Counter[str] = Counter()

    async def send(self, client: httpx.AsyncClient, target: Target, due: float) -> None:
        """Sends one request and records its outcome; the latency counts from `due`."""
        try:
            answer = await client.post(target.path, content=target.body)
        except httpx.HTTPError as error:
            self.errors[type(error).__name__] += 1
            return
        if answer.status_code == 200:
            self.latencies_s.append(time.perf_counter() - due)
        else:
            self.errors[str(answer.status_code)] += 1


def bench(
    url: Annotated[str, typer.Argument(help="Address of the service, such as http://127.0.0.1:8000")],
    endpoint: Annotated[
        Literal["embed", "predict", "forecast", "loss"], typer.Option(help="Endpoint to call")
    ] = "embed",
    model: Annotated[str | None, typer.Option(help="Name of the model (default: the first one)")] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows per request")] = 1,
    body: Annotated[Literal["binary", "json"], typer.Option(help="Format of requests and answers")] = "binary",
    connections: Annotated[int, typer.Option(min=1, help="Connections, each with one request in flight")] = 1,
    rate: Annotated[
        float | None, typer.Option(min=MIN_RATE, help="Open loop: requests per second, spread over the connections")
    ] = None,
    bots: Annotated[int | None, typer.Option(min=1, help="Open loop: bots, each on its own connection")] = None,
    hz: Annotated[float, typer.Option(min=MIN_RATE, help="Frames per second of each bot")] = 60.0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Duration of the test")] = 5.0,
    api_key: Annotated[str | None, typer.Option(help="API key, if the service requires one")] = None,
    fail_if: Annotated[list[str] | None, typer.Option(help="Exit with 1 if, say, 'p99>16.67ms' or 'errors>0%'")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file to write the result to")] = None,
    plot: Annotated[Path | None, typer.Option(help="The .png file to plot the latencies to")] = None,
) -> None:
    """Load-test a running service."""
    try:
        conditions = [parse_condition(text) for text in fail_if or []]
        if rate is not None and bots is not None:
            raise ValueError("give --rate, for requests a second in all, or --bots, each of --hz; not both")
        if plot is not None and find_spec("matplotlib") is None:
            raise ValueError(f"--plot needs matplotlib; {how_to_install('train')}")
        check_output(out, plot)
        key = {} if api_key is None else {"X-API-Key": api_key}
        served = _model(url, model, key)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    target = Target(url, endpoint, served, rows, body == "binary", key)
    if bots is not None or rate is not None:
        count, each = (bots, hz) if bots is not None else (connections, rate / connections)  # type: ignore[operator]
        kind, deadline_s = f"open loop, {count} connections at {each:g} Hz", 1 / each
        due = due_times(count, each, seconds)
    else:
        kind, deadline_s = f"closed loop, {connections} connections", 1 / hz
        due = None
    typer.echo(
        f"{endpoint} of {served['name']} version {served['version']}, {rows} rows a request, {body}; {kind}, "
        f"for {seconds:g} s"
    )
    overhead_ms, tally, spent = asyncio.run(_run(target, due, connections, seconds))
    latencies = np.array(tally.latencies_s)
    summary = summarise(latencies, dict(tally.errors), spent, rows, deadline_s)
    _print(summary, overhead_ms, deadline_s)
    if out is not None:
        with replacing(out) as partial:
            partial.write_text(
                json.dumps({"load": kind, "overhead_ms": overhead_ms, **summary.as_dict()}, indent=1) + "\n"
            )
    if plot is not None:
        _draw(plot, latencies * 1e3, deadline_s * 1e3, kind)
    _judge(summary, conditions)


def _model(url: str, name: str | None, key: dict[str, str]) -> dict[str, Any]:
    """What the service says of the named model, or of its first; ValueError if it cannot be asked or has none."""
    try:
        answer = httpx.get(f"{url}/models", headers=key, timeout=10)
        wants_key = answer.status_code == 401
        models: list[dict[str, Any]] = [] if wants_key else answer.raise_for_status().json()["models"]
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError) as error:
        raise ValueError(f"no jepa-serve answers at {url} ({error}); start one with: jepa serve") from None
    if wants_key:
        raise ValueError(f"{url} wants a key; give it one with --api-key")
    for served in models:
        if name in (None, served["name"]):
            return served
    raise ValueError(f"there is no model '{name}'; the service has {', '.join(served['name'] for served in models)}")


async def _run(
    target: Target, due: list[NDArray[np.float64]] | None, connections: int, seconds: float
) -> tuple[float, Tally, float]:
    """Runs the load test; returns (median ms of an empty request, the tally, seconds it took)."""
    clients = [target.client() for _ in range(connections if due is None else len(due))]
    try:
        overhead_ms = await _overhead_ms(clients[0])
        warm_up = Tally()
        for client in clients:
            for _ in range(max(1, WARM_UP_REQUESTS // len(clients))):
                await warm_up.send(client, target, 0.0)
        tally = Tally()
        start = time.perf_counter() + 0.05
        if due is None:
            loops = [_closed_loop(client, target, tally, start + seconds) for client in clients]
        else:
            loops = [_bot(client, target, tally, start + times) for client, times in zip(clients, due, strict=True)]
        progress = asyncio.create_task(_show_progress(start, seconds))
        await asyncio.gather(*loops)
        progress.cancel()
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)
        return overhead_ms, tally, time.perf_counter() - start
    finally:
        await asyncio.gather(*(client.aclose() for client in clients))


async def _overhead_ms(client: httpx.AsyncClient) -> float:
    """The share of httpx, the socket and HTTP in each latency: the median over requests that compute nothing."""
    spent = []
    for _ in range(OVERHEAD_REQUESTS):
        started = time.perf_counter()
        await client.get("/livez")
        spent.append(time.perf_counter() - started)
    return float(np.median(spent)) * 1e3


async def _closed_loop(client: httpx.AsyncClient, target: Target, tally: Tally, until: float) -> None:
    """Sends each request as soon as the previous one is answered."""
    while (now := time.perf_counter()) < until:
        await tally.send(client, target, now)


async def _bot(client: httpx.AsyncClient, target: Target, tally: Tally, due: NDArray[np.float64]) -> None:
    """Sends each frame when it is due, or at once if the previous answer came after that."""
    for moment in due.tolist():
        if (left := moment - time.perf_counter()) > 0:
            await asyncio.sleep(left)
        await tally.send(client, target, moment)


async def _show_progress(start: float, seconds: float) -> None:
    """Shows a progress bar on a terminal; in a log, the first line already says how long the test takes."""
    while sys.stderr.isatty():
        spent = max(0.0, time.perf_counter() - start)
        done = min(BAR_WIDTH, int(BAR_WIDTH * spent / seconds))
        bar = "█" * done + "░" * (BAR_WIDTH - done)
        print(f"\r{bar} {spent:.1f} of {seconds:g} s ", end="\r", file=sys.stderr, flush=True)
        await asyncio.sleep(0.5)


def _print(summary: Summary, overhead_ms: float, deadline_s: float) -> None:
    typer.echo(
        f"{summary.requests} requests in {summary.seconds:.1f} s: {summary.requests_per_second:,.0f} requests/s, "
        f"{summary.rows_per_second:,.0f} rows/s"
    )
    typer.echo("  ".join(f"{name} {ms:.2f} ms" for name, ms in summary.latency_ms.items()))
    typer.echo(f"of which an empty request to this service takes this client {overhead_ms:.2f} ms")
    typer.echo(f"late (over {deadline_s * 1e3:.2f} ms, or failed): {summary.late} ({summary.value('late'):.2f} %)")
    if summary.errors:
        typer.echo("errors: " + ", ".join(f"{count} × {kind}" for kind, count in summary.errors.items()))


def _judge(summary: Summary, conditions: list[Condition]) -> None:
    """Exits with status 1 if any of the conditions for failure holds."""
    failed = [condition for condition in conditions if condition.holds(summary)]
    for condition in failed:
        unit = "%" if condition.metric in ("errors", "late") else "ms"
        typer.echo(
            f"failed: {condition.metric} is {summary.value(condition.metric):.2f} {unit}, "
            f"{condition.sign} {condition.limit:g} {unit}",
            err=True,
        )
    if failed:
        raise typer.Exit(1)


def _draw(path: Path, latencies_ms: NDArray[np.float64], deadline_ms: float, title: str) -> None:
    """Plots the share of requests answered within a given latency, on a logarithmic axis."""
    # Imported here because an installation that only serves has no matplotlib.
    from cli import plots

    figure, axes = plots.blank()
    ordered = np.sort(latencies_ms)
    axes.step(ordered, 100 * np.arange(1, len(ordered) + 1) / len(ordered), color=plots.COLOURS[0], where="post")
    axes.axvline(deadline_ms, color=plots.COLOURS[0], linestyle="--", linewidth=1)
    axes.annotate(f" {deadline_ms:.2f} ms", (deadline_ms, 2), ha="left")
    axes.set(xscale="log", ylim=(0, 101), xlabel="latency, ms", ylabel="answered within, %", title=title)
    plots.save(figure, path)
