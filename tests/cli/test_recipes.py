"""`jepa train --config`, `--set` and `--show-config`, as a user types them."""

import tomllib

import pytest
from typer.testing import CliRunner

from cli.main import app
from model.training.recipe import PRESETS


def show(*arguments):
    done = CliRunner().invoke(app, ["train", "--show-config", *map(str, arguments)])
    return done.exit_code, done.output


def test_what_is_shown_can_be_fed_back_and_says_where_each_value_comes_from(tmp_path):
    file = tmp_path / "recipe.toml"
    file.write_text("batch_size = 64\nanchor = 5\n")
    given = ("--preset", "quick", "--config", file, "--set", "anchor=7", "--set", "tokens=groups", "--steps", "9")
    code, shown = show(*given, "--horizon", 5, "--horizon", 2, "--set", "hide_share=0.1,0.2")
    assert code == 0, shown
    recipe = tomllib.loads(shown)
    expected = {"batch_size": 64, "anchor": 7.0, "tokens": "groups", "steps": 9, "horizons": [2, 5]}
    assert expected.items() <= recipe.items()
    assert recipe["hide_share"] == [0.1, 0.2]
    assert recipe.keys() == PRESETS["quick"].as_dict().keys()
    for line in shown.splitlines()[1:]:
        name = line.split(" = ")[0]
        origin = {"batch_size": str(file), "steps": "--steps", "horizons": "--horizon"}.get(name, "--set")
        origin = origin if name in (*expected, "hide_share") else "preset quick"
        assert line.endswith(f"[{origin}]")
    again = tmp_path / "again.toml"
    again.write_text(shown)
    code, second = show("--config", again)
    assert (code, tomllib.loads(second)) == (0, recipe)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "learning_rat=1"], "--set: learning_rat is no field of a recipe; did you mean learning_rate?"),
        (["--set", "learning_rate"], "--set is 'learning_rate'; write name=value, such as --set learning_rate=1e-3"),
        (["--set", "=3"], "--set is '=3'; write name=value"),
        (["--set", "learning_rate=fast"], "--set: learning_rate is 'fast'; it must be a number from 1e-09 to 10"),
        (["--set", "steps=3\nseed=4"], "--set: steps is '3\\nseed=4'; it must be a whole number"),
        (["--set", "horizons=0"], "--set: horizons is [0]; it must be up to 100 whole numbers"),
        (["--horizon", "0"], "--horizon: horizons is [0]; it must be up to 100 whole numbers of frames from 1"),
        (["--horizon", "-3"], "--horizon: horizons is [-3]; it must be"),
        (["--horizon", "1" + "0" * 30], "--horizon: horizons is [1"),
        (["--steps", "0"], "--steps: steps is 0; it must be a whole number from 1"),
        (["--seed", "-1"], "--seed: seed is -1; it must be a whole number from 0"),
        (["--tokens", "pixels"], "--tokens: tokens is 'pixels'; it must be 'row' or 'groups'"),
        (["--patience", "-1"], "--patience: patience is -1; it must be"),
        (["--steps", "3", "--set", "steps=4"], "steps is given twice, as 3 by --steps and as 4 by --set; give it once"),
        (["--set", "embed_dim=250"], "embed_dim is 250, which num_heads 8 does not divide; 248 would do"),
        (["--config", "FOLDER"], "is a folder; name a file"),
        (["--config", "missing.toml"], "No such file or directory: 'missing.toml'; check the path"),
        (["--config", "FOLDER/odd.toml"], "odd.toml is no TOML ("),
        (["--config", "FOLDER/binary.toml"], "binary.toml is no TOML ("),
        (["--config", "FOLDER/table.toml"], "table.toml: recipe is no field of a recipe; the fields are"),
        (["--config", "FOLDER/wrong.toml"], "wrong.toml: batch_size is 'many'; it must be a whole number from 2"),
        (["--config", "FOLDER/large.toml"], "large.toml has 1,048,577 bytes; a recipe has at most 1,048,576"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, arguments, message):
    (tmp_path / "odd.toml").write_text("steps: 3")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "table.toml").write_text("[recipe]\nsteps = 3")
    (tmp_path / "wrong.toml").write_text("batch_size = 'many'")
    (tmp_path / "large.toml").write_bytes(b"#" * (2**20 + 1))
    code, said = show(*(argument.replace("FOLDER", str(tmp_path)) for argument in arguments))
    assert code == 1
    assert said.startswith("error: ")
    assert message in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(("given", "said"), [([], "DATA: missing"), (["data.npy"], "--out: missing; name a folder")])
def test_without_data_or_a_folder_for_models_it_says_which(given, said):
    done = CliRunner().invoke(app, ["train", *given])
    assert done.exit_code == 2
    assert said in done.output
