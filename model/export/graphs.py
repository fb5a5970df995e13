"""The networks as they are exported: the same functions, rewritten in the operations that ONNX Runtime runs fastest.

Tokens are the rows of one matrix [B · N, D], so that every layer is a plain matrix product plus a bias.
Shapes: B batch, C columns, G groups, M inputs, N tokens per frame, D width, P width of the predictor, F frames of which
inputs are given, A numbers of such an input.
"""

from copy import deepcopy
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bundle.schema import Schema, group_of_columns
from model.export.graph_inputs import PlainInputs, RampInputs, ServedPatch, linear
from model.networks.actions import ActionToken
from model.networks.encoder import ContextEncoder, PatchProjection
from model.networks.encoding import CLIP, FeatureEncoding
from model.networks.layers import Attention, Block
from model.networks.predictor import Predictor


def embed(encoding: nn.Module, encoder: ContextEncoder, schema: Schema, features: Tensor) -> Tensor:
    """Embeds raw features [B, C] with the trained networks → [B, D]; a NaN hides its whole group."""
    missing = features.isnan()
    hidden = torch.stack([missing[:, group.start : group.stop].any(1) for group in schema.groups], dim=1)  # [B, G]
    embedding: Tensor = encoder(encoding(torch.where(missing, 0.0, features)), ~hidden)
    return embedding


def predict(
    predictor: Predictor, context: Tensor, targets: Tensor, horizon: Tensor, actions: Tensor | None = None
) -> Tensor:
    """Asks the trained predictor as `predictor.onnx` is asked: context [B, D], targets [B, N], horizon [B], and where
    it takes them actions [B, F, A] → [B, D]."""
    predicted: Tensor = predictor(context, targets > 0, horizon, actions)
    return predicted


class ServedEncoder(nn.Module):
    """Maps raw features, NaN where hidden, to an embedding: `context_encoder.onnx` and `target_encoder.onnx`."""

    def __init__(self, encoding: nn.Module, encoder: ContextEncoder, schema: Schema) -> None:
        """`encoding` is a FeatureEncoding, or nn.Identity if the encoder takes raw columns."""
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
        columns = features.T  # [C, B]
        hidden = self.membership @ columns.isnan().to(columns.dtype) > 0  # [G, B]
        parts = self.inputs(columns, hidden.index_select(0, self.column_group))  # [M, B] in parts
        inputs = torch.cat([*parts, hidden.to(columns.dtype)])  # [M + G, B]
        tokens = [patch(inputs) for patch in self.patches]  # N of [B, D]
        if self.tokens == 1:
            x, mask = tokens[0] + self.position, None  # [B, D]
        else:
            x = (torch.stack(tokens, dim=1) + self.position).flatten(0, 1)  # [B · N, D]
            # A patch is visible if any of its groups is.
            visible = (~hidden).to(columns.dtype).T @ self.group_patch > 0  # [B, N]
            mask = attention_mask(visible)  # [B, 1, N, N]
        for block in self.blocks:
            x = block(x, mask)
        x = self.norm(x)
        return x if self.tokens == 1 else mean_where(x, visible.to(x.dtype))  # [B, D]


