import subprocess
from pathlib import Path

from tests.support.acting import ACTING
from tests.support.bundles import TinyModel
from tests.support.scripts import run_module


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return run_module("benchmarks.lab.candidates", *arguments)


def test_each_call_has_a_line_with_what_it_costs(tmp_path: Path) -> None:
    before, after = TinyModel().write(tmp_path / "before"), ACTING.write(tmp_path / "after")
    done = run(after, "--before", before, "--frames", 4, "--seconds", 0.01)
    assert done.returncode == 0, done.stderr
    names = [line.split(" | ")[0].removeprefix("| ") for line in done.stdout.splitlines()[2:]]
    assert names == [
        "one row, a model that takes none",
        "32 rows at once, a model that takes none",
        "one row, no input known",
        "32 rows at once, no input known",
        "one row, the inputs of 4 frames",
        "32 rows at once, the inputs of 4 frames",
        "one row, 64 candidates",
    ]


def test_a_model_that_takes_none_is_refused(tmp_path: Path) -> None:
    done = run(TinyModel().write(tmp_path), "--seconds", 0.01)
    assert done.returncode != 0
    assert "model 'tiny' takes no actions; measure one that does" in done.stderr
