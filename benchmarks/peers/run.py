"""`make bench-peers`: compares jepa-serve with other Python servers, with the same ONNX file under the same load.

One server runs at a time, since even an idle one would use the cores, and each is restarted in every round, so that a
drift of the machine affects all alike. The load comes from wrk and, for bots, from benchmarks/bots.py.
"""

import argparse
import json
import math
import os
import platform
import re
import signal
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import numpy as np
import onnxruntime as ort

from app import __version__
from benchmarks.bots import run_bots
from benchmarks.peers.servers import HERE, JEPA, PEERS, Rows, Server, ask, body, install, running, v2_of_jepa
from benchmarks.programs import CORES, Body, closed_loop, need_wrk, percentile

ONE_ROW = "1 row, 1 connection"
LOADS = {ONE_ROW: (1, 1), "1 row, 32 connections": (1, 32), "64 rows, 4 connections": (64, 4)}
MAX_DIFFERENCE = 1e-5
# wrk accepts whole seconds only.
WARM_UP_S = 1
BOTS_S = 2.0
MAX_BOTS = 512
FRAME_MS = 1000 / 60

# Load → its measurements, and "bots" → how many were in time.
Run = dict[str, Any]


def main() -> None:
    names = list(dict.fromkeys(server.peer for server in PEERS))
    parser = argparse.ArgumentParser(prog="bench-peers", description="jepa-serve beside other Python servers.")
    parser.add_argument("--only", default=",".join(names), help=f"peers, with commas between: {', '.join(names)}")
    parser.add_argument("--model", default="bundled", choices=("bundled", "reference"), help="reference: 6 blocks")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each server")
    parser.add_argument("--seconds", type=int, default=2, help="of each load in each round")
    parser.add_argument("--json", type=Path, help="write all that was measured to this file")
    arguments = parser.parse_args()
    chosen = arguments.only.split(",")
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"--only {unknown[0]}: there is {', '.join(names)}")
    need_wrk()

    # Exit through every `finally`, which stops the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    about = about_this_run(arguments.model, chosen)
    skipped = {name: why for name in chosen if (why := install(name))}
    models = folder_of_models(arguments.model)
    (bundle,) = models.glob("*/1")
    v2 = v2_of_jepa(bundle.parent.name)
    servers = [JEPA, v2, *(server for server in PEERS if server.peer in set(chosen) - skipped.keys())]
    runs: dict[str, list[Run]] = {server.label: [] for server in servers}
    minutes = arguments.rounds * len(servers) * (3 * (arguments.seconds + WARM_UP_S) + 25) / 60
    print(f"{len(servers)} servers, {arguments.rounds} rounds: about {minutes:.0f} minutes", flush=True)
    for number in range(arguments.rounds):
        for server in [*servers]:
            try:
                run = measure(server, models, arguments.seconds)
            except (RuntimeError, ValueError, OSError, httpx.HTTPError) as error:
                if not server.peer:
                    raise
                skipped[server.label] = f"{type(error).__name__}: {error}"
                servers.remove(server)
                del runs[server.label]
                continue
            runs[server.label].append(run)
            rates = ", ".join(f"{run[load]['rate']:.0f}" for load in LOADS)
            print(f"round {number + 1}: {server.label}: {rates} requests/s, {run['bots']} bots", flush=True)

    print(f"\n{about['date']}, {about['cpu']}, {CORES} cores, load average before {about['load_average']:.1f}")
    print(", ".join(f"{name} {version}" for name, version in about["versions"].items()), end="\n\n")
    print(table(runs))
    native, by_v2 = (median(run[ONE_ROW]["p50_ms"] for run in runs[each.label]) for each in (JEPA, v2))
    print(f"\np50 of {ONE_ROW}: /v2 takes {by_v2 / native:.2f} times as long as {JEPA.path}")
    for name, why in skipped.items():
        print(f"{name} is left out: {why}")
    if arguments.json:
        options = {"rounds": arguments.rounds, "seconds": arguments.seconds}
        arguments.json.write_text(json.dumps(about | options | {"skipped": skipped, "runs": runs}, indent=1) + "\n")


def about_this_run(model: str, peers: list[str]) -> dict[str, Any]:
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    versions = {"jepa-serve": __version__, "onnxruntime": ort.__version__, "python": platform.python_version()}
    for peer in peers:
        pins = (HERE / peer / "requirements.txt").read_text()
        name = {"naive": "fastapi", "triton": "nvidia-pytriton"}.get(peer, peer)
        versions[name] = re.findall(rf"^{name}\S*==(.*)$", pins, re.MULTILINE)[0]
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": found[1] if found else platform.processor(),
        "cores": CORES,
        "load_average": os.getloadavg()[0],
        "model": model,
        "versions": versions,
    }


