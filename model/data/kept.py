"""Frames that are kept on disk beside a run, so that the next one need not read the recording again."""

from pathlib import Path
from typing import Any

from bundle.schema import Schema
from model.data.descriptions import description
from model.data.files import found_files
from model.data.frames import ARRAYS, Frames, read_frames
from model.data.matrix import Matrix, mapped
from model.data.recordings import Source, are_files
from model.data.roles import Column
from model.data.store import found_or_made, key_of
from model.data.symmetry import Symmetry


def kept_frames(source: Source, keep: Path, **options: Any) -> Frames:
    """As `read_frames` with these options, from the folder `keep` where the last call left the same there. Frames that
    are small, and those of no files, are only read."""
    if not are_files(source):
        return read_frames(source, **options)
    found = found_files(source)

    def make(folder: Path) -> tuple[Frames, dict[str, Any] | None]:
        made = read_frames(source, folder=folder, **options)
        return made, None if made.folder is None else _described(made)

    key = key_of(found.paths, {"options": options, "told": description(found)})
    return found_or_made(keep, key, _found, make)


def _described(frames: Frames) -> dict[str, Any]:
    return {
        "schema": frames.schema.as_dict(),
        "arrays": [name for name in ARRAYS if getattr(frames, name) is not None],
        "labels": [*frames.labels],
        "symmetries": [symmetry.as_dict() for symmetry in frames.symmetries],
        "action_names": frames.action_names,
        "actions_recorded": frames.actions_recorded,
        "episode_names": frames.episode_names,
        "roles": frames.roles,
        "notes": frames.notes,
    }


def _found(folder: Path, about: dict[str, Any]) -> Frames:
    arrays: dict[str, Any] = {name: mapped(folder / f"{name}.npy") for name in about["arrays"]}
    return Frames(
        features=Matrix(mapped(folder / "features.npy")),
        schema=Schema.from_dict(about["schema"]),
        labels={label: mapped(folder / f"label-{i}.npy") for i, label in enumerate(about["labels"])},
        symmetries=tuple(Symmetry.from_dict(each) for each in about["symmetries"]),
        action_names=tuple(about["action_names"]),
        actions_recorded=tuple(about["actions_recorded"]),
        episode_names=tuple(about["episode_names"]),
        roles=tuple(Column(*column) for column in about["roles"]),
        notes=tuple(about["notes"]),
        folder=folder,
        **arrays,
    )
