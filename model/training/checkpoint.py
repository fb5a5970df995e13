"""A run on disk: weights, optimiser and where it stood, in one safetensors file that is replaced in one rename."""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from bundle.columns import Statistics
from bundle.schema import Schema
from model.networks.actions import ActionEncoding
from model.networks.config import Config
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.training.summary import TrainingSummary

OPTIMISER = "optimiser."
STATISTICS = "statistics."
NETWORKS = "jepa."
ACTIONS = f"{NETWORKS}predictor.actions.encoding."
SAMPLE = "sample"
SHOWN = "shown"


class DamagedCheckpoint(ValueError):
    """A file that no run can go on from and no bundle be made of."""


@dataclass
class Checkpoint:
    """What a run needs to go on and a bundle to be made. `sample` [2n, C] are n training rows that int8 graphs are
    fitted to and n held-out rows that they are judged by."""

    jepa: JEPA
    schema: Schema
    statistics: Statistics
    recipe: dict[str, Any]
    step: int
    summary: TrainingSummary
    optimiser: dict[str, Tensor]
    sample: NDArray[np.float32] | None = None
    # Consecutive frames [n, C] of a held-out game for everybody to look at, where the user allowed it.
    shown: NDArray[np.float32] | None = None
    # Names of the numbers of an input of the player's own, where the predictor takes them.
    actions: tuple[str, ...] = ()
    # How the run was asked for, which bundle.json does not say: "preset", "command", and the "choices" of columns.
    made: dict[str, Any] = field(default_factory=dict)

    def finished(self) -> bool:
        """Whether it has come to the recipe's last step, or its patience has ended."""
        patience, since = self.recipe.get("patience", 0), self.summary.reports_since_best()
        return self.step >= int(self.recipe["steps"]) or 0 < patience <= since

    def save(self, path: Path) -> None:
        """Writes the file so that a reader, or a run killed meanwhile, finds either the old one or the new one."""
        tensors = {NETWORKS + name: value for name, value in self.jepa.state_dict().items()}
        tensors |= {STATISTICS + name: torch.from_numpy(value) for name, value in self.statistics.items()}
        tensors |= {OPTIMISER + name: value for name, value in self.optimiser.items()}
        if self.sample is not None:
            tensors[SAMPLE] = torch.from_numpy(self.sample)
        if self.shown is not None:
            tensors[SHOWN] = torch.from_numpy(self.shown)
        about = {
            "config": self.jepa.config.as_dict(),
            "schema": self.schema.as_dict(),
            "recipe": self.recipe,
            "step": self.step,
            "summary": self.summary.as_dict(),
            "actions": [*self.actions],
            "made": self.made,
        }
        partial = path.with_suffix(".partial")
        try:
            save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata={"about": json.dumps(about)})
            os.replace(partial, path)
        except SafetensorError as error:
            raise _os_error(error, path) from None
        finally:
            partial.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads what `save` wrote; DamagedCheckpoint for any other file, ValueError for one of another version."""
    if not path.is_file():
        raise ValueError(f"{path} is no regular file; name the checkpoint.safetensors of a run of `jepa train`")
    about, tensors = _read(path)

    def under(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    try:
        config, actions = Config.from_dict(about["config"]), tuple(map(str, about.get("actions", ())))
        if len(actions) != config.actions:
            raise ValueError(f"it names {len(actions)} inputs of {config.actions}")
        jepa = JEPA(
            config, FeatureEncoding(under(f"{NETWORKS}encoding.")), ActionEncoding(under(ACTIONS)) if actions else None
        )
        checkpoint = Checkpoint(
            jepa=jepa,
            schema=Schema.from_dict(about["schema"]),
            statistics={name: value.numpy() for name, value in under(STATISTICS).items()},
            recipe=dict(about["recipe"]),
            step=int(about["step"]),
            summary=TrainingSummary.from_dict(about["summary"]),
            optimiser=under(OPTIMISER),
            sample=tensors[SAMPLE].numpy() if SAMPLE in tensors else None,
            shown=tensors[SHOWN].numpy() if SHOWN in tensors else None,
            actions=actions,
            made=dict(about.get("made", {})),
        )
        checkpoint.finished()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedCheckpoint(_damage(path, f"its 'about' does not describe a run: {error!r}")) from None
    try:
        jepa.load_state_dict(under(NETWORKS))
    except RuntimeError as error:
        raise ValueError(
            f"{path} was written by another version of jepa-serve, whose networks had other weights; train anew, or "
            "use that version"
        ) from error
    return checkpoint


def _read(path: Path) -> tuple[Any, dict[str, Tensor]]:
    """What the file says of its run, and its tensors by name."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            # Before they were column heads they were the anchor.
            renamed = {name: name.replace(f"{NETWORKS}anchor.", f"{NETWORKS}column_heads.") for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
            tensors = {now: file.get_tensor(name) for name, now in renamed.items()}
    except SafetensorError as error:
        raise DamagedCheckpoint(_damage(path, str(error))) from None
    if "about" not in metadata:
        raise DamagedCheckpoint(f"{path} is no checkpoint of `jepa train` (it has no 'about' in its metadata)")
    try:
        return json.loads(metadata["about"]), tensors
    except (ValueError, RecursionError) as error:
        raise DamagedCheckpoint(_damage(path, f"its 'about' is no JSON: {error}")) from None


def _damage(path: Path, reason: str) -> str:
    return f"{path} is damaged or no checkpoint of `jepa train` ({reason}); copy it again, or train anew"


def _os_error(error: SafetensorError, path: Path) -> OSError:
    """What the operating system said, which safetensors quotes as text."""
    number = re.search(r"os error (\d+)", str(error))
    return (
        OSError(f"{path}: {error}")
        if number is None
        else OSError(int(number[1]), os.strerror(int(number[1])), str(path))
    )


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state under names like `3.exp_avg`: parameter number, then moment."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, moments in state.items() for name, value in moments.items()}


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, name = key.split(".", 1)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
