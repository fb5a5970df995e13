"""Data read for a bundle: its columns, found by their names, and what a user should know of them."""

import fnmatch
from collections.abc import Sequence
from typing import Any

import typer

from bundle.reader import Bundle
from cli.failures import shown
from model.data.checks import unlike_training
from model.data.frames import Frames, read_frames
from model.data.roles import LABEL_NAMES


def read_for(bundle: Bundle, data: Sequence[str], **choices: Any) -> Frames:
    """What `read_frames` makes of the data with the columns of the bundle; notes, and how the data is unlike that of
    training, are printed."""
    manifest = bundle.manifest
    means = manifest.statistics.get("mean")
    frames = read_frames(data, like=manifest.feature_schema, means=means, **choices)
    for note in frames.notes:
        typer.echo(f"note: {shown(note)}", err=True)
    for warning in unlike_training(frames.features, manifest.feature_schema.names, manifest.statistics):
        warn(warning)
    return frames


def read_labelled(bundle: Bundle, data: Sequence[str], labels: Sequence[str] | None, **choices: Any) -> Frames:
    """`read_for` with the columns that `--labels` names, without it those that are called like labels; ValueError where
    a pattern of `--labels` names none."""
    frames = read_for(bundle, data, labels=labels or LABEL_NAMES, **choices)
    require_labels(frames, labels or ())
    return frames


def require_labels(frames: Frames, patterns: Sequence[str]) -> None:
    if unmatched := [pattern for pattern in patterns if not fnmatch.filter(frames.labels, pattern)]:
        raise ValueError(f"no column matches {unmatched}; name columns of whole numbers with --labels")


def warn(warning: str) -> None:
    typer.secho(f"warning: {shown(warning)}", err=True, fg="yellow")
