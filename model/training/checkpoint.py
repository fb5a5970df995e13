"""A run on disk: weights, optimiser and where it stood, in one safetensors file that is replaced in one rename."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from bundle.columns import Statistics
from bundle.schema import Group, Schema
from model.networks.config import Config
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.training.summary import TrainingSummary

OPTIMISER = "optimiser."
STATISTICS = "statistics."
NETWORKS = "jepa."
SAMPLE = "sample"


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

    def save(self, path: Path) -> None:
        """Writes the file so that a reader, or a run killed meanwhile, finds either the old one or the new one."""
        tensors = {NETWORKS + name: value for name, value in self.jepa.state_dict().items()}
        tensors |= {STATISTICS + name: torch.from_numpy(value) for name, value in self.statistics.items()}
        tensors |= {OPTIMISER + name: value for name, value in self.optimiser.items()}
        if self.sample is not None:
            tensors[SAMPLE] = torch.from_numpy(self.sample)
        about = {
            "config": self.jepa.config.as_dict(),
            "schema": self.schema.as_dict(),
            "recipe": self.recipe,
            "step": self.step,
            "summary": self.summary.as_dict(),
        }
        partial = path.with_suffix(".partial")
        save_file({k: v.contiguous() for k, v in tensors.items()}, partial, metadata={"about": json.dumps(about)})
        os.replace(partial, path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads what `Checkpoint.save` wrote; ValueError for any other safetensors file, or that of another version."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        if "about" not in metadata:
            raise ValueError(f"{path} is no checkpoint of `jepa train` (it has no 'about' in its metadata)")
        # Before they were column heads they were the anchor.
        renamed = {name: name.replace(f"{NETWORKS}anchor.", f"{NETWORKS}column_heads.") for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
        tensors = {now: file.get_tensor(name) for name, now in renamed.items()}
    about = json.loads(metadata["about"])

    def under(prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}

    encoding = FeatureEncoding(under(f"{NETWORKS}encoding."))
    jepa = JEPA(Config.from_dict(about["config"]), encoding)
    try:
        jepa.load_state_dict(under(NETWORKS))
    except RuntimeError as error:
        raise ValueError(
            f"{path} was written by another version of jepa-serve, whose networks had other weights; train anew, or "
            "use that version"
        ) from error
    return Checkpoint(
        jepa=jepa,
        schema=Schema(tuple(about["schema"]["names"]), tuple(Group(**group) for group in about["schema"]["groups"])),
        statistics={name: value.numpy() for name, value in under(STATISTICS).items()},
        recipe=about["recipe"],
        step=about["step"],
        summary=TrainingSummary.from_dict(about["summary"]),
        optimiser=under(OPTIMISER),
        sample=tensors[SAMPLE].numpy() if SAMPLE in tensors else None,
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
