"""Runs the examples and benchmarks as a user would, in a process that need not import what they need."""

import os
import subprocess

from tests.support.forker import run_forked
from tests.support.serving import ROOT

EXAMPLES = ROOT / "examples"


def run_example(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    # Python finds what a program imports in the program's own folder first.
    program = f"import runpy, sys; sys.path.insert(0, {str(EXAMPLES)!r})\n"
    program += f"runpy.run_path({str(EXAMPLES / name)!r}, run_name='__main__')"
    return run_forked(program, [*map(str, arguments)], os.environ, ("jepa_client.games.gymnasium",))


def run_module(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`python -m name`, where the service is imported already."""
    program = f"import runpy; runpy.run_module({name!r}, run_name='__main__', alter_sys=True)"
    return run_forked(program, [*map(str, arguments)])
