import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import model
from bundle.columns import column_statistics
from bundle.schema import Schema, equal_groups
from model import build, build_predictor, ema_update, loss, output_size, recommended_defaults
from model.networks.config import Config
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA

finite = arrays(np.float64, (3, 4), elements=st.floats(-50, 50))


def test_the_public_names_are_these():
    assert model.__all__ == sorted(name for name in model.__all__ if hasattr(model, name))
    assert set(model.__all__) == {
        "build", "build_context_encoder", "build_predictor", "default_momentum", "ema_update", "frames", "loss",
        "output_size", "recommended_defaults", "train",
    }  # fmt: skip


def test_build_gives_an_encoder_and_a_predictor_that_fit():
    context_encoder, predictor = build(
        input_dim=32, embed_dim=16, predictor_embed_dim=8, encoder_depth=2, predictor_depth=2, num_heads=4, dropout=0.0
    )
    embedding = context_encoder(torch.randn(4, 32))
    assert embedding.shape == (4, 16)
    assert predictor(embedding).shape == (4, 16)
    assert torch.isfinite(predictor(embedding)).all()


def test_a_missing_input_dim_and_an_unknown_option_are_named():
    with pytest.raises(ValueError, match="input_dim is missing"):
        build()
    with pytest.raises(ValueError, match="embed_size is no option; the options are"):
        build(287, embed_size=3)


def test_the_predictor_builds_without_an_input_dim():
    assert build_predictor(**recommended_defaults())(torch.randn(2, 256)).shape == (2, 256)
    assert build_predictor(patches=[("own", 0, 5), ("rest", 5, 9)]).predict_patches(torch.randn(2, 256)).shape[1] == 2


def test_gradients_reach_every_weight_that_counts():
    context_encoder, predictor = build(32, embed_dim=16, predictor_embed_dim=8, num_heads=4, horizons=(6, 30))
    asked = torch.tensor([6.0, 30.0, 6.0, 30.0])
    loss(predictor(context_encoder(torch.randn(4, 32)), horizon=asked), torch.randn(4, 16)).backward()
    for name, parameter in [*context_encoder.named_parameters(), *predictor.named_parameters()]:
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all()
        assert parameter.grad.any(), name


@given(finite, finite)
def test_loss_is_smooth_l1(predicted, target):
    d = np.abs(predicted - target)
    expected = np.where(d < 1, d * d / 2, d - 0.5).mean()
    assert loss(torch.tensor(predicted), torch.tensor(target)).item() == pytest.approx(expected, abs=1e-9)


def test_loss_refuses_to_broadcast():
    with pytest.raises(ValueError, match="they must be alike"):
        loss(torch.zeros(3, 4), torch.zeros(1, 4))


@given(finite, finite, st.floats(0, 1))
def test_ema_is_the_weighted_mean(context, target, momentum):
    updated = ema_update({"w": torch.tensor(context)}, {"w": torch.tensor(target)}, momentum=momentum)["w"]
    np.testing.assert_allclose(updated.numpy(), momentum * target + (1 - momentum) * context, atol=1e-12)


def test_ema_recurses_and_keeps_what_the_context_lacks_and_integers():
    context = {"block": {"w": torch.tensor(10.0)}, "count": torch.tensor(7)}
    target = {"block": {"w": torch.tensor(0.0), "own": torch.tensor(99.0)}, "count": torch.tensor(3), "x": {"y": 1}}
    updated = ema_update(context, target, momentum=0.5)
    assert updated["block"]["w"] == 5
    assert updated["block"]["own"] == 99
    assert updated["count"] == 3
    assert updated["x"] == {"y": 1}
    assert target["block"]["w"] == 0, "the given parameters must stay as they were"


@pytest.mark.parametrize(("momentum", "expected"), [(0.0, 10.0), (1.0, 0.0), (0.996, 0.04)])
def test_ema_at_its_ends_copies_or_keeps(momentum, expected):
    updated = ema_update({"w": torch.tensor(10.0)}, {"w": torch.tensor(0.0)}, momentum=momentum)
    assert updated["w"].item() == pytest.approx(expected)


def test_ema_refuses_a_momentum_outside_0_to_1():
    with pytest.raises(ValueError, match=r"momentum is 1.5; it must be in \[0, 1\]"):
        ema_update({}, {}, momentum=1.5)


def test_output_size_is_embed_dim():
    assert output_size() == 256
    assert output_size(embed_dim=64) == 64
    assert model.default_momentum() == 0.996


@pytest.fixture
def jepa():
    rows = np.random.default_rng(0).normal(size=(50, 12)).astype(np.float32)
    schema = Schema(tuple("abcdefghijkl"), equal_groups(12, 3))
    encoding = FeatureEncoding.fit(rows, schema, column_statistics(rows))
    return JEPA(Config(12, 16, 8, 2, 1, num_heads=4, patches=schema.groups), encoding)


def test_the_target_encoder_gets_no_gradient_and_no_dropout(jepa):
    jepa.train()
    row = torch.randn(3, len(jepa.encoding.columns))
    torch.testing.assert_close(jepa.target_encoder(row), jepa.target_encoder(row))
    assert not torch.allclose(jepa.context_encoder(row), jepa.context_encoder(row))
    assert not any(parameter.requires_grad for parameter in jepa.target_encoder.parameters())


def test_update_target_moves_it_towards_the_context(jepa):
    before = jepa.target_encoder.position.clone()
    with torch.no_grad():
        jepa.context_encoder.position += 1
    jepa.update_target(0.75)
    torch.testing.assert_close(jepa.target_encoder.position, before + 0.25)
