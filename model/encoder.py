"""The context encoder; the target encoder is its exponential moving average. Dims: B batch, C columns, G groups,
N patches, D embed."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import Config, Patch
from model.layers import Block, init_weights, positions


class PatchProjection(nn.Module):
    """Projects the columns of one patch, and which of its groups are hidden, to one token."""

    def __init__(self, patch: Patch, groups: list[str], embed_dim: int) -> None:
        super().__init__()
        columns = [column for group in patch.groups for column in range(group.start, group.stop)]
        # A patch of one group needs no such sign: hidden, it is no token at all.
        signs = [groups.index(group.name) for group in patch.groups] if len(patch.groups) > 1 else []
        self.columns: Tensor
        self.signs: Tensor
        self.register_buffer("columns", torch.tensor(columns), persistent=False)
        self.register_buffer("signs", torch.tensor(signs, dtype=torch.long), persistent=False)
        self.project = nn.Linear(len(columns) + len(signs), embed_dim)

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """features [B, C] with zeros where hidden, hidden [B, G] as 0 and 1 → [B, D]."""
        seen = features.index_select(1, self.columns)
        if len(self.signs):
            seen = torch.cat([seen, hidden.index_select(1, self.signs)], dim=1)
        return F.gelu(self.project(seen))


class ContextEncoder(nn.Module):
    """[B, C] → [B, D]: patches projected to tokens, + learned position, pre-norm blocks, LayerNorm, mean pool over
    the visible patches."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        groups = [group.name for group in config.groups]
        self.patches = nn.ModuleList(PatchProjection(patch, groups, config.embed_dim) for patch in config.patches)
        self.position = positions(len(config.patches), config.embed_dim)
        self.blocks = nn.ModuleList(
            Block(config.embed_dim, config.num_heads, config.mlp_ratio, config.dropout)
            for _ in range(config.encoder_depth)
        )
        self.norm = nn.LayerNorm(config.embed_dim)
        column_group = [i for i, group in enumerate(config.groups) for _ in range(group.width)]
        group_patch = torch.zeros(len(groups), len(config.patches))
        for n, patch in enumerate(config.patches):
            for group in patch.groups:
                group_patch[groups.index(group.name), n] = 1
        self.column_group: Tensor
        self.group_patch: Tensor
        self.register_buffer("column_group", torch.tensor(column_group), persistent=False)  # [C]
        self.register_buffer("group_patch", group_patch, persistent=False)  # [G, N]
        init_weights(self, config.encoder_depth)

    def forward(self, features: Tensor, visible: Tensor | None = None) -> Tensor:
        """features [B, C], visible [B, G] bool (None: all) → embedding [B, D]; ValueError if a row sees nothing."""
        tokens = self.patch_embeddings(features, visible)  # [B, N, D]
        if visible is None or len(self.patches) == 1:
            return tokens.mean(1)
        shown = self.visible_patches(visible).to(tokens.dtype)[:, :, None]  # [B, N, 1]
        return (tokens * shown).sum(1) / shown.sum(1)

    def patch_embeddings(self, features: Tensor, visible: Tensor | None = None) -> Tensor:
        """features [B, C], visible [B, G] → one vector a patch [B, N, D]; those of hidden patches mean nothing."""
        B, C = features.shape
        if self.config.input_dim != C:
            raise ValueError(f"features has {C} columns; this encoder's input_dim is {self.config.input_dim}")
        if visible is None:
            hidden = features.new_zeros(B, len(self.group_patch))
        else:
            check_visible(visible)
            hidden = 1 - visible.to(features.dtype)  # [B, G]
            features = features * visible.to(features.dtype).index_select(1, self.column_group)
        tokens = [patch(features, hidden) for patch in self.patches]
        if len(tokens) == 1:
            # Without a token axis the layers are plain matrix products, which ONNX Runtime runs faster.
            x, mask = tokens[0] + self.position, None  # [B, D]
        else:
            x = torch.stack(tokens, dim=1) + self.position  # [B, N, D]
            mask = None if visible is None else self.visible_patches(visible)  # [B, N]
        outputs = [x]
        for block in self.blocks:
            outputs.append(block(outputs[-1], mask))
        if self.config.average_blocks:
            last = torch.stack([F.layer_norm(output, output.shape[-1:]) for output in outputs]).mean(0)
        else:
            last = outputs[-1]
        normed: Tensor = self.norm(last)
        return normed.view(B, len(tokens), -1)

    def visible_patches(self, visible: Tensor) -> Tensor:
        """visible [B, G] → [B, N] bool: a patch is visible while any of its groups is."""
        return visible.to(self.group_patch.dtype) @ self.group_patch > 0


def check_visible(visible: Tensor) -> None:
    """Raises ValueError where a row of the mask [B, G] leaves nothing visible (not while exporting)."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return
    blind = (~visible.any(1)).nonzero()
    if len(blind):
        raise ValueError(f"visible hides every group of row {int(blind[0])}; leave at least one group visible")
