"""The networks as they are served: the functions that training learnt, in the operations ONNX Runtime runs fastest.

Tokens are rows of one matrix, [B · N, D], so that every layer is a plain matrix product with its bias.
Dims: B batch, C columns, G groups, M inputs, N tokens a frame, D width, P width in the predictor.
"""

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.schema import Schema, group_of_columns
from model.export.graph_inputs import PlainInputs, RampInputs, ServedPatch, linear
from model.networks.encoder import ContextEncoder, PatchProjection
from model.networks.encoding import FeatureEncoding
from model.networks.layers import Attention, Block
from model.networks.predictor import Predictor


def embed(encoding: nn.Module, encoder: ContextEncoder, schema: Schema, features: Tensor) -> Tensor:
    """Raw features [B, C], a NaN hiding its whole group → [B, D], by the networks as they were trained."""
    missing = features.isnan()
    groups = [missing[:, group.start : group.stop].any(1) for group in schema.groups]
    seen = torch.where(missing, 0.0, features)
    embedding: Tensor = encoder(encoding(seen), ~torch.stack(groups, dim=1))
    return embedding


class ServedEncoder(nn.Module):
    """Raw features, NaN where hidden → embedding: what `context_encoder.onnx` and `target_encoder.onnx` hold."""

    def __init__(self, encoding: nn.Module, encoder: ContextEncoder, schema: Schema) -> None:
        """`encoding`: a FeatureEncoding, or nn.Identity where the encoder's inputs are the columns as they are."""
        super().__init__()
        groups = len(schema.groups)
        columns = torch.tensor(group_of_columns(schema.groups))
        self.column_group = nn.Buffer(columns)  # [C]
        self.membership = nn.Buffer(F.one_hot(columns, groups).T.float())  # [G, C]
        self.group_patch = nn.Buffer(encoder.group_patch.clone())  # [G, N]
        self.inputs = RampInputs(encoding) if isinstance(encoding, FeatureEncoding) else PlainInputs(schema.input_dim)
        group = encoder.group_inputs.argmax(0)[self.inputs.kept]  # [M]
        patches = cast("list[PatchProjection]", encoder.patches)
        self.patches = nn.ModuleList(ServedPatch(patch, self.inputs, group, groups) for patch in patches)
        self.position = nn.Parameter(encoder.position.detach().clone())
        self.tokens = len(self.patches)
        self.blocks = served_blocks(encoder.blocks, self.tokens)
        self.norm = deepcopy(encoder.norm)

    def forward(self, features: Tensor) -> Tensor:
        """features [B, C] → [B, D]."""
        columns = features.T
        hidden = self.membership @ columns.isnan().float() > 0  # [G, B]
        inputs = torch.cat([*self.inputs(columns, hidden.index_select(0, self.column_group)), hidden.float()])
        tokens = [patch(inputs) for patch in self.patches]  # [M + G, B] → N of [B, D]
        if self.tokens == 1:
            x, mask = tokens[0] + self.position, None
        else:
            x = (torch.stack(tokens, dim=1) + self.position).flatten(0, 1)  # [B · N, D]
            shown = (~hidden).float().T @ self.group_patch > 0  # [B, N]: a patch is, while any of its groups is
            mask = pairs(shown)
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        return x if self.tokens == 1 else mean_where(x, shown.float())


