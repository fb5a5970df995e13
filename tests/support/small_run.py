"""Small training runs. `python -m tests.support.small_run CHECKPOINT STEPS DEVICES` starts or resumes one in a process
of its own, and prints the number of each finished step and each report."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from model.training.checkpoint import Checkpoint
from model.training.devices import launch
from model.training.held_out import Report
from model.training.loop import train
from model.training.recipe import Recipe
from model.training.run import Run, prepare, resume
from tests.support.games import make_games

SMALL = Recipe(
    embed_dim=16, predictor_embed_dim=8, encoder_depth=1, predictor_depth=1, num_heads=4,
    horizons=(2, 5), steps=6, batch_size=32, warmup_steps=2, hide_share=(0.0, 0.4), anchor=1.0,
)  # fmt: skip


def trained(run: Run, path: Path, every: int = 3) -> tuple[list[Report], list[int]]:
    """Trains to the end; the reports, and the numbers of the steps."""
    reports: list[Report] = []
    steps: list[int] = []

    def go_on(step: int) -> bool:
        steps.append(step)
        return True

    train(run, path, reports.append, go_on, every=every)
    return reports, steps


def weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    return checkpoint.jepa.state_dict()


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
