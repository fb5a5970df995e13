"""Runs the examples as a user would who has not installed the client."""

import os
import subprocess
import sys

from tests.support.serving import ROOT


def run_example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "examples" / name), *map(str, arguments)]
    paths = os.environ | {"PYTHONPATH": str(ROOT / "client")}
    return subprocess.run(command, env=paths, capture_output=True, text=True, timeout=60, check=False)
