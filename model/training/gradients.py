"""The gradient of a batch, cut into equal shares: one a thread of every process."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from lightning_fabric import Fabric
from torch import Tensor

from model.networks.dropout import draws
from model.training.batches import COMPOSITE_EVERY, Batch
from model.training.devices import mean_of_processes, precision
from model.training.objective import Objective

# Of a process. More threads wait for Python's lock about as long as they compute.
MAX_SHARES = 4


class Gradients:
    """Leaves in `learned` the gradients of a batch's loss, computed share by share.

    A thread a share is 1.3 times as fast on two cores as two threads within every operation, which meet at its end; and
    where another program takes a core, those wait for each other's turn at every one of thousands of operations a step.
    """

    def __init__(self, objective: Objective, learned: list[Tensor], rows: int, fabric: Fabric, *, half: bool) -> None:
        """`rows`: of this process's part of a batch."""
        self.objective = objective
        self.learned = learned
        self.fabric = fabric
        self.half = half
        most = min(torch.get_num_threads(), MAX_SHARES) if fabric.device.type == "cpu" else 1
        self.shares = next(count for count in range(most, 0, -1) if rows % (count * COMPOSITE_EVERY) == 0 or count == 1)
        self.threads = max(1, torch.get_num_threads() // self.shares)  # within one operation of one share
        self.pool = ThreadPoolExecutor(self.shares, "share", torch.set_num_threads, (self.threads,))

    def __call__(self, draw: Callable[[int, int], Batch], seed: int) -> Tensor:
        """The loss of this process's part of the batch; `draw(rank, ranks)` gives one of equal shares, `seed` is of
        dropout."""
        losses, gradients = zip(*self.pool.map(partial(self._share, draw, seed), range(self.shares)), strict=True)
        # Some weights have no part in it: a lone token has no use for queries and keys.
        used = [i for i, gradient in enumerate(gradients[0]) if gradient is not None]
        total, *others = ([each[i] for i in used] for each in gradients)
        for other in others:
            torch._foreach_add_(total, other)
        torch._foreach_div_(total, self.shares)
        for i, gradient in zip(used, mean_of_processes(self.fabric, total), strict=True):
            self.learned[i].grad = gradient
        return torch.stack(losses).mean()

    def _share(
        self, draw: Callable[[int, int], Batch], seed: int, share: int
    ) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        rank, ranks = self.fabric.global_rank * self.shares + share, self.fabric.world_size * self.shares
        batch, device = draw(rank, ranks), self.fabric.device
        with precision(device, half=self.half), draws(seed, rank, ranks, device):
            loss: Tensor = self.objective(batch)
        return loss.detach(), torch.autograd.grad(loss, self.learned, allow_unused=True)
