"""A small training run in a process of its own: `python -m tests.support.small_run CHECKPOINT STEPS DEVICES`
starts or resumes it, and prints the number of each finished step and each report."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from model.training.devices import launch
from model.training.loop import train
from model.training.run import prepare, resume
from tests.model.training.test_loop import SMALL
from tests.support.games import make_games


def main() -> None:
    path = Path(sys.argv[1])
    steps, devices = map(int, sys.argv[2:])
    fabric = launch(devices, "cpu")
    recipe = replace(SMALL, steps=steps)
    games = make_games()
    run = resume(games, path, fabric=fabric) if path.exists() else prepare(games, recipe, fabric=fabric)

    def go_on(step: int) -> bool:
        if fabric.is_global_zero:
            print(step, flush=True)
        return True

    train(run, path, lambda report: print(json.dumps(report.as_dict()), flush=True), go_on, every=1)


if __name__ == "__main__":
    main()
