"""Sends a game's frames to the running service at 60 Hz, as a bot would, and reports latency and surprise.

    python examples/replay_bot.py [FRAMES.parquet or GAME.slp]

Without a file it plays a scripted match. Needs httpx and numpy, for Parquet files also pyarrow, and for Melee replays
(.slp) ./client[slippi].
"""

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from scripted_match import FRAMES_A_SECOND, play

BINARY = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}
TOO_BUSY = (429, 503, 504)
LOSS_ROWS = 256
# Sleeping ends this long before a frame is due and busy waiting begins, since sleep alone wakes late.
BUSY_WAIT_S = 0.002
SCRIPTED_FRAMES = 3600
# Between signs of life, in a log and on a terminal.
PROGRESS_S = (10, 1)
# Of each surprising moment.
SHOWN_EVENTS = 3


def read_game(path: Path, names: list[str], episode: int | None) -> tuple[np.ndarray, np.ndarray]:
    """One episode, by default the first: float32 [frames, columns] in the order of `names`, and frame numbers."""
    if not path.is_file():
        sys.exit(f"there is no file {path}")
    return read_replay(path, names) if path.suffix == ".slp" else read_parquet(path, names, episode)


def read_replay(path: Path, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    try:
        from jepa_client.games import melee, melee_layout, slippi
    except ModuleNotFoundError:
        sys.exit("reading a replay needs jepa-client and peppi: pip install './client[slippi]' (or leave the file out)")
    if unknown := [name for name in names if name not in melee_layout.COLUMNS]:
        sys.exit(f"a replay has no column '{unknown[0]}' (and {len(unknown) - 1} more) that the model's rows need")
    try:
        rows, frames = melee.replay_rows(slippi.read_replay(path))
    except (OSError, ValueError) as error:
        sys.exit(f"cannot read {path}: {error}")
    return rows[:, [melee_layout.COLUMNS.index(name) for name in names]].astype("<f4"), frames


def read_parquet(path: Path, names: list[str], episode: int | None) -> tuple[np.ndarray, np.ndarray]:
    try:
        import pyarrow.parquet as pq
    except ModuleNotFoundError:
        sys.exit("reading a Parquet file needs pyarrow: pip install pyarrow (or leave the file out)")
    try:
        present = pq.read_schema(path).names
        if missing := [name for name in names if name not in present]:
            sys.exit(f"{path} has no column '{missing[0]}' (and {len(missing) - 1} more) that the model's rows need")
        chosen = None
        if "episode" in present:
            episodes = pq.read_table(path, columns=["episode"])["episode"].to_numpy()
            if episode is not None and episode not in episodes:
                sys.exit(f"{path} has no episode {episode}; it has {len(np.unique(episodes))}, such as {episodes[0]}")
            chosen = [("episode", "==", episodes[0] if episode is None else episode)]
        table = pq.read_table(path, columns=[*names, *({"frame"} & {*present})], filters=chosen)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot read {path}: {error}")
    rows = np.stack([table[name].to_numpy() for name in names], axis=1).astype("<f4")
    return rows, table["frame"].to_numpy() if "frame" in present else np.arange(len(rows))


def send_at_rate(client: httpx.Client, rows: np.ndarray, hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Latency [frames] in seconds from when each frame was due to its answer, infinite if the service was too busy, and
    the part of it that the service reports for queueing and computing.

    The schedule is fixed beforehand, so a late answer delays the frames behind it and does not drop any.
    """
    latencies, timings = np.empty(len(rows)), [""] * len(rows)
    start = time.perf_counter() + 0.1
    for i, row in enumerate(rows):
        due = start + i / hz
        while (left := due - time.perf_counter()) > 0:
            if left > BUSY_WAIT_S:
                time.sleep(left - BUSY_WAIT_S)
        answer = client.post("/embed", content=row.tobytes(), headers=BINARY)
        latencies[i] = time.perf_counter() - due
        if answer.status_code in TOO_BUSY:
            latencies[i] = np.inf
        else:
            timings[i] = answer.raise_for_status().headers.get("server-timing", "")
        if (i + 1) % max(1, round(PROGRESS_S[sys.stderr.isatty()] * hz)) == 0 or i + 1 == len(rows):
            show_progress(latencies[: i + 1], len(rows), hz)
    return latencies, np.array([sum(map(float, re.findall(r"dur=([\d.]+)", text))) / 1000 for text in timings])


def show_progress(latencies: np.ndarray, frames: int, hz: float) -> None:
    """How far the game is: on one line of a terminal, or on a line each in a log."""
    late = np.count_nonzero(latencies > 1 / hz)
    words = f"played {len(latencies) / hz:.0f} of {frames / hz:.0f} s, {late} frames late"
    if sys.stderr.isatty():
        print(f"\r{words}", end="" if len(latencies) < frames else "\n", file=sys.stderr, flush=True)
    else:
        print(words, file=sys.stderr, flush=True)


def surprise(client: httpx.Client, rows: np.ndarray, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each frame's prediction from `horizon` frames earlier, and its percentile (NaN if unknown)."""
    pairs = np.concatenate([rows[:-horizon], rows[horizon:]], axis=1)
    losses: list[float] = []
    percentiles: list[float] = []
    for start in range(0, len(pairs), LOSS_ROWS):
        body = pairs[start : start + LOSS_ROWS].tobytes()
        headers = {"Content-Type": BINARY["Content-Type"]}
        answer = client.post("/loss", params={"horizon": horizon}, content=body, headers=headers).raise_for_status()
        document = answer.json()
        losses += document["losses"]
        percentiles += document["percentiles"] or [np.nan] * len(document["losses"])
    return np.array(losses), np.array(percentiles)


def what_happened(names: list[str], before: np.ndarray, after: np.ndarray) -> str:
    """The change between two Melee rows in words; empty for rows of another game."""
    words = []
    for side in ("own", "opp"):
        if not {f"{side}_percent", f"{side}_stock"} <= {*names}:
            return ""
        percent, stock = names.index(f"{side}_percent"), names.index(f"{side}_stock")
        actions = [i for i, name in enumerate(names) if name.startswith(f"{side}_act_")]
        was, became = (names[actions[row[actions].argmax()]].removeprefix(f"{side}_act_") for row in (before, after))
        changes = [f"{was} to {became}" if was != became else was]
        if after[stock] < before[stock]:
            changes.append("loses a stock")
        elif after[percent] > before[percent]:
            changes.append(f"takes {(after[percent] - before[percent]) * 100:.0f} %")
        words.append(f"{side} {', '.join(changes)}")
    return "; ".join(words)


def ask_heads(client: httpx.Client, row: np.ndarray, horizon: int) -> dict[str, float]:
    """What the model's heads say of the frame `horizon` frames after this row, by output."""
    answer = client.post("/forecast", json={"features": row.tolist(), "horizon": horizon, **client.params})
    document = answer.raise_for_status().json()
    return dict(zip(document["outputs"], document["values"], strict=True))


def what_was_expected(client: httpx.Client, model: dict[str, Any], before: np.ndarray, after: np.ndarray) -> list[str]:
    """The events whose forecast was furthest from what the model's heads say of the frame that came."""
    if not model["heads"]:
        return []
    expected, came = ask_heads(client, before, model["horizons"][-1]), ask_heads(client, after, 0)
    events = [output for head in model["heads"] if head["kind"] != "number" for output in head["outputs"]]
    furthest = sorted(events, key=lambda event: -abs(expected[event] - came[event]))[:SHOWN_EVENTS]
    return [f"{event}: expected at {expected[event]:.0%}, came at {came[event]:.0%}" for event in furthest]


def report_timing(latencies: np.ndarray, computing: np.ndarray, hz: float) -> None:
    p50, p99 = np.percentile(latencies, [50, 99], method="higher") * 1000
    late, unanswered = int((latencies > 1 / hz).sum()), int(np.isinf(latencies).sum())
    longest = latencies.max() * 1000
    print(f"{len(latencies)} frames at {hz:g} Hz: p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {longest:.2f} ms")
    print(f"of which queue and model took p50 {np.median(computing) * 1000:.2f} ms; the rest is HTTP, on both sides")
    print(f"{late} frames late (over {1000 / hz:.2f} ms, counted from when each was due)", end="")
    print(f", {unanswered} of them refused: the service was too busy" if unanswered else "")


def report_surprise(client: httpx.Client, model: dict[str, Any], rows: np.ndarray, frames: np.ndarray) -> None:
    """Prints the five frames that the model predicted worst, at least a second apart."""
    horizon = model["horizons"][-1]
    if not 0 < horizon < len(rows):
        print(f"no surprise to report: the model looks {horizon} frames ahead, the game has {len(rows)}")
        return
    losses, percentiles = surprise(client, rows, horizon)
    print(f"most surprising moments (what the model expected {horizon} frames later, against what came):")
    left = losses.copy()
    for _ in range(5):
        at = int(left.argmax())
        if np.isinf(left[at]):
            break
        minutes, seconds = divmod(abs(frames[at]) / FRAMES_A_SECOND, 60)
        clock = f"{'-' if frames[at] < 0 else ''}{int(minutes)}:{seconds:05.2f}"
        words = what_happened(model["names"], rows[at], rows[at + horizon])
        print(f"  {clock:>8}  frame {frames[at]}  percentile {percentiles[at]:.1f}  loss {losses[at]:.3f}  {words}")
        for event in what_was_expected(client, model, rows[at], rows[at + horizon]):
            print(f"{'':12}{event}")
        left[max(0, at - FRAMES_A_SECOND) : at + FRAMES_A_SECOND] = -np.inf


def choose_model(client: httpx.Client, name: str | None) -> dict[str, Any]:
    models: list[dict[str, Any]] = client.get("/models").raise_for_status().json()["models"]
    for model in models:
        if name in (None, model["name"]):
            return model
    sys.exit(f"the service has no model{f' {name!r}' if name else ''}; it has {[model['name'] for model in models]}")


def play_against(client: httpx.Client, options: argparse.Namespace) -> None:
    model = choose_model(client, options.model)
    client.params = {"model": model["name"], "schema_hash": model["schema_hash"]}
    wanted = options.frames or (options.seconds and round(options.seconds * options.hz))
    if options.file is None:
        print("no file given: playing a scripted match, two bodies with simple kinematics; not a real game")
        try:
            rows = play(model["names"], wanted or SCRIPTED_FRAMES)
        except ValueError as error:
            sys.exit(f"{error}; give a file of its frames")
        frames = np.arange(len(rows))
    else:
        rows, frames = read_game(options.file, model["names"], options.episode)
        rows, frames = rows[:wanted], frames[:wanted]
    print(f"model {model['name']} version {model['version']}, {len(rows)} frames, {len(rows) / options.hz:.0f} s")
    # Warm up the connection and caches.
    for row in rows[:30]:
        client.post("/embed", content=row.tobytes(), headers=BINARY).raise_for_status()
    report_timing(*send_at_rate(client, rows, options.hz), options.hz)
    report_surprise(client, model, rows, frames)


def positive(text: str) -> float:
    if not 0 < (number := float(text)) < float("inf"):
        raise ValueError
    return number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        help="a game: .slp, or Parquet with a row a frame and a column a feature of the model",
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the service is (default: %(default)s)")
    parser.add_argument("--model", help="which of its models (default: the first)")
    parser.add_argument("--episode", type=int, help="which game of a Parquet file (default: its first)")
    parser.add_argument("--hz", type=positive, default=FRAMES_A_SECOND, help="frames a second (default: %(default)s)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--frames", type=int, help=f"how many (default: the game; scripted: {SCRIPTED_FRAMES})")
    length.add_argument("--seconds", type=positive, help="how long")
    options = parser.parse_args()
    try:
        with httpx.Client(base_url=options.url, timeout=5) as client:
            play_against(client, options)
    except httpx.HTTPStatusError as error:
        sys.exit(f"the service refused with {error.response.status_code}: {error.response.text}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        sys.exit(f"no service answers at {options.url} ({error}); start it with: make serve")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
