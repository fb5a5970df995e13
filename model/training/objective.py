"""What a training step minimises: the recipe's weighted sum of terms."""

from torch import Tensor, nn

from model.networks.jepa import JEPA
from model.training.batches import Batch
from model.training.forward_pass import ForwardPass, forward_pass
from model.training.losses import anchor_loss, composite_loss, direction_loss, foresight_loss, prediction_loss
from model.training.recipe import Recipe


class Objective(nn.Module):
    """Batch → scalar loss. A term is taken out by deleting its line; one of weight 0 costs nothing."""

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
        self.terms = [(weight, term) for weight, term in terms if weight]

    def forward(self, batch: Batch) -> Tensor:
        return self.of(forward_pass(self.jepa, batch))

    def of(self, out: ForwardPass) -> Tensor:
        """The loss of a batch that has been through the networks."""
        loss = out.frames.new_zeros(())
        for weight, term in self.terms:
            loss = loss + weight * term(self.jepa, out)
        return loss
