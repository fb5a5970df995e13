import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bundle.columns import column_statistics
from bundle.schema import Group, Schema
from model.networks.encoding import FeatureEncoding

RNG = np.random.default_rng(0)
NAMES = ("x", "on_ground", "constant", "action_id")
SCHEMA = Schema(NAMES, (Group("body", 0, 3), Group("ids", 3, 4)))


def inputs_of(encoding, column):
    return [i for i, told in enumerate(encoding.columns) if told == column]


@pytest.fixture(scope="module")
def rows():
    columns = [RNG.normal(3, 2, 500), RNG.integers(0, 2, 500), np.full(500, 7.0), RNG.integers(0, 5, 500) / 399]
    return np.stack(columns, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def encoding(rows):
    return FeatureEncoding.fit(rows, SCHEMA, column_statistics(rows))


def test_each_column_is_standardised_and_clipped(rows, encoding):
    encoded = encoding(torch.from_numpy(rows)).numpy()
    expected = np.clip((rows[:, 0] - rows[:, 0].mean()) / rows[:, 0].std(), -5, 5)
    np.testing.assert_allclose(encoded[:, 0], expected, atol=1e-4)
    assert encoding(torch.full((1, 4), 1e6))[0, 0] == 5


def test_a_column_dead_in_training_stays_silent(encoding):
    row = torch.tensor([[3.0, 1.0, 7.0, 0.0]])
    other = torch.tensor([[3.0, 1.0, -9e9, 0.0]])
    torch.testing.assert_close(encoding(row), encoding(other))


def test_ramps_are_the_piecewise_linear_encoding(rows, encoding):
    edges = np.quantile(rows[:, 0].astype(np.float64), np.linspace(0, 1, 9))
    x = np.linspace(-5, 12, 50).astype(np.float32)
    given_rows = np.tile(rows[:1], (50, 1))
    given_rows[:, 0] = x
    ramps = encoding(torch.from_numpy(given_rows))[:, inputs_of(encoding, 0)[1:]].numpy()
    for t in range(8):
        expected = np.clip((x - edges[t]) / (edges[t + 1] - edges[t]), 0, 1) - 0.5
        np.testing.assert_allclose(ramps[:, t], expected, atol=1e-4)


def test_an_id_is_one_hot_and_an_unknown_one_none(rows, encoding):
    _, *values = inputs_of(encoding, 3)
    assert len(values) == 5
    one_hot = encoding(torch.from_numpy(rows))[:, values].numpy()
    np.testing.assert_array_equal(one_hot.argmax(1), np.rint(rows[:, 3] * 399))
    assert (one_hot.sum(1) == 1).all()
    assert encoding(torch.tensor([[3.0, 1.0, 7.0, 77 / 399]]))[0, inputs_of(encoding, 3)].tolist() == [0] * 6


def test_a_column_of_few_values_needs_no_ramps(encoding):
    assert [len(inputs_of(encoding, column)) for column in range(4)] == [1 + 8, 1, 1, 1 + 5]


def test_a_column_reaches_only_its_own_inputs(rows, encoding):
    changed = rows.copy()
    changed[:, 3] = 2 / 399
    differs = (encoding(torch.from_numpy(rows)) != encoding(torch.from_numpy(changed))).any(0)
    assert {encoding.columns[i] for i in differs.nonzero()[:, 0].tolist()} == {3}


@given(arrays(np.float32, (40, 3), elements=st.floats(-1000, 1000, width=32)))
def test_any_finite_rows_encode_to_finite_inputs(values):
    schema = Schema(("a", "b", "c_id"), (Group("all", 0, 3),))
    encoding = FeatureEncoding.fit(values, schema, column_statistics(values))
    encoded = encoding(torch.from_numpy(values))
    assert torch.isfinite(encoded).all()
    assert encoded.abs().max() <= 5
    assert encoded.shape[1] == len(encoding.columns)
