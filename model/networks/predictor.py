"""The predictor, which maps a context embedding to target embeddings at given patches and horizons.

Shapes: B batch, N patches, D embed_dim, P predictor_embed_dim.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.config import Config
from model.networks.layers import Block, init_weights, positions


class Predictor(nn.Module):
    """Maps a context embedding [B, D] to a predicted target embedding [B, D].

    Projects the context to P, adds its position, appends one mask token per patch, applies pre-norm transformer blocks
    and a LayerNorm, and projects back to D. A mask token is the sum of a shared vector, its patch's position and an
    embedding of the horizon. With a single patch and a single horizon, mask tokens would carry no information; the
    context token itself is mapped instead, as in the Elixir reference.
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
        """context [B, D] → mean prediction over the target patches [B, D]; ValueError if a row has no target.

        targets [B, N] bool (None: all patches); horizon [B] in frames ahead (None: the model's first horizon).
        """
        predicted = self.predict_patches(context, targets, horizon)  # [B, N, D]
        if len(self.config.patches) == 1:
            return predicted.flatten(1)  # [B, D]
        if targets is None:
            return predicted.mean(1)  # [B, D]
        chosen = targets.to(predicted.dtype)[:, :, None]  # [B, N, 1]
        return (predicted * chosen).sum(1) / chosen.sum(1)  # [B, D]

    def predict_patches(self, context: Tensor, targets: Tensor | None = None, horizon: Tensor | None = None) -> Tensor:
        """Like `forward`, but one vector per patch [B, N, D]; vectors of patches not in `targets` are undefined."""
        D = context.shape[1]
        if self.config.embed_dim != D:
            raise ValueError(f"context has {D} columns; this predictor's embed_dim is {self.config.embed_dim}")
        x = F.gelu(self.project(context)) + self.context_position  # [B, P]
        mask = None
        if self.has_mask_tokens:
            where = self._horizon_embedding(context, horizon)[:, None] + self.patch_position  # [B, N, P]
            x = torch.cat([x[:, None], self.mask_token + where], dim=1)  # [B, 1 + N, P]
            if targets is not None:
                check_targets(targets)
                mask = torch.cat([torch.ones_like(targets[:, :1]), targets], dim=1)  # [B, 1 + N]
        *before, last = self.blocks
        for block in before:
            x = block(x, mask)
        # Only the mask tokens are read from the last block, so the context token does not attend there.
        x = last(x, mask, first=1) if self.has_mask_tokens else last(x)[:, None]  # [B, N, P]
        predicted: Tensor = self.project_back(self.norm(x))  # [B, N, D]
        return predicted

    def _horizon_embedding(self, context: Tensor, horizon: Tensor | None) -> Tensor:
        if horizon is None:
            return self.horizon_position[:1].expand(len(context), -1)  # [B, P]
        # The exported graph takes horizons as floats, like all its inputs, so they cannot index a table directly.
        one_hot = (horizon[:, None] == self.horizons).to(context.dtype)  # [B, horizons]
        return one_hot @ self.horizon_position  # [B, P]


def check_targets(targets: Tensor) -> None:
    """Raises ValueError if a row of targets [B, N] chooses no patch; does nothing during an export."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return
    empty = (~targets.any(1)).nonzero()
    if len(empty):
        raise ValueError(f"targets chooses no patch in row {int(empty[0])}; choose at least one")
