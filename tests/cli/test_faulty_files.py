"""Every command, given each of its paths faulty in every way, says so in a line."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli.main import app
from model.training.run import prepare
from tests.support import edifice
from tests.support.bundles import TinyModel
from tests.support.games import make_games
from tests.support.small_run import SMALL

pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")
from tests.support.replays import duel, game

# By command: its arguments, in which a name in capitals stands for a path below.
COMMANDS = {
    "train": "train DATA.npz --out OUT_FOLDER --preset quick --steps 1 --horizon 4",
    "train on npy": "train DATA.npy --out OUT_FOLDER --preset quick --steps 1",
    "train on parquet": "train DATA.parquet --out OUT_FOLDER --preset quick --steps 1 --horizon 4",
    "export": "export CHECKPOINT --out OUT_FOLDER --card CARD",
    "import-edifice": "import-edifice ENCODER PREDICTOR --out OUT_FOLDER --schema SCHEMA",
    "embed": "embed BUNDLE DATA.npz --out OUT.npy",
    "heads": "heads BUNDLE DATA.npz --events EVENTS.toml --out OUT_FOLDER",
    "eval": "eval BUNDLE DATA.npz --out OUT.json --plot OUT.png --no-trees --no-neighbours",
    "report": "report BUNDLE DATA.parquet --out OUT_FOLDER",
    "inspect": "inspect BUNDLE",
    "data melee": "data melee REPLAY --out OUT.parquet",
    "data atari": "data atari pong --frames 1 --out OUT.parquet",
    "bench": "bench http://127.0.0.1:9 --out OUT.json --plot OUT.png",
}
Fault = Callable[[Path], None]


def missing(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def empty(path: Path) -> None:
    missing(path)
    path.touch()


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    # What is stored as it is, without a checksum, shows no damage but to its head.
    compressed = path.suffix in (".npz", ".parquet")
    at = len(content) // 3 if compressed else 0
    content[at : at + 300] = bytes(300)
    path.write_bytes(content)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def something_else(path: Path) -> None:
    path.write_bytes(np.random.default_rng(0).bytes(4000))


def a_folder(path: Path) -> None:
    missing(path)
    path.mkdir()


def a_pipe(path: Path) -> None:
    missing(path)
    os.mkfifo(path)


def a_loop(path: Path) -> None:
    """Cannot be opened, not even by root."""
    missing(path)
    path.symlink_to(path)


def below_a_file(path: Path) -> None:
    missing(path.parent)
    path.parent.touch()


INPUT = (missing, empty, cut_off, damaged, something_else, a_folder, a_pipe, a_loop)
# What a card says is not looked at, and an empty one is one.
CARD = (missing, something_else, a_folder, a_pipe, a_loop)
BUNDLE = (missing, empty, a_folder, a_pipe, a_loop)
# A replay is cut off and damaged in the tests of `jepa data melee`.
OUTPUT = (a_folder, a_pipe, below_a_file)
OUTPUT_FOLDER = (empty, a_pipe, below_a_file)


def faults_of(name: str) -> tuple[Fault, ...]:
    if name == "OUT_FOLDER":
        return OUTPUT_FOLDER
    return OUTPUT if name.startswith("OUT") else {"CARD": CARD, "BUNDLE": BUNDLE}.get(name, INPUT)


def in_bundle() -> list[tuple[str, str, Fault]]:
    files = ("bundle.json", "target_encoder.onnx", "golden.npz")
    commands = ("embed", "heads", "eval", "report", "inspect")
    return [(command, f"BUNDLE/{file}", fault) for command in commands for file in files for fault in INPUT]


def is_path(word: str) -> bool:
    return word[:2].isupper()


CASES = [
    *((command, word, fault) for command, line in COMMANDS.items() for word in line.split() if is_path(word)
      for fault in faults_of(word)),
    *in_bundle(),
]  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file that each command takes."""
    folder = tmp_path_factory.mktemp("good")
    games = make_games(episodes=3, length=30)
    groups = tuple((group.name, group.width) for group in games.schema.groups)
    TinyModel(groups=groups, names=games.schema.names, patches=(tuple(name for name, _ in groups),)).write(folder)
    (folder / "tiny" / "1").rename(folder / "BUNDLE")
    np.save(folder / "DATA.npy", games.features)
    arrays: dict[str, Any] = {"features": games.features, "episode": games.episode, "frame": games.frame}
    arrays |= games.labels
    np.savez_compressed(folder / "DATA.npz", **arrays)
    columns = dict(zip(games.schema.names, games.features[:].T, strict=True))
    table = pa.table({"episode": games.episode, "frame": games.frame, **columns})
    pq.write_table(table, folder / "DATA.parquet", compression="zstd")
    prepare(games, SMALL).checkpoint.save(folder / "CHECKPOINT")
    encoder, predictor = edifice.write(folder)
    encoder.rename(folder / "ENCODER")
    predictor.rename(folder / "PREDICTOR")
    (folder / "SCHEMA").write_text(json.dumps({"names": [f"column {i}" for i in range(12)]}))
    (folder / "EVENTS.toml").write_text('up = "y_up"')
    (folder / "CARD").write_text("# A model")
    (folder / "REPLAY").write_bytes(game(duel(20, first=-123)))
    return folder


@pytest.mark.parametrize(("command", "name", "fault"), CASES, ids=lambda part: getattr(part, "__name__", str(part)))
def test_a_faulty_path_is_named_in_a_line(command: str, name: str, fault: Fault, good: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    shutil.copytree(good, place)
    # Outputs are in a folder of their own, whose place a file can take.
    (place / "to").mkdir()
    at = {word: place / ("to" if word.startswith("OUT") else "") / word for word in [*COMMANDS[command].split(), name]}
    fault(at[name])
    words = [str(at[word]) if is_path(word) else word for word in COMMANDS[command].split()]
    done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, SystemExit), done.exc_info
    assert done.exit_code in (1, 2), done.output
    said = [line for line in done.output.splitlines() if line.startswith(("error: ", "Error: ", "wrong: "))]
    assert len(said) == 1, done.output
    assert at[name].name in done.output or str(at[name].parent) in done.output
