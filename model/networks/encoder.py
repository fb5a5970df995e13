"""The context encoder; the target encoder is its exponential moving average.

Shapes: B batch, M inputs, G groups, N patches, D embed_dim.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.schema import group_of_columns
from model.networks.config import Config
from model.networks.layers import Block, init_weights, mean_of, positions


class PatchProjection(nn.Module):
    """Projects one patch to a token, from its inputs and from flags that mark its hidden groups."""

    def __init__(self, inputs: Tensor, flags: Tensor, embed_dim: int) -> None:
        """`inputs` [M] and `flags` [G] are boolean masks of the inputs and the groups that belong to the patch."""
        super().__init__()
        self.inputs: Tensor
        self.flags: Tensor
        self.register_buffer("inputs", inputs.nonzero()[:, 0], persistent=False)
        # A patch with a single group needs no flag: when the group is hidden, the whole token is masked out.
        flagged = flags.nonzero()[:, 0] if flags.sum() > 1 else flags.new_zeros(0)
        self.register_buffer("flags", flagged, persistent=False)
        self.whole = bool(inputs.all())
        self.project = nn.Linear(len(self.inputs) + len(self.flags), embed_dim)

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        """features [B, M] with zeros where hidden, hidden [B, G] as 0 and 1 → [B, D]."""
        # Gathering columns is slow in ONNX Runtime, so a patch that covers all inputs skips it.
        x = features if self.whole else features.index_select(1, self.inputs)  # [B, inputs of the patch]
        if len(self.flags):
            x = torch.cat([x, hidden if self.whole else hidden.index_select(1, self.flags)], dim=1)
        return F.gelu(self.project(x))  # [B, D]


class ContextEncoder(nn.Module):
    """Maps features [B, M] to an embedding [B, D].

    Projects patches to tokens, adds learned positions, applies pre-norm transformer blocks and a LayerNorm, and
    averages the visible tokens.
    """

    def __init__(self, config: Config, input_columns: Sequence[int] | None = None) -> None:
        """`input_columns` [M] is the column that each input is derived from (None: the inputs are the columns)."""
        super().__init__()
        self.config = config
        groups = [group.name for group in config.groups]
        column_group = torch.tensor(group_of_columns(config.groups))
        columns = torch.arange(config.input_dim) if input_columns is None else torch.tensor(input_columns)
        group_inputs = F.one_hot(column_group[columns], len(groups)).T.float()  # [G, M]
        group_patch = torch.tensor([[group in patch.groups for patch in config.patches] for group in config.groups])
        self.group_inputs: Tensor
        self.group_patch: Tensor
        self.register_buffer("group_inputs", group_inputs, persistent=False)
        self.register_buffer("group_patch", group_patch.float(), persistent=False)  # [G, N]
        self.patches = nn.ModuleList(
            PatchProjection(group_inputs[flags].any(0), flags, config.embed_dim) for flags in group_patch.T
        )
        self.position = positions(len(config.patches), config.embed_dim)
        self.blocks = nn.ModuleList(
            Block(config.embed_dim, config.num_heads, config.mlp_ratio, config.dropout)
            for _ in range(config.encoder_depth)
        )
        self.norm = nn.LayerNorm(config.embed_dim)
        init_weights(self, config.encoder_depth)

    def forward(self, features: Tensor, visible: Tensor | None = None) -> Tensor:
        """features [B, M], visible [B, G] bool (None: all) → [B, D]; ValueError if a row has no visible group."""
        return self.pool(self.patch_embeddings(features, visible), visible)

    def pool(self, tokens: Tensor, visible: Tensor | None = None) -> Tensor:
        """Averages tokens [B, N, D] over the patches that visible [B, G] leaves visible → [B, D]."""
        return mean_of(tokens, None if visible is None else self.visible_patches(visible))

    def patch_embeddings(self, features: Tensor, visible: Tensor | None = None) -> Tensor:
        """features [B, M], visible [B, G] → one vector per patch [B, N, D]; vectors of hidden patches are undefined."""
        B, M = features.shape
        if self.group_inputs.shape[1] != M:
            raise ValueError(f"features has {M} columns; this encoder's input_dim is {self.group_inputs.shape[1]}")
        if visible is None:
            hidden = features.new_zeros(B, len(self.group_patch))
        else:
            check_visible(visible)
            hidden = 1 - visible.to(features.dtype)  # [B, G]
            features = features * (visible.to(features.dtype) @ self.group_inputs)  # [B, M]
        tokens = [patch(features, hidden) for patch in self.patches]  # N of [B, D]
        if len(tokens) == 1:
            # Without a token axis, the layers become plain matrix products, which ONNX Runtime runs faster.
            x, mask = tokens[0] + self.position, None  # [B, D]
        else:
            x = torch.stack(tokens, dim=1) + self.position  # [B, N, D]
            mask = None if visible is None else self.visible_patches(visible)  # [B, N]
        for block in self.blocks:
            x = block(x, mask)
        normed: Tensor = self.norm(x)
        return normed.view(B, len(tokens), -1)  # [B, N, D]

    def visible_patches(self, visible: Tensor) -> Tensor:
        """visible [B, G] → [B, N] bool: a patch is visible if any of its groups is."""
        return visible.to(self.group_patch.dtype) @ self.group_patch > 0


def check_visible(visible: Tensor) -> None:
    """Raises ValueError if a row of the mask [B, G] hides every group; does nothing during an export."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return
    blind = (~visible.any(1)).nonzero()
    if len(blind):
        raise ValueError(f"visible hides every group of row {int(blind[0])}; leave at least one group visible")
