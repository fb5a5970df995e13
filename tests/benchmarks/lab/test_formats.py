import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bundles import TinyModel

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("actions", [(), ("jump", "stick")])
def test_each_graph_is_compared_in_both_formats_and_joined_with_its_predictor(tmp_path, actions):
    bundle = TinyModel(int8_steps=127, actions=actions).write(tmp_path)
    command = [sys.executable, "-m", "benchmarks.lab.formats", str(bundle), "--seconds", "0.01", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "| graph | threads | rows a run | float32 | int8 |" in done.stdout
    assert "| graph | threads | rows a run | two runs | one graph |" in done.stdout
    for graph in ("target_encoder", "predictor", "/predict, float32", "/predict, int8"):
        for rows in (1, 8, 64):
            assert f"| {graph} | 1 | {rows} | " in done.stdout
