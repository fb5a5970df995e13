"""Small bundles, exported once per kind of network, and small networks to train."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from bundle.columns import column_statistics
from bundle.schema import Group, Schema
from model.export.bundle import export_bundle
from model.networks.config import Config
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.training.checkpoint import Checkpoint
from model.training.recipe import Recipe
from model.training.summary import TrainingSummary
from tests.support.games import make_games

GROUPS = (Group("own", 0, 8), Group("opponent", 8, 16), Group("stage", 16, 20))
NAMES = (*(f"c{i}" for i in range(19)), "action_id")
SCHEMA = Schema(NAMES, GROUPS)
ROWS = np.random.default_rng(0).normal(3, 5, (256, 20)).astype(np.float32)
ROWS[:, 19] = np.arange(len(ROWS)) % 7


class Exported(NamedTuple):
    jepa: JEPA
    folder: Path


def toy(patches):
    """A checkpoint of small networks, with rows to calibrate int8 graphs on."""
    torch.manual_seed(0)
    statistics = column_statistics(ROWS)
    config = Config(20, 32, 16, 1, 1, num_heads=4, patches=patches, horizons=(6, 30))
    jepa = JEPA(config, FeatureEncoding.fit(ROWS, SCHEMA, statistics)).eval()
    with torch.no_grad():
        # As training leaves them: no two weights are equal, and the two encoders differ.
        for weight in jepa.parameters():
            weight += 0.02 * torch.randn_like(weight)
    return Checkpoint(jepa, SCHEMA, statistics, {}, 0, TrainingSummary(rows=64, licence="CC0"), {}, ROWS)


@pytest.fixture(scope="session", params=["flat", "tokens"])
def exported(request, tmp_path_factory):
    checkpoint = toy({"row": GROUPS} if request.param == "flat" else GROUPS)
    folder = export_bundle(checkpoint, tmp_path_factory.mktemp("models"), "toy", card="# Toy")
    return Exported(checkpoint.jepa, folder)


@pytest.fixture(scope="session")
def halved(tmp_path_factory):
    """A bundle of single-token networks without int8 graphs, its weights stored as float16."""
    checkpoint = toy({"row": GROUPS})
    checkpoint.sample = None
    return Exported(checkpoint.jepa, export_bundle(checkpoint, tmp_path_factory.mktemp("models"), "toy", half=True))


@pytest.fixture
def jepa_and_rows():
    """Small networks with one token per group, and encoded frames of two games in order."""
    games = make_games(episodes=2)
    encoding = FeatureEncoding.fit(games.features, games.schema, column_statistics(games.features))
    recipe = Recipe(
        embed_dim=16, predictor_embed_dim=8, encoder_depth=1, predictor_depth=1, num_heads=4, tokens="groups"
    )
    torch.manual_seed(0)
    return JEPA(recipe.config(games.schema, ordered=True), encoding).eval(), encoding(torch.from_numpy(games.features))
