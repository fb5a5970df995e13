"""Untrained models of the reference's sizes, to measure serving with other sizes than the bundled model's."""

from pathlib import Path

import numpy as np
import torch

from bundle.columns import column_statistics
from bundle.schema import Schema, equal_groups
from model.export.bundle import export_bundle
from model.networks.config import Config, Patch
from model.networks.encoding import FeatureEncoding
from model.networks.jepa import JEPA
from model.training.checkpoint import Checkpoint

COLUMNS, GROUPS = 287, 8
ROWS = 2048


def reference(tokens: int) -> Checkpoint:
    """An encoder 256 wide with 6 blocks and a predictor 128 wide with 4, with one token per row or per group."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(ROWS, 40)) @ rng.normal(size=(40, COLUMNS)) / 6).astype(np.float32)
    groups = equal_groups(COLUMNS, GROUPS)
    patches = (Patch("row", groups),) if tokens == 1 else tuple(Patch(group.name, (group,)) for group in groups)
    config = Config(COLUMNS, 256, 128, 6, 4, patches=patches, horizons=(6, 30))
    schema, statistics = Schema(tuple(f"f{i}" for i in range(COLUMNS)), groups), column_statistics(rows)
    jepa = JEPA(config, FeatureEncoding.fit(rows, schema, statistics)).eval()
    return Checkpoint(jepa, schema, statistics, {}, 0, {"licence": "CC0-1.0", "rows": ROWS}, {}, sample=rows)


def export_reference(models: Path, tokens: int) -> Path:
    """The bundle's folder."""
    return export_bundle(reference(tokens), models, f"tokens{tokens}")
