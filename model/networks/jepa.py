"""What a JEPA is made of (Assran et al., CVPR 2023): two networks, their loss and the moving average of the target."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Self, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.actions import ActionEncoding
from model.networks.column_heads import ColumnHeads
from model.networks.config import DEFAULT_PATCHES, Config, Options
from model.networks.encoder import ContextEncoder
from model.networks.encoding import FeatureEncoding
from model.networks.predictor import Predictor

Params = Mapping[str, Any]


def build(input_dim: int | None = None, **options: Unpack[Options]) -> tuple[ContextEncoder, Predictor]:
    """The context encoder and the predictor; see `Config` for the options."""
    config = Config.of(input_dim, options)
    return ContextEncoder(config), Predictor(config)


def build_context_encoder(input_dim: int | None = None, **options: Unpack[Options]) -> ContextEncoder:
    """Maps `[batch, input_dim]` to `[batch, embed_dim]`."""
    return ContextEncoder(Config.of(input_dim, options))


def build_predictor(input_dim: int | None = None, **options: Unpack[Options]) -> Predictor:
    """Maps `[batch, embed_dim]` to `[batch, embed_dim]`; `input_dim` is needed only to cut patches by column."""
    if input_dim is None:
        patches = options.get("patches") or DEFAULT_PATCHES
        input_dim = patches if isinstance(patches, int) else _last_column(patches)
    return Predictor(Config.of(input_dim, options))


def _last_column(patches: Any) -> int:
    groups = [group for part in patches.values() for group in part] if isinstance(patches, Mapping) else patches
    return max((group[2] for group in groups), default=1)


def loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Scalar smooth L1 with beta 1, mean over batch and dims: ½d² where |d| < 1, else |d| − ½
    (Girshick 2015, eq. 3)."""
    if predicted.shape != target.shape:
        raise ValueError(f"predicted is {list(predicted.shape)} and target {list(target.shape)}; they must be alike")
    return F.smooth_l1_loss(predicted, target, beta=1.0)


def ema_update(context_params: Params, target_params: Params, *, momentum: float = 0.996) -> dict[str, Any]:
    """`momentum · target + (1 − momentum) · context`, leaf by leaf, on dicts of tensors, nested too.

    A key that the context lacks keeps its target value, and so does a leaf of integers or bools. Returns a new dict.
    """
    if not 0 <= momentum <= 1:
        raise ValueError(f"momentum is {momentum!r}; it must be in [0, 1]")
    updated: dict[str, Any] = {}
    for name, target in target_params.items():
        context = context_params.get(name)
        if context is None:
            updated[name] = target
        elif isinstance(target, Mapping):
            updated[name] = ema_update(context, target, momentum=momentum)
        elif target.is_floating_point():
            # Not lerp: it is exact at both ends only for weights it rounds the right way.
            updated[name] = momentum * target + (1 - momentum) * context
        else:
            updated[name] = target
    return updated


def output_size(**options: Unpack[Options]) -> int:
    """The width of an embedding: `embed_dim`, 256 unless said otherwise."""
    return options.get("embed_dim", Config.embed_dim)


def default_momentum() -> float:
    """The momentum of the target encoder's moving average at the start of I-JEPA's schedule."""
    return 0.996


def recommended_defaults() -> dict[str, Any]:
    """The options' defaults, as keywords for `build`."""
    names = (
        "embed_dim",
        "predictor_embed_dim",
        "encoder_depth",
        "predictor_depth",
        "num_heads",
        "mlp_ratio",
        "dropout",
    )
    return {name: getattr(Config, name) for name in names}


class JEPA(nn.Module):
    """The networks of a training run: feature encoding, context encoder, target encoder (its EMA) and predictor."""

    def __init__(
        self, config: Config, encoding: FeatureEncoding, action_encoding: ActionEncoding | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.encoding = encoding
        self.context_encoder = ContextEncoder(config, encoding.columns)
        self.predictor = Predictor(replace(config, dropout=0.0), action_encoding)
        # Fixed at 1 and 0, the last norm makes each patch's embedding a target of mean 0 and variance 1 as it is:
        # a scale could otherwise shrink, which lowers the loss and teaches nothing.
        self.context_encoder.norm.requires_grad_(False)
        self.column_heads = ColumnHeads(config)
        self.target_encoder = deepcopy(self.context_encoder).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """The target encoder stays in eval mode: dropout in a target is noise that the predictor can't know."""
        super().train(mode)
        self.target_encoder.eval()
        return self

    def update_target(self, momentum: float) -> None:
        """`ema_update` of all weights at once and in place."""
        context: list[Tensor] = [*self.context_encoder.parameters()]
        target: list[Tensor] = [*self.target_encoder.parameters()]
        with torch.no_grad():
            torch._foreach_mul_(target, momentum)
            torch._foreach_add_(target, context, alpha=1 - momentum)
