import numpy as np
import pytest
import torch

from model import build_context_encoder
from tests.model import reference

GROUPS = [("own", 0, 5), ("opponent", 5, 9), ("stage", 9, 12)]
SMALL = {"embed_dim": 16, "encoder_depth": 2, "num_heads": 4}


@pytest.fixture
def features():
    return torch.randn(6, 12, generator=torch.Generator().manual_seed(0))


def randomised(network):
    """Randomises all parameters, because norm gains and biases start alike and a mix-up of two would not show."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return network.eval()


@pytest.mark.parametrize("depth", [1, 3])
def test_the_flat_encoder_is_the_reference(features, depth):
    encoder = randomised(build_context_encoder(12, **SMALL | {"encoder_depth": depth}, patches=1))
    expected = reference.encoder(features.double().numpy(), reference.weights_of(encoder), depth)
    np.testing.assert_allclose(encoder(features).detach().numpy(), expected, atol=1e-4)


def test_attention_over_one_token_is_the_value_itself():
    encoder = randomised(build_context_encoder(12, **SMALL, patches=1))
    attention = encoder.blocks[0].attention
    token = torch.randn(6, 16)
    torch.testing.assert_close(attention(token[:, None])[:, 0], attention(token))


@pytest.mark.parametrize("patches", [1, 4, 12, GROUPS, {"all": GROUPS}, {"sides": GROUPS[:2], "stage": GROUPS[2:]}])
def test_the_embedding_has_embed_dim_whatever_the_patches(features, patches):
    assert build_context_encoder(12, **SMALL, patches=patches)(features).shape == (6, 16)


@pytest.mark.parametrize("patches", [GROUPS, {"all": GROUPS}, {"sides": GROUPS[:2], "stage": GROUPS[2:]}])
def test_hidden_columns_cannot_reach_the_embedding(features, patches):
    encoder = randomised(build_context_encoder(12, **SMALL, patches=patches))
    visible = torch.tensor([[True, False, True]]).expand(6, 3)
    changed = features.clone()
    changed[:, 5:9] = 100.0
    torch.testing.assert_close(encoder(changed, visible), encoder(features, visible))
    assert not torch.allclose(encoder(changed), encoder(features))


def test_a_hidden_patch_is_as_if_it_were_not_there(features):
    encoder = randomised(build_context_encoder(12, **SMALL, patches=GROUPS))
    visible = torch.tensor([[True, False, True]]).expand(6, 3)
    shown = [encoder.patches[n](features, torch.zeros(6, 3)) + encoder.position[n] for n in (0, 2)]
    x = torch.stack(shown, dim=1)
    for block in encoder.blocks:
        x = block(x)
    torch.testing.assert_close(encoder(features, visible), encoder.norm(x).mean(1))


def test_hiding_a_group_differs_from_its_columns_being_zero(features):
    encoder = randomised(build_context_encoder(12, **SMALL, patches={"all": GROUPS}))
    zeroed = features.clone()
    zeroed[:, 5:9] = 0
    visible = torch.tensor([[True, False, True]]).expand(6, 3)
    assert not torch.allclose(encoder(zeroed), encoder(features, visible))


def test_everything_visible_is_the_same_as_no_mask(features):
    encoder = randomised(build_context_encoder(12, **SMALL, patches=GROUPS))
    torch.testing.assert_close(encoder(features, torch.ones(6, 3, dtype=torch.bool)), encoder(features))


def test_a_mask_with_nothing_visible_is_refused(features):
    visible = torch.ones(6, 3, dtype=torch.bool)
    visible[4] = False
    with pytest.raises(ValueError, match="visible hides every group of row 4"):
        build_context_encoder(12, **SMALL, patches=GROUPS)(features, visible)


def test_another_width_is_refused(features):
    with pytest.raises(ValueError, match="features has 12 columns; this encoder's input_dim is 13"):
        build_context_encoder(13, **SMALL)(features)


def test_the_default_sizes_are_those_of_the_reference():
    encoder = build_context_encoder(287, patches=1)
    # The reference has no position.
    assert sum(p.numel() for p in encoder.parameters()) == 4_812_800 + 256
