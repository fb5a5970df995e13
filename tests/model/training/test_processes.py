"""Training in processes of its own: one that is killed, and several that share each batch."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.training.checkpoint import load_checkpoint
from model.training.run import prepare
from tests.model.training.test_loop import SMALL, trained, weights
from tests.support.games import make_games

ROOT = Path(__file__).parents[3]


def small_run(*arguments):
    command = [sys.executable, "-m", "tests.support.small_run", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def reports(printed):
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


@pytest.mark.timeout(600)  # four processes that import PyTorch
def test_a_run_killed_at_any_time_resumes_to_the_weights_of_an_unbroken_one(tmp_path):
    broken, whole, steps = tmp_path / "broken.safetensors", tmp_path / "whole.safetensors", 30
    for last in (0, 13):  # in the midst of the first steps and saves, and of later ones
        with small_run(broken, steps, 1) as process:
            for line in process.stdout:
                if not line.startswith("{") and int(line) > last:
                    process.kill()
                    break
        assert process.returncode == -9
        assert load_checkpoint(broken).step <= steps
    with small_run(broken, steps, 1) as process:
        said, failed = process.communicate()
    assert process.returncode == 0, failed
    assert 1 < int(said.splitlines()[0]) <= steps  # it did go on

    trained(prepare(make_games(), replace(SMALL, steps=steps)), whole, every=1)
    expected, resumed = weights(load_checkpoint(whole)), weights(load_checkpoint(broken))
    for name, value in expected.items():
        torch.testing.assert_close(resumed[name], value, atol=0, rtol=0, msg=name)


@pytest.mark.timeout(600)  # so do these three
@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="this PyTorch has no gloo")
def test_two_processes_learn_what_one_does(tmp_path):
    alone, shared = tmp_path / "alone.safetensors", tmp_path / "shared.safetensors"
    expected, _ = trained(prepare(make_games(), replace(SMALL, steps=12)), alone, every=1)
    with small_run(shared, 12, 2) as process:
        said, failed = process.communicate()
    assert process.returncode == 0, failed
    found = reports(said)
    assert [report["step"] for report in found] == [report.step for report in expected]
    for name in ("loss", "loss_ratio", "std", "rankme"):
        assert [report[name] for report in found] == pytest.approx([getattr(e, name) for e in expected], rel=2e-3)
    theirs = weights(load_checkpoint(shared))
    for name, value in weights(load_checkpoint(alone)).items():
        torch.testing.assert_close(theirs[name], value, atol=2e-3, rtol=0, msg=name)
