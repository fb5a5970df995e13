import numpy as np
import pytest
import torch
from torch import nn

from bundle.columns import column_statistics
from bundle.schema import Group, Schema
from model.export.graphs import ServedEncoder, ServedPredictor, embed
from model.networks.config import Config
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA, build

GROUPS = (Group("own", 0, 5), Group("opponent", 5, 9), Group("dead", 9, 11), Group("stage", 11, 12))
SCHEMA = Schema((*(f"c{i}" for i in range(10)), "dead_too", "stage_id"), GROUPS)
PATCHES = {
    "one token": {"row": GROUPS},
    "a token a group": GROUPS,
    "tokens of several groups": {"players": GROUPS[:2], "rest": GROUPS[2:]},
}


def rows(count=200, seed=0):
    """Rows with numbers of many magnitudes, few and many distinct values, two constant columns and an id."""
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=(count, 12)) * np.logspace(-2, 3, 12)
    drawn[:, 1] = rng.integers(0, 2, count)
    drawn[:, 2] += 100
    drawn[:, 9:11] = 7
    drawn[:, 11] = rng.choice([2, 3, 28], count)
    return drawn.astype(np.float32)


def trained(patches, horizons=(6, 30)):
    """Networks in which every weight affects the output."""
    torch.manual_seed(0)
    features = rows()
    encoding = FeatureEncoding.fit(features, SCHEMA, column_statistics(features))
    jepa = JEPA(Config(12, 32, 16, 2, 2, num_heads=4, patches=patches, horizons=horizons), encoding).eval()
    for parameter in jepa.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return jepa


def hiding(features, *groups):
    """The rows, in each of which a NaN hides the next of the groups."""
    hidden = torch.from_numpy(features.copy())
    for i in range(len(hidden)):
        hidden[i, groups[i % len(groups)].start] = torch.nan
    return hidden


@pytest.mark.parametrize("patches", PATCHES.values(), ids=PATCHES)
def test_the_served_encoder_computes_what_was_trained(patches):
    jepa = trained(patches)
    served = ServedEncoder(jepa.encoding, jepa.target_encoder, SCHEMA).eval()
    # Numbers beyond every clip, and ids that training lacks.
    unknown = rows(seed=1) * 3
    for features in (torch.from_numpy(unknown), hiding(rows(seed=2), *GROUPS), hiding(unknown, GROUPS[0], GROUPS[3])):
        with torch.no_grad():
            expected = embed(jepa.encoding, jepa.target_encoder, SCHEMA, features)
            torch.testing.assert_close(served(features), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("horizons", [(0,), (6, 30)])
@pytest.mark.parametrize("patches", PATCHES.values(), ids=PATCHES)
def test_the_served_predictor_computes_what_was_trained(patches, horizons):
    jepa = trained(patches, horizons)
    generator = torch.Generator().manual_seed(0)
    context = torch.randn(50, 32, generator=generator)
    targets = (torch.rand(50, len(jepa.config.patches), generator=generator) < 0.5).float()
    targets[:, 0] = 1
    horizon = torch.tensor(horizons).float()[torch.randint(len(horizons), (50,), generator=generator)]
    with torch.no_grad():
        expected = jepa.predictor(context, targets > 0, horizon)
        found = ServedPredictor(jepa.predictor).eval()(context, targets, horizon)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("patches", PATCHES.values(), ids=PATCHES)
def test_columns_may_be_the_inputs_themselves(patches):
    torch.manual_seed(0)
    encoder, _ = build(12, embed_dim=32, encoder_depth=2, num_heads=4, patches=patches)
    features = hiding(rows(seed=3) / 100, *GROUPS)
    served = ServedEncoder(nn.Identity(), encoder.eval(), SCHEMA).eval()
    with torch.no_grad():
        expected = embed(nn.Identity(), encoder, SCHEMA, features)
        torch.testing.assert_close(served(features), expected, atol=1e-4, rtol=1e-4)


def test_inputs_lie_between_zero_and_one_and_are_zero_where_hidden():
    jepa = trained(PATCHES["one token"])
    served = ServedEncoder(jepa.encoding, jepa.target_encoder, SCHEMA)
    columns = torch.from_numpy(rows(seed=4) * 3).T
    inputs = torch.cat(served.inputs(columns, torch.zeros_like(columns, dtype=torch.bool)))
    assert inputs.min() == 0
    assert 0.5 < inputs.max() <= 1
    assert not torch.cat(served.inputs(columns, torch.ones_like(columns, dtype=torch.bool))).any()


def test_no_number_is_left_for_ids_and_columns_that_never_change():
    jepa = trained(PATCHES["one token"])
    served = ServedEncoder(jepa.encoding, jepa.target_encoder, SCHEMA)
    silent = [9, 10, *served.inputs.id_column.unique().tolist()]
    assert len(silent) > 2
    assert len(served.inputs.kept) == len(jepa.encoding.columns) - len(silent)
    assert not np.isin(silent, served.inputs.number_column).any()


def test_the_trained_networks_are_left_as_they_are():
    jepa = trained(PATCHES["one token"])
    before = {name: value.clone() for name, value in jepa.state_dict().items()}
    for network in (ServedEncoder(jepa.encoding, jepa.target_encoder, SCHEMA), ServedPredictor(jepa.predictor)):
        for value in (*network.parameters(), *network.buffers()):
            value.data.zero_()
    assert all(torch.equal(value, before[name]) for name, value in jepa.state_dict().items())
