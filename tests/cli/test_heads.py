"""`jepa heads` on synthetic games, with graphs that need no training."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bundle.reader import read_bundle
from cli.embedding import BundleEmbedder
from cli.main import app
from tests.support.bundles import TinyModel
from tests.support.games import GROUPS, NAMES, make_games

EPISODES, LENGTH = 8, 100
TINY = TinyModel(
    groups=tuple((group.name, group.width) for group in GROUPS),
    names=NAMES,
    patches=(("own", "opp", "stage"),),
    embed_dim=8,
)


@pytest.fixture(scope="module")
def columns():
    games = make_games(EPISODES, LENGTH)
    own_x = games.features[:, 0]
    return {
        "episode": games.episode, "frame": games.frame, **games.labels,
        **dict(zip(games.schema.names, games.features.T, strict=True)),
        "mood": np.where(own_x > 0.5, "calm", np.where(own_x > -0.5, "tense", "wild")),
        "y_gap": np.where(np.arange(len(own_x)) % 5 == 0, -1, games.labels["y_up"]),
        "speed": own_x * 3 + 7,
        "same": np.ones(len(own_x)),
    }  # fmt: skip


@pytest.fixture
def bundle(tmp_path):
    return TINY.write(tmp_path / "models")


def write(path, columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def data(columns, tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "games.parquet", columns)


def fit(*arguments):
    done = CliRunner().invoke(app, ["heads", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split()), done.output


def test_columns_formulas_and_files_become_heads_of_a_new_version(bundle, data, tmp_path):
    events = tmp_path / "events.toml"
    events.write_text(
        'left = "own_x < 0"\n[act]\nformula = """own_action_id\n+ 0"""\nclasses = ["low", "middle", "high"]\n'
    )
    code, words, text = fit(
        bundle, data, "--labels", "mood", "--labels", "speed", "--labels", "y_gap",
        "--label", "near = abs(own_x - opp_x) < 0.5 and own_y > opp_y", "--events", events,
    )  # fmt: skip
    assert code == 0, text
    assert "6 heads learn on 700 rows, and are chosen and calibrated on 100 of 1 other games" in words
    assert "note: y_gap: 160 of 800 rows have no label" in words
    new = read_bundle(bundle.parent / "2")
    assert f"{new.folder}: mood, y_gap, speed, near, left, act" in words
    found = {head.name: (head.kind, head.outputs, head.labels) for head in new.manifest.heads}
    assert found == {
        "mood": ("classes", ["mood=calm", "mood=tense", "mood=wild"], "mood"),
        "speed": ("number", ["speed"], "speed"),
        "y_gap": ("binary", ["y_gap"], "y_gap"),
        "near": ("binary", ["near"], "abs(own_x - opp_x) < 0.5 and own_y > opp_y"),
        "left": ("binary", ["left"], "own_x < 0"),
        "act": ("classes", ["act=low", "act=middle", "act=high"], "own_action_id + 0"),
    }
    tables = {head.name: head.table for head in new.manifest.heads}
    assert [*tables["left"]] == ["penalty", "0", "6", "15"]
    assert tables["left"]["0"]["auc"] > 0.8
    assert tables["left"]["6"]["rows"] == 94
    assert "auc" not in tables["speed"]["0"]
    assert new.heads is not None
    assert new.novelty is not None
    old, document = (
        json.loads((bundle / "bundle.json").read_text()),
        json.loads((new.folder / "bundle.json").read_text()),
    )
    assert document["version"] == 2
    for key in old.keys() - {"version", "heads", "files"}:
        assert document[key] == old[key]
    for name, entry in old["files"].items():
        assert document["files"][name] == entry
    assert sorted(path.name for path in bundle.parent.iterdir()) == ["1", "2"]


def test_answers_now_and_later_are_those_of_the_labels(bundle, data, columns):
    code, _, text = fit(bundle, data, "--label", "left = own_x < 0", "--labels", "speed")
    assert code == 0, text
    new = read_bundle(bundle.parent / "2")
    assert new.heads.outputs == ["speed", "left"]
    embedder = BundleEmbedder(new)
    rows = np.stack([columns[name] for name in NAMES], axis=1)[-LENGTH:]
    now = new.heads.values(embedder.now(rows), 0)
    assert np.mean((now[:, 1] > 0.5) == (rows[:, 0] < 0)) > 0.8
    assert np.corrcoef(now[:, 0], columns["speed"][-LENGTH:])[0, 1] > 0.8
    # What is expected 6 frames on holds on the whole.
    later = new.heads.values(embedder.expected(embedder.context(rows[:-6]), 6), 1)
    assert abs(later[:, 1].mean() - (rows[6:, 0] < 0).mean()) < 0.15


def test_heads_under_other_names_stay_and_those_of_the_same_name_are_replaced(bundle, data):
    assert fit(bundle, data, "--label", "a = own_x < 0", "--labels", "mood")[0] == 0
    code, _, text = fit(bundle.parent, data, "--label", "a = own_y < 0", "--label", "b = opp_x < 0")
    assert code == 0, text
    second, third = read_bundle(bundle.parent / "2"), read_bundle(bundle.parent / "3")
    assert [(head.name, head.labels) for head in third.manifest.heads] == [
        ("mood", "mood"), ("a", "own_y < 0"), ("b", "opp_x < 0"),
    ]  # fmt: skip
    e = BundleEmbedder(third).now(make_games(1, 20).features)
    for index in range(3):
        np.testing.assert_allclose(
            third.heads.select(["mood"]).values(e, index), second.heads.select(["mood"]).values(e, index), rtol=1e-5
        )
    np.testing.assert_array_equal(third.novelty.whitening, second.novelty.whitening)


def test_equal_seeds_fit_equal_heads_on_as_many_rows_as_asked(bundle, data):
    asked = ("--label", "left = own_x < 0", "--rows", 300, "--held-out-rows", 100)
    for seed in (1, 1, 2):
        code, words, text = fit(bundle, data, *asked, "--seed", seed)
        assert code == 0, text
        assert f"learn on 300 rows, and are chosen and calibrated on 100 of 1 other games; seed {seed}" in words
    weights = [read_bundle(bundle.parent / version).heads.weights for version in "234"]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[1], weights[2])


def test_a_model_of_rows_without_order_has_heads_too(columns, tmp_path):
    tiny = TinyModel(groups=TINY.groups, names=NAMES, patches=TINY.patches, horizons=(0,), quantiles=False)
    folder = tiny.write(tmp_path)
    data = write(tmp_path / "rows.parquet", {name: columns[name] for name in (*NAMES, "mood")})
    code, _, text = fit(folder, data, "--labels", "mood")
    assert code == 0, text
    assert read_bundle(folder.parent / "2").heads.calibration.shape == (2, 3, 4)


def test_rows_in_which_a_needed_number_is_missing_have_no_label(bundle, columns, tmp_path):
    holes = np.where(np.arange(EPISODES * LENGTH) % 4 == 0, np.nan, columns["own_x"])
    moods = [None if i % 8 == 1 else mood for i, mood in enumerate(columns["mood"])]
    path = write(tmp_path / "games.parquet", columns | {"own_x": holes, "mood": moods})
    code, words, text = fit(bundle, path, "--label", "left = own_x < 0", "--labels", "mood", "--missing", "hide")
    assert code == 0, text
    assert "note: left: 200 of 800 rows have no label" in words
    assert "note: mood: 100 of 800 rows have no label" in words
    code, words, _ = fit(bundle, path, "--label", "left = own_x < 0 or speed > 1", "--missing", "drop")
    assert code == 1
    assert "200 rows were dropped, so labels and rows do not go together; choose --missing hide or mean" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no head is asked for; name columns with --labels, or say --label 'name = formula'"),
        (["--labels", "z_*"], "no column matches --labels 'z_*'"),
        (["--label", "left"], "--label is 'left'; write it as 'name = formula'"),
        (["--label", "a == b"], "--label is 'a == b'; write it as"),
        (["--label", "a = own_xx < 0"], "the data has no column 'own_xx'; the nearest is 'own_x'"),
        (["--label", "a = y_upp"], "the data has no column 'y_upp'; the nearest is 'y_up'"),
        (["--label", "a = __import__('os')"], "has '__import__('os')'; it may have names of columns, numbers"),
        (["--label", "two words = own_x < 0"], "'two words' cannot name a head"),
        (["--label", "a = own_x < 0", "--label", "a = own_y < 0"], "a: asked for more than once"),
        (["--labels", "same"], "'same' is 1.0 in every training row; a head needs two values at least"),
        (["--label", "a = mood + 1"], "computes with text; text can only be compared"),
        (["--label", "a = own_x > 99"], "'a' is 0.0 in every training row"),
        (["--label", "a = own_x > 0 and frame == 1 and episode < 9"], "fewer than two values with 20 training rows"),
        (["--labels", "y_up", "--events", "nowhere.toml"], "No such file or directory"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_and_nothing_is_written(bundle, data, arguments, message):
    code, words, text = fit(bundle, data, *arguments)
    assert code == 1
    assert message in words
    assert "Traceback" not in text
    assert [path.name for path in bundle.parent.iterdir()] == ["1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a = ", "cannot be read as TOML"),
        ("a = 3", 'a is 3; write a = "formula", or a table [a] with formula = "…"'),
        ('[a]\nformula = "own_x"\nclases = ["x"]', "write a ="),
        (
            '[a]\nformula = "own_action_id"\nclasses = ["x", "y"]',
            "must give whole numbers from 0 to 1; it gives 0.0, 1.0, 2.0",
        ),
        ('[a]\nformula = "own_action_id"\nclasses = ["x", "x", "y"]', "the classes of 'a' repeat a name"),
    ],
)
def test_a_file_of_events_that_makes_no_sense_is_refused(bundle, data, tmp_path, content, message):
    (tmp_path / "events.toml").write_text(content)
    code, words, _ = fit(bundle, data, "--events", tmp_path / "events.toml")
    assert code == 1
    assert message in words


def test_the_bundled_model_needs_a_place_for_its_new_version(bundle, data, monkeypatch, tmp_path):
    for each in ("bundle.folders", "cli.heads"):
        monkeypatch.setattr(f"{each}.DEFAULT_MODEL", bundle.parent)
    code, words, _ = fit("default", data, "--labels", "y_up")
    assert code == 1
    assert "the bundled model is part of the program; name a folder for the new version with --out" in words
    assert fit("default", data, "--labels", "y_up", "--out", tmp_path / "mine")[0] == 0
    assert read_bundle(tmp_path / "mine" / "tiny" / "1").heads is not None


def test_data_without_a_count_of_frames_cannot_calibrate_a_model_that_looks_ahead(bundle, columns, tmp_path):
    path = write(tmp_path / "rows.parquet", {name: columns[name] for name in (*NAMES, "episode", "y_up")})
    code, words, _ = fit(bundle, path, "--labels", "y_up")
    assert code == 1
    assert "the data has no column that counts frames; name it with --frame" in words
