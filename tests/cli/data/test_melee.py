"""`jepa data`, run as a user runs it; its output is read with the reader of `jepa train`."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

pytest.importorskip("peppi_py", reason="needs the extra: jepa-client[slippi]")

from cli.data.replays import BATCH_BYTES, convert, convert_apart, file, part_name
from cli.main import app
from jepa_client.games.melee import replay_labels, replay_rows
from jepa_client.games.melee_labels import COARSE_CLASSES, LABELS
from jepa_client.games.melee_layout import CHARACTERS
from jepa_client.games.slippi import read_replay
from model.data.descriptions import class_names
from model.data.files import found_files
from model.data.frames import read_frames
from tests.support.replays import Frame, Item, Moment, duel, game, slp, start
from tests.support.serving import ROOT


def data(*arguments):
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


@pytest.fixture
def replays(tmp_path):
    folder = tmp_path / "replays"
    (folder / "more").mkdir(parents=True)
    (folder / "b.slp").write_bytes(game(duel(100, first=-123)))
    (folder / "more" / "c.slp").write_bytes(game(duel(9, first=-39)))
    return folder


def test_replays_become_episodes_in_the_order_of_their_names(replays, tmp_path):
    out = tmp_path / "frames.parquet"
    done = data("melee", replays, replays / "b.slp", "--out", out)
    assert done.exit_code == 0, done.output
    assert f"{out}: 25 frames of 2 games; learn from them: jepa train {out}" in done.output
    frames = read_frames(out)
    want = [replay_rows(read_replay(path)) for path in (replays / "b.slp", replays / "more" / "c.slp")]
    np.testing.assert_array_equal(frames.features, np.concatenate([rows for rows, _ in want]))
    np.testing.assert_array_equal(frames.frame, np.concatenate([frame for _, frame in want]))
    assert [*frames.episode] == [0] * 16 + [1] * 9
    assert json.loads(pq.read_metadata(out).metadata[b"replays"]) == ["b.slp", "c.slp"]
    assert {path.name for path in tmp_path.iterdir()} == {"replays", "frames.parquet"}


def test_training_knows_their_groups_and_how_else_they_look(replays, tmp_path):
    assert data("melee", f"{replays}/*.slp", "--out", tmp_path / "frames.parquet").exit_code == 0
    frames = read_frames(tmp_path / "frames.parquet")
    assert [group.name for group in frames.schema.groups][:2] == ["own_base", "own_speed"]
    assert len(frames.symmetries) == 2


def test_a_replay_that_cannot_be_read_is_named_and_skipped(replays, tmp_path):
    (replays / "a.slp").write_bytes(slp(start(), b"\x77"))
    (replays / "d.slp").write_bytes(game([Moment([Frame(0, port) for port in range(4)])]))
    done = data("melee", replays, "--out", tmp_path / "frames.parquet")
    assert done.exit_code == 3
    assert f"skipped {replays / 'a.slp'}: peppi cannot read it" in done.output
    assert f"skipped {replays / 'd.slp'}: it has 4 players" in done.output
    assert "2 of 4 replays were skipped" in done.output
    assert [*np.unique(read_frames(tmp_path / "frames.parquet").episode)] == [0, 1]


def test_replays_that_are_read_in_processes_of_their_own_become_the_same_table(replays):
    (replays / "a.slp").write_bytes(slp(start(), b"\x77"))
    paths = [replays / "a.slp", replays / "b.slp", replays / "more" / "c.slp"]
    assert convert_apart(paths, labels=True).equals(convert(paths, labels=True), check_metadata=True)


def test_a_replay_that_nobody_closed_is_read_to_its_last_whole_frame_and_said(replays, tmp_path):
    whole = (replays / "b.slp").read_bytes()
    (replays / "a.slp").write_bytes(whole[:11] + bytes(4) + whole[15 : whole.index(b"U\x08metadata") - 100])
    (replays / "d.slp").write_bytes(whole[:-2])
    done = data("melee", replays, "--out", tmp_path / "frames.parquet")
    assert done.exit_code == 0, done.output
    stopped = "nobody closed it: the game or the recorder was stopped"
    assert f"{replays / 'a.slp'}: {stopped}; its frames up to -25 are read\n" in done.output
    assert f"{replays / 'd.slp'}: its metadata is cut off or damaged; its frames up to -24 are read\n" in done.output
    assert [*np.unique(read_frames(tmp_path / "frames.parquet").episode, return_counts=True)[1]] == [15, 16, 16, 9]


def test_labels_are_those_of_the_rows_and_read_as_labels(replays, tmp_path):
    out = tmp_path / "frames.parquet"
    assert data("melee", replays, "--labels", "--out", out).exit_code == 0
    frames = read_frames(out)
    assert frames.features[:].shape == (25, 287)
    want = [replay_labels(read_replay(path)) for path in (replays / "b.slp", replays / "more" / "c.slp")]
    assert {*frames.labels} == {*LABELS}
    for name in LABELS:
        np.testing.assert_array_equal(frames.labels[name], np.concatenate([labels[name] for labels in want]))
    names = class_names(out)
    assert names["y_act30"] == names["y_opp_act30"] == [*COARSE_CLASSES]
    assert names["y_own_char"] == [*CHARACTERS]


def test_eval_measures_the_bundled_model_by_the_labels(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        moments = duel(60, first=-39)
        for moment, (x, y) in zip(moments, rng.choice([-1, 0, 1], (60, 2)), strict=True):
            moment.fighters[0].sticks = (x, y, 0, 0)
        (tmp_path / f"{i}.slp").write_bytes(game(moments))
    out = tmp_path / "frames.parquet"
    done = data("melee", tmp_path, "--labels", "--out", out)
    assert f"measure a model by their labels: jepa eval default {out}\n" in done.output
    done = CliRunner().invoke(app, ["eval", "default", str(out), "--no-trees", "--no-neighbours"])
    assert done.exit_code == 0, done.output
    assert re.search(r"^y_stick_now: 9 classes; 60 test rows$", done.output, re.M)


def test_damaged_replays_are_told_in_a_line_each_and_the_rest_is_converted(tmp_path, capfd):
    moments, rng = duel(12, first=-39), np.random.default_rng(0)
    moments[2].items = [Item(54, 0)]
    whole, folder = game(moments), tmp_path / "replays"
    folder.mkdir()
    cuts = rng.choice(len(whole), 60, replace=False)
    for i in range(120):
        broken = bytearray(whole[: cuts[i]] if i < len(cuts) else whole)
        for at in rng.integers(0, len(broken), 0 if i < len(cuts) else 3):
            broken[at] = rng.integers(256)
        (folder / f"{i:03d}.slp").write_bytes(broken)
    for name in ("a.slp", "z.slp"):
        (folder / name).write_bytes(whole)
    out = tmp_path / "frames.parquet"
    done = data("melee", folder, "--labels", "--out", out)
    assert done.exit_code == 3, done.output
    table = pq.read_table(out)
    read = json.loads(pq.read_metadata(out).metadata[b"replays"])
    assert read[-2:] == ["a.slp", "z.slp"]
    assert [*np.unique(table["episode"].to_numpy())] == [*range(len(read))]
    for name in ("a.slp", "z.slp"):
        rows = table.filter(pc.field("episode") == read.index(name))
        np.testing.assert_array_equal(rows["frame"], range(-39, -27))
    told = re.findall(r"^skipped .*/(\w+\.slp): \S.*$", done.output, re.M)
    assert sorted([*told, *read]) == sorted(path.name for path in folder.iterdir())
    cut = re.findall(r"^/.*/(\w+\.slp): .*; its frames up to -\d+ are read$", done.output, re.M)
    assert {*cut} <= {*read}
    # Each of those that were cut off behind a whole frame was read.
    assert {f"{i:03d}.slp" for i in range(len(cuts)) if cuts[i] > len(whole) - 1500} <= {*cut}
    # Besides these, what was made of all of them is said, and progress where it takes long.
    lines = [line for line in done.output.splitlines() if "replays, about" not in line]
    assert len(lines) == len(told) + len(cut) + 3
    assert not capfd.readouterr().err


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Replays of which each is a batch of its own, for which it is large, though not on the disk."""
    folder = tmp_path_factory.mktemp("many")
    content = game(duel(60, first=-39))
    for i in range(24):
        with (folder / f"{i:02d}.slp").open("wb") as file:
            file.write(content)
            file.truncate(BATCH_BYTES)
    return folder


