"""The parts both networks are made of. Dims: B batch, N tokens, D width, H heads."""

import math

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention over the tokens that `mask` leaves visible."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_key = nn.Linear(dim, 2 * dim)  # apart from the value, which is all that a lone token needs
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B, N, D], mask [B, N] bool (True: may be attended to) → [B, N, D]; or one token a row, [B, D] → [B, D]."""
        if x.ndim == 2:
            # The softmax over one key is 1: attention is the value itself, and q and k are never needed.
            alone: Tensor = self.out(self.value(x))
            return alone
        B, N, D = x.shape
        q, k = (
            self.query_key(x).view(B, N, 2, self.num_heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )  # each [B, H, N, D/H]
        v = self.value(x).view(B, N, self.num_heads, -1).transpose(1, 2)  # [B, H, N, D/H]
        # Written out: over a handful of tokens it is 4 times as fast on a CPU as PyTorch's fused kernel in bfloat16.
        scores = q @ k.transpose(-1, -2) / math.sqrt(D // self.num_heads)  # [B, H, N, N]
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
        heads = scores.softmax(-1) @ v  # [B, H, N, D/H]
        mixed: Tensor = self.out(heads.transpose(1, 2).reshape(B, N, D))
        return mixed


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        hidden = math.floor(dim * mlp_ratio + 0.5)  # half away from zero, as the Elixir reference rounds
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x [B, N, D], mask [B, N] → [B, N, D]; or [B, D] → [B, D]."""
        x = x + self.dropout(self.attention(self.attention_norm(x), mask))
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
