from tests.support.scripts import run_module


def test_both_ways_are_measured_at_both_paces():
    done = run_module("benchmarks.lab.stream", "--rounds", 1, "--frames", 20)
    assert done.returncode == 0, done.stderr
    for way in ("POST /embed", "/stream"):
        for pace in ("closed loop", "60 Hz"):
            assert f"| {way} | {pace} | " in done.stdout