class ServedPredictor(nn.Module):
    """Maps a context embedding, target patches, a horizon and own inputs to a predicted embedding: `predictor.onnx`."""

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.project = deepcopy(predictor.project)
        self.context_position = nn.Parameter(predictor.context_position.detach().clone())
        self.has_mask_tokens = predictor.has_mask_tokens
        self.actions = None if predictor.actions is None else ServedActions(predictor.actions)
        # Those before the mask tokens: of the context, and of own inputs.
        self.given = 1 if self.actions is None else 2
        self.tokens = self.given + len(predictor.config.patches) if self.has_mask_tokens else 1
        if self.has_mask_tokens:
            self.mask_tokens = nn.Parameter((predictor.mask_token + predictor.patch_position).detach())  # [N, P]
            self.horizon_position = nn.Parameter(predictor.horizon_position.detach().clone())
            self.horizons = nn.Buffer(predictor.horizons.clone())
        self.blocks = served_blocks(predictor.blocks, self.tokens)
        self.norm = deepcopy(predictor.norm)
        self.project_back = deepcopy(predictor.project_back)

    def forward(self, context: Tensor, targets: Tensor, horizon: Tensor, actions: Tensor | None = None) -> Tensor:
        """context [B, D], targets [B, N] as 0 and 1, horizon [B] in frames ahead, actions [B, F, A], NaN where unknown
        → [B, D]."""
        x, mask, skip = F.gelu(self.project(context)) + self.context_position, None, 0  # [B, P]
        if self.has_mask_tokens:
            one_hot = (horizon[:, None] == self.horizons).to(x.dtype)  # [B, horizons]
            masked = (one_hot @ self.horizon_position)[:, None] + self.mask_tokens  # [B, N, P]
            given, shown = [x[:, None], masked], F.pad(targets, (1, 0), value=1.0) > 0  # [B, 1 + N]
            if self.actions is not None and actions is not None:
                token, known = self.actions(actions, horizon)
                given.insert(1, token[:, None])
                shown = torch.cat([shown[:, :1], known, shown[:, 1:]], dim=1)  # [B, 2 + N]
            x = torch.cat(given, dim=1).flatten(0, 1)  # [B · (given + N), P]
            mask, skip = attention_mask(shown), self.given  # [B, 1, given + N, given + N]
        for block in self.blocks[:-1]:
            x = block(x, mask)
        # Only the mask tokens are read from the last block, so it does not compute those before them.
        x = self.norm(self.blocks[-1](x, mask, skip))  # [B · N, P]
        if targets.shape[1] > 1:
            # The projection is linear, so the mean is taken first: it then projects one row per frame rather than N.
            x = mean_where(x, (targets > 0).to(x.dtype))  # [B, P]
        predicted: Tensor = self.project_back(x)  # [B, D]
        return predicted


class ServedActions(nn.Module):
    """Maps inputs to a token as the trained ActionToken does, with one row of all the numbers that a frame is given."""

    def __init__(self, trained: ActionToken) -> None:
        super().__init__()
        encoding, up = trained.encoding, cast("nn.Linear", trained.mlp[0])
        self.gelu, self.down = deepcopy(trained.mlp[1]), deepcopy(trained.mlp[2])
        frames, actions, classes = len(trained.frame), len(encoding.mean), len(encoding.class_column)
        weight = up.weight.detach().double().view(len(up.weight), frames, -1)  # [hidden, F, A + K + A]
        numbers, chosen, flags = torch.split(weight, [actions, classes, actions], dim=2)
        self.project = linear(torch.cat([part.flatten(1) for part in (numbers, chosen, flags)], 1), up.bias)
        self.frame = nn.Buffer(trained.frame.repeat_interleave(actions)[None].clone())  # [1, F · A]
        reach = torch.where(encoding.scale > 0, CLIP / encoding.scale, 0.0)
        self.mean = nn.Buffer(encoding.mean.repeat(frames))  # [F · A]
        self.scale = nn.Buffer(encoding.scale.repeat(frames))
        self.low = nn.Buffer((encoding.mean - reach).repeat(frames))
        self.high = nn.Buffer((encoding.mean + reach).repeat(frames))
        offset = torch.arange(frames)[:, None] * actions
        self.class_column = nn.Buffer((offset + encoding.class_column).flatten())  # [F · K]
        self.class_value = nn.Buffer(encoding.class_value.repeat(frames))

    def forward(self, actions: Tensor, horizon: Tensor) -> tuple[Tensor, Tensor]:
        """actions [B, F, A], horizon [B] → [B, P], [B, 1] bool whether any number is known."""
        given = actions.flatten(1)  # [B, F · A]
        known = ~given.isnan() & (self.frame <= horizon[:, None])
        flags = known.to(given.dtype)
        # Clipped before the mean is taken off, which no number can then carry beyond what float32 holds.
        seen = torch.where(known, torch.minimum(torch.maximum(given, self.low), self.high), self.mean)
        parts = [(seen - self.mean) * self.scale]
        if len(self.class_column):
            is_it = given.index_select(1, self.class_column) == self.class_value
            parts.append(is_it.to(seen.dtype) * flags.index_select(1, self.class_column))
        token: Tensor = self.down(self.gelu(self.project(torch.cat([*parts, flags], dim=1))))
        return token, flags.sum(1, keepdim=True) > 0