class ServedPredictor(nn.Module):
    """context, targets [B, N] as 0 and 1, horizon [B] frames ahead → prediction: what `predictor.onnx` holds."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.project = deepcopy(predictor.project)
        self.context_position = nn.Parameter(predictor.context_position.detach().clone())
        self.asks = predictor.has_mask_tokens
        self.tokens = 1 + len(predictor.config.patches) if self.asks else 1
        if self.asks:
            self.question = nn.Parameter((predictor.mask_token + predictor.patch_position).detach())  # [N, P]
            self.horizon_position = nn.Parameter(predictor.horizon_position.detach().clone())
            self.horizons = nn.Buffer(predictor.horizons.clone())
        self.blocks = served_blocks(predictor.blocks, self.tokens)
        self.norm = deepcopy(predictor.norm)
        self.project_back = deepcopy(predictor.project_back)

    def forward(self, context: Tensor, targets: Tensor, horizon: Tensor) -> Tensor:
        """context [B, D], targets [B, N], horizon [B] → [B, D]."""
        x, mask, skip = F.gelu(self.project(context)) + self.context_position, None, 0  # [B, P]
        if self.asks:
            one_hot = (horizon[:, None] == self.horizons).float()  # [B, horizons]
            asked = (one_hot @ self.horizon_position)[:, None] + self.question  # [B, N, P]
            x = torch.cat([x[:, None], asked], dim=1).flatten(0, 1)  # [B · (1 + N), P]
            mask, skip = pairs(F.pad(targets, (1, 0), value=1.0) > 0), 1
        for block in self.blocks[:-1]:
            x = block(x, mask)
        # Only the answers to what was asked are read, so the last block gives no other.
        x = self.norm(self.blocks[-1](x, mask, skip))  # [B · N, P]
        if targets.shape[1] > 1:
            # The mean of products is the product of the mean: one row to project back, not N.
            x = mean_where(x, (targets > 0).float())
        answer: Tensor = self.project_back(x)
        return answer


def served_blocks(trained: nn.ModuleList, tokens: int) -> nn.ModuleList:
    return nn.ModuleList(ServedBlock(block, tokens) for block in cast("list[Block]", trained))


class ServedBlock(nn.Module):
    """A pre-norm transformer block over the N tokens of each frame."""

    def __init__(self, block: Block, tokens: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm, self.mlp = map(deepcopy, (block.attention_norm, block.mlp_norm, block.mlp))
        self.attention = LoneAttention(block.attention) if tokens == 1 else ServedAttention(block.attention, tokens)
        self.tokens = tokens

    def forward(self, x: Tensor, mask: Tensor | None = None, skip: int = 0) -> Tensor:
        """x [B · N, D] → [B · (N − skip), D]: without the answers of the first `skip` tokens."""
        attended = self.attention(self.attention_norm(x), mask, skip)
        x = after(x, self.tokens, skip) + attended
        y: Tensor = x + self.mlp(self.mlp_norm(x))
        return y


class LoneAttention(nn.Module):
    """Attention of a single token: the softmax over one key is 1, and value and output are one matrix."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        value, out = attention.value, attention.out
        weight, bias = out.weight.double(), out.bias.double()
        self.project = linear(weight @ value.weight.double(), weight @ value.bias.double() + bias)

    def forward(self, x: Tensor, *_: object) -> Tensor:
        projected: Tensor = self.project(x)
        return projected


class ServedAttention(nn.Module):
    """Multi-head self-attention, as ONNX's one operator for it."""

    def __init__(self, attention: Attention, tokens: int) -> None:
        super().__init__()
        (q, k), (q_bias, k_bias) = attention.query_key.weight.chunk(2), attention.query_key.bias.chunk(2)
        self.query, self.key = linear(q, q_bias), linear(k, k_bias)
        self.value, self.out = deepcopy(attention.value), deepcopy(attention.out)
        self.heads = attention.num_heads
        self.tokens = tokens

    def forward(self, x: Tensor, mask: Tensor, skip: int) -> Tensor:
        """x [B · N, D], mask [B, 1, N, N] → [B · (N − skip), D]."""
        q = frames(self.query(after(x, self.tokens, skip)), self.tokens - skip)
        k, v = (frames(project(x), self.tokens) for project in (self.key, self.value))
        mixed, *_ = torch.onnx.ops.attention(
            q, k, v, mask[:, :, skip:], q_num_heads=self.heads, kv_num_heads=self.heads
        )
        attended: Tensor = self.out(mixed.flatten(0, 1))
        return attended


def pairs(shown: Tensor) -> Tensor:
    """shown [B, N] bool → [B, 1, N, N]: every token sees those that are shown."""
    return shown[:, None, None].expand(-1, -1, shown.shape[1], -1)


def frames(x: Tensor, tokens: int) -> Tensor:
    """x [B · N, D] → [B, N, D]."""
    return x.view(-1, tokens, x.shape[1])


def after(x: Tensor, tokens: int, skip: int) -> Tensor:
    """x [B · N, D] without the first `skip` tokens of each frame."""
    return frames(x, tokens)[:, skip:].flatten(0, 1) if skip else x


def mean_where(x: Tensor, chosen: Tensor) -> Tensor:
    """x [B · N, D], chosen [B, N] as 0 and 1 → [B, D]."""
    return (frames(x, chosen.shape[1]) * chosen[:, :, None]).sum(1) / chosen.sum(1, keepdim=True)
