import pytest
import torch

from model.networks.dropout import Dropout, draws

CPU = torch.device("cpu")
ONES = torch.ones(24, 3, 7)


@pytest.fixture
def dropout():
    return Dropout(0.1)


@pytest.mark.parametrize("ranks", [2, 3, 4])
def test_a_row_draws_the_same_however_the_batch_is_shared(dropout, ranks):
    with draws(5, 0, 1, CPU):
        whole = [dropout(ONES), dropout(ONES)]
    assert not torch.equal(*whole)
    parts = []
    for rank, part in enumerate(ONES.chunk(ranks)):
        with draws(5, rank, ranks, CPU):
            parts.append([dropout(part), dropout(part)])
    for i in range(2):
        torch.testing.assert_close(torch.cat([part[i] for part in parts]), whole[i])


def test_each_seed_has_its_own_draws(dropout):
    found = []
    for seed in (1, 2, 1):
        with draws(seed, 0, 1, CPU):
            found.append(dropout(ONES))
    assert not torch.equal(found[0], found[1])
    torch.testing.assert_close(found[0], found[2])


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_the_share_is_dropped_and_the_mean_kept(share):
    with draws(0, 0, 1, CPU):
        dropped = Dropout(share)(torch.ones(1000, 200))
    assert (dropped == 0).float().mean() == pytest.approx(share, abs=0.005)
    assert dropped.mean() == pytest.approx(1, abs=0.01)


def test_outside_of_a_run_it_is_pytorchs_own(dropout):
    torch.manual_seed(0)
    found = dropout(ONES)
    torch.manual_seed(0)
    torch.testing.assert_close(found, torch.nn.functional.dropout(ONES, 0.1))


def test_nothing_is_dropped_in_use_or_where_the_share_is_none(dropout):
    with draws(0, 0, 1, CPU):
        assert Dropout(0.0)(ONES) is ONES
        assert dropout.eval()(ONES) is ONES
