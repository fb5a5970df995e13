"""`jepa report A B`: two runs side by side, from bundles or from the folders of runs."""

import json

import pytest

from model.training import runs
from model.training.run import prepare
from tests.cli.report.test_report import HISTORY, files, page_of, report, tiny
from tests.support.games import make_games
from tests.support.small_run import SMALL

RECIPE = {"learning_rate": 0.002, "anchor": 20.0}


@pytest.fixture
def bundle(tmp_path):
    return tiny(extra={"history": HISTORY, "training": {"recipe": RECIPE, "rows": 1234}}).write(tmp_path / "models")


@pytest.fixture
def run(tmp_path):
    """The folder of a run that still goes on."""
    folder = tmp_path / "others" / "slow" / runs.HOME / "3"
    folder.mkdir(parents=True)
    prepare(make_games(episodes=3, length=30), SMALL).checkpoint.save(folder / runs.CHECKPOINT)
    (folder / runs.RECIPE).write_text("learning_rate = 0.001\nanchor = 20.0\n")
    points = [
        {"step": i, "objective": 9 - i, "loss": 0.5, "loss_ratio": 1 / i, "std": 1.0, "rankme": i} for i in (1, 2, 2)
    ]
    (folder / runs.REPORTS).write_text("".join(json.dumps(point) + "\n" for point in points))
    return folder


@pytest.mark.parametrize("level", [0, 2])
def test_two_runs_are_drawn_on_one_page_with_what_differs(bundle, run, level):
    code, words = report(bundle, run if level == 0 else run.parents[1])
    assert code == 0, words
    folder = bundle.parent / "report-tiny-version-1-and-slow-run-3"
    assert words == f"{folder / 'index.html'} is ready: Training; In what they differ"
    assert files(folder) == {"index.html", "training.png"}
    page = page_of(folder)
    assert "A: tiny version 1: 2 points, loss over that of the mean 0.9 to 0.5" in page
    assert "B: slow run 3: 2 points, loss over that of the mean 1 to 0.5" in page
    assert '<th scope="row">learning_rate</th><td>0.002</td><td>0.001</td>' in page
    assert '<th scope="row">objective at the end</th><td>–</td><td>7</td>' in page
    assert '<th scope="row">rows</th><td>1,234</td><td>–</td>' in page
    assert "anchor" not in page


def test_the_run_may_be_first_and_the_page_elsewhere(bundle, run, tmp_path):
    code, words = report(run, bundle.parent, "--out", tmp_path / "out")
    assert code == 0, words
    assert "slow run 3 and tiny version 1" in page_of(tmp_path / "out")


def test_equal_recipes_are_said_to_be_equal(bundle, tmp_path):
    assert report(bundle, bundle, "--out", tmp_path / "out")[0] == 0
    assert "Both were made with the same recipe." in page_of(tmp_path / "out")


def test_what_has_no_curves_is_named(bundle, run, tmp_path):
    (run / runs.REPORTS).unlink()
    code, words = report(bundle, run, "--out", tmp_path / "out")
    assert code == 1
    assert "slow run 3 holds no curves of its training" in words
    code, words = report(tmp_path, run)
    assert code == 1
    assert "is no bundle" in words
