"""A training run: what a step draws, minimises and changes, and what is left of it on disk."""

from model.training.loop import Report, Training, resume_training

__all__ = ["Report", "Training", "resume_training"]
