"""The JEPA in PyTorch: networks, training, evaluation and export. Knows nothing of HTTP."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from model.data.frames import read_frames as frames
    from model.learning import train
    from model.networks.jepa import (
        build,
        build_context_encoder,
        build_predictor,
        default_momentum,
        ema_update,
        loss,
        output_size,
        recommended_defaults,
    )

__all__ = [
    "build",
    "build_context_encoder",
    "build_predictor",
    "default_momentum",
    "ema_update",
    "frames",
    "loss",
    "output_size",
    "recommended_defaults",
    "train",
]
NETWORKS = "model.networks.jepa"
ELSEWHERE = {"frames": ("model.data.frames", "read_frames"), "train": ("model.learning", "train")}


def __getattr__(name: str) -> Any:
    """Imports what is asked for, and no more: PyTorch takes seconds, what exports a bundle some more."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, found = ELSEWHERE.get(name, (NETWORKS, name))
    return getattr(import_module(module), found)
