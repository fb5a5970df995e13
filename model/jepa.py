"""What a JEPA is made of (Assran et al., CVPR 2023): two networks, their loss and the moving average of the target."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any, Self, Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import DEFAULT_PATCHES, Config, Options
from model.encoder import ContextEncoder
from model.encoding import FeatureEncoding
from model.predictor import Predictor

Params = Mapping[str, Any]

# So much more than a later frame's do a frame's own columns count: they are told in detail or not at all, and what is
# foreseen is mostly what cannot be known.
NOW = 4.0


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


class Anchor(nn.Module):
    """What is foreseen of a frame's standardised columns, by one linear map a horizon from the context's embedding.

    The target encoder learns, and its targets drift towards what is slow and easy to predict; the columns never move,
    and each counts alike, however rarely it changes. Linear, so that a linear policy can read off the embedding what
    is foreseen; of the frame itself too, so that it can read off what is there now.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.horizons, self.columns = tuple(sorted({0, *config.horizons})), config.input_dim
        self.heads = nn.ModuleList(nn.Linear(config.embed_dim, config.input_dim) for _ in self.horizons)
        place = {ahead: i for i, ahead in enumerate(self.horizons)}
        # (a later frame, which map looks on from there, which map looks from here at the same moment)
        self.detours = [
            (ahead, place[on], place[ahead + on])
            for ahead in self.horizons
            for on in self.horizons
            if ahead and on and ahead + on in place
        ]

    def loss(self, context: Tensor, frames: Tensor, horizon: Tensor, known: Tensor | None) -> Tensor:
        """context [B, D], frames [B, M] `horizon` [B] frames ahead, known [B, M] as 0 and 1 → scalar: how far what is
        foreseen is from what came, mean over rows and columns of half the squared distance, NOW times that for the
        frame itself."""
        total = context.new_zeros(())
        for ahead, head in zip(self.horizons, self.heads, strict=True):
            rows = (horizon == ahead).nonzero()[:, 0]
            distance = self._distance(head(context[rows]), frames[rows], known, rows)
            total = total + (distance if ahead else NOW * distance)
        return total / (len(context) * self.columns)

    def foresight_loss(self, context: Tensor, later: Tensor, horizon: Tensor, known: Tensor | None) -> Tensor:
        """context [B, D] and the target encoder's embedding `later` [B, D], `horizon` [B] frames on → scalar: how far
        what is foreseen from here is from what is foreseen from there, where both look at the same moment; as `loss`.

        What came is one of many things that could have come. What is foreseen from nearer by is closer to their mean
        (temporal differences, Sutton 1988), and is a part of the target encoder's representation.
        """
        total = context.new_zeros(())
        for ahead, on, straight in self.detours:
            rows = (horizon == ahead).nonzero()[:, 0]
            with torch.no_grad():
                goal = self.heads[on](later[rows])
            total = total + self._distance(self.heads[straight](context[rows]), goal, known, rows)
        return total / (len(context) * self.columns)

    def _distance(self, foreseen: Tensor, goal: Tensor, known: Tensor | None, rows: Tensor) -> Tensor:
        """Sum over rows and columns."""
        squares = F.mse_loss(foreseen.float(), goal[:, : self.columns].float(), reduction="none") / 2
        return (squares if known is None else squares * known[rows, : self.columns]).sum()


class JEPA(nn.Module):
    """The networks of a training run: feature encoding, context encoder, target encoder (its EMA) and predictor."""

    def __init__(self, config: Config, encoding: FeatureEncoding) -> None:
        super().__init__()
        self.config = config
        self.encoding = encoding
        self.context_encoder = ContextEncoder(config, encoding.columns)
        self.predictor = Predictor(replace(config, dropout=0.0))
        # Fixed at 1 and 0, the last norm makes each patch's embedding a target of mean 0 and variance 1 as it is:
        # a scale could otherwise shrink, which lowers the loss and teaches nothing.
        self.context_encoder.norm.requires_grad_(False)
        self.anchor = Anchor(config)
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
