"""The section of `jepa eval` on the forecasts of a bundle's heads."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bundle.heads import Head
from cli.main import app
from model.evaluation import forecasts
from model.evaluation.events import of_line
from model.evaluation.forecasts import (
    LABELLED_RAW,
    LABELLED_TREES,
    LATER_COLUMNS,
    LATER_COLUMNS_NETWORK,
    OURS,
    PERSISTENCE,
    Compared,
    compare,
    over_best,
)
from model.evaluation.heads import fit_heads
from model.evaluation.measures import Measures
from model.evaluation.rivals import network_width, tree_values
from model.evaluation.targets import Target
from tests.support.bundles import TinyModel
from tests.support.games import GROUPS, NAMES, make_games

LINES = [
    "predictor", "persistence", "embedding → later embedding, linear", "raw → later raw, linear",
    "raw → later raw, network", "raw, with labels of the future", "embedding, with labels of the future",
]  # fmt: skip


@pytest.fixture(scope="module")
def games():
    return make_games(10, 80)


@pytest.fixture(scope="module")
def data(games, tmp_path_factory):
    columns = {
        "episode": games.episode, "frame": games.frame, "split": np.where(games.episode < 6, "train", "val"),
        **games.labels, **dict(zip(NAMES, games.features.T, strict=True)), "speed": games.features[:, 0] * 3 + 7,
    }  # fmt: skip
    path = tmp_path_factory.mktemp("data") / "games.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def bundle(data, tmp_path_factory):
    groups = tuple((group.name, group.width) for group in GROUPS)
    tiny = TinyModel(groups=groups, names=NAMES, patches=(("own", "opp", "stage"),), horizons=(5, 30), embed_dim=8)
    folder = tiny.write(tmp_path_factory.mktemp("models"))
    asked = ["--label", "up = y_up", "--label", "act = own_action_id", "--labels", "speed"]
    done = CliRunner().invoke(app, ["heads", str(folder), str(data), *asked])
    assert done.exit_code == 0, done.output
    return folder.parent


def evaluate(*arguments):
    done = CliRunner().invoke(app, ["eval", *map(str, arguments), "--no-trees", "--no-neighbours", "--no-few-labels"])
    return done.exit_code, " ".join(done.output.split()), done.output


def test_each_head_is_compared_with_every_rival_at_the_far_horizon(bundle, data, tmp_path):
    code, words, text = evaluate(bundle, data, "--out", tmp_path / "table.json")
    assert code == 0, text
    assert "forecast of up, 30 frames ahead; 200 test rows" in words
    assert "forecast of act, 30 frames ahead" in words
    assert (
        "30 frames ahead, predictor without labels of the future: at or above the linear probe that has them" in words
    )
    assert " of 2 heads, at or above every rival without on " in words
    found = json.loads((tmp_path / "table.json").read_text())["forecasts"]
    assert [*found] == ["speed", "up", "act"]
    assert [*found["up"]] == ["30"]
    assert sorted(found["up"]["30"]) == sorted(LINES)
    line = found["up"]["30"]["persistence"]
    # Of the games in which both answers come often enough.
    assert 2 <= line["games"] <= 4
    assert 0 <= line["auc"] <= 1
    assert found["speed"]["30"]["predictor"]["auc"] is None
    assert found["speed"]["30"]["predictor"]["brier"] > 0


def test_without_the_columns_of_a_head_it_is_left_out_and_the_others_stay(bundle, data, tmp_path):
    table = pq.read_table(data).drop_columns("speed")
    pq.write_table(table, path := tmp_path / "games.parquet")
    code, words, text = evaluate(bundle, path)
    assert code == 0, text
    assert "left out of forecasts, speed: the data has no column 'speed'; the nearest is" in words
    assert "forecast of up, 30 frames ahead" in words


def test_the_section_can_be_left_out(bundle, data):
    code, words, text = evaluate(bundle, data, "--no-heads")
    assert code == 0, text
    assert "forecast" not in words


class Oracle:
    """The embedding is the columns themselves, and the predictor knows the game."""

    horizons = (8,)

    def __init__(self, frames):
        later = np.roll(frames.features, -self.horizons[0], axis=0)
        self._later = {now.tobytes(): then for now, then in zip(frames.features, later, strict=True)}

    def now(self, features):
        return features

    context = now

    def expected(self, context, horizon):
        assert horizon in self.horizons
        return np.stack([self._later[row.tobytes()] for row in context])


def test_a_predictor_that_knows_what_comes_is_above_whoever_guesses_it(games):
    train, test = np.flatnonzero(games.episode < 6), np.flatnonzero(games.episode >= 6)
    up = Target(Head("up", "binary", ("up",)), of_line("up = y_up"), games.labels["y_up"].astype(np.float32))
    fit = fit_heads([up], games, train, test, Oracle(games))
    lines = compare(fit.heads, [up], games, train, test, Oracle(games), (8,), network_size=4000, trees=True)["up"][8]
    assert lines[OURS].measures.auc > 0.99
    assert lines[OURS].measures.rows == 4 * 72
    assert lines[PERSISTENCE].measures.auc < 0.95
    assert lines[PERSISTENCE].mean.gain > 0.05
    assert lines[PERSISTENCE].mean.up == lines[PERSISTENCE].mean.games == 4
    assert lines[OURS].mean.gain == 0
    # Both of these learn more than that what is will be.
    for rival in (LATER_COLUMNS_NETWORK, LABELLED_TREES):
        assert lines[PERSISTENCE].measures.auc < lines[rival].measures.auc <= lines[OURS].measures.auc


def test_one_training_game_is_enough_for_rivals():
    games = make_games(3, 400)
    train, test = np.flatnonzero(games.episode < 1), np.flatnonzero(games.episode >= 1)
    up = Target(Head("up", "binary", ("up",)), of_line("up = y_up"), games.labels["y_up"].astype(np.float32))
    fit = fit_heads([up], games, train, test, Oracle(games))
    lines = compare(fit.heads, [up], games, train, test, Oracle(games), (8,), network_size=4000)["up"][8]
    for rival in (LATER_COLUMNS, LATER_COLUMNS_NETWORK, LABELLED_RAW):
        assert lines[rival].measures.auc > 0.6, rival


def test_gains_are_means_over_games_with_their_standard_error():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 400).astype(np.float32)
    ours = ((truth + rng.uniform(size=400)) / 2)[:, None].astype(np.float32) ** 2
    other = rng.uniform(size=(400, 1)).astype(np.float32)
    names = np.repeat([3, 5, 8, 9], 100)
    head = Head("a", "binary", ("a",))
    found = dict(forecasts._compared(head, {OURS: ours, "other": other}, truth, names))["other"].mean
    each = [
        forecasts.ranking("binary", ours[names == g], truth[names == g])
        - forecasts.ranking("binary", other[names == g], truth[names == g])
        for g in (3, 5, 8, 9)
    ]
    assert found.gain == pytest.approx(np.mean(each))
    assert found.error == pytest.approx(np.std(each, ddof=1) / 2)
    assert found.games == 4


def test_the_gain_over_the_best_rival_is_a_mean_over_heads_in_each_game_and_then_over_games():
    def line(auc, gains):
        return Compared(Measures(100, auc, 0.2, 0.01), np.array(gains))

    nan = float("nan")
    heads = [
        {"a": line(0.7, [0.1, 0.3, nan]), "b": line(0.6, [0.9, 0.9, 0.9])},
        {"a": line(0.5, [0.9, 0.9, 0.9]), "b": line(0.8, [0.2, 0.1, 0.4])},
    ]
    found = over_best(heads, ("a", "b", "one that is not there"))
    each = [0.15, 0.2, 0.4]
    assert found == pytest.approx((np.mean(each), np.std(each, ddof=1) / np.sqrt(3), 3, 3))
    assert np.isnan(over_best([], ("a",)).gain)


@pytest.mark.parametrize("size", [1000, 500_000])
def test_a_network_for_columns_has_the_size_that_it_is_to_have(size):
    width = network_width(287, size)
    assert width**2 + 2 * 287 * width == pytest.approx(size, rel=0.2)


def test_trees_answer_for_every_class_and_not_for_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)).astype(np.float32)
    y = np.select([x[:, 0] > 1, x[:, 0] < 0], [0, 2], np.nan).astype(np.float32)
    values = tree_values(Head("a", "classes", ("a=0", "a=1", "a=2")), x, y, x)
    assert values.shape == (300, 3)
    # The labels know two of the classes.
    assert (values[:, 1] == 0).all()
    np.testing.assert_allclose(values.sum(1), 1, rtol=1e-5)
    assert values[x[:, 0] > 1, 0].min() > 0.5
    assert tree_values(Head("a", "number", ("a",)), x, y, x) is None
    assert tree_values(Head("a", "binary", ("a",)), x, np.ones(300, np.float32), x) is None
