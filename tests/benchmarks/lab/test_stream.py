import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_both_ways_are_measured_at_both_paces():
    command = [sys.executable, "-m", "benchmarks.lab.stream", "--rounds", "1", "--frames", "20"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "client")))}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for way in ("POST /embed", "/stream"):
        for pace in ("closed loop", "60 Hz"):
            assert f"| {way} | {pace} | " in done.stdout
