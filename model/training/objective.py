"""What a training step minimises: the recipe's weighted sum of terms."""

import math

from torch import Tensor, nn

from model.networks.jepa import JEPA
from model.training.batches import Batch
from model.training.forward_pass import forward_pass
from model.training.losses import anchor_loss, composite_loss, direction_loss, foresight_loss, prediction_loss
from model.training.recipe import Recipe


class Objective(nn.Module):
    """Batch → scalar loss. A term is taken out by deleting its line; one of weight 0 costs nothing.

    ValueError for a weight that is negative or not finite, and where all are 0.
    """

    def __init__(self, jepa: JEPA, recipe: Recipe) -> None:
        super().__init__()
        self.jepa = jepa
        terms = [
            (recipe.prediction, prediction_loss),
            (recipe.anchor, anchor_loss),
            (recipe.foresight, foresight_loss),
            (recipe.direction, direction_loss),
            (recipe.composite, composite_loss),
        ]
        for weight, term in terms:
            if not 0 <= weight < math.inf:
                raise ValueError(f"the weight of {term.__name__} is {weight}; it must be 0 or more, and finite")
        self.terms = [(weight, term) for weight, term in terms if weight]
        if not self.terms:
            raise ValueError("every term of the loss has weight 0; give one of them more")

    def forward(self, batch: Batch) -> Tensor:
        out = forward_pass(self.jepa, batch)
        loss = out.frames.new_zeros(())
        for weight, term in self.terms:
            loss = loss + weight * term(self.jepa, out)
        return loss
