import pytest

from tests.support.bundles import TinyModel
from tests.support.scripts import run_module


@pytest.mark.parametrize("actions", [(), ("jump", "stick")])
def test_each_graph_is_compared_in_both_formats_and_joined_with_its_predictor(tmp_path, actions):
    bundle = TinyModel(int8_steps=127, actions=actions).write(tmp_path)
    done = run_module("benchmarks.lab.formats", bundle, "--seconds", 0.01, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "| graph | threads | rows a run | float32 | int8 |" in done.stdout
    assert "| graph | threads | rows a run | two runs | one graph |" in done.stdout
    for graph in ("target_encoder", "predictor", "/predict, float32", "/predict, int8"):
        for rows in (1, 8, 64):
            assert f"| {graph} | 1 | {rows} | " in done.stdout
