"""Playing through a delay: what imitated players score in SlimeVolley, by what they see of the game.

    make bench-play                                       everything, for some hours of a core
    make bench-play ARGS="--seeds 0 --games 20 --delays 6"

A policy sees the state of a frame; its input lands `delay` frames later. It imitates the built-in player, of whom games
against itself were recorded, and then plays against it. All policies play the same games; seeds differ in the games
that were recorded. Points are ours less theirs, at most five, a game; the standard error is that of the mean over
seeds, or over games where there is one seed. "ahead" is the embedding of the frame in which the next input lands, by
the predictor, given the inputs in flight. With --distract eight columns of noise are mixed with those of the state by
a random rotation. What a seed scored is kept in --keep, and not played again.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.play.clones import imitate
from benchmarks.play.distraction import Distraction
from benchmarks.play.learning import DELAYS, learn
from benchmarks.play.points import AGAINST, Scores, table
from benchmarks.play.slime import BuiltIn, Random, play, record
from benchmarks.play.views import Embeddings, View, state, state_and_inputs

# Seeds of the games that are recorded for a seed; those that are played come after all.
MAX_RECORDED = 1000
FIRST_PLAYED = 1_000_000


def views(embeddings: Embeddings, delay: int) -> dict[str, tuple[str, View]]:
    """Name of a policy → how it learns, and from what. Without a delay nothing is in flight, and the three are left
    out that would be equal to others."""
    everything = {
        "linear, state": ("linear", state),
        AGAINST: ("linear", state_and_inputs),
        "linear, embedding": ("linear", embeddings.now),
        "linear, embedding + inputs": ("linear", embeddings.now_and_inputs),
        "linear, ahead": ("linear", embeddings.ahead),
        "trees, state + inputs": ("trees", state_and_inputs),
        "network, state + inputs": ("network", state_and_inputs),
    }
    same = () if delay else ("linear, state", "linear, embedding + inputs", "linear, ahead")
    return {name: how for name, how in everything.items() if name not in same}


def scored(seed: int, recorded: int, delays: list[int], played: range, distract: bool, keep: Path, steps: int) -> None:
    """Writes what each policy scores in each game, for each delay, into the folder."""
    left = [delay for delay in delays if not (keep / name_of(seed, recorded, delay, distract)).exists()]
    if not left:
        return
    recordings = [each for game in range(recorded) for each in record(seed * MAX_RECORDED + game)]
    look = Distraction(np.concatenate([each.states for each in recordings])) if distract else None
    seen = [each.states if look is None else look.of_game(each.states, each.seed) for each in recordings]
    pairs = [(states, each.inputs) for states, each in zip(seen, recordings, strict=True)]
    folder = keep / f"models-{recorded}{'-distract' * distract}"
    embeddings = Embeddings(learn(pairs, folder, f"slime{seed}", steps))
    for delay in left:
        scores: Scores = {}
        for name, (learner, view) in views(embeddings, delay).items():
            scores[name] = play(imitate(pairs, learner, view, delay), delay, played, look).tolist()
            print(f"  seed {seed}, delay {delay}: {name} {np.mean(scores[name]):+.2f}", flush=True)
        for name, policy in (("random", Random()), ("built-in", BuiltIn())):
            scores[name] = play(policy, delay, played).tolist()
        (keep / name_of(seed, recorded, delay, distract)).write_text(json.dumps(scores))


def name_of(seed: int, recorded: int, delay: int, distract: bool) -> str:
    return f"{recorded}-games-delay-{delay}{'-distract' * distract}-seed-{seed}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(5)])
    parser.add_argument("--games", type=int, default=100, help="played by each policy for each seed")
    parser.add_argument("--recorded", type=int, nargs="+", default=[5, 20], help="games to imitate")
    parser.add_argument("--delays", type=int, nargs="+", default=[*DELAYS], choices=DELAYS)
    parser.add_argument("--distract", action="store_true", help="mix eight columns of noise in by a rotation")
    parser.add_argument("--steps", type=int, default=1000, help="of training (default: %(default)s)")
    parser.add_argument("--keep", type=Path, default=Path(".venvs/play-kept"), help="folder for models and scores")
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    played = range(FIRST_PLAYED, FIRST_PLAYED + given.games)
    for recorded in given.recorded:
        for seed in given.seeds:
            scored(seed, recorded, given.delays, played, given.distract, given.keep, given.steps)
        for delay in given.delays:
            files = [given.keep / name_of(seed, recorded, delay, given.distract) for seed in given.seeds]
            print(f"\n{recorded} games, delay {delay}, {len(files)} × {given.games} games played\n")
            print(table([json.loads(file.read_text()) for file in files]), flush=True)


if __name__ == "__main__":
    main()
