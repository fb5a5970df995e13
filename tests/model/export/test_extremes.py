"""Columns as recordings have them and nobody would wish: they are trained on, exported and served like any others."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from app.inference.sessions import Graphs
from app.repository import selfcheck
from bundle.columns import column_statistics
from bundle.parity import MAX_SHARE, distance
from bundle.reader import read_bundle
from bundle.schema import Group, Schema
from model.export.bundle import export_bundle
from model.export.graphs import ServedEncoder, embed
from model.networks.config import Config
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.training.checkpoint import Checkpoint
from model.training.summary import TrainingSummary

COUNT = 400
RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=COUNT)
MAX = float(np.finfo(np.float32).max)
KINDS = {
    "of 1e12": NORMAL * 1e12,
    "of 1e30": NORMAL * 1e30,
    "of 1e36": NORMAL * 1e36,
    "of 1e-38": NORMAL * 1e-38,
    "the largest float where nothing is": np.where(RNG.random(COUNT) < 0.1, MAX, NORMAL),
    "the smallest float where nothing is": np.where(RNG.random(COUNT) < 0.1, -MAX, NORMAL),
    "both extremes": RNG.choice([-MAX, MAX], COUNT),
    "all of float32": RNG.uniform(-1, 1, COUNT) * MAX,
    "far below 0": -3.3e38 * (1 + 1e-6 * NORMAL),
    "a clock": 1.6e9 + 64 * np.arange(COUNT),
    "one outlier": np.where(np.arange(COUNT) == 7, 1e20, NORMAL),
    "constant": np.full(COUNT, 7.0),
    "constant and large": np.full(COUNT, MAX),
    "nearly constant": 1 + 3e-4 * NORMAL,
    "pixels": np.clip(NORMAL * 60 - 60, 0, 255).round(),
    "a flag": RNG.integers(0, 2, COUNT),
    "many ids_id": RNG.integers(0, 3000, COUNT),
    "large ids_id": 1e9 + 64 * RNG.integers(0, 300, COUNT),
    "extreme ids_id": RNG.choice([-MAX, 0, 1, MAX], COUNT),
}


def untrained(columns):
    """Networks for columns by name, each in a group of its own, with weights as large as training makes them."""
    rows = np.stack([*columns.values()], axis=1).astype(np.float32)
    groups = tuple(Group(name, i, i + 1) for i, name in enumerate(columns))
    schema, statistics = Schema(tuple(columns), groups), column_statistics(rows)
    torch.manual_seed(0)
    config = Config(len(columns), 32, 16, 1, 1, num_heads=4, patches={"row": groups}, horizons=(1, 5))
    jepa = JEPA(config, FeatureEncoding.fit(rows, schema, statistics)).eval()
    for weight in jepa.parameters():
        weight.data += 0.1 * torch.randn_like(weight)
    return Checkpoint(jepa, schema, statistics, {}, 0, TrainingSummary(), {}, rows)


@pytest.mark.parametrize("kind", KINDS)
def test_a_served_column_is_what_was_trained_alone_and_beside_others(kind):
    for columns in ({kind: KINDS[kind]}, {"x": RNG.normal(size=COUNT), kind: KINDS[kind], "y": NORMAL}):
        checkpoint = untrained(columns)
        jepa, schema = checkpoint.jepa, checkpoint.schema
        rows = torch.from_numpy(checkpoint.sample.copy())
        if len(columns) > 1:
            rows[::3, 1] = torch.nan
        served = ServedEncoder(jepa.encoding, jepa.target_encoder, schema).eval()
        encoding, encoder = (deepcopy(network).double() for network in (jepa.encoding, jepa.target_encoder))
        with torch.no_grad():
            right = embed(encoding, encoder, schema, rows.double()).numpy()
            assert distance(embed(jepa.encoding, jepa.target_encoder, schema, rows).numpy(), right) < MAX_SHARE
            assert distance(served(rows).numpy(), right) < MAX_SHARE


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return read_bundle(export_bundle(untrained(KINDS), tmp_path_factory.mktemp("models"), "extremes"))


def test_columns_of_any_kind_are_exported_and_the_service_finds_their_golden_rows_right(bundle):
    for precision in ("float32", "int8"):
        selfcheck.check(bundle, Graphs(bundle, precision), precision)
    for distances in bundle.manifest.parity.values():
        assert distances.float32 < 1e-5
