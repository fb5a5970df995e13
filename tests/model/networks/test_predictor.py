import numpy as np
import pytest
import torch

from model import build_predictor
from tests.model import reference
from tests.model.networks.test_encoder import GROUPS, randomised

SMALL = {"embed_dim": 16, "predictor_embed_dim": 8, "predictor_depth": 2, "num_heads": 4}


@pytest.fixture
def context():
    return torch.randn(6, 16, generator=torch.Generator().manual_seed(0))


def test_the_flat_predictor_is_the_reference(context):
    predictor = randomised(build_predictor(12, **SMALL, patches=1))
    expected = reference.predictor(context.double().numpy(), reference.weights_of(predictor), 2)
    np.testing.assert_allclose(predictor(context).detach().numpy(), expected, atol=1e-4)


def test_which_patch_is_asked_for_changes_the_answer(context):
    predictor = randomised(build_predictor(12, **SMALL, patches=GROUPS))
    own = torch.tensor([[True, False, False]]).expand(6, 3)
    stage = torch.tensor([[False, False, True]]).expand(6, 3)
    assert not torch.allclose(predictor(context, own), predictor(context, stage))


def test_patches_not_asked_for_cannot_reach_the_answer(context):
    predictor = randomised(build_predictor(12, **SMALL, patches=GROUPS))
    own = torch.tensor([[True, False, False]]).expand(6, 3)
    before = predictor(context, own)
    with torch.no_grad():
        predictor.patch_position[1:] = 7.0
    torch.testing.assert_close(predictor(context, own), before)


def test_the_horizon_changes_the_answer_even_of_a_single_patch(context):
    predictor = randomised(build_predictor(12, **SMALL, patches=1, horizons=(6, 30)))
    near, far = (predictor(context, horizon=torch.full((6,), float(h))) for h in (6, 30))
    assert not torch.allclose(near, far)
    torch.testing.assert_close(predictor(context), near)


def test_the_answer_is_the_mean_over_the_patches_asked_for(context):
    predictor = randomised(build_predictor(12, **SMALL, patches=GROUPS))
    targets = torch.tensor([[True, False, True]]).expand(6, 3)
    each = predictor.predict_patches(context, targets)
    assert each.shape == (6, 3, 16)
    torch.testing.assert_close(predictor(context, targets), (each[:, 0] + each[:, 2]) / 2)


def test_asking_for_no_patch_is_refused(context):
    targets = torch.ones(6, 3, dtype=torch.bool)
    targets[2] = False
    with pytest.raises(ValueError, match="targets chooses no patch in row 2"):
        build_predictor(12, **SMALL, patches=GROUPS)(context, targets)


def test_another_width_is_refused(context):
    with pytest.raises(ValueError, match="context has 16 columns; this predictor's embed_dim is 32"):
        build_predictor(12, **SMALL | {"embed_dim": 32})(context)
