"""Training in processes of its own: one that is killed, and several that share each batch."""

import json
import os
from dataclasses import replace

import pytest
import torch

from model.training.checkpoint import load_checkpoint
from model.training.run import prepare
from tests.support.forker import TRAINING, Fork, run_forked
from tests.support.games import make_games
from tests.support.small_run import SMALL, trained, weights

# What it prints goes into the one pipe that a fork has.
SMALL_RUN = "import os; os.dup2(2, 1); from tests.support.small_run import main; main()"


def small_run(*arguments):
    return Fork(SMALL_RUN, [*map(str, arguments)], os.environ, TRAINING)


def reports(printed):
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def test_a_run_killed_at_any_time_resumes_to_the_weights_of_an_unbroken_one(tmp_path):
    broken, whole, steps = tmp_path / "broken.safetensors", tmp_path / "whole.safetensors", 12
    for last in (0, 5):  # in the midst of the first steps and saves, and of later ones
        run = small_run(broken, steps, 1)
        with run.stderr as said:
            for line in said:
                if line.strip().isdigit() and int(line) > last:
                    run.kill()
                    break
        assert run.wait(timeout=60) == -9
        assert load_checkpoint(broken).step <= steps
    run = small_run(broken, steps, 1)
    with run.stderr:
        said = run.stderr.read()
    assert run.wait(timeout=60) == 0, said
    assert 1 < int(next(line for line in said.splitlines() if line.isdigit())) <= steps  # it did go on

    trained(prepare(make_games(), replace(SMALL, steps=steps)), whole, every=1)
    expected, resumed = weights(load_checkpoint(whole)), weights(load_checkpoint(broken))
    for name, value in expected.items():
        torch.testing.assert_close(resumed[name], value, atol=0, rtol=0, msg=name)


@pytest.mark.timeout(600)  # two processes that import PyTorch
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this PyTorch has no gloo")
def test_two_processes_learn_what_one_does(tmp_path):
    alone, shared = tmp_path / "alone.safetensors", tmp_path / "shared.safetensors"
    expected, _ = trained(prepare(make_games(), replace(SMALL, steps=6)), alone, every=1)
    # By its module's name, by which the other process is started.
    as_main = "import runpy; runpy.run_module('tests.support.small_run', run_name='__main__', alter_sys=True)"
    done = run_forked(as_main, [str(shared), "6", "2"], imported=TRAINING)
    assert done.returncode == 0, done.stderr
    found = reports(done.stdout)
    assert [report["step"] for report in found] == [report.step for report in expected]
    for name in ("loss", "loss_ratio", "std", "rankme"):
        assert [report[name] for report in found] == pytest.approx([getattr(e, name) for e in expected], rel=2e-3)
    theirs = weights(load_checkpoint(shared))
    for name, value in weights(load_checkpoint(alone)).items():
        torch.testing.assert_close(theirs[name], value, atol=2e-3, rtol=0, msg=name)
