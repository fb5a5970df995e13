"""`jepa report` on synthetic games and graphs that need no training."""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bundle.columns import column_statistics
from bundle.reader import read_bundle
from cli.main import app
from cli.report import sections
from tests.support.bundles import TinyModel
from tests.support.games import GROUPS, NAMES, make_games

HISTORY = {"step": [250, 500], "loss": [0.3, 0.2], "loss_ratio": [0.9, 0.5], "std": [1.0, 0.9], "rankme": [2, 3.25]}
# Of rows like those of make_games.
STATISTICS = {name: values.tolist() for name, values in column_statistics(make_games(3, 120).features).items()}
OF_BUNDLE = {"index.html", "training.png", "quantiles.png"}
OF_DATA = {"spectrum.png", "map.png", "surprise.png"}


def tiny(**options):
    groups = tuple((group.name, group.width) for group in GROUPS)
    return TinyModel(groups=groups, names=NAMES, patches=(("own", "opp", "stage"),), **options)


@pytest.fixture
def bundle(tmp_path):
    return tiny(extra={"history": HISTORY, "statistics": STATISTICS}).write(tmp_path / "models")


def columns(**changes):
    games = make_games(3, 120)
    named = dict(zip(games.schema.names, games.features[:].T, strict=True))
    return {"episode": games.episode, "frame": games.frame, **games.labels, **named} | changes


def write(path, columns):
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), path)
    return path


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "schema.json").write_text(json.dumps({"classes": {"y_up": ["below", "above"]}}))
    return write(tmp_path / "data" / "games.parquet", columns())


def report(*arguments):
    done = CliRunner().invoke(app, ["report", *map(str, arguments)])
    return done.exit_code, " ".join(done.output.split())


def page_of(folder):
    """The page's text without the data of its pictures."""
    return re.sub(r"base64,[^\"]*", "", (folder / "index.html").read_text(encoding="utf-8"))


def files(folder):
    return {path.name for path in folder.iterdir()}


def test_the_bundle_alone_tells_how_it_learned_beside_it_and_stays_whole(bundle):
    code, words = report(bundle.parent)
    assert code == 0, words
    folder = bundle.parent / "report-1"
    assert words == f"{folder / 'index.html'} is ready: The model; Training; How large a loss is usual"
    assert files(folder) == OF_BUNDLE
    page = page_of(folder)
    assert (
        "From step 250 to 500: loss 0.3 to 0.2, over the loss of the mean 0.9 to 0.5, std 1 to 0.9, RankMe 2 to 3.25"
        in page
    )
    assert "Median loss 0.5 at 6 frames ahead" in page
    assert '<th scope="row">metric probe_r2</th><td>0.5</td>' in page
    assert read_bundle(bundle)
    assert report(bundle)[0] == 0


def test_a_game_is_mapped_and_its_surprises_are_named(bundle, data, tmp_path):
    out = tmp_path / "deep" / "out"
    code, words = report(bundle, data, "--out", out, "--episode", 2)
    assert code == 0, words
    assert "embedding 360 rows of all, and game 2: 120 rows" in words
    assert files(out) == OF_BUNDLE | OF_DATA
    page = page_of(out)
    assert "Embeddings of game 2 by y_up (below, above): two principal components" in page
    assert "How far each frame of game 2 was off what the model predicted 15 frames before." in page
    first = re.search(r"Most surprising were the frames (-?\d+)", page)[1]
    row = re.search(r'<th scope="row">1</th><td>(-?\d+)</td><td>[\d.]+</td><td>(.*?)</td><td>(above|below)</td>', page)
    assert row[1] == first
    # The bundle has quantiles for 6 frames ahead, and this is 15.
    assert row[2] == "–"
    assert page.count('<th scope="row">context encoder</th>') == 1
    assert "All 8 columns are like the same column in training." in page


