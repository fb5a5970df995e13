"""Raw columns to tokens in the exported graphs, computed from the trained encoding and patch projections.

Shapes: B batch, C columns, G groups, M inputs, m inputs of one patch, D embed_dim.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.networks.encoder import PatchProjection
from model.networks.encoding import CLIP, FeatureEncoding

# Replaces a hidden number: it lies below every ramp and matches no id.
HIDDEN = -math.inf
# Numbers of columns whose standard deviation is larger are scaled down by SHRINK, a power of two and so without
# rounding: their ramps would be infinite in float32.
MAX_STD, SHRINK = 1e30, 2.0**-64
# No input is scaled down further than this, so that its 8-bit range keeps enough steps.
MIN_INPUT_SCALE = 1 / 16


class RampInputs(nn.Module):
    """Maps raw columns [C, B] to inputs [M, B], each between 0 and a limit of at most 1, and 0 where hidden.

    These are the inputs of FeatureEncoding without the columns that were constant in training. `kept` [M] holds their
    indices there; where visible, the trained input equals gain · input + offset. Rows are inputs and columns are
    frames, because ONNX Runtime copies a whole row at once but gathers columns one number at a time.
    """

    def __init__(self, encoding: FeatureEncoding) -> None:
        super().__init__()
        alive = encoding.scale.nonzero()[:, 0]
        mean, scale = encoding.mean[alive].double(), encoding.scale[alive].double()
        shrink = torch.where(encoding.scale < 1 / MAX_STD, SHRINK, 1.0).double()  # [C]
        start = ((mean - CLIP / scale) * shrink[alive]).float()
        ramps, ids, columns = len(encoding.ramp_column), len(encoding.id_column), len(encoding.scale)
        self.kept = torch.cat([alive, columns + torch.arange(ramps + ids)])
        self.gain = torch.cat([torch.full((len(alive),), 2 * CLIP), torch.ones(ramps + ids)]).double()
        # Recomputed from the rounded `start` rather than set to −CLIP, so that gain · input + offset is exact; the clip
        # moves by less than the rounding error of a raw number.
        offset = (start / shrink[alive] - mean) * scale
        self.offset = torch.cat([offset, torch.full((ramps,), -0.5), torch.zeros(ids)])
        self.number_column = nn.Buffer(torch.cat([alive, encoding.ramp_column]))
        shrink = shrink[self.number_column]
        ramp_start = (encoding.ramp_start * shrink[len(alive) :]).float()
        self.start = nn.Buffer(torch.cat([start, ramp_start])[:, None])
        self.rate = nn.Buffer((torch.cat([scale / (2 * CLIP), encoding.ramp_scale]) / shrink).float()[:, None])
        self.shrink = nn.Buffer(shrink.float()[:, None]) if (shrink < 1).any() else None
        self.id_column = nn.Buffer(encoding.id_column.clone())
        self.id_value = nn.Buffer(encoding.id_value[:, None].clone())
        self.id_tolerance = nn.Buffer(encoding.id_tolerance[:, None].clone())
        self.number_limit = nn.Buffer(torch.ones(len(self.rate), 1))
        self.id_limit = nn.Buffer(torch.ones(ids, 1))

    def smooth(self, rows: Tensor, peak: Tensor, highest: Tensor) -> Tensor:
        """Scales the inputs `rows` [m] by √(peak / highest) and returns the factors [m].

        `peak` [m] is the largest weight of each input and `highest` the largest of the layer. The caller divides the
        weights by the factors, which brings them closer together: rounded to 8 bits in steps sized for the largest
        weights, the small ones would otherwise vanish (SmoothQuant, Xiao et al. 2023, eq. 4, α = ½).
        """
        factor = (peak / highest.clamp(min=1e-12)).sqrt().clamp(min=MIN_INPUT_SCALE).float()
        is_number = rows < len(self.rate)
        numbers, ids = rows[is_number], rows[~is_number] - len(self.rate)
        self.rate[numbers, 0] *= factor[is_number]
        self.number_limit[numbers, 0] *= factor[is_number]
        self.id_limit[ids, 0] *= factor[~is_number]
        return factor.double()

    def forward(self, columns: Tensor, hidden: Tensor) -> list[Tensor]:
        """columns [C, B], hidden [C, B] bool → inputs [M, B], in one or two parts along M."""
        seen = torch.where(hidden, HIDDEN, columns)  # [C, B]
        numbers = seen.index_select(0, self.number_column)
        if self.shrink is not None:
            numbers = numbers * self.shrink
        ramps = F.relu((numbers - self.start) * self.rate)
        parts = [torch.minimum(ramps, self.number_limit)]
        if len(self.id_column):
            is_it = (seen.index_select(0, self.id_column) - self.id_value).abs() < self.id_tolerance
            parts.append(torch.where(is_it, self.id_limit, 0.0))
        return parts


class PlainInputs(nn.Module):
    """Passes the columns on unchanged, with 0 where hidden."""

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.kept = torch.arange(columns)
        self.gain, self.offset = torch.ones(columns).double(), torch.zeros(columns).double()

    def smooth(self, rows: Tensor, peak: Tensor, highest: Tensor) -> Tensor:  # noqa: ARG002 (as RampInputs)
        """Leaves the scale of the inputs alone: factors of 1 [m]."""
        return torch.ones(len(rows)).double()

    def forward(self, columns: Tensor, hidden: Tensor) -> list[Tensor]:
        """columns [C, B], hidden [C, B] bool → inputs [M, B] in one part, where M = C."""
        return [torch.where(hidden, 0.0, columns)]


class ServedPatch(nn.Module):
    """The projection of one patch, with the gains and offsets of its inputs folded into the weights."""

    def __init__(self, patch: PatchProjection, inputs: RampInputs | PlainInputs, group: Tensor, groups: int) -> None:
        """`group` [M] is the index of each input's group; there are `groups` of them."""
        super().__init__()
        trained, flags = patch.project.weight.detach().double(), patch.flags.long()
        own = torch.isin(inputs.kept, patch.inputs).nonzero()[:, 0]  # [m]
        weight = trained[:, torch.searchsorted(patch.inputs, inputs.kept[own])]  # [D, m]
        offset = weight * inputs.offset[own]  # [D, m]
        # The bias includes the offsets of all inputs. In the trained networks a hidden input is 0, without offset, so
        # the flag of a hidden group subtracts the offsets of the group's inputs.
        belongs = F.one_hot(group[own], groups).double()  # [m, G]
        flag_weight = trained[:, len(patch.inputs) :] - (offset @ belongs)[:, flags]  # [D, flags]
        if not len(own) + len(flags):
            # All columns of the patch were constant in training; a matrix product needs at least one input.
            flags, flag_weight = flags.new_zeros(1), weight.new_zeros(len(weight), 1)
        weight = weight * inputs.gain[own]
        highest = torch.cat([weight, flag_weight], 1).abs().max()
        weight = weight / inputs.smooth(own, weight.abs().amax(0), highest)
        self.rows = nn.Buffer(torch.cat([own, len(inputs.kept) + flags]))
        self.project = linear(torch.cat([weight, flag_weight], 1), patch.project.bias.double() + offset.sum(1))
        self.whole = len(self.rows) == len(inputs.kept) + groups

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs and hidden flags [M + G, B] → tokens [B, D]."""
        own = inputs if self.whole else inputs.index_select(0, self.rows)
        return F.gelu(self.project(own.T))


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A float32 layer with copies of these weights [out, in] and biases [out]."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = (value.detach().float().clone() for value in (weight, bias))
    return layer
