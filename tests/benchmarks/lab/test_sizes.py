"""The benchmarks of training, on toy games: two steps tell nothing, but that they run to their end."""

import sys
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.lab import objectives, sizes
from model.training.recipe import PRESETS
from tests.support.games import make_games


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    games = make_games(episodes=5, length=300)
    columns = dict(zip(games.schema.names, games.features[:].T, strict=True))
    path = tmp_path_factory.mktemp("data") / "games.parquet"
    pq.write_table(pa.table({"episode": games.episode, "frame": games.frame, **columns, **games.labels}), path)
    return str(path)


SMALL = {"embed_dim": 32, "predictor_embed_dim": 16, "encoder_depth": 1, "predictor_depth": 1, "batch_size": 64}


def run(main, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, "--steps", "2", "--rows", "400"])
    main()
    return capsys.readouterr().out.splitlines()


def test_every_objective_gets_a_line_of_aucs(data, monkeypatch, capsys):
    monkeypatch.setitem(PRESETS, "default", replace(PRESETS["default"], **SMALL))
    lines = run(objectives.main, monkeypatch, capsys, data)
    names = ("raw features", "untrained", "JEPA alone", "raw values", "and their direction", "and the pred", "and fore")
    for name, line in zip(names, lines[2:], strict=True):
        assert line.startswith(name)
        assert all(0 <= float(auc) <= 1 for auc in line[24:].split())


def test_every_size_is_probed_and_timed(data, monkeypatch, capsys):
    monkeypatch.setattr(sizes, "SIZES", {name: replace(recipe, **SMALL) for name, recipe in sizes.SIZES.items()})
    lines = run(sizes.main, monkeypatch, capsys, data, "--sizes", "0", "2")
    for name in ("default: 1 token, 256 × 3", "a token a group, 128 × 3"):
        probed, timed = (line for line in lines if line.startswith(name))
        assert float(probed[30:].split()[0]) <= 1
        assert all(float(rate.replace(",", "")) > 0 for rate in timed[30:].split())
