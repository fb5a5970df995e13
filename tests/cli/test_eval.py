"""`jepa eval` on synthetic games, with the recipe of a small network and graphs that need no training."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.eval_table import means, table
from cli.main import app
from model.evaluation import few_labels as few
from model.evaluation.plan import PILOT_ROWS, expected_seconds, planned
from model.evaluation.probes import Label, Score
from model.training.recipe import Recipe
from tests.support.bundles import TinyModel
from tests.support.games import GROUPS, NAMES, make_games

EPISODES, LENGTH = 6, 100
RECIPE = Recipe(embed_dim=16, predictor_embed_dim=8, num_heads=4).as_dict()
ALL = ["raw", "PCA-4", "untrained", "context", "target", "raw, kNN", "target, kNN", "raw, boosted trees"]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    models = tmp_path_factory.mktemp("models")
    groups = tuple((group.name, group.width) for group in GROUPS)
    tiny = {"groups": groups, "names": NAMES, "patches": (("own", "opp", "stage"),)}
    TinyModel(**tiny, extra={"training": {"recipe": RECIPE}}).write(models)
    TinyModel(**tiny, name="imported", extra={"training": {"metrics": {}}}).write(models)
    TinyModel(**tiny, name="newer", extra={"training": {"recipe": RECIPE | {"gadget": 1}}}).write(models)
    return models


@pytest.fixture(scope="module")
def columns():
    games = make_games(EPISODES, LENGTH)
    return {
        "episode": games.episode, "frame": games.frame, **games.labels,
        **dict(zip(games.schema.names, games.features[:].T, strict=True)),
    }  # fmt: skip


def write(path, columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def data(columns, tmp_path_factory):
    half = np.linspace(0, 1, EPISODES * LENGTH)
    return write(tmp_path_factory.mktemp("data") / "games.parquet", columns | {"half": half})


def evaluate(*arguments):
    done = CliRunner().invoke(app, ["eval", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split()), done.output


def test_every_representation_is_told_printed_written_and_drawn(models, data, tmp_path, monkeypatch):
    monkeypatch.setattr(few, "DRAWS", {1: 1, 2: 1})
    monkeypatch.setattr(few, "TREES", {"max_iter": [2, 4]})
    out, plot = tmp_path / "table.json", tmp_path / "auc.png"
    code, words, text = evaluate(models / "tiny", data, "--out", out, "--plot", plot)
    assert code == 0, text
    assert "probes learn on 500 rows and are tested on 100 of 1 game held out; seed 0" in words
    assert "16 fits, about " in words
    written = json.loads(out.read_text())
    assert list(written["scores"]) == ALL
    assert list(written["health"]) == ALL[1:5]
    assert written["health"]["target"]["dims"] == 4
    assert written["scores"]["raw"]["y_up"]["auc"] > 0.95
    assert written["scores"]["raw"]["y_up"]["auc_spread"] is None
    for block in text.split("\n\n")[1:4]:
        assert [line.split("  ")[0] for line in block.splitlines()[2:]] == ALL
    assert f"{written['scores']['context']['y_action']['weighted_f1']:.3f}" in text
    assert "mean of 2 labels" in text
    assert "context: RankMe" in words
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in tmp_path.iterdir()} == {"table.json", "auc.png"}


def test_equal_seeds_give_equal_tables_and_spreads_are_over_the_games_of_the_split(models, columns, tmp_path):
    split = np.where(columns["episode"] < 3, "train", "test")
    path = write(tmp_path / "games.parquet", columns | {"split": split})
    tables = []
    for seed in (1, 1, 2):
        code, words, _ = evaluate(models / "tiny", path, "--split", "test", "--no-trees", "--no-few-labels",
                                  "--rows", 150, "--seed", seed, "--out", tmp_path / "t.json")  # fmt: skip
        assert code == 0, words
        assert f"150 rows and are tested on 300 of 3 games of split test; seed {seed}" in words
        tables.append(json.loads((tmp_path / "t.json").read_text())["scores"])
    assert tables[0] == tables[1] != tables[2]
    assert 0 < tables[0]["target"]["y_action"]["auc_spread"] < 0.5


def test_labels_that_tell_nothing_are_left_out_in_words_and_the_others_go_on(models, columns, tmp_path):
    rows, game = len(columns["episode"]), columns["episode"]
    labels = {
        "y_none": np.full(rows, -1),
        "y_none_too": np.full(rows, -1),
        "y_same": np.full(rows, 7),
        "y_rare": np.where(np.arange(rows) % 100 == 0, 1, 0),
        "y_game": game,  # the test games are classes that training never saw
        "y_once": np.where(np.arange(rows) == 3, 2, columns["y_up"]),
    }
    split = np.where(game < 4, "train", "val")
    path = write(tmp_path / "games.parquet", columns | labels | {"split": split})
    out = tmp_path / "t.json"
    code, words, text = evaluate(
        models / "tiny", path, "--min-entropy", 0.1, "--no-trees", "--no-neighbours", "--no-few-labels", "--out", out
    )
    assert code == 0, text
    assert "left out, −1 (none) in every training row: y_none, y_none_too" in words
    assert "left out, one class only in the training rows: y_same" in words
    assert "left out, entropy below 0.1 nats: y_rare" in words
    assert "left out, no test row of a class that the training rows have: y_game" in words
    assert "y_once: the 2 most common of 3 classes; rows of the others (0.25 %) are left out" in words
    written = json.loads(out.read_text())
    assert list(written["scores"]["raw"]) == ["y_up", "y_action", "y_once"]
    assert written["left_out"]["one class only in the training rows"] == ["y_same"]
    assert list(written["capped"]) == ["y_once"]


def test_a_class_that_the_test_rows_lack_leaves_a_dash_where_nothing_can_be_measured(models, columns, tmp_path):
    split = np.where(columns["episode"] < 4, "train", "val")
    lost = np.where(split == "val", 1, np.arange(len(split)) % 3)
    path = write(tmp_path / "games.parquet", columns | {"y_lost": lost, "split": split})
    plot = tmp_path / "a.png"
    code, _, text = evaluate(models / "tiny", path, "--labels", "y_lost", "--no-trees", "--plot", plot)
    assert code == 0, text
    assert re.search(r"\nraw +–  +0\.\d", text)
    assert re.search(r"\ntarget +–  +0\.\d", text)
    assert plot.exists()


def test_labels_may_be_any_columns_that_are_no_features(models, columns, tmp_path):
    px = {name: columns[name] for name in NAMES}
    ram = {"ram_030": np.random.default_rng(0).integers(0, 200, 600), "ram_031": columns["y_up"]}
    kept = {name: columns[name] for name in ("episode", "frame")}
    path = write(tmp_path / "atari.parquet", kept | px | ram)
    code, words, text = evaluate(
        models / "tiny", path, "--labels", "ram_03*", "--no-trees", "--no-neighbours", "--no-few-labels"
    )
    assert code == 0, text
    assert re.search(r"ram_030: the 64 most common of 1\d\d classes; rows of the others \(\d\d %\) are left out", words)
    assert "ram_031: 2 classes" in words
    code, words, _ = evaluate(models / "tiny", path, "--labels", "own_*")
    assert code == 1
    assert "own_action_id, own_x, own_y: a label that is also a feature tells nothing" in words


def test_rows_of_no_game_are_held_out_at_random_and_that_is_said(models, columns, tmp_path):
    games = make_games(EPISODES, LENGTH)
    np.savez(tmp_path / "rows.npz", features=games.features, y_up=columns["y_up"])
    code, words, text = evaluate(models / "tiny", tmp_path / "rows.npz", "--no-trees", "--out", tmp_path / "t.json")
    assert code == 0, text
    assert "tested on 60 rows held out at random: no 'episode' and no 'frame' column says which" in words
    assert "±" not in text
    np.savez(
        tmp_path / "rows.npz", features=games.features, y_up=columns["y_up"], split=np.repeat(["train", "val"], 300)
    )
    assert (
        "tested on 300 rows of split val; seed 0" in evaluate(models / "tiny", tmp_path / "rows.npz", "--no-trees")[1]
    )


@pytest.mark.parametrize("name", ["imported", "newer"])
def test_without_a_recipe_that_is_known_the_untrained_encoder_is_left_out(models, data, name):
    code, words, text = evaluate(
        models / name, data, "--labels", "y_up", "--no-trees", "--no-neighbours", "--no-few-labels"
    )
    assert code == 0, text
    assert "left out, its bundle has no recipe that this program knows: the untrained encoder" in words
    assert "\nraw " in text
    assert "\nuntrained" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--labels", "y_*", "--labels", "z_*"],
            "no column matches ['z_*']; name columns of whole numbers with --labels",
        ),
        (["--labels", "own_x"], "own_x: a label that is also a feature"),
        (["--labels", "half"], "label 'half' holds"),
        (["--min-entropy", "5"], "no label is left to probe"),
        (
            ["--split", "test"],
            "split is 'test', but the data has no split column, so that games held out of it are all",
        ),
        (["--features", "own_*"], "the data lacks 5 of the 8 columns of the model: 'opp_x' (the nearest is 'own_x')"),
        (["--plot", "auc.jpg"], "--plot is auc.jpg; the picture is written as .png"),
        (["--plot", "nowhere/auc.png"], "nowhere/auc.png cannot be written: there is no folder nowhere"),
        (["--out", "nowhere/table.json"], "nowhere/table.json cannot be written: there is no folder nowhere"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(models, data, arguments, message):
    code, words, text = evaluate(models / "tiny", data, *arguments)
    assert code == 1
    assert message in words
    assert "Traceback" not in text


def test_splits_that_cannot_be_told_apart_or_are_too_small_are_refused(models, columns, tmp_path):
    split = np.where(columns["episode"] < 5, "train", "test")
    path = write(tmp_path / "games.parquet", columns | {"split": split})
    for wrong in ("train", "final"):
        code, words, _ = evaluate(models / "tiny", path, "--split", wrong)
        assert code == 1
        assert f"split is '{wrong}'; the probe learns on 'train' and is tested on another of ['test', 'train']" in words
    few = {name: values[90:110] for name, values in columns.items()}
    code, words, _ = evaluate(models / "tiny", write(tmp_path / "few.parquet", few))
    assert code == 1
    assert "10 training and 10 test rows; a probe needs 20 of each" in words


def test_the_expected_time_grows_with_the_work():
    rows = np.random.default_rng(0).normal(size=(400, 5)).astype(np.float32)
    labels = {"y": Label(np.arange(400) % 2, np.arange(400) % 2)}
    views = {"raw": (rows, rows), "target": (rows, rows)}
    total, trees = expected_seconds(planned(views, trees=True, neighbours=True), labels)
    assert 0 < trees < total
    assert expected_seconds(planned(views, trees=False, neighbours=False), labels)[1] == 0


def test_a_class_that_comes_late_in_the_rows_does_not_upset_the_estimate():
    rows = np.random.default_rng(0).normal(size=(PILOT_ROWS + 9, 2)).astype(np.float32)
    late = (np.arange(len(rows)) >= PILOT_ROWS).astype(np.int64)
    total, _ = expected_seconds(planned({"raw": (rows, rows)}, trees=True, neighbours=False), {"y": Label(late, late)})
    assert total > 0


def test_the_mean_over_labels_is_of_those_that_have_one():
    nan = float("nan")
    scores = {
        "raw": {"a": Score(0.8, 0.5, 0.4, 0.3, 0.2, 0.01, nan, nan), "b": Score(nan, 0.7, 0.6, 0.5, 0.4, *[nan] * 3)}
    }
    assert means(scores)["raw"] == pytest.approx(
        {"auc": 0.8, "accuracy": 0.6, "balanced_accuracy": 0.5, "f1": 0.4, "weighted_f1": 0.3}
    )
    labels = {name: Label(np.array([0, 1]), np.array([0, 1])) for name in "ab"}
    text = "\n".join(table(scores, labels))
    assert "raw  0.800 ±0.010" in text
    assert "raw  –        0.700" in text