def test_with_quantiles_the_surprise_is_a_percentile_and_val_is_the_game_to_show(data, tmp_path):
    split = np.repeat(["train", "val", "train"], 120)
    write(data, columns(split=split))
    bundle = tiny(horizons=(6,)).write(tmp_path / "models")
    code, words = report(bundle, data, "--labels", "y_action")
    assert code == 0, words
    page = page_of(bundle.parent / "report-1")
    assert "game 1 of split val was off what the model predicted 6 frames before; 100 is as far as the worst" in page
    assert "by y_action (" in page
    assert re.search(r"<th scope=\"row\">1</th><td>-?\d+</td><td>[\d.]+</td><td>[\d.]+</td>", page)


def test_rows_of_no_game_have_a_map_and_no_surprise(bundle, tmp_path):
    np.save(tmp_path / "rows.npy", make_games(3, 120).features)
    code, words = report(bundle, tmp_path / "rows.npy", "--out", tmp_path / "out")
    assert code == 0, words
    assert files(tmp_path / "out") == (OF_BUNDLE | OF_DATA) - {"surprise.png"}
    assert "Without a 'frame' column no row is later than another" in page_of(tmp_path / "out").replace("&#x27;", "'")


def test_a_game_shorter_than_the_horizon_or_of_one_row_says_so(bundle, data, tmp_path):
    code, words = report(bundle, write(data, columns() | {"frame": np.arange(360) * 20}), "--out", tmp_path / "out")
    assert code == 0, words
    assert "No frame of game 0 has one 15 frames later." in page_of(tmp_path / "out")
    alone = np.where(np.arange(360) == 7, 9, 1)
    assert report(bundle, write(data, columns(episode=alone)), "--episode", 9, "--out", tmp_path / "out")[0] == 0
    assert "A map needs two rows and two dims; there are 1 and 4." in page_of(tmp_path / "out")


def test_what_the_bundle_does_not_hold_is_said_to_be_missing(data, tmp_path):
    short = {name: values[:1] for name, values in HISTORY.items()} | {"loss": [1.0, 2.0]}
    for name, history in (("imported", {}), ("odd", short), ("empty", {name: [] for name in HISTORY})):
        bundle = tiny(name=name, quantiles=False, extra={"history": history, "statistics": {}}).write(
            tmp_path / "models"
        )
        code, words = report(bundle, data)
        assert code == 0, words
        page = page_of(bundle.parent / "report-1")
        assert "holds no curves of its training" in page
        assert "holds no quantiles of its loss" in page
        assert "holds no mean and std of its training columns" in page


def test_columns_that_moved_or_were_dead_are_named(data, tmp_path):
    statistics = {name: np.array(values) for name, values in STATISTICS.items()}
    for name in ("mean", "min", "max"):
        statistics[name][3] -= 5 * statistics["std"][3]
        statistics[name][6] = 0.5
    statistics["std"][6] = 0
    statistics = {name: values.tolist() for name, values in statistics.items()}
    bundle = tiny(extra={"statistics": statistics}).write(tmp_path / "models")
    assert report(bundle, data)[0] == 0
    page = page_of(bundle.parent / "report-1")
    assert re.search(
        r'<tbody>\n<tr><th scope="row">opp_x</th><td>[^<]*</td><td>[^<]*</td><td>[^<]*</td><td>\+5.00</td>', page
    )
    assert "Columns unlike the same column in training: 2 of 8." in page
    for column, words in (
        ("opp_x", "lies outside the range of training; "),
        ("time", "never changed in training, so "),
    ):
        assert re.search(rf'<th scope="row">{column}</th><td>{words}[^<]*</td><td>\d+\.\d%</td>', page)


