"""Recordings as people have them, on the command: read for what they are, or refused in a line that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.support.bundles import TinyModel
from tests.support.recordings import FORMS

ROWS = 40
rng = np.random.default_rng(0)


def jepa(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.output


def columns(**more: Any) -> dict[str, Any]:
    """Two games; `more` adds columns and replaces them, None leaves them out."""
    made = {
        "episode": np.repeat([0, 1], ROWS // 2), "frame": np.tile(np.arange(ROWS // 2), 2),
        "x": rng.normal(size=ROWS), "z": rng.normal(size=ROWS), **more,
    }  # fmt: skip
    return {name: column for name, column in made.items() if column is not None}


def parquet(**more: Any) -> Callable[[Path], None]:
    return lambda folder: pq.write_table(pa.table(columns(**more)), folder / "games.parquet")


def csv(text: str, encoding: str = "utf-8", name: str = "games.csv") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).write_bytes(text.encode(encoding))

    return write


def npz(name: str = "games.npz", **arrays: Any) -> Callable[[Path], None]:
    return lambda folder: np.savez(folder / name, **arrays)


def several(*made: tuple[str, dict[str, Any]]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name, table in made:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(table), folder / name)

    return write


def unfinished(folder: Path) -> None:
    parquet()(folder)
    (folder / "new.partial.parquet").write_bytes(b"PAR1")


# What is written, the options, and which columns of which roles are made of it, as `name role`.
READ: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "4 an index without a name": (parquet(__index_level_0__=np.arange(ROWS)), "", "x feature, __index_level_0__ left"),
    "4 an index in CSV": (csv(",x,z\n7,1.5,2\n9,2.5,3\n"), "", "x feature, z feature"),
    "5 y_pos": (parquet(y_pos=rng.normal(size=ROWS)), "", "x feature, y_pos label"),
    "5 y_pos by choice": (parquet(y_pos=rng.normal(size=ROWS)), "--features *", "x feature, y_pos feature"),
    "6 names of Gymnasium": (
        parquet(episode=None, frame=None, episode_id=[0] * ROWS, step=np.arange(ROWS), terminated=[False] * ROWS,
                truncated=[False] * ROWS, reward=np.ones(ROWS), action=np.zeros(ROWS)),
        "", "episode_id episode, step frame, terminated left, truncated left, reward left, action action, x feature",
    ),
    "6 names of LeRobot": (
        parquet(episode=None, frame=None, episode_index=[0] * ROWS, frame_index=np.arange(ROWS),
                timestamp=np.ones(ROWS), index=np.arange(ROWS),
                **{"next.done": [False] * ROWS, "next.reward": np.ones(ROWS)}),
        "", "episode_index episode, frame_index frame, timestamp left, index left, next.done left, next.reward left",
    ),
    "6 names of RLDS": (
        parquet(episode=None, frame=None, is_first=np.arange(ROWS) % 20 == 0, is_last=np.arange(ROWS) % 20 == 19,
                discount=np.ones(ROWS)),
        "", "is_first left, is_last left, discount left, x feature",
    ),
    "6 in capitals": (parquet(episode=None, frame=None, EpisodeId=[0] * ROWS, Step=np.arange(ROWS)), "",
                      "EpisodeId episode, Step frame"),
    "6 overruled": (parquet(tick=np.arange(ROWS), debug_x=np.ones(ROWS)),
                    "--frame tick --episode frame --exclude debug_*",
                    "tick frame, frame episode, debug_x left, x feature"),
    "8 validation": (parquet(split=["train"] * 20 + ["validation"] * 20), "", "split split"),
    "9 two patterns": (parquet(a=np.ones(ROWS), b=np.ones(ROWS)), "--features a --features [xb]",
                       "a feature, b feature, x feature, z left"),
    "12 CSV": (csv("x,z\n1,2.5\n2,3\n"), "", "x feature, z feature"),
    "12 CSV of Europe": (csv("x;z\n1,5;2,5\n2,5;3\n"), "", "x feature, z feature"),
    "12 CSV of a spreadsheet": (csv("x,z\n1,2\n3,4\n", "utf-16"), "", "x feature, z feature"),
    "12 CSV with blanks": (csv("\ufeffx, z\n1, 2\n3, 4\n"), "", "x feature, z feature"),
    "12 tabs": (csv("x\tz\n1\t2\n", name="games.tsv"), "", "x feature, z feature"),
    "13 text": (parquet(episode=["Game_0"] * 20 + ["Game_1"] * 20), "", "episode episode"),
    "13 categories": (parquet(episode=pa.array(["a"] * 20 + ["b"] * 20).dictionary_encode()), "", "episode episode"),
    "13 dates": (parquet(episode=np.repeat(np.array(["2020-01-01", "2021-01-01"], "datetime64[ms]"), 20)), "",
                 "episode episode"),
    "14 decimals and halves": (parquet(x=pa.array([1] * ROWS, pa.decimal128(5, 2)), z=np.ones(ROWS, np.float16)), "",
                               "x feature, z feature"),
    "14 other types": (
        several(("0.parquet", columns(x=np.zeros(ROWS, np.int32), split=["train"] * ROWS)),
                ("1.parquet", columns(x=np.zeros(ROWS), split=pa.array(["val"] * ROWS).dictionary_encode()))),
        "", "x feature, split split",
    ),
    "15 folders": (
        several(("episode=a/0.parquet", columns(episode=None)), ("episode=b/0.parquet", columns(episode=None))),
        "", "episode episode, x feature",
    ),
    "16 unfinished": (unfinished, "", "x feature, z feature"),
    "18 arrays": (parquet(obs=pa.FixedSizeListArray.from_arrays(pa.array(np.ones(3 * ROWS)), 3)), "",
                  "obs_0 feature, obs_2 feature"),
    "18 arrays by choice": (parquet(obs=pa.FixedSizeListArray.from_arrays(pa.array(np.ones(3 * ROWS)), 3)),
                            "--features obs", "obs_0 feature, x left"),
    "19 gaps": (parquet(x=pa.array([1, None] * 20)), "--missing hide", "x feature, z feature"),
}  # fmt: skip

# What is written, the options, and what the one line says.
REFUSED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "2 ragged": (parquet(features=[[1.0] * 4, [1.0] * 2] * 20), "", "'features' has lists of different lengths"),
    "2 ragged, of another name": (parquet(obs=[[1.0] * 4, [1.0] * 2] * 20), "", "4 in row 0, 2 in row 1"),
    "2 ragged within": (parquet(obs=[[[1.0], [2.0, 3.0]]] * ROWS), "", "'obs' has lists of different lengths"),
    "3 no episode": (parquet(episode=[1, None] * 20), "", "'episode' has nothing in 20 rows, first in row 1"),
    "3 an empty name": (csv("episode,x\na,1\n,2\n"), "", "'episode' has nothing in 1 rows, first in row 1"),
    "3 no frame": (parquet(frame=[1, None] * 20), "", "row 1 has none: a frame counts rows, not seconds"),
    "3 no split": (parquet(split=["train", None] * 20), "", "'split' holds None in row 1"),
    "8 an unknown split": (parquet(split=["train", "holdout"] * 20), "", "'split' holds 'holdout' in row 1"),
    "9 a pattern of nothing": (parquet(), "--exclude zz", "no column matches 'zz'"),
    "12 no names": (csv("0.5,1\n2,3\n"), "", "begins with numbers (0.5, 1), so its first row would be taken"),
    "12 other widths": (csv("x,z\n1,2\n3,4,5\n"), "", "Expected 2 columns, got 3"),
    "12 nothing": (csv(""), "", "cannot be read as CSV"),
    "14 text and numbers": (
        several(("0.parquet", columns()), ("1.parquet", columns(x=["a"] * ROWS))), "",
        "column 'x' is string in 1.parquet and double in 0.parquet",
    ),
    "14 other columns": (
        several(("0.parquet", columns()), ("1.parquet", columns(hp=np.ones(ROWS)))), "",
        "1.parquet has other columns than 0.parquet (hp)",
    ),
    "17 features of numbers": (parquet(features=np.ones(ROWS)), "", "'features' is double; it must hold a list"),
    "19 gaps": (parquet(x=pa.array([1, None] * 20)), "", "--missing hide, drop or mean goes on without"),
    "19 infinite": (parquet(x=np.full(ROWS, np.inf)), "--missing hide", "leave the column out with --exclude 'x'"),
    "19 nothing at all": (parquet(x=pa.nulls(ROWS)), "--missing mean", "x is missing in every row"),
    "20 a name twice": (csv("x,x\n1,2\n"), "", "has the column 'x' more than once"),
    "20 a name twice but for blanks": (csv("x,x \n1,2\n"), "", "has the column 'x' more than once"),
    "20 no rows": (csv("x,z\n"), "", "games.csv has no rows"),
    "20 seconds": (parquet(frame=np.arange(ROWS) / 60), "", "a frame counts rows, not seconds"),
    "23 another array": (npz(X=np.ones((3, 2))), "", "has no array 'features' (it has ['X'])"),
    "23 text": (parquet(side=["left"] * ROWS), "", "'side' is string, not numbers"),
    "23 dates": (parquet(at=np.full(ROWS, "2020", "datetime64[ms]")), "", "'at' is timestamp[ms], not numbers"),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_a_recording_is_read_for_what_it_is(case: str, tmp_path: Path) -> None:
    write, options, expected = READ[case]
    write(tmp_path)
    code, said = jepa("inspect", tmp_path, *options.split())
    assert code == 0, said
    lines = [line for line in said.splitlines()[2:] if not line.startswith(("note:", "warning:"))]
    for name, role in (pair.split() for pair in expected.split(", ")):
        assert any(name in line.split() and f" {role} " in f"{line} " for line in lines), said


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("command", ["inspect", "train"])
def test_what_cannot_be_read_is_refused_in_a_line(command: str, case: str, tmp_path: Path) -> None:
    write, options, expected = REFUSED[case]
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    more = ["--out", tmp_path / "models", "--preset", "quick"] if command == "train" else []
    code, said = jepa(command, tmp_path / "data", *more, *options.split())
    assert code == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert expected in line
    assert not [*tmp_path.rglob("*.onnx")]


def test_near_misses_are_named_with_the_flag(tmp_path: Path) -> None:
    parquet(episode=None, frame=None, game=np.repeat(["a", "b"], 20), tick=np.arange(ROWS))(tmp_path)
    code, said = jepa("inspect", tmp_path)
    assert code == 0, said
    assert "note: 'game' is left out: looks like the episode; say --episode game" in said
    assert "note: 'tick' is left out: looks like the frame; say --frame tick" in said


def test_several_recordings_with_the_same_episodes_are_several_games(tmp_path: Path) -> None:
    several(("pong1.parquet", columns()), ("pong2.parquet", columns()))(tmp_path)
    assert "80 rows of 4 episodes" in jepa("inspect", tmp_path)[1]
    for i in range(2):
        npz(f"g{i}.npz", features=np.ones((5, 2)) * i, frame=np.arange(5))(tmp_path)
    assert "10 rows of 2 episodes" in jepa("inspect", f"{tmp_path}/g*.npz")[1]
    assert "also holds g0.npz, g1.npz, which is not read" in jepa("inspect", tmp_path)[1]


@pytest.mark.parametrize("form", [form for form in FORMS if "feather" not in form])
def test_embeddings_are_the_same_bit_for_bit_in_every_form_and_order(form: str, tmp_path: Path) -> None:
    tiny = TinyModel(names=tuple(f"c_{chr(97 + i)}" for i in range(10)))
    bundle, rows = tiny.write(tmp_path / "models"), tiny.rows(ROWS)
    made = dict(zip(tiny.names, rows.T, strict=True)) | {"debug": np.zeros(ROWS)}
    np.save(tmp_path / "plain.npy", rows)
    embedded = []
    for name, order in (("right", [*tiny.names]), ("shuffled", rng.permutation([*made]).tolist())):
        FORMS[form](pa.table({key: made[key] for key in order}), tmp_path / f"{name}{form}")
        out = tmp_path / f"{name}.npy"
        code, said = jepa("embed", bundle, tmp_path / f"{name}{form}", "--out", out)
        assert code == 0, said
        assert ("1 columns that the model was not trained on are left out (debug)" in said) == (name == "shuffled")
        embedded.append(np.load(out))
    np.testing.assert_array_equal(*embedded)
    np.testing.assert_allclose(embedded[0], tiny.encode(rows), atol=1e-6)


def test_damaged_recordings_leave_one_line_and_nothing_half_written(tmp_path: Path) -> None:
    tiny = TinyModel(names=("x", "z", *(f"c{i}" for i in range(8))))
    bundle = tiny.write(tmp_path / "models")
    table = pa.table(dict(zip(tiny.names, tiny.rows(ROWS).T, strict=True)))
    for form, write in FORMS.items():
        path, out = tmp_path / form, tmp_path / "out.npy"
        write(table, path)
        for content in (b"", path.read_bytes()[: path.stat().st_size // 2], b"PK\x03\x04 something else"):
            path.write_bytes(content)
            code, said = jepa("embed", bundle, path, "--out", out)
            if code == 0:
                # Text that is cut off between two rows is text.
                assert "text" in form
                out.unlink()
                continue
            assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1, said
        path.unlink()
    assert {path.name for path in tmp_path.iterdir()} == {"models"}


def test_schema_json_says_the_same_as_the_flags(tmp_path: Path) -> None:
    parquet(match=["a", "b"] * 20, tick=[*range(20)] * 2, dbg=np.ones(ROWS), x=pa.array([1, None] * 20))(tmp_path)
    said = {"episode": "match", "frame": "tick", "exclude": ["dbg", "episode", "frame"], "missing": "hide"}
    flags = [(key, one) for key, given in said.items() for one in ([given] if isinstance(given, str) else given)]
    by_flags = jepa("inspect", tmp_path, *(word for key, one in flags for word in (f"--{key}", one)))
    (tmp_path / "schema.json").write_text(json.dumps(said))
    assert jepa("inspect", tmp_path) == by_flags
    assert by_flags[0] == 0
