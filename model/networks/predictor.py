"""The predictor, which maps a context embedding to target embeddings at given patches and horizons.

Shapes: B batch, N patches, D embed_dim, P predictor_embed_dim, F frames of inputs, A numbers of an input.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.actions import ActionEncoding, ActionToken
from model.networks.config import Config
from model.networks.layers import Block, init_weights, mean_of, positions


class Predictor(nn.Module):
    """Maps a context embedding [B, D] to a predicted target embedding [B, D].

    Projects the context to P, adds its position, appends one mask token per patch, applies pre-norm transformer blocks
    and a LayerNorm, and projects back to D. A mask token is the sum of a shared vector, its patch's position and an
    embedding of the horizon. With a single patch and a single horizon, mask tokens would carry no information; the
    context token itself is mapped instead, as in the Elixir reference. Where the config has actions, one more token is
    made of the player's own inputs; it is masked out where none is known.
    """

    def __init__(self, config: Config, action_encoding: ActionEncoding | None = None) -> None:
        """`action_encoding` standardises raw inputs (None: they are taken as they are)."""
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
        self.has_mask_tokens = len(config.patches) * len(config.horizons) > 1 or config.actions > 0
        if self.has_mask_tokens:
            self.mask_token = positions(P)
            self.patch_position = positions(len(config.patches), P)
            self.horizon_position = positions(len(config.horizons), P)
        self.actions = None
        if config.actions:
            encoding = ActionEncoding.plain(config.actions) if action_encoding is None else action_encoding
            self.actions = ActionToken(encoding, config.max_actions, P)
        self.horizons: Tensor
        self.register_buffer("horizons", torch.tensor(config.horizons, dtype=torch.float32), persistent=False)
        init_weights(self, config.predictor_depth)

    def forward(
        self,
        context: Tensor,
        targets: Tensor | None = None,
        horizon: Tensor | None = None,
        actions: Tensor | None = None,
    ) -> Tensor:
        """context [B, D] → mean prediction over the target patches [B, D]; ValueError if a row has no target.

        targets [B, N] bool (None: all patches); horizon [B] in frames ahead (None: the model's first horizon); actions
        [B, F, A] raw, NaN where a number is unknown (None: all are), of which the i-th leads to the frame i frames
        ahead. Those beyond the horizon are ignored.
        """
        return mean_of(self.predict_patches(context, targets, horizon, actions), targets)

    def predict_patches(
        self,
        context: Tensor,
        targets: Tensor | None = None,
        horizon: Tensor | None = None,
        actions: Tensor | None = None,
    ) -> Tensor:
        """Like `forward`, but one vector per patch [B, N, D]; vectors of patches not in `targets` are undefined."""
        D = context.shape[1]
        if self.config.embed_dim != D:
            raise ValueError(f"context has {D} columns; this predictor's embed_dim is {self.config.embed_dim}")
        if actions is not None and self.actions is None:
            raise ValueError("actions is given; this predictor takes none: build it with actions, the numbers of one")
        x = F.gelu(self.project(context)) + self.context_position  # [B, P]
        if not self.has_mask_tokens:
            for block in self.blocks:
                x = block(x)
            return self._projected_back(x)[:, None]  # [B, 1, D]
        given, mask = [x], None
        if actions is not None:
            token, known = self._action_token(context, horizon, actions)
            given.append(token)
        where = self._horizon_embedding(context, horizon)[:, None] + self.patch_position  # [B, N, P]
        x = torch.cat([torch.stack(given, dim=1), self.mask_token + where], dim=1)  # [B, given + N, P]
        if targets is not None:
            check_targets(targets)
        if targets is not None or actions is not None:
            asked = torch.ones(where.shape[:2], dtype=torch.bool, device=x.device) if targets is None else targets
            shown = torch.ones_like(asked[:, :1])
            mask = torch.cat([shown, asked] if actions is None else [shown, known[:, None], asked], dim=1)
        *before, last = self.blocks
        for block in before:
            x = block(x, mask)
        # Only the mask tokens are read from the last block, so those before them do not attend there.
        return self._projected_back(last(x, mask, first=len(given)))  # [B, N, D]

    def _projected_back(self, x: Tensor) -> Tensor:
        """[…, P] → […, D]."""
        projected: Tensor = self.project_back(self.norm(x))
        return projected

    def _action_token(self, context: Tensor, horizon: Tensor | None, actions: Tensor) -> tuple[Tensor, Tensor]:
        """→ [B, P] and [B] bool whether there is one."""
        assert self.actions is not None
        if actions.shape[1:] != (right := (self.config.max_actions, self.config.actions)):
            raise ValueError(f"actions is {list(actions.shape)}; it must be [batch, {right[0]}, {right[1]}]")
        if horizon is None:
            horizon = self.horizons[:1].expand(len(context))
        token, known = self.actions(actions, horizon)
        return token, known

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
