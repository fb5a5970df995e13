"""Checkpoints that are damaged, and places where none can be written."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from model.training.checkpoint import Checkpoint, DamagedCheckpoint, load_checkpoint
from model.training.run import prepare
from tests.support.files import limited_files
from tests.support.games import make_games
from tests.support.small_run import SMALL


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return prepare(make_games(episodes=3, length=30), SMALL).checkpoint


@pytest.fixture
def saved(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.safetensors"
    checkpoint.save(path)
    return path


def rewrite(path: Path, about: str, *without: str) -> None:
    """The same file with that text as its 'about', and without some tensors."""
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys() if name not in without}  # noqa: SIM118 (a file)
    save_file(tensors, path, metadata={"about": about})


def about_of(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        about: dict[str, Any] = json.loads(file.metadata()["about"])
        return about


def test_what_was_saved_is_read(saved: Path, checkpoint: Checkpoint) -> None:
    read = load_checkpoint(saved)
    assert (read.step, read.recipe, read.schema) == (0, about_of(saved)["recipe"], checkpoint.schema)
    for name, value in checkpoint.jepa.state_dict().items():
        torch.testing.assert_close(read.jepa.state_dict()[name], value)


@pytest.mark.parametrize("length", [0, 4, 8, 1000, 10_000])
def test_a_file_that_is_cut_off_is_damaged(saved: Path, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    with pytest.raises(DamagedCheckpoint, match=r"is damaged or no checkpoint .* copy it again, or train"):
        load_checkpoint(saved)


@pytest.mark.parametrize("key", ["config", "schema", "recipe", "step", "summary"])
@pytest.mark.parametrize("value", [None, 5, "text", [], {}, {"steps": "many", "names": 5}])
def test_a_description_of_no_run_is_damage(saved: Path, key: str, value: object) -> None:
    if key == "step" and value == 5:
        pytest.skip("a step is a number")
    about = about_of(saved)
    for changed in (about | {key: value}, {name: each for name, each in about.items() if name != key}):
        rewrite(saved, json.dumps(changed))
        if key == "summary" and value == {} and key in changed:
            continue  # Nothing has to be known of a run.
        with pytest.raises(DamagedCheckpoint, match="is damaged or no checkpoint"):
            load_checkpoint(saved)


@pytest.mark.parametrize("about", ["", "no JSON", "5", "null", "[" * 100_000])
def test_an_about_that_is_no_object_is_damage(saved: Path, about: str) -> None:
    rewrite(saved, about)
    with pytest.raises(DamagedCheckpoint, match="is damaged or no checkpoint"):
        load_checkpoint(saved)


def test_a_file_of_another_program_is_no_checkpoint(tmp_path: Path) -> None:
    save_file({"weights": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DamagedCheckpoint, match="is no checkpoint of `jepa train`"):
        load_checkpoint(tmp_path / "other.safetensors")


def test_missing_weights_are_those_of_another_version(saved: Path, checkpoint: Checkpoint) -> None:
    name = f"jepa.{next(name for name in checkpoint.jepa.state_dict() if name.startswith('context_encoder'))}"
    rewrite(saved, json.dumps(about_of(saved)), name)
    with pytest.raises(ValueError, match="another version of jepa-serve") as refused:
        load_checkpoint(saved)
    assert not isinstance(refused.value, DamagedCheckpoint)


def test_where_there_is_no_room_the_old_checkpoint_stays(saved: Path, checkpoint: Checkpoint) -> None:
    before = saved.read_bytes()
    with limited_files(50_000), pytest.raises(OSError, match="File too large") as full:
        checkpoint.save(saved)
    assert (full.value.errno, full.value.filename) == (errno.EFBIG, str(saved))
    assert saved.read_bytes() == before
    assert [*saved.parent.iterdir()] == [saved]
