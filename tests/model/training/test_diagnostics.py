import pytest
import torch

from model.training.diagnostics import effective_rank, loss_ratio, mean_std, rankme, warnings

NOISE = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))


def test_rankme_is_the_width_of_noise_and_one_for_a_line():
    assert rankme(NOISE) == pytest.approx(16, abs=0.1)
    assert rankme(NOISE[:, :1] * torch.ones(16)) == pytest.approx(1, abs=1e-3)


def test_rankme_ignores_where_the_embeddings_lie():
    assert rankme(NOISE + 100) == pytest.approx(rankme(NOISE), abs=1e-3)


def test_effective_rank_counts_the_components_that_matter():
    assert effective_rank(NOISE[:, :3] @ torch.randn(3, 16)) <= 3


def test_predicting_the_mean_has_ratio_one_and_the_target_itself_zero():
    assert loss_ratio(NOISE.mean(0).expand_as(NOISE), NOISE) == pytest.approx(1)
    assert loss_ratio(NOISE, NOISE) == 0


def test_mean_std_of_unit_noise_is_one():
    assert mean_std(NOISE) == pytest.approx(1, abs=0.05)


def test_warnings_name_collapse_and_learning_nothing():
    assert warnings(std=0.5, rank=12, ratio=0.4, width=16) == []
    assert "collapse" in warnings(std=0.001, rank=12, ratio=0.4, width=16)[0]
    assert "RankMe 2.0 of 256" in warnings(std=0.5, rank=2, ratio=0.4, width=256)[0]
    assert "nothing learned" in warnings(std=0.5, rank=12, ratio=0.99, width=16)[0]
