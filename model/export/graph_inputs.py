"""Raw columns to tokens, as served. Dims: B batch, C columns, G groups, M inputs, m of them in one patch, D embed."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.encoder import PatchProjection
from model.networks.encoding import CLIP, FeatureEncoding

# Stands for a hidden number: below every ramp, and no id.
HIDDEN = -1e30
# An input of small weights enters as a small number, but not so small that 8 bits have no steps left for it.
LEAST_EASE = 1 / 16


class RampInputs(nn.Module):
    """Raw columns [C, B] → the inputs of FeatureEncoding [M, B], each from 0 to its limit (1 or less), 0 where hidden.

    A row is one input of all frames: ONNX Runtime copies a row at once, but gathers columns number by number. Columns
    that never changed in training are left out. `kept` [M] are the trained inputs that these stand for, and those are
    gain · input + offset where visible.
    """

    def __init__(self, encoding: FeatureEncoding) -> None:
        super().__init__()
        alive = encoding.scale.nonzero()[:, 0]
        mean, scale = encoding.mean[alive].double(), encoding.scale[alive].double()
        start = (mean - CLIP / scale).float()
        ramps, ids, columns = len(encoding.ramp_column), len(encoding.id_column), len(encoding.scale)
        self.kept = torch.cat([alive, columns + torch.arange(ramps + ids)])
        self.gain = torch.cat([torch.full((len(alive),), 2 * CLIP), torch.ones(ramps + ids)]).double()
        # Not simply −CLIP, as `start` was rounded: the clip moves by less than a raw number's own last digit is worth.
        self.offset = torch.cat([(start - mean) * scale, torch.full((ramps,), -0.5), torch.zeros(ids)])
        self.number_column = nn.Buffer(torch.cat([alive, encoding.ramp_column]))
        self.start = nn.Buffer(torch.cat([start, encoding.ramp_start])[:, None])
        self.rate = nn.Buffer(torch.cat([scale.float() / (2 * CLIP), encoding.ramp_scale])[:, None])
        self.id_column = nn.Buffer(encoding.id_column.clone())
        self.id_value = nn.Buffer(encoding.id_value[:, None].clone())
        self.id_tolerance = nn.Buffer(encoding.id_tolerance[:, None].clone())
        self.limit = nn.Buffer(torch.ones(len(self.kept), 1))

    def ease(self, rows: Tensor, peak: Tensor, highest: Tensor) -> Tensor:
        """Shares the differences between weights out to the inputs: those of `rows` [m], whose largest weight is `peak`
        [m], shrink by √(peak / highest). Rounded to 8 bits, a layer's small weights would drown in the steps of its
        large ones otherwise (SmoothQuant, Xiao et al. 2023, eq. 4, α = ½). Returns the factors [m]."""
        factor = (peak / highest.clamp(min=1e-12)).sqrt().clamp(min=LEAST_EASE)
        self.limit[rows, 0] *= factor.float()
        numbers = rows[rows < len(self.rate)]
        self.rate[numbers, 0] *= factor[rows < len(self.rate)].float()
        return factor.float().double()

    def forward(self, columns: Tensor, hidden: Tensor) -> list[Tensor]:
        """columns [C, B], hidden [C, B] bool → parts of [M, B]."""
        numbers = len(self.rate)
        seen = torch.where(hidden, HIDDEN, columns)
        ramps = F.relu((seen.index_select(0, self.number_column) - self.start) * self.rate)
        parts = [torch.minimum(ramps, self.limit[:numbers])]
        if len(self.id_column):
            is_it = (seen.index_select(0, self.id_column) - self.id_value).abs() < self.id_tolerance
            parts.append(torch.where(is_it, self.limit[numbers:], 0.0))
        return parts


class PlainInputs(nn.Module):
    """The columns as they are, 0 where hidden."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.kept = torch.arange(columns)
        self.gain, self.offset = torch.ones(columns).double(), torch.zeros(columns).double()

    def ease(self, rows: Tensor, peak: Tensor, highest: Tensor) -> Tensor:  # noqa: ARG002 (as RampInputs)
        return torch.ones(len(rows)).double()

    def forward(self, columns: Tensor, hidden: Tensor) -> list[Tensor]:
        return [torch.where(hidden, 0.0, columns)]


class ServedPatch(nn.Module):
    """The projection of one patch, with the inputs' gains and offsets in its weights."""

    def __init__(self, patch: PatchProjection, inputs: RampInputs | PlainInputs, group: Tensor, groups: int) -> None:
        """`group` [M] of each input, of `groups` in all."""
        super().__init__()
        trained, signs = patch.project.weight.detach().double(), patch.signs.long()
        own = torch.isin(inputs.kept, patch.inputs).nonzero()[:, 0]  # [m]
        weight = trained[:, torch.searchsorted(patch.inputs, inputs.kept[own])]  # [D, m]
        offset = weight * inputs.offset[own]
        # A hidden group's inputs are 0 and no longer make up for the offset in the bias: its sign does.
        belongs = F.one_hot(group[own], groups).double()  # [m, G]
        sign_weight = trained[:, len(patch.inputs) :] - (offset @ belongs)[:, signs]
        if not len(own) + len(signs):  # none of its columns ever changed, and a product needs an input
            signs, sign_weight = signs.new_zeros(1), weight.new_zeros(len(weight), 1)
        weight = weight * inputs.gain[own]
        highest = torch.cat([weight, sign_weight], 1).abs().max()
        weight = weight / inputs.ease(own, weight.abs().amax(0), highest)
        self.rows = nn.Buffer(torch.cat([own, len(inputs.kept) + signs]))
        self.project = linear(torch.cat([weight, sign_weight], 1), patch.project.bias.double() + offset.sum(1))
        self.whole = len(self.rows) == len(inputs.kept) + groups

    def forward(self, inputs: Tensor) -> Tensor:
        """[M + G, B] → [B, D]."""
        own = inputs if self.whole else inputs.index_select(0, self.rows)
        return F.gelu(self.project(own.T))


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = (value.detach().float().clone() for value in (weight, bias))
    return layer
