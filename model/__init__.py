"""The JEPA in PyTorch: networks, training, evaluation and export. Knows nothing of HTTP."""

from model.data.frames import read_frames as frames
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
]