def folder_of_models(model: str) -> Path:
    """The folder of the bundled model, or of an untrained one of the reference's sizes with 8 tokens."""
    if model == "bundled":
        return HERE.parents[1] / "app" / "bundled"
    models = HERE / ".models"
    if not models.is_dir():
        # Needs torch.
        from benchmarks.reference import export_reference

        with tempfile.TemporaryDirectory(dir=HERE) as unfinished:
            export_reference(Path(unfinished, "models"), 8)
            Path(unfinished, "models").rename(models)
    return models


def measure(server: Server, models: Path, seconds: int) -> Run:
    """Starts the server, checks its answers, puts it under load and stops it."""
    (manifest,) = models.glob("*/1/bundle.json")
    encoder = manifest.parent / "target_encoder.onnx"
    rows = rows_like(json.loads(manifest.read_bytes()), 64)
    run: Run = {}
    with running(server, models, encoder, rows[:1]) as port, tempfile.TemporaryDirectory() as folder:
        check(server, port, encoder, rows)
        url = f"http://127.0.0.1:{port}"
        for load, (count, connections) in LOADS.items():
            request = Body("json", count, Path(folder, f"{count}-rows"))
            request.file.write_bytes(body(server, rows[:count]))
            closed_loop([url], server.path, request, connections, WARM_UP_S)
            run[load] = closed_loop([url], server.path, request, connections, seconds)
        frame = Body("json", 1, Path(folder, "1-rows"))
        run["bots"] = max_bots(lambda count: are_in_time(url + server.path, frame, count))
    return run


def are_in_time(url: str, frame: Body, count: int) -> bool:
    """Whether all frames are answered, 99 % of them before the next is due; tries twice, since a machine may stall."""
    for _ in range(2):
        outcome = run_bots(url, frame, count, BOTS_S)
        if outcome.statuses.keys() == {200} and percentile(outcome.since_due_ms, 99) <= FRAME_MS:
            return True
    return False


def max_bots(in_time: Callable[[int], bool]) -> int:
    """The largest number of bots that is in time, to within an eighth, up to MAX_BOTS."""
    passed, failed = 0, 1
    while failed <= MAX_BOTS and in_time(failed):
        passed, failed = failed, 2 * failed
    while max(1, passed // 8) < failed - passed and passed < MAX_BOTS:
        middle = (passed + failed) // 2
        passed, failed = (middle, failed) if in_time(middle) else (passed, middle)
    return passed


def rows_like(manifest: dict[str, Any], count: int) -> Rows:
    """Rows [count, input_dim] drawn from the training statistics."""
    drawn = np.random.default_rng(0).normal(size=(count, manifest["input_dim"]))
    if known := manifest.get("statistics"):
        drawn = known["mean"] + np.array(known["std"]) * drawn
    return drawn.astype(np.float32)


def check(server: Server, port: int, encoder: Path, rows: Rows) -> None:
    """ValueError unless the server answers as ONNX Runtime does, to all rows at once and to each on its own."""
    (expected,) = ort.InferenceSession(encoder).run(None, {"features": rows})
    with ThreadPoolExecutor(16) as pool:
        one_by_one = np.concatenate([*pool.map(lambda row: ask(server, port, row), np.split(rows, len(rows)))])
    for answered in (ask(server, port, rows), one_by_one):
        worst = np.abs(answered - expected).max()
        if not worst <= MAX_DIFFERENCE:
            raise ValueError(f"{server.label} differs from ONNX Runtime by {worst:.1e}")


def table(runs: dict[str, list[Run]]) -> str:
    """The table in Markdown: medians over the rounds, also of the ratios to jepa-serve in the same round."""
    lines = ["| server | " + " | ".join(LOADS) + " | bots at 60 Hz |", "|---" * (len(LOADS) + 2) + "|"]
    for label, rounds in runs.items():
        cells = [cell([run[load] for run in rounds], [run[load] for run in runs[JEPA.label]]) for load in LOADS]
        lines.append(f"| {label} | {' | '.join(cells)} | {median(run['bots'] for run in rounds):g} |")
    return "\n".join(lines)


def cell(rounds: list[dict[str, float]], ours: list[dict[str, float]]) -> str:
    """Such as `1,234/s, 0.7 / 1.9 ms, ×0.45`, with the number of failed requests, since failures are fast."""
    rate, p50, p99 = (median(each[name] for each in rounds) for name in ("rate", "p50_ms", "p99_ms"))
    ratio = median(each["rate"] / (own["rate"] or math.nan) for each, own in zip(rounds, ours, strict=True))
    failed = sum(each["failed"] for each in rounds)
    return f"{rate:,.0f}/s, {p50:.1f} / {p99:.1f} ms, ×{ratio:.2f}" + (f", {failed:.0f} failed" if failed else "")


if __name__ == "__main__":
    main()
