import numpy as np
import pytest
import torch

from model.objective import covariance_loss, prediction_loss, variance_loss

Z = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double()


def test_variance_loss_is_the_hinge_on_each_std():
    z = Z * torch.tensor([0.1, 0.5, 1.0, 2.0, 0.0, 0.3])
    std = np.sqrt(z.numpy().var(0, ddof=1) + 1e-4)
    assert variance_loss(z).item() == pytest.approx(np.maximum(0, 1 - std).mean())


def test_covariance_loss_is_the_off_diagonal_energy():
    covariance = np.cov(Z.numpy().T)
    np.fill_diagonal(covariance, 0)
    assert covariance_loss(Z).item() == pytest.approx((covariance**2).sum() / 6)


def test_prediction_loss_counts_only_the_patches_asked_for():
    predicted, target = Z.view(10, 5, 6), torch.zeros(10, 5, 6).double()
    asked = torch.zeros(10, 5, dtype=torch.bool)
    asked[:, 2] = True
    expected = prediction_loss(predicted[:, 2:3], target[:, 2:3])
    torch.testing.assert_close(prediction_loss(predicted, target, asked), expected)