def test_names_from_the_bundle_cannot_put_markup_into_the_page(data, tmp_path):
    bundle = tiny(
        extra={"licence": "<b>free</b>", "data": {"source": "<script>"}, "training": {"metrics": {"<i>": "<u>"}}}
    )
    folder = bundle.write(tmp_path / "models")
    assert report(folder, data)[0] == 0
    page = page_of(folder.parent / "report-1")
    assert not re.search(r"<(b|script|i|u)>", page)
    assert "&lt;b&gt;free&lt;/b&gt;" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["DATA", "--episode", "7"], "the data has no episode 7; it has 3, such as 0"),
        (["DATA", "--labels", "y_*", "--labels", "z_*"], "no column matches ['z_*']; name columns of whole numbers"),
        (["DATA", "--labels", "z_*"], "no column matches ['z_*']; name columns of whole numbers with --labels"),
        (["DATA", "--features", "own_*"], "the data lacks 5 of the 8 columns of the model: 'opp_x'"),
        (["ROWS", "--episode", "7"], "--episode names a game, but the data has no 'episode' column"),
        (["ROW"], "the data has 1 row; how far embeddings differ takes at least two to tell"),
        (["nowhere.parquet"], "nowhere.parquet: no such file"),
        (["--out", "BUNDLE"], "is in the bundle, whose files are checked; give the report a folder of its own"),
        (["--out", "BUNDLE/report"], "is in the bundle, whose files are checked; give the report a folder of its own"),
        (["--out", "DATA/report"], "cannot be written (["),
    ],
)
def test_what_is_wrong_is_said_in_one_line(bundle, data, tmp_path, arguments, message):
    np.save(tmp_path / "rows.npy", make_games(1, 9).features)
    np.save(tmp_path / "row.npy", make_games(1, 9).features[:1])
    places = {"DATA": data, "ROWS": tmp_path / "rows.npy", "ROW": tmp_path / "row.npy", "BUNDLE": bundle}
    for name, path in places.items():
        arguments = [argument.replace(name, str(path)) for argument in arguments]
    code, words = report(bundle, *arguments)
    assert code == 1
    assert message in words
    assert "Traceback" not in words
    assert files(bundle) == {
        "bundle.json",
        "golden.npz",
        *(f"{g}.onnx" for g in ("context_encoder", "target_encoder", "predictor")),
    }


def test_the_bundled_model_is_reported_only_where_one_says(bundle, monkeypatch, tmp_path):
    for each in ("bundle.folders", "cli.report.folders"):
        monkeypatch.setattr(f"{each}.DEFAULT_MODEL", bundle.parent)
    code, words = report("default")
    assert code == 1
    assert "the bundled model lies among the program's files; say with --out where the report goes" in words
    assert report("default", "--out", tmp_path / "out")[0] == 0
    assert files(tmp_path / "out") == OF_BUNDLE


def test_a_collapsed_model_is_drawn_as_what_it_is(tmp_path):
    game = make_games(1, 50)
    section = sections.embedding_map(np.ones((50, 4), np.float32), game, {}, "game 0", tmp_path)
    assert "0 % of the variance" in section.parts[0].alt
    section = sections.spectrum({"target": np.ones((50, 4), np.float32)}, tmp_path)
    assert section.parts[1].rows[0][-1] == "4 of 4"
    assert files(tmp_path) == {"map.png", "spectrum.png"}


def test_what_is_no_bundle_is_said_to_be_none(tmp_path):
    code, words = report(tmp_path)
    assert code == 1
    assert "is no bundle" in words


def test_each_surprise_has_words_that_lead_to_the_curve_and_back(data, tmp_path):
    bundle = tiny(heads=True, extra={"statistics": STATISTICS}).write(tmp_path / "models")
    assert report(bundle, data)[0] == 0
    page = page_of(bundle.parent / "report-1")
    moments = re.findall(r'<a id="words-(\d)" href="#moment-(\d)">([^<]+)</a>', page)
    assert (
        [first for first, _, _ in moments]
        == [second for _, second, _ in moments]
        == ["1", "2", "3", "4"][: len(moments)]
    )
    for number, _, words in moments:
        assert f'id="moment-{number}"' in page
        assert f'<a xlink:href="#words-{number}">' in page
        assert re.match(rf"({'|'.join(NAMES)}) -?[\d.e+-]+ → -?[\d.e+-]+", words), words
    assert "_blank" not in page
