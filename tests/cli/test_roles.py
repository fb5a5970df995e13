"""Columns by their names, on the commands: shown before anything is learned, and matched with those of a bundle."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bundle.schema import unnamed_columns
from cli.main import app
from tests.support.bundles import TinyModel
from tests.support.games import GROUPS, NAMES, make_games

GROUP_WIDTHS = tuple((group.name, group.width) for group in GROUPS)
PATCHES = (("own", "opp", "stage"),)


def jepa(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyModel(groups=GROUP_WIDTHS, names=NAMES, patches=PATCHES).write(tmp_path_factory.mktemp("named"))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    games = make_games(2, 40)
    columns = dict(zip(games.schema.names, games.features[:].T, strict=True))
    return pa.table({"episode": games.episode, "frame": games.frame, **columns})


def embedded(bundle: Path, table: pa.Table, path: Path, *options: object) -> tuple[bytes, str]:
    pq.write_table(table, path)
    out = path.with_suffix(".npy")
    code, said = jepa("embed", bundle, path, "--out", out, *options)
    assert code == 0, said
    return out.read_bytes(), said


def test_embeddings_of_shuffled_and_surplus_columns_are_those_of_the_file_bit_for_bit(
    bundle: Path, table: pa.Table, tmp_path: Path
) -> None:
    right, said = embedded(bundle, table, tmp_path / "right.parquet")
    assert "note" not in said
    shuffled = table.select(np.random.default_rng(0).permutation(table.column_names).tolist())
    assert embedded(bundle, shuffled, tmp_path / "shuffled.parquet") == (right, said.replace("right", "shuffled"))
    wider = shuffled.append_column("debug", pa.array(np.zeros(len(table)))).append_column("note", table["own_x"])
    found, said = embedded(bundle, wider, tmp_path / "wider.parquet")
    assert found == right
    assert said.count("2 columns that the model was not trained on are left out (debug, note)") == 1


def test_a_missing_column_is_named_with_the_nearest(bundle: Path, table: pa.Table, tmp_path: Path) -> None:
    renamed = table.rename_columns([name.replace("opp_x", "opponent_x") for name in table.column_names])
    pq.write_table(renamed, tmp_path / "renamed.parquet")
    out = tmp_path / "e.npy"
    for command in (["embed", "--out", out], ["report", "--out", tmp_path / "page"], ["eval"]):
        code, said = jepa(command[0], bundle, tmp_path / "renamed.parquet", *command[1:])
        assert code == 1
        assert "lacks 1 of the 8 columns of the model: 'opp_x' (the nearest is 'opponent_x'); rename or add" in said
    assert not out.exists()
    pq.write_table(table.rename_columns([*map(str.upper, table.column_names)]), tmp_path / "renamed.parquet")
    code, said = jepa("embed", bundle, tmp_path / "renamed.parquet", "--out", out)
    assert code == 1
    assert "'own_x' (the nearest is 'OWN_X'), 'own_y' (the nearest is 'OWN_Y')" in said


@pytest.mark.parametrize("side", ["data", "model", "both"])
def test_without_names_columns_are_taken_by_position_and_that_is_said(side: str, bundle: Path, tmp_path: Path) -> None:
    games = make_games(2, 40)
    if side != "data":
        names = tuple(unnamed_columns(8))
        bundle = TinyModel(groups=GROUP_WIDTHS, names=names, patches=PATCHES).write(tmp_path)
    path = tmp_path / "rows.npy"
    if side == "model":
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table(dict(zip(NAMES, games.features[:].T, strict=True))), path)
    else:
        np.save(path, games.features)
    code, said = jepa("embed", bundle, path, "--out", tmp_path / "e.npy")
    assert code == 0, said
    who = {"data": "the data names none", "model": "the model names none", "both": "the data and the model name none"}
    assert f"note: columns are taken by their position, since {who[side]}" in said


def test_a_missing_number_hides_its_group_as_a_bot_would(bundle: Path, table: pa.Table, tmp_path: Path) -> None:
    full = {name: table[name].to_numpy() for name in table.column_names}
    gappy = full | {"opp_y": np.where(np.arange(80) < 3, np.nan, full["opp_y"])}
    other = full | {name: np.where(np.arange(80) < 3, np.nan, full[name]) for name in ("opp_x", "opp_y")}
    one, said = embedded(bundle, pa.table(gappy), tmp_path / "one.parquet", "--missing", "hide")
    assert "their groups are hidden in 3 of 80 rows" in said
    assert one == embedded(bundle, pa.table(other), tmp_path / "two.parquet", "--missing", "hide")[0]
    assert one != embedded(bundle, table, tmp_path / "full.parquet")[0]


@pytest.mark.parametrize("rows", [3, 80])
def test_the_mean_in_the_place_of_a_missing_number_is_that_of_the_training(
    rows: int, bundle: Path, table: pa.Table, tmp_path: Path
) -> None:
    full = {name: table[name].to_numpy() for name in table.column_names}
    gaps = np.arange(80) < rows
    gappy = pa.table(full | {"opp_y": np.where(gaps, np.nan, full["opp_y"] + 5)})
    # The manifest of the model says that each column had a mean of 0.
    right = pa.table(full | {"opp_y": np.where(gaps, 0, full["opp_y"] + 5)})
    found, said = embedded(bundle, gappy, tmp_path / "gappy.parquet", "--missing", "mean")
    assert f"the mean of the column in the model's training stands in {rows} of 80 rows" in said
    assert found == embedded(bundle, right, tmp_path / "right.parquet")[0]
    hidden, _ = embedded(bundle, gappy, tmp_path / "gappy.parquet", "--missing", "hide")
    assert hidden != found


def test_inspect_shows_what_each_column_is_for_and_why(tmp_path: Path) -> None:
    games = make_games(3, 20)
    columns = dict(zip(NAMES, games.features[:].T, strict=True))
    made = {
        "episode_index": games.episode,
        "step": games.frame,
        "done": games.frame == 0,
        "y_pos": games.features[:, 0],
    }
    pq.write_table(pa.table({**made, **columns}), tmp_path / "games.parquet")
    code, said = jepa("inspect", tmp_path / "games.parquet")
    assert code == 0, said
    words = [line.split() for line in said.splitlines()]
    assert words[0] == ["60", "rows", "of", "3", "episodes,", "8", "columns", "in", "4", "groups"]
    assert words[1] == ["column", "type", "role", "group", "why"]
    assert [row[2] for row in words[2:6]] == ["episode", "frame", "left", "label"]
    assert words[6][:7] == ["own_x", "…", "own_action_id", "(3)", "float", "feature", "own"]
    assert "warning: 1 of 8 columns (time) only count up within a game" in said
    code, said = jepa("inspect", tmp_path, "--episode", "episode", "--exclude", "time")
    assert code == 1
    assert "--episode is 'episode'; no column is, and the nearest is 'episode_index'" in said
    assert "own_x" in jepa("inspect", f"{tmp_path}/*.parquet", "--features", "own_*", "--exclude", "*_id")[1]


def test_several_files_are_embedded_one_after_another(bundle: Path, table: pa.Table, tmp_path: Path) -> None:
    whole, _ = embedded(bundle, table, tmp_path / "whole.parquet")
    for name, part in (("a", table.slice(0, 30)), ("b", table.slice(30))):
        pq.write_table(part, tmp_path / f"{name}.parquet")
    out = tmp_path / "both.npy"
    code, said = jepa("embed", bundle, tmp_path / "a.parquet", tmp_path / "b.parquet", "--out", out)
    assert code == 0, said
    assert out.read_bytes() == whole


@pytest.mark.parametrize(
    "words",
    ["train DATA --out OUT", "inspect DATA", "embed BUNDLE DATA --out E.npy", "eval BUNDLE DATA", "report BUNDLE DATA",
     "heads BUNDLE DATA --labels *", "sample BUNDLE DATA --out OUT"],
)  # fmt: skip
def test_every_command_reads_all_files_that_are_named(
    words: str, bundle: Path, table: pa.Table, tmp_path: Path
) -> None:
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table.drop_columns("opp_x"), tmp_path / "b.parquet")
    for second, message in (("b.parquet", "b.parquet has other columns than a.parquet (opp_x)"),
                            ("c.parquet", "c.parquet: no such file")):  # fmt: skip
        at = {"DATA": [tmp_path / "a.parquet", tmp_path / second], "BUNDLE": [bundle]}
        arguments = [each for word in words.split() for each in at.get(word, [word])]
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(tmp_path)
            code, said = jepa(*arguments)
        assert code == 1
        assert message in said
