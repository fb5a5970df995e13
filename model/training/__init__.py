"""A training run: what a step draws, minimises and changes, and what is left of it on disk."""

from model.training.held_out import Report, evaluate
from model.training.loop import seconds_a_step, train
from model.training.run import Run, prepare, resume

__all__ = ["Report", "Run", "evaluate", "prepare", "resume", "seconds_a_step", "train"]
