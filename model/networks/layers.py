"""The parts both networks are made of. Dims: B batch, N tokens, D width, H heads."""

import math

import torch
from torch import Tensor, nn

from model.networks.dropout import Dropout

FEW_TOKENS = 3  # up to so many, sums over a head's width take half the time of batches of tiny matrix products


class Attention(nn.Module):
    """Multi-head self-attention over the tokens that `mask` leaves visible."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key = nn.Linear(dim, 2 * dim)  # apart from the value, which is all that a lone token needs
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, first: int = 0) -> Tensor:
        """x [B, N, D], mask [B, N] bool (True: may be attended to) → [B, N - first, D], what the tokens from `first` on
        read from all; or one token a row, [B, D] → [B, D]."""
        if x.ndim == 2:
            # The softmax over one key is 1: attention is the value itself, and q and k are never needed.
            alone: Tensor = self.out(self.value(x))
            return alone
        B, N, _ = x.shape
        q, k = self.query_key(x).view(B, N, 2, self.num_heads, -1).unbind(2)  # each [B, N, H, D/H]
        q, v = q[:, first:], self.value(x).view(B, N, self.num_heads, -1)
        heads = (_sums if N <= FEW_TOKENS else _products)(q, k, v, mask)  # [B, N - first, H, D/H]
        mixed: Tensor = self.out(heads.flatten(2))
        return mixed


def _sums(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """q [B, Q, H, d], k and v [B, N, H, d], mask [B, N] → [B, Q, H, d]."""
    q, k, v = q.float(), k.float(), v.float()
    scores = (q[:, :, None] * k[:, None]).sum(-1) / math.sqrt(q.shape[-1])  # [B, Q, N, H]
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, :, None], -math.inf)
    return (scores.softmax(2)[..., None] * v[:, None]).sum(2)


def _products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """As `_sums`. Written out: over a handful of tokens it is 4 times as fast on a CPU as PyTorch's fused kernel in
    bfloat16."""
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # each [B, H, ., d]
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # [B, H, Q, N]
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = math.floor(dim * mlp_ratio + 0.5)  # half away from zero, as the Elixir reference rounds
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, first: int = 0) -> Tensor:
        """x [B, N, D], mask [B, N] → the tokens from `first` on, [B, N - first, D]; or [B, D] → [B, D]."""
        mixed = self.dropout(self.attention(self.attention_norm(x), mask, first))
        x = (x[:, first:] if first else x) + mixed
        y: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return y


def init_weights(network: nn.Module, depth: int) -> None:
    """Truncated normal (σ .02), zero biases, and the last layer of every residual branch scaled by 1/√(2 · depth),
    so that the residual stream keeps its variance whatever the depth (GPT-2, Radford et al. 2019, §2.3)."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            scale = 1 / math.sqrt(2 * depth) if name.endswith(("attention.out", "mlp.2")) else 1.0
            nn.init.trunc_normal_(module.weight, std=0.02 * scale)
            nn.init.zeros_(module.bias)


def positions(*shape: int) -> nn.Parameter:
    """A learned embedding, truncated normal (σ .02)."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02))
