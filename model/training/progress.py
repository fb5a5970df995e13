"""What a user sees of a run: what will be done, how it goes and how long it will take."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from model.training.bars import duration, progress_bar
from model.training.diagnostics import warnings
from model.training.held_out import Report
from model.training.loop import seconds_a_step
from model.training.run import Run

# A report is printed if this much time has passed since the last one that was, and at the end.
REPORT_INTERVAL_S = 4.0
# Where there is no report for so long, the number of steps is printed.
MAX_SILENCE_S = 8.0


class RunProgress:
    """Prints a run's way to a console, and writes each of its reports as a line of JSON to `reports`."""

    def __init__(
        self,
        console: Console,
        run: Run,
        reports: Path,
        log: Callable[[Mapping[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._run, self._reports, self._log, self._clock = console, run, reports, log, clock
        self._bar = progress_bar(console, "training")
        self._task = self._bar.add_task("training", total=run.recipe.steps, completed=run.checkpoint.step)
        self._first = run.checkpoint.step
        self._started = self._printed = self._reported = clock()
        self._warned: set[str] = set()

    def say_what_comes(self) -> None:
        """How much there is to learn from, what is doubtful in it, and how long it will take."""
        run = self._run
        summary, recipe, schema = run.checkpoint.summary, run.recipe, run.checkpoint.schema
        ahead = (
            ", ".join(map(str, run.horizons)) + " frames ahead" if run.batches.ordered else "hidden groups of the row"
        )
        left = recipe.steps - run.checkpoint.step
        # Of a few steps, no more are measured than are taken.
        seconds = left * seconds_a_step(run, max(1, min(left, 3)))
        self._console.print(
            f"learning from {summary.rows:,} rows of {summary.episodes} episodes, {schema.input_dim} columns in "
            f"{len(schema.groups)} groups; predicting {ahead}"
        )
        for warning in run.warnings:
            self._console.print(f"warning: {warning}", style="yellow", markup=False)
        self._console.print(
            f"{left} steps of {recipe.batch_size} rows, about {duration(seconds)}; "
            f"{summary.random_start_share:.2g} of the target encoder's random start will be left"
        )
        self._started = self._printed = self._reported = self._clock()

    def bar(self) -> AbstractContextManager[Any]:
        """Shows a bar on a terminal, for as long as the context lasts."""
        return self._bar if self._console.is_terminal else nullcontext()

    def step(self, done: int) -> None:
        """Is told of every step."""
        self._bar.update(self._task, completed=done)
        now = self._clock()
        if now - self._printed >= MAX_SILENCE_S:
            steps = self._run.recipe.steps
            left = (now - self._started) / (done - self._first) * (steps - done)
            self._say(f"step {done}/{steps}  {duration(left)} left", now)

    def report(self, made: Report) -> None:
        """Is told of every report; of those that come in quick succession it prints some, and writes all."""
        with self._reports.open("a") as file:
            file.write(json.dumps(made.as_dict()) + "\n")
        self._log(made.as_dict())
        now, last = self._clock(), self._run.checkpoint.finished()
        if now - self._reported < REPORT_INTERVAL_S and not last:
            return
        self._reported = now
        self._say(
            f"step {made.step}/{made.steps}  objective {made.objective:.3f}  loss {made.loss:.4f}  "
            f"over mean predictor {made.loss_ratio:.3f}  std {made.std:.3f}  RankMe {made.rankme:.1f}  "
            f"{made.rows_per_second:,.0f} rows/s  {duration(made.seconds_left)} left",
            now,
        )
        # In the first steps nothing is learned yet.
        early = made.step < self._run.recipe.warmup_steps and not last
        found = [] if early else warnings(made.std, made.rankme, made.loss_ratio, self._run.jepa.config.embed_dim)
        kinds = {warning.partition(":")[0] for warning in found}
        for warning in found:
            # Once, until it is over; and at the end.
            if last or warning.partition(":")[0] not in self._warned:
                self._console.print(f"warning: {warning}", style="yellow", markup=False)
        self._warned = kinds

    def say_how_it_ended(self) -> None:
        """Which step is exported, where it is not the last, and whether the run ended before its time."""
        checkpoint, recipe = self._run.checkpoint, self._run.recipe
        best = int(checkpoint.summary.best["step"])
        if checkpoint.step < recipe.steps:
            self._console.print(
                f"stopped early at step {checkpoint.step}: {recipe.patience} reports without a better objective than "
                f"that of step {best}"
            )
        if best != checkpoint.step:
            self._console.print(f"the best objective on held-out games was at step {best}, whose weights are exported")

    def _say(self, line: str, now: float) -> None:
        self._printed = now
        self._console.print(line, markup=False)


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """Says what is done and, until the block ends, every few seconds that it still is."""
    started, done = time.monotonic(), threading.Event()
    console.print(what)

    def tick() -> None:
        while not done.wait(MAX_SILENCE_S):
            console.print(f"{what}, for {duration(time.monotonic() - started)} now")

    teller = threading.Thread(target=tick, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
