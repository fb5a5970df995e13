"""Whatever is left of a recording, every command that reads data says one line about it and leaves nothing behind."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cli.main import app
from tests.support.bundles import TinyModel
from tests.support.recordings import FLAT, FORMS

pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")
from tests.support.replays import duel, game

ROWS = 12
TINY = TinyModel(names=("x", "z", *(f"c{i}" for i in range(8))))
# OUT and BUNDLE stand for paths, DATA for the recording.
INSPECT = "inspect DATA"
OTHERS = (
    "train DATA --out OUT --preset quick --steps 1",
    "embed BUNDLE DATA --out OUT.npy",
    "embed BUNDLE DATA --out OUT.npy --missing hide",
    "eval BUNDLE DATA --out OUT.json --plot OUT.png",
    "report BUNDLE DATA --out OUT",
    "heads BUNDLE DATA --label up=x>0 --out OUT",
    "sample BUNDLE DATA --out OUT",
)
MAGICS = (b"PAR1", b"ARROW1\0\0", b"\x89HDF\r\n\x1a\n", b"PK\x03\x04", b"\x93NUMPY", b"\x1f\x8b", b"FEA1", b"{U\x03raw")


def _minari(table: pa.Table, path: Path) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        for episode in range(2):
            for name in TINY.names:
                column = table[name].to_numpy()[episode::2]
                file.create_dataset(f"episode_{episode}/observations/{name}", data=column, compression="gzip")
            file[f"episode_{episode}/actions"] = np.zeros((ROWS // 2 - 1, 1))


def _arrays(packed: bool) -> Any:
    def write(table: pa.Table, path: Path) -> None:
        keys = {name: table[name].to_numpy() for name in ("episode", "frame")}
        rows = np.stack([table[name].to_numpy() for name in TINY.names], 1)
        (np.savez_compressed if packed else np.savez)(path, features=rows, **keys)

    return write


ALL_FORMS = FORMS | {
    "packed.npz": _arrays(packed=True),
    "plain.npz": _arrays(packed=False),
    "rows.npy": lambda table, path: np.save(path, np.stack([table[name].to_numpy() for name in TINY.names], 1)),
}
if "tree.h5" in FORMS:
    ALL_FORMS["minari.hdf5"] = _minari


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, and a recording in every form."""
    folder = tmp_path_factory.mktemp("good")
    TINY.write(folder).rename(folder / "BUNDLE")
    columns: dict[str, Any] = dict(zip(TINY.names, TINY.rows(ROWS).T, strict=True))
    columns |= {"episode": np.repeat([0, 1, 2], ROWS // 3), "frame": np.tile(np.arange(ROWS // 3), 3)}
    for form, write in ALL_FORMS.items():
        write(pa.table(columns if form in FLAT else columns | {"more": [[0.0, 1.0]] * ROWS}), folder / form)
    (folder / "game.slp").write_bytes(game(duel(20, first=-123)))
    return folder


def damage(path: Path, kind: str, where: float, noise: bytes) -> None:
    content = path.read_bytes()
    at = int(where * len(content))
    if kind == "cut off":
        path.write_bytes(content[:at])
    elif kind == "flipped":
        path.write_bytes(content[:at] + bytes(~byte & 255 for byte in content[at : at + 8]) + content[at + 8 :])
    elif kind == "overwritten":
        path.write_bytes(content[:at] + noise + content[at + len(noise) :])
    elif kind == "twice":
        path.write_bytes(content[:at] + content)
    elif kind == "wrong magic":
        magic = MAGICS[int(where * len(MAGICS)) % len(MAGICS)]
        path.write_bytes(magic + content[len(magic) :])
    elif kind == "something else":
        path.write_bytes(noise)
    else:
        path.unlink()
        if kind == "a folder":
            path.mkdir()
        elif kind == "a pipe":
            os.mkfifo(path)
        else:
            assert kind == "a link to nothing"
            path.symlink_to(path.with_name("nothing"))


DAMAGES = st.tuples(
    st.sampled_from([
        "cut off", "flipped", "overwritten", "twice", "wrong magic", "something else", "a folder", "a pipe",
        "a link to nothing",
    ]),
    st.floats(0, 1, exclude_max=True),
    st.binary(max_size=64),
)  # fmt: skip


def jepa(words: str, place: Path, recording: Path) -> tuple[int, str]:
    at = {"DATA": str(recording), "BUNDLE": str(place / "BUNDLE")}
    arguments = [at.get(word, word.replace("OUT", str(place / "out"))) for word in words.split()]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, SystemExit | None), (arguments, done.exc_info)
    return done.exit_code, done.output


def files(folder: Path) -> Iterator[Path]:
    # The bundle of the tests is not written to.
    return (path for path in folder.rglob("*") if "BUNDLE" not in path.parts)


@given(form=st.sampled_from([*ALL_FORMS]), damages=DAMAGES, other=st.sampled_from(OTHERS))
def test_a_damaged_recording_is_one_line_on_every_command(
    form: str, damages: tuple[str, float, bytes], other: str, good: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("place")
    (place / "BUNDLE").symlink_to(good / "BUNDLE")
    path = place / form
    shutil.copyfile(good / form, path)
    damage(path, *damages)
    before = {*files(place)}
    code, said = jepa(INSPECT, place, path)
    # What can be read all the same is read by the others as well, but what they make of it takes long.
    for words in (other,) if code else ():
        code, said = jepa(words, place, path)
        assert code in (0, 1), said
        if code == 0:
            # To embed, no column but the features needs to be whole.
            assert words.startswith("embed"), said
            (place / "out.npy").unlink()
            continue
        assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1, said
        assert "Traceback" not in said
    assert {*files(place)} == before
    shutil.rmtree(place)


@given(damages=DAMAGES)
def test_a_damaged_replay_is_one_line(
    damages: tuple[str, float, bytes], good: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("place")
    path = place / "game.slp"
    shutil.copyfile(good / "game.slp", path)
    damage(path, *damages)
    before = {*files(place)}
    code, said = jepa("data melee DATA --out OUT.parquet --labels --jobs 1", place, path)
    assert code in (0, 1), said
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == code, said
    (place / "out.parquet").unlink(missing_ok=code == 1)
    assert {*files(place)} == before
    shutil.rmtree(place)
