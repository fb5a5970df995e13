"""`model.train`: from frames to a bundle, without the command line."""

import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

import model
from bundle.reader import read_bundle
from tests.support.games import make_games
from tests.support.small_run import SMALL

FIELDS = asdict(SMALL)


@pytest.fixture(scope="module")
def games():
    return make_games(episodes=3, length=60)


@pytest.fixture(scope="module")
def trained(games, tmp_path_factory):
    out = tmp_path_factory.mktemp("models")
    return out, model.train(games, out=out, name="toy", preset="quick", log="csv", licence="MIT", **FIELDS)


def test_it_returns_the_folder_of_a_bundle_with_the_curves_and_a_card(trained):
    out, folder = trained
    assert folder == out / "toy" / "1"
    manifest = read_bundle(folder).manifest
    assert manifest.training["recipe"] == FIELDS | {"horizons": [2, 5], "hide_share": [0.0, 0.4]}
    assert manifest.history["step"] == [1, 2, 3, 4, 5, 6]
    assert manifest.licence == "MIT"
    assert "model.train(frames, name='toy', preset='quick', " in (folder / "README.md").read_text()
    # What a service shows to everybody does not say where files are on the machine that trained.
    assert "command" not in (folder / "bundle.json").read_text()
    assert len((out / "toy" / ".training" / "1" / "csv" / "metrics.csv").read_text().splitlines()) == 7


def test_a_finished_run_says_so(games, trained):
    out, _ = trained
    with pytest.raises(ValueError, match="the run is finished: it has done 6 of 6 steps"):
        model.train(games, out=out, name="toy", resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stepz": 3}, "stepz is no field of a recipe; did you mean steps?"),
        ({"steps": "many"}, "steps is 'many'; it must be a whole number"),
        ({"preset": "huge"}, "preset is 'huge'; it must be one of quick, default"),
        ({"name": "../x"}, "name is '../x'"),
        ({"log": "paper"}, "log is 'paper'; it must be one of csv"),
        ({"resume": True}, "there is nothing to resume: .* holds no run"),
        ({"horizons": (500,)}, "has a frame 500 later in its episode; choose shorter horizons"),
    ],
)
def test_what_is_wrong_is_a_valueerror_that_leaves_nothing_behind(games, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        model.train(games, **{"out": tmp_path, **FIELDS, **options})
    assert [*tmp_path.rglob("*.safetensors")] == []


def test_ctrl_c_keeps_the_run_which_resume_finds(games, tmp_path, monkeypatch):
    steps = []

    def interrupt_at_the_second(_, done):
        steps.append(done)
        if len(steps) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr("model.learning.RunProgress.step", interrupt_at_the_second)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 2; go on with resume=True"):
        model.train(games, out=tmp_path, **FIELDS)
    with pytest.raises(ValueError, match="a run stopped here at step 2 of 6; go on with --resume"):
        model.train(games, out=tmp_path, **FIELDS)


def test_import_model_imports_only_what_is_asked_for():
    program = "import sys, model; assert not {'torch', 'onnx', 'rich'} & sys.modules.keys()"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {*model.__all__} >= {"build", "frames", "train"}
    assert all(callable(getattr(model, name)) for name in ("build", "frames", "train"))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        model.trian  # noqa: B018
