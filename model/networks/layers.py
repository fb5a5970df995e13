"""The layers that both networks are built from. Shapes: B batch, N tokens, D width, H heads, d = D/H."""

import math

import torch
from torch import Tensor, nn

from model.networks.dropout import Dropout

# Up to this many tokens, sums over a head's width take half the time of batches of tiny matrix products.
MAX_SUMMED_TOKENS = 3


class Attention(nn.Module):
    """Multi-head self-attention over the visible tokens."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        # The value has a projection of its own, the only one that a single token needs.
        self.query_key = nn.Linear(dim, 2 * dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, first: int = 0) -> Tensor:
        """x [B, N, D], mask [B, N] bool (True: visible) → [B, N - first, D], or [B, D] → [B, D] for a single token.

        Only the tokens from index `first` on attend; all visible tokens are attended to.
        """
        if x.ndim == 2:
            # The softmax over a single key is 1, so attention returns the value and needs neither query nor key.
            single: Tensor = self.out(self.value(x))
            return single
        B, N, _ = x.shape
        q, k = self.query_key(x).view(B, N, 2, self.num_heads, -1).unbind(2)  # each [B, N, H, d]
        q = q[:, first:]  # [B, N - first, H, d]
        v = self.value(x).view(B, N, self.num_heads, -1)  # [B, N, H, d]
        heads = (_sums if N <= MAX_SUMMED_TOKENS else _products)(q, k, v, mask)  # [B, N - first, H, d]
        mixed: Tensor = self.out(heads.flatten(2))  # [B, N - first, D]
        return mixed


def _sums(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention by elementwise products: q [B, Q, H, d], k and v [B, N, H, d], mask [B, N] → [B, Q, H, d]."""
    q, k, v = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (q, k, v))
    scores = (q[:, :, None] * k[:, None]).sum(-1) / math.sqrt(q.shape[-1])  # [B, Q, N, H]
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, :, None], -math.inf)
    return (scores.softmax(2)[..., None] * v[:, None]).sum(2)  # [B, Q, H, d]


def _products(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention by matrix products: takes and returns the same shapes as `_sums`."""
    # Over a handful of tokens in bfloat16 on a CPU, this is 4 times as fast as PyTorch's fused kernel.
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))  # q [B, H, Q, d], k and v [B, H, N, d]
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # [B, H, Q, N]
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2)  # [B, Q, H, d]


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, dim: int, num_heads: int, mlp_ratio: float, dropout: float) -> None:
        super().__init__()
        # Rounds half up, as the Elixir reference does; Python's round() would round half to even.
        hidden = math.floor(dim * mlp_ratio + 0.5)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, num_heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Tensor | None = None, first: int = 0) -> Tensor:
        """x [B, N, D], mask [B, N] → [B, N - first, D], the tokens from index `first` on; or [B, D] → [B, D]."""
        mixed = self.dropout(self.attention(self.attention_norm(x), mask, first))
        x = (x[:, first:] if first else x) + mixed
        y: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return y


def init_weights(network: nn.Module, depth: int) -> None:
    """Initialises linear layers: weights from a truncated normal (σ .02), biases zero.

    The last layer of every residual branch is scaled by 1/√(2 · depth), which keeps the variance of the residual
    stream independent of the depth (GPT-2, Radford et al. 2019, §2.3).
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            scale = 1 / math.sqrt(2 * depth) if name.endswith(("attention.out", "mlp.2")) else 1.0
            nn.init.trunc_normal_(module.weight, std=0.02 * scale)
            nn.init.zeros_(module.bias)


def positions(*shape: int) -> nn.Parameter:
    """A learned embedding of this shape, initialised from a truncated normal (σ .02)."""
    return nn.Parameter(nn.init.trunc_normal_(torch.empty(*shape), std=0.02))


def mean_of(tokens: Tensor, chosen: Tensor | None) -> Tensor:
    """tokens [B, N, D] → [B, D], their mean over those that are chosen [B, N] bool (None: all)."""
    if tokens.shape[1] == 1:
        return tokens.flatten(1)  # [B, D]
    if chosen is None:
        return tokens.mean(1)  # [B, D]
    weights = chosen.to(tokens.dtype)[:, :, None]  # [B, N, 1]
    return (tokens * weights).sum(1) / weights.sum(1)  # [B, D]
