"""A small training run in a process of its own: `python -m tests.support.small_run CHECKPOINT STEPS DEVICES [EVERY]`
starts or resumes it, and prints the number of each finished step and each report."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from model.training.devices import launch
from model.training.loop import Training, resume_training
from tests.model.training.test_loop import SMALL
from tests.support.games import make_games


def main(path: Path, steps: int, devices: int, every: int = 1) -> None:
    fabric = launch(devices, "cpu")
    recipe = replace(SMALL, steps=steps)
    games = make_games()
    training = resume_training(games, path, fabric) if path.exists() else Training(games, recipe, fabric=fabric)

    def go_on(step: int) -> bool:
        if fabric.is_global_zero:
            print(step, flush=True)
        return True

    training.run(path, lambda report: print(json.dumps(asdict(report)), flush=True), go_on, every=every)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
