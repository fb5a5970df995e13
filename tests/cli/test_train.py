"""The commands that learn, run as a user runs them: on files, in processes of their own where a signal matters."""

import errno
import json
import os
import re
import shutil
import signal
import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from bundle.reader import read_bundle
from cli.main import app
from model.export.int8 import least_cosine
from model.training.recipe import PRESETS
from tests.support.bundles import TinyModel
from tests.support.forker import TRAINING, Fork
from tests.support.games import NAMES, make_games
from tests.support.processor import needs_int8_dot_products
from tests.support.small_cli import SMALL


@pytest.fixture(scope="module", autouse=True)
def _small_networks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "small", SMALL)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    games = make_games(episodes=5, length=120)
    columns = dict(zip(games.schema.names, games.features[:].T, strict=True))
    table = pa.table({"episode": games.episode, "frame": games.frame, **columns, **games.labels})
    groups = [list(group) for group in games.schema.groups]
    path = tmp_path_factory.mktemp("data") / "games.parquet"
    pq.write_table(table.replace_schema_metadata({"groups": json.dumps(groups)}), path)
    return path


def jepa(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def models(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("models")
    done = jepa(
        "train", data, "--out", out, "--name", "toy", "--preset", "small", "--steps", 3, "--horizon", 4, "--sample"
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"3 steps of 1024 rows, about \d+ s; ", done.output)
    assert "warning: 480 training rows are fewer than a batch of 1,024" in done.output
    assert "warning: the label 'y_action' is among the features too, as 1 of 8 columns (own_action_id)" in done.output
    assert "step 3/3" in done.output
    return out


def test_train_leaves_a_bundle_that_the_service_can_read(models):
    bundle = read_bundle(models / "toy" / "1")
    assert bundle.manifest.input_dim == 8
    assert bundle.manifest.horizons == [4]
    assert list(bundle.manifest.loss_quantiles) == [4]
    assert bundle.manifest.training["rows"] > 0
    assert bundle.has("int8")
    assert bundle.manifest.precision["int8"].rows > 50
    assert bundle.manifest.data == {"source": "games.parquet"}
    assert bundle.manifest.history["step"] == [1, 2, 3]


def test_train_leaves_frames_of_one_held_out_game_where_the_user_allows_it_and_a_map(models, data):
    bundle = read_bundle(models / "toy" / "1")
    with np.load(bundle.folder / "sample.npz") as arrays:
        shown = arrays["features"]
    assert bundle.manifest.sample.model_dump() == {
        "rows": len(shown),
        "rate": 60.0,
        "source": "a held-out game of games.parquet",
    }
    table = pq.read_table(data)
    rows = np.stack([table[name].to_numpy() for name in bundle.manifest.feature_schema.names], axis=1)
    (first,) = np.flatnonzero((rows == shown[0]).all(1))
    np.testing.assert_array_equal(rows[first : first + len(shown)], shown)
    # Every frame of an episode that has one 4 later.
    assert len(shown) == 116
    assert first % 120 == 0
    assert 0 < bundle.manifest.map.explained[1] <= bundle.manifest.map.explained[0] < 1
    assert bundle.manifest.history.keys() >= {"loss", "loss_ratio", "std", "rankme"}
    *_, report = (models / "toy" / ".training" / "1" / "training.jsonl").read_text().splitlines()
    card = (models / "toy" / "1" / "README.md").read_text()
    assert card.startswith("---\nlicense: unknown\nlibrary_name: jepa-serve\n")
    assert "| own | 3 | own\\_x, own\\_y, own\\_action\\_id |" in card
    assert "--name toy --preset small --set 'horizons=[4]' --set steps=3" in card
    recipe = tomllib.loads((models / "toy" / ".training" / "1" / "recipe.toml").read_text())
    assert tomllib.loads(re.search(r"```toml\n(.*?)```", card, re.DOTALL)[1]) == recipe
    assert recipe["steps"] == 3
    assert {"step", "objective", "loss", "loss_ratio", "std", "rankme"} <= json.loads(report).keys()


def test_export_makes_the_next_version_from_a_checkpoint(models, tmp_path):
    checkpoint = models / "toy" / ".training" / "1" / "checkpoint.safetensors"
    shutil.copytree(models / "toy" / "1", tmp_path / "again" / "1")
    done = jepa("export", checkpoint, "--out", tmp_path, "--name", "again", "--half")
    assert done.exit_code == 0, done.output
    assert f"{tmp_path / 'again' / '2'} is ready" in done.output
    assert read_bundle(tmp_path / "again" / "2").manifest.version == 2


def test_a_finished_run_whose_export_fails_says_how_to_get_its_bundle(data, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path))

    monkeypatch.setattr("model.learning.export_bundle", full)
    done = jepa("train", data, "--out", tmp_path, "--name", "toy", "--preset", "small", "--steps", 1, "--horizon", 4)
    assert done.exit_code == 1
    (said,) = (line for line in done.output.splitlines() if line.startswith("error: No space left on device"))
    checkpoint = Path(re.search(r"jepa export (\S+) ", said)[1])
    assert checkpoint.parent == tmp_path / "toy" / ".training" / "1"
    assert said.endswith(f"the run is finished and kept: jepa export {checkpoint} --out {tmp_path} --name toy")
    assert checkpoint.is_file()


@pytest.mark.parametrize("encoder", ["target", "context"])
def test_embed_writes_a_row_a_frame_in_the_order_of_the_data(models, data, tmp_path, encoder):
    done = jepa("embed", models / "toy", data, "--out", tmp_path / "e.npy", "--encoder", encoder)
    assert done.exit_code == 0, done.output
    embeddings = np.load(tmp_path / "e.npy")
    assert embeddings.shape == (600, 32)
    assert embeddings.dtype == np.float32
    rows = make_games(episodes=5, length=120).features
    np.save(tmp_path / "last.npy", rows[-7:])
    assert jepa("embed", models / "toy", tmp_path / "last.npy", "--out", tmp_path / "l.npy", "--encoder", encoder)
    np.testing.assert_allclose(np.load(tmp_path / "l.npy"), embeddings[-7:], atol=1e-5)


@pytest.fixture(scope="module")
def embedded(models, data, tmp_path_factory):
    """The same rows in both formats."""
    rows = {}
    for precision in ("float32", "int8"):
        out = tmp_path_factory.mktemp("embedded") / f"{precision}.npy"
        done = jepa("embed", models / "toy", data, "--out", out, "--precision", precision)
        assert done.exit_code == 0, done.output
        rows[precision] = np.load(out)
    return rows


def test_embed_in_int8_runs_the_int8_graphs(embedded):
    assert not np.array_equal(embedded["float32"], embedded["int8"])
    assert least_cosine(embedded["float32"], embedded["int8"]) > 0.9


@needs_int8_dot_products
def test_embed_in_int8_is_near_float32(embedded):
    np.testing.assert_allclose(embedded["int8"], embedded["float32"], atol=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "DATA", "--out", "OUT", "--preset", "huge"], "preset is 'huge'; it must be one of quick, default"),
        (["train", "DATA", "--out", "OUT", "--name", "../x"], "name is '../x'"),
        (["train", "DATA", "--out", "OUT", "--resume"], "there is nothing to resume"),
        (["train", "DATA", "--out", "OUT", "--features", "ram_*"], "no column matches 'ram_*'"),
        (["train", "missing.parquet", "--out", "OUT"], "missing.parquet: no such file"),
        (["train", "DATA", "--out", "OUT", "--devices", "0"], "devices is 0; it must be at least 1"),
        (
            ["train", "DATA", "--out", "OUT", "--accelerator", "tpu"],
            "accelerator is 'tpu'; it must be one of auto, cpu",
        ),
        (["train", "DATA", "--out", "OUT", "--horizon", "500"], "has a frame 500 later in its episode; choose shorter"),
        (["embed", "OUT", "DATA", "--out", "OUT/e.npy"], "holds neither bundle.json nor folders"),
        (
            ["embed", "TINY", "DATA", "--out", "OUT/e.npy", "--precision", "int8"],
            "has no context_encoder.int8.onnx; serve",
        ),
        (["embed", "default", "DATA", "--out", "OUT/e.txt"], "embeddings are written as .npy"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(models, data, tmp_path, arguments, message):
    tiny = TinyModel(groups=(("own", 6), ("stage", 2)), names=NAMES, patches=(("own", "stage"),)).write(
        tmp_path / "tiny"
    )
    places = {"DATA": str(data), "OUT": str(tmp_path), "TOY": str(models / "toy"), "OUT/e.npy": f"{tmp_path}/e.npy"}
    places["TINY"] = str(tiny)
    done = jepa(*(places.get(argument, argument) for argument in arguments))
    assert done.exit_code == 1
    assert message in " ".join(done.output.split())
    assert "Traceback" not in done.output


def test_embed_and_eval_say_how_the_data_differs_from_that_of_training(models, data, tmp_path):
    table = pa.concat_tables([pq.read_table(data)] * 2)
    columns = {name: table[name].to_numpy() for name in table.column_names}
    columns["own_x"], columns["opp_y"] = columns["own_x"] * 1000, np.zeros(len(table))
    pq.write_table(pa.table(columns).replace_schema_metadata(table.schema.metadata), tmp_path / "other.parquet")
    embedded = jepa("embed", models / "toy", tmp_path / "other.parquet", "--out", tmp_path / "e.npy")
    quick = ("--rows", 100, "--test-rows", 50, "--no-trees", "--no-neighbours", "--no-few-labels")
    evaluated = jepa("eval", models / "toy", tmp_path / "other.parquet", "--labels", "y_up", *quick)
    for done in (embedded, evaluated):
        assert done.exit_code == 0, done.output
        said = " ".join(done.output.split())
        assert "warning: 1 of 8 columns (opp_y) never changed in these 1,200 rows but did in training" in said
        assert "warning: 1 of 8 columns (own_x) lie outside the range of training in over 1% of the rows" in said


def test_eval_says_which_label_is_among_the_features(models, data):
    quick = ("--rows", 100, "--test-rows", 50, "--no-trees", "--no-neighbours", "--no-few-labels")
    done = jepa("eval", models / "toy", data, "--labels", "y_action", *quick)
    assert done.exit_code == 0, done.output
    assert "warning: the label 'y_action' is among the features too" in " ".join(done.output.split())


def forked(program, *arguments):
    """`python -m program` with these arguments, whose output is in one pipe, without its import of PyTorch."""
    as_main = f"import os, runpy; os.dup2(2, 1); runpy.run_module('{program}', run_name='__main__', alter_sys=True)"
    return Fork(as_main, [*map(str, arguments)], os.environ | {"OMP_NUM_THREADS": "1"}, TRAINING)


@pytest.mark.timeout(600)  # two processes, and an export
def test_two_devices_leave_one_bundle_and_say_everything_once_also_of_rows_of_no_game(tmp_path):
    np.save(tmp_path / "rows.npy", make_games(episodes=2, length=60).features)
    options = ["--preset", "small", "--steps", 2, "--devices", 2, "--accelerator", "cpu"]
    run = forked("tests.support.small_cli", "train", tmp_path / "rows.npy", "--out", tmp_path, *options)
    with run.stderr:
        said = run.stderr.read()
    assert run.wait() == 0, said
    expected = [
        f"reading {tmp_path}",
        "column  type   role     group   why",
        *(f"f00{i}    float  feature  patch{i}" for i in range(8)),
        "no 'episode' and no 'frame' column says which rows belong together; they are held out at random",
        "learning from 108 rows of 108 episodes, 8 columns in 8 groups",
        "warning: 108 training rows are fewer than a batch",
        "2 steps of 1024 rows",
        "step 2/2",
        "warning: nothing learned",
        f"exporting to {tmp_path / 'model'}",
        f"{tmp_path / 'model' / '1'} is ready",
    ]
    # What comes every few seconds depends on the machine.
    lines = [line for line in said.splitlines() if not re.match("step 1/2|the best objective|exporting.* for", line)]
    for line, beginning in zip(lines, expected, strict=True):
        assert line.startswith(beginning)
    manifest = read_bundle(tmp_path / "model" / "1").manifest
    assert manifest.training["steps"] == 2
    assert manifest.horizons == [0]


@pytest.mark.timeout(600)
def test_processes_that_torchrun_started_share_one_run(data, tmp_path):
    options = ["--preset", "small", "--steps", 2, "--horizon", 4, "--accelerator", "cpu"]
    command = ["--nproc-per-node", 2, "-m", "tests.support.small_cli", "train", data, "--out", tmp_path, *options]
    run = forked("torch.distributed.run", *command)
    with run.stderr:
        said = run.stderr.read()
    assert run.wait() == 0, said
    assert said.count("reading") == said.count("step 2/2") == said.count("is ready") == 1
    assert [folder.name for folder in (tmp_path / "model").glob("[0-9]*")] == ["1"]


@pytest.mark.timeout(600)
def test_ctrl_c_stops_all_devices_between_two_steps(data, tmp_path):
    options = ["--preset", "small", "--steps", 9000, "--devices", 2, "--accelerator", "cpu"]
    run = forked("tests.support.small_cli", "train", data, "--out", tmp_path, *options)
    with run.stderr:
        for line in run.stderr:
            if line.startswith("9000 steps of"):
                run.send_signal(signal.SIGINT)
                break
        said = run.stderr.read()  # to its end: the other process has closed it too
    assert run.wait() == 130, said
    assert said.count("stopped at step") == 1


def test_embed_of_another_width_says_which_columns_to_pick(models, tmp_path):
    np.save(tmp_path / "wide.npy", np.zeros((4, 9), np.float32))
    done = jepa("embed", models / "toy", tmp_path / "wide.npy", "--out", tmp_path / "e.npy")
    assert done.exit_code == 1
    assert "the data has 9 feature columns, the model takes 8" in done.output


# The commands of its arguments in turn, as a process for each would run them, but with one import of PyTorch.
IN_TURN = """
import json, os, sys
from cli.main import app
from model.training.recipe import PRESETS
from tests.support.small_cli import SMALL
os.dup2(2, 1)
PRESETS["small"] = SMALL
for arguments in map(json.loads, sys.argv[1:]):
    try:
        app(arguments)
    except SystemExit as end:
        print("exit code", end.code, flush=True)
"""


def test_ctrl_c_or_sigterm_keeps_the_run_and_resume_goes_on(data, tmp_path):
    command = ["train", str(data), "--out", str(tmp_path), "--preset", "small"]
    commands = [*command, "--steps", "9000"], command, [*command, "--resume"]
    run = Fork(IN_TURN, [*map(json.dumps, commands)], os.environ, TRAINING)
    with run.stderr:

        def said(until):
            """All lines up to the first that starts so."""
            lines = []
            for line in run.stderr:
                lines.append(line)
                if line.startswith(until):
                    break
            return " ".join(lines)

        assert "9000 steps of" in said("9000 steps of")
        run.send_signal(signal.SIGINT)
        assert re.search(r"go on with the same command and --resume\s+exit code 130", said("exit code"))
        stopped = re.search(r"a run stopped here at step (\d+) of 9000;.*\s+exit code 1$", said("exit code").strip())
        step = int(stopped[1])
        assert f"{9000 - step} steps of" in said(f"{9000 - step} steps of")
        run.send_signal(signal.SIGTERM)
        stopped = re.search(r"stopped at step (\d+);.*\s+exit code 130", said("exit code"))
        assert int(stopped[1]) > step