def served_blocks(trained: nn.ModuleList, tokens: int) -> nn.ModuleList:
    """The trained blocks in their exported form, for `tokens` tokens per frame."""
    return nn.ModuleList(ServedBlock(block, tokens) for block in cast("list[Block]", trained))


class ServedBlock(nn.Module):
    """A pre-norm transformer block over the N tokens of each frame."""

    def __init__(self, block: Block, tokens: int) -> None:
        super().__init__()
        self.attention_norm, self.mlp_norm, self.mlp = map(deepcopy, (block.attention_norm, block.mlp_norm, block.mlp))
        self.attention = (
            SingleTokenAttention(block.attention) if tokens == 1 else ServedAttention(block.attention, tokens)
        )
        self.tokens = tokens

    def forward(self, x: Tensor, mask: Tensor | None = None, skip: int = 0) -> Tensor:
        """x [B · N, D], mask [B, 1, N, N] → [B · (N − skip), D], without the first `skip` tokens of each frame."""
        attended = self.attention(self.attention_norm(x), mask, skip)
        x = drop_first(x, self.tokens, skip) + attended
        y: Tensor = x + self.mlp(self.mlp_norm(x))
        return y


class SingleTokenAttention(nn.Module):
    """Attention over a single token, where the softmax is 1: value and output projection merged into one layer."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        value, out = attention.value, attention.out
        weight, bias = out.weight.double(), out.bias.double()
        self.project = linear(weight @ value.weight.double(), weight @ value.bias.double() + bias)

    def forward(self, x: Tensor, *_: object) -> Tensor:
        projected: Tensor = self.project(x)
        return projected


class ServedAttention(nn.Module):
    """Multi-head self-attention by ONNX's Attention operator."""

    def __init__(self, attention: Attention, tokens: int) -> None:
        super().__init__()
        (q, k), (q_bias, k_bias) = attention.query_key.weight.chunk(2), attention.query_key.bias.chunk(2)
        self.query, self.key = linear(q, q_bias), linear(k, k_bias)
        self.value, self.out = deepcopy(attention.value), deepcopy(attention.out)
        self.heads = attention.num_heads
        self.tokens = tokens

    def forward(self, x: Tensor, mask: Tensor, skip: int) -> Tensor:
        """x [B · N, D], mask [B, 1, N, N] → [B · (N − skip), D]."""
        q = frames(self.query(drop_first(x, self.tokens, skip)), self.tokens - skip)  # [B, N − skip, D]
        k, v = (frames(project(x), self.tokens) for project in (self.key, self.value))  # each [B, N, D]
        mixed, *_ = torch.onnx.ops.attention(
            q, k, v, mask[:, :, skip:], q_num_heads=self.heads, kv_num_heads=self.heads
        )
        attended: Tensor = self.out(mixed.flatten(0, 1))  # [B · (N − skip), D]
        return attended


def attention_mask(visible: Tensor) -> Tensor:
    """visible [B, N] bool → [B, 1, N, N]: every token attends to the visible tokens."""
    return visible[:, None, None].expand(-1, -1, visible.shape[1], -1)


def frames(x: Tensor, tokens: int) -> Tensor:
    """Splits x [B · N, D] by frame → [B, N, D]."""
    return x.view(-1, tokens, x.shape[1])


def drop_first(x: Tensor, tokens: int, skip: int) -> Tensor:
    """Drops the first `skip` tokens of each frame: x [B · N, D] → [B · (N − skip), D]."""
    return frames(x, tokens)[:, skip:].flatten(0, 1) if skip else x


def mean_where(x: Tensor, chosen: Tensor) -> Tensor:
    """Averages the chosen tokens of each frame: x [B · N, D], chosen [B, N] as 0 and 1 → [B, D]."""
    return (frames(x, chosen.shape[1]) * chosen[:, :, None]).sum(1) / chosen.sum(1, keepdim=True)
