"""Playing through a delay: what imitated players score, by what they see of the game.

    make bench-play                                       everything in SlimeVolley, for some hours of a core
    make bench-play ARGS="--seeds 0 --games 20 --delays 6"
    make bench-play ARGS="--game lunar --recorded 200 --slips 0.1 --delays 6 0"

A policy sees the state of a frame; its input lands `delay` frames later. It imitates the built-in player, whose games
were recorded (in SlimeVolley, against itself), and then plays. All policies of a seed play the same games; seeds differ
in the games that are recorded and in those that are played. Points are those of the game (in SlimeVolley ours less
theirs, at most five), with the standard error over all games and over seeds. "ahead" is the embedding of the frame in
which the next input lands, by the predictor, given the inputs in flight. Policies "of no delay" imitate the player as
if there were none, and act on what is forecast of that frame. With --distract eight columns of noise are mixed with
those of the state by a random rotation. With --slips the recorded player's hand slips in that share of the frames;
policies imitate what it wanted. What a seed scored is kept in --keep, and not played again.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.play.distraction import Distraction
from benchmarks.play.games import Task, play, record
from benchmarks.play.learning import DELAYS, learn
from benchmarks.play.lunar import LUNAR
from benchmarks.play.points import Scores, table
from benchmarks.play.policies import policies
from benchmarks.play.slime import SLIME
from benchmarks.play.views import Embeddings

GAMES = {"slime": SLIME, "lunar": LUNAR}
# Numbers of the games of a seed: those that are recorded count from seed · MAX_GAMES, those that are played from
# FIRST_PLAYED on as well.
MAX_GAMES = 1000
FIRST_PLAYED = 1_000_000


@dataclass(frozen=True)
class Trial:
    """What is the same for all policies of a seed."""

    game: str
    seed: int
    recorded: int
    played: int
    distract: bool
    slips: float
    steps: int

    def __str__(self) -> str:
        # Also the name of a bundle, which takes no dot.
        slips = f"-slips-{self.slips:g}".replace(".", "_") * bool(self.slips)
        return f"{self.game}-{self.recorded}-games{'-distract' * self.distract}{slips}-seed-{self.seed}"

    def scores(self, delay: int, keep: Path) -> Path:
        return keep / f"{self}-delay-{delay}.json"


def score(trial: Trial, delays: list[int], keep: Path) -> None:
    """Writes what each policy scores in each game, for each delay, into the folder."""
    task: Task = GAMES[trial.game]
    first = trial.seed * MAX_GAMES
    played = range(FIRST_PLAYED + first, FIRST_PLAYED + first + trial.played)
    recordings = [each for seed in range(first, first + trial.recorded) for each in record(task, seed, trial.slips)]
    look = Distraction(np.concatenate([each.states for each in recordings])) if trial.distract else None
    if look is not None:
        recordings = [replace(each, states=look.of_game(each.states, each.seed)) for each in recordings]
    print(f"{trial}: {sum(len(each.states) for each in recordings):,} rows", flush=True)
    embeddings = Embeddings(learn(recordings, keep / "models", str(trial), trial.steps))
    for delay in delays:
        file = trial.scores(delay, keep)
        scores: Scores = json.loads(file.read_text()) if file.exists() else {}
        for name, made in policies(task, recordings, embeddings, delay).items():
            if name not in scores:
                # What is mixed with noise is only seen by those who learned from it.
                scores[name] = play(task, made(), delay, played, None if name == "built-in" else look).tolist()
                file.write_text(json.dumps(scores))
            print(f"  delay {delay}: {name} {np.mean(scores[name]):+.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", choices=GAMES, default="slime", help="default: %(default)s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[*range(5)])
    parser.add_argument("--games", type=int, default=100, help="played by each policy for each seed")
    parser.add_argument("--recorded", type=int, nargs="+", default=[5, 20], help="games to imitate")
    parser.add_argument("--delays", type=int, nargs="+", default=[*DELAYS], choices=DELAYS)
    parser.add_argument("--distract", action="store_true", help="mix eight columns of noise in by a rotation")
    parser.add_argument("--slips", type=float, default=0.0, help="share of recorded frames in which a hand slips")
    parser.add_argument("--steps", type=int, default=1000, help="of training (default: %(default)s)")
    parser.add_argument("--keep", type=Path, default=Path(".venvs/play-kept"), help="folder for models and scores")
    given = parser.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    for recorded in given.recorded:
        trials = [
            Trial(given.game, seed, recorded, given.games, given.distract, given.slips, given.steps)
            for seed in given.seeds
        ]
        for trial in trials:
            score(trial, given.delays, given.keep)
        for delay in given.delays:
            scores = [json.loads(trial.scores(delay, given.keep).read_text()) for trial in trials]
            print(f"\n{recorded} games, delay {delay}, {len(scores)} × {given.games} games played\n")
            print(table(scores), flush=True)


if __name__ == "__main__":
    main()
