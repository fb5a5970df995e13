"""Numbers that tell learning from collapse; the loss alone does not, since its targets move."""

import torch
from torch import Tensor
from torch.nn import functional as F


def rankme(embeddings: Tensor) -> float:
    """How many dims the embeddings [rows, D] use: exp of the entropy of the normalised singular values of the centred
    embeddings (RankMe, Garrido et al. 2023, eq. 1).

    Between 1 (collapsed to a line) and D; under a twentieth of D is near-collapse. The bundled model ends at 197 of
    256.
    """
    values = torch.linalg.svdvals((embeddings - embeddings.mean(0)).double())
    share = values / values.sum().clamp_min(1e-12)
    return float(torch.exp(-(share * share.clamp_min(1e-12).log()).sum()))


def effective_rank(embeddings: Tensor, share: float = 0.95) -> int:
    """How many principal components hold `share` of the variance of the embeddings [rows, D].

    Between 1 and D. Far below `rankme`, which counts small components for more: a few directions drown all others.
    """
    variance = torch.linalg.svdvals((embeddings - embeddings.mean(0)).double()) ** 2
    return int((variance.cumsum(0) < share * variance.sum()).sum()) + 1


def mean_std(embeddings: Tensor) -> float:
    """Mean over dims of the standard deviation over rows [rows, D].

    Near 1 every dim differs between rows as much as within one; under 0.1 all rows have nearly the same embedding,
    which is collapse. The bundled model ends at 0.55.
    """
    return float(embeddings.std(0).mean())


def loss_ratio(predicted: Tensor, target: Tensor) -> float:
    """Smooth L1 loss over the loss of always predicting the targets' mean [rows, D].

    1 or more is nothing learned, as in the first steps of a run; 0.5 is that half of the mean's error is gone. A fall
    towards 0 within a few steps together with a falling std is collapse: targets that are all alike are easy.
    """
    blind = F.smooth_l1_loss(target.mean(0).expand_as(target), target)
    return float(F.smooth_l1_loss(predicted, target) / blind.clamp_min(1e-12))


def warnings(std: float, rank: float, ratio: float, width: int) -> list[str]:
    """What the three numbers say is wrong, in words with what to do; empty if nothing is."""
    found = []
    if std < 0.1:
        found.append(
            f"collapse: embeddings hardly differ between rows (std {std:.4f}, healthy is near 1); raise the anchor's "
            "weight or the EMA momentum, or lower the learning rate"
        )
    elif rank < 0.05 * width:
        found.append(f"near-collapse: RankMe {rank:.1f} of {width} dims; raise the anchor's weight or the EMA momentum")
    if ratio > 0.98:
        found.append(
            f"nothing learned: the loss is {ratio:.2f} of what predicting the mean would give; hide fewer groups, "
            "look less far ahead, or train longer"
        )
    return found
