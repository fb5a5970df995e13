"""The predictor: from the context's embedding to the target's, at named positions. Dims: B batch, N patches,
D embed, P predictor_embed."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.config import Config
from model.networks.layers import Block, init_weights, positions


class Predictor(nn.Module):
    """[B, D] → [B, D]: projection to P, + position, one mask token a patch that carries the patch's position and the
    horizon, pre-norm blocks, LayerNorm, projection back.

    Where there is one patch and one horizon a mask token has nothing to say: it is left out and the context token
    itself is mapped, as in the Elixir reference.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        P = config.predictor_embed_dim
        self.project = nn.Linear(config.embed_dim, P)
        self.context_position = positions(P)
        self.blocks = nn.ModuleList(
            Block(P, config.num_heads, config.mlp_ratio, config.dropout) for _ in range(config.predictor_depth)
        )
        self.norm = nn.LayerNorm(P)
        self.project_back = nn.Linear(P, config.embed_dim)
        self.has_mask_tokens = len(config.patches) * len(config.horizons) > 1
        if self.has_mask_tokens:
            self.mask_token = positions(P)
            self.patch_position = positions(len(config.patches), P)
            self.horizon_position = positions(len(config.horizons), P)
        self.horizons: Tensor
        self.register_buffer("horizons", torch.tensor(config.horizons, dtype=torch.float32), persistent=False)
        init_weights(self, config.predictor_depth)

    def forward(self, context: Tensor, targets: Tensor | None = None, horizon: Tensor | None = None) -> Tensor:
        """context [B, D], targets [B, N] bool (None: all patches), horizon [B] frames ahead (None: the first)
        → mean prediction over the chosen patches [B, D]; ValueError if a row asks for nothing."""
        predicted = self.predict_patches(context, targets, horizon)  # [B, N, D]
        if len(self.config.patches) == 1:
            return predicted.flatten(1)
        if targets is None:
            return predicted.mean(1)
        chosen = targets.to(predicted.dtype)[:, :, None]
        return (predicted * chosen).sum(1) / chosen.sum(1)

    def predict_patches(self, context: Tensor, targets: Tensor | None = None, horizon: Tensor | None = None) -> Tensor:
        """As `forward`, one vector a patch [B, N, D]; those of patches not chosen mean nothing."""
        D = context.shape[1]
        if self.config.embed_dim != D:
            raise ValueError(f"context has {D} columns; this predictor's embed_dim is {self.config.embed_dim}")
        x = F.gelu(self.project(context)) + self.context_position  # [B, P]
        mask = None
        if self.has_mask_tokens:
            asked = self._horizon_embedding(context, horizon)[:, None] + self.patch_position  # [B, N, P]
            x = torch.cat([x[:, None], self.mask_token + asked], dim=1)  # [B, 1 + N, P]
            if targets is not None:
                check_targets(targets)
                mask = torch.cat([torch.ones_like(targets[:, :1]), targets], dim=1)  # [B, 1 + N]
        *before, last = self.blocks
        for block in before:
            x = block(x, mask)
        # What the context token would read in the last block, no answer needs.
        answers = last(x, mask, first=1) if self.has_mask_tokens else last(x)[:, None]  # [B, N, P]
        predicted: Tensor = self.project_back(self.norm(answers))
        return predicted

    def _horizon_embedding(self, context: Tensor, horizon: Tensor | None) -> Tensor:
        if horizon is None:
            return self.horizon_position[:1].expand(len(context), -1)
        # A product with a one-hot row rather than a look-up: ONNX takes frames ahead as floats, like all its inputs.
        one_hot = (horizon[:, None] == self.horizons).to(context.dtype)  # [B, horizons]
        return one_hot @ self.horizon_position


def check_targets(targets: Tensor) -> None:
    """Raises ValueError where a row of targets [B, N] asks for no patch (not while exporting)."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return
    idle = (~targets.any(1)).nonzero()
    if len(idle):
        raise ValueError(f"targets chooses no patch in row {int(idle[0])}; choose at least one")
