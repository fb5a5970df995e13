"""Plays a game's frames against the running service at 60 Hz, as a bot would, and says how that went.

    python examples/replay_bot.py [FRAMES.parquet]

Without a file it plays a scripted match of its own. Needs httpx and numpy; a Parquet file needs pyarrow too.
"""

import argparse
import sys
import time
from pathlib import Path

import httpx
import numpy as np
from scripted_match import FRAMES_A_SECOND, play

BINARY = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
LOSS_ROWS = 256
SPARED = 0.002  # seconds before a frame is due at which sleeping ends and waiting begins


def read_game(path: Path, names: list[str], episode: int | None) -> np.ndarray:
    """float32 [frames, columns] of one episode (the first, unless named), in the order of the model's `names`."""
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        sys.exit("reading a Parquet file needs pyarrow: pip install pyarrow (or leave the file out)")
    table = pq.read_table(path)
    if missing := [name for name in names if name not in table.column_names]:
        sys.exit(f"{path} has no column '{missing[0]}' (and {len(missing) - 1} more) that the model's rows need")
    rows = np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float32)
    if "episode" not in table.column_names:
        return rows
    episodes = table["episode"].to_numpy()
    return rows[episodes == (episodes[0] if episode is None else episode)]


def send_at_rate(client: httpx.Client, rows: np.ndarray, hz: float) -> np.ndarray:
    """Seconds [frames] from the moment each frame was due to its answer: a late answer delays no later due time."""
    latencies = np.empty(len(rows))
    start = time.perf_counter() + 0.1
    for i, row in enumerate(rows):
        due = start + i / hz
        while (left := due - time.perf_counter()) > 0:
            if left > SPARED:
                time.sleep(left - SPARED)
        client.post("/embed", content=row.tobytes(), headers=BINARY).raise_for_status()
        latencies[i] = time.perf_counter() - due
    return latencies


def surprise(client: httpx.Client, rows: np.ndarray, horizon: int) -> np.ndarray:
    """How far each frame's prediction, `horizon` frames on, was off: percentiles [frames - horizon] or losses."""
    pairs = np.concatenate([rows[:-horizon], rows[horizon:]], axis=1)
    found: list[float] = []
    for start in range(0, len(pairs), LOSS_ROWS):
        answer = client.post(
            "/loss",
            params={"horizon": horizon},
            content=pairs[start : start + LOSS_ROWS].tobytes(),
            headers={"Content-Type": "application/octet-stream"},
        )
        found += answer.raise_for_status().json()["losses"]
    return np.array(found)


def what_happened(names: list[str], before: np.ndarray, after: np.ndarray) -> str:
    """What the columns of a Melee row say of two frames, in words."""
    words = []
    for side, who in (("own", "own"), ("opp", "opponent")):
        if not {f"{side}_percent", f"{side}_stock"} <= set(names):
            continue
        percent, stock = names.index(f"{side}_percent"), names.index(f"{side}_stock")
        if after[stock] < before[stock]:
            words.append(f"{who} stock lost")
        elif after[percent] > before[percent]:
            words.append(f"{who} +{(after[percent] - before[percent]) * 100:.0f} %")
    return ", ".join(words) or "no damage"


def report(latencies: np.ndarray, hz: float) -> None:
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    late = int((latencies > 1 / hz).sum())
    print(
        f"{len(latencies)} frames at {hz:g} Hz: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {latencies.max() * 1000:.2f} ms"
    )
    print(f"{late} frames late (over {1000 / hz:.2f} ms, counted from when each was due)")


def most_surprising(names: list[str], rows: np.ndarray, losses: np.ndarray, horizon: int, hz: float) -> None:
    print(f"most surprising moments ({horizon} frames foretold):")
    left = losses.copy()
    for _ in range(5):
        at = int(left.argmax())
        if left[at] < 0:
            break
        clock = at / hz
        print(
            f"  {int(clock // 60)}:{clock % 60:05.2f}  frame {at}  loss {losses[at]:.3f}  "
            f"{what_happened(names, rows[at], rows[at + horizon])}"
        )
        left[max(0, at - 60) : at + 60] = -1  # a moment is a second to both sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--hz", type=float, default=FRAMES_A_SECOND)
    parser.add_argument("--frames", type=int, help="stop after so many (default: the whole game; scripted: 3600)")
    parser.add_argument("--episode", type=int, help="which game of the file (default: its first)")
    options = parser.parse_args()
    with httpx.Client(base_url=options.url, timeout=5) as client:
        try:
            model = client.get("/models").raise_for_status().json()["models"][0]
        except httpx.HTTPError as error:
            sys.exit(f"no service at {options.url} ({error}); start it with: make serve")
        if options.file is None:
            print("no file given: playing a scripted match, two bodies with simple kinematics; not a real game")
            try:
                rows = play(model["names"], options.frames or 3600)
            except ValueError as error:
                sys.exit(str(error))
        else:
            rows = read_game(options.file, model["names"], options.episode)[: options.frames]
        print(f"model {model['name']} version {model['version']}, {len(rows)} frames, {len(rows) / options.hz:.0f} s")
        for row in rows[:30]:  # warm-up: connection, caches
            client.post("/embed", content=row.tobytes(), headers=BINARY).raise_for_status()
        report(send_at_rate(client, rows, options.hz), options.hz)
        horizon = model["horizons"][-1]
        if 0 < horizon < len(rows):
            most_surprising(model["names"], rows, surprise(client, rows, horizon), horizon, options.hz)


if __name__ == "__main__":
    main()