def test_a_killed_run_goes_on_and_gives_the_same_bytes(many, tmp_path):
    one, two = tmp_path / "one.parquet", tmp_path / "two.parquet"
    assert data("melee", many, "--jobs", 1, "--out", one).exit_code == 0
    work = tmp_path / ".two.parquet.partial"
    command = [sys.executable, "-m", "cli", "data", "melee", many, "--jobs", "2", "--out", two]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as run:
        while run.poll() is None and len([*work.glob("*.part")]) < 2:
            time.sleep(0.002)
        run.kill()
        # Ends when none of its processes is left.
        run.stdout.read()
    assert not two.exists()
    assert found_files(tmp_path).paths == [one]
    kept = len([*work.glob("*.part")])
    assert 2 <= kept < 24
    done = data("melee", many, "--jobs", 2, "--out", two)
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"going on: {kept} of 24 replays are converted already\n")
    assert two.read_bytes() == one.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"one.parquet", "two.parquet"}


def test_what_was_converted_of_other_replays_or_with_other_options_is_not_taken(replays):
    paths = [replays / "b.slp", replays / "more" / "c.slp"]
    names = {part_name([*map(file, paths)], labels=labels) for labels in (False, True)}
    names.add(part_name([file(paths[0])], labels=False))
    paths[1].write_bytes(game(duel(10, first=-39)))
    names.add(part_name([*map(file, paths)], labels=False))
    os.utime(paths[1], ns=(0, 0))
    names.add(part_name([*map(file, paths)], labels=False))
    paths[1].unlink()
    names.add(part_name([*map(file, paths)], labels=False))
    assert len(names) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["melee", "nowhere", "--out", "x.parquet"], "nowhere: no such file, no replay (.slp) in it, and no match"),
        (["melee", "README.md", "--out", "x.parquet"], "none of the replays could be read; nothing was written"),
        (["melee", "README.md", "--out", "x.npy"], "--out is x.npy; frames are written as .parquet"),
        (["melee", "README.md", "--out", "no/x.parquet"], "--out is no/x.parquet; there is no folder no"),
        (["atari", "pang", "--out", "x.parquet"], "there is no game 'pang'; ale-py has pong, "),
    ],
)
def test_what_cannot_be_done_is_said(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("no replay")
    done = data(*arguments)
    assert done.exit_code == 1
    assert message in done.output
    assert {path.name for path in tmp_path.iterdir()} == {"README.md"}


@pytest.mark.parametrize(
    ("command", "missing", "source"),
    [
        ("melee", "jepa_client", "'./client[slippi]'"),
        ("melee", "peppi_py", "'./client[slippi]'"),
        ("atari", "ale_py", "'./client[atari]'"),
    ],
)
def test_without_the_client_the_way_to_it_is_told(command, missing, source):
    program = f"import sys\nsys.modules['{missing}'] = None\nfrom cli.main import main\n"
    program += f"sys.argv = ['jepa', 'data', '{command}', 'x', '--out', 'x.parquet']\nmain()"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"jepa data {command} needs {missing}; install it with: pip install {source}" in done.stderr
